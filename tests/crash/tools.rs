//! The tools, cut off before each of their mutating system calls, and with a full disk at each:
//! what they write to shows the same all the time, and a second run finishes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ovlmerge::config::Config;
use ovlmerge::error::{Errno, Result};
use ovlmerge::format::overlay::Namespace;
use ovlmerge::tools::apply::{Limits, Options, apply};
use ovlmerge::tools::check;
use ovlmerge::tools::convert::{self, Form, convert};
use ovlmerge::tools::views::Layers;

use crate::archive::archive;
use crate::client::{Client, Tree};
use crate::cut::{self, Cut, Ran, Renames};
use crate::dirs::Dirs;
use crate::{guarded, runs_here, tree};

type Prepare = fn(&Dirs);
type Run = fn(&Path) -> Result<()>;

/// A tool, and what it is called on.
struct Case {
    name: String,
    prepare: Prepare,
    run: Run,
}

/// What the layers show with the upper as the topmost lower.
fn shown(dirs: &Dirs) -> Tree {
    tree(&Client::open(&[dirs.path("upper"), dirs.path("lower")], None).unwrap())
}

/// What lies there, but for times, and for numbers of links: what a cut leaves behind holds some.
fn on_disk(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let mut attributes: Vec<_> = xattr::list(&path)
            .unwrap()
            .map(|name| (name.clone(), xattr::get(&path, &name).unwrap()))
            .collect();
        attributes.sort();
        let (mode, rdev) = (meta.mode(), meta.rdev());
        let data = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let text = format!("{mode:o} {rdev:x} {data:?} {attributes:?}");
        found.insert(path.strip_prefix(root).unwrap().to_owned(), text);
        if meta.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found
}

fn cut_off(case: &Case, dirs: &Dirs, cut: Cut) -> Ran<Result<()>> {
    let (run, home) = (case.run, dirs.path(""));
    cut::run(cut, Renames::All, move || run(&home))
}

/// Goes through all cuts of a tool that works in place.
fn in_place(case: &Case, wrong: &mut Vec<String>) -> usize {
    let dirs = Dirs::new(case.prepare);
    let before = shown(&dirs);
    let Ran { result, calls } = cut_off(case, &dirs, Cut::Never);
    result.unwrap_or_else(|err| panic!("{}: {err}", case.name));
    assert_eq!(shown(&dirs), before, "{}: it shows something else", case.name);
    let finished = on_disk(&dirs.path("upper"));
    for at in 1..=calls.len() {
        for cut in [Cut::From(at), Cut::NoSpaceAt(at)] {
            let what = format!("{}, {cut:?} ({})", case.name, calls[at - 1]);
            guarded(&what, wrong, |wrong| {
                let dirs = Dirs::new(case.prepare);
                let first = cut_off(case, &dirs, cut).result;
                let mut complain = |text: &str| wrong.push(format!("{what}: {first:?}, {text}"));
                if shown(&dirs) != before {
                    complain("it shows something else");
                }
                match (case.run)(&dirs.path("")) {
                    Ok(()) if on_disk(&dirs.path("upper")) == finished => {}
                    Ok(()) => complain("a second run leaves something else"),
                    Err(err) => complain(&format!("a second run says {err:?}")),
                }
                if shown(&dirs) != before {
                    complain("after a second run it shows something else");
                }
            });
        }
    }
    calls.len()
}

#[track_caller]
fn report(cuts: usize, least: usize, wrong: &[String]) {
    assert!(cuts > least, "only {cuts} cuts: are the calls still seen?");
    assert!(wrong.is_empty(), "{} of {cuts}:\n{}", wrong.len(), wrong.join("\n"));
}

/// What layers have to say, whatever the form: names that are gone, directories that hide what is
/// below, and one in the other.
fn lower(dirs: &Dirs) {
    for path in ["gone", "d/gone", "d/kept", "o/gone", "o/sub/gone", "z/kept", "s/gone", "s/t/x"] {
        dirs.file(&format!("lower/{path}"), "lower");
    }
    dirs.file("upper/d/new", "new").file("upper/o/new", "new").file("upper/o/sub/new", "");
    dirs.file("upper/s/t/y", "");
}

/// Marks a directory in two forms, as an upper that went from hand to hand.
fn devices(dirs: &Dirs, opaque: &str) {
    lower(dirs);
    dirs.whiteout("upper/gone").whiteout("upper/d/gone").whiteout("upper/o/gone");
    dirs.set("upper/o", opaque, "y").set("upper/s/t", opaque, "y").whiteout("upper/s/gone");
}

fn kernels(dirs: &Dirs) {
    devices(dirs, "trusted.overlay.opaque");
    dirs.set("upper", "trusted.overlay.impure", "y").set(
        "upper/d/new",
        "trusted.overlay.origin",
        "",
    );
    dirs.set("upper/d", "trusted.overlay.dirmeta_delegate", "y");
}

fn of_a_user(dirs: &Dirs) {
    devices(dirs, "user.overlay.opaque");
}

fn of_fuse_overlayfs(dirs: &Dirs) {
    devices(dirs, "user.fuseoverlayfs.opaque");
    dirs.file("upper/o/.wh..opq", "").file("upper/o/.wh..wh..opq", "");
    dirs.file("upper/.wh..wh.aufs", "").file("upper/.wh..wh.plnk/1.2", "");
}

fn files(dirs: &Dirs) {
    lower(dirs);
    for path in [".wh.gone", "d/.wh.gone", "o/.wh..wh..opq", "s/.wh.gone", "s/t/.wh..wh..opq"] {
        dirs.file(&format!("upper/{path}"), "");
    }
    // Nothing merges with this one.
    dirs.file("lower/n/x", "").file("upper/n/y", "").file("upper/.wh.n", "");
}

fn attributes(dirs: &Dirs) {
    lower(dirs);
    for path in ["gone", "d/gone", "s/gone"] {
        dirs.file(&format!("upper/{path}"), "");
        dirs.set(&format!("upper/{path}"), "trusted.overlay.whiteout", "");
    }
    for dir in ["", "d", "s"] {
        dirs.set(&format!("upper/{dir}"), "trusted.overlay.opaque", "x");
    }
    dirs.set("upper/o", "trusted.overlay.opaque", "y");
}

/// What only the form of the kernel can say.
fn redirected(dirs: &Dirs) {
    kernels(dirs);
    dirs.file("lower/old/deep/f", "moved").whiteout("upper/old").dir("upper/new");
    dirs.set("upper/new", "trusted.overlay.redirect", "/old");
    dirs.file("lower/data", "data").file("upper/data", "\0\0\0\0");
    dirs.set("upper/data", "trusted.overlay.metacopy", "");
}

fn to(home: &Path, form: Form, seal: bool) -> Result<()> {
    convert(&home.join("upper"), convert::Task { to: form, seal }, &mut |_| {}).map(drop)
}

const FORMS: [(&str, Run); 5] = [
    ("kernel", |home| to(home, Form::Kernel(Namespace::Trusted), false)),
    ("kernel-user", |home| to(home, Form::Kernel(Namespace::User), false)),
    ("aufs", |home| to(home, Form::Aufs, false)),
    ("fuse-overlayfs", |home| to(home, Form::FuseOverlayfs, false)),
    ("sealed", |home| to(home, Form::Kernel(Namespace::Trusted), true)),
];

const LAYERS: [(&str, Prepare); 6] = [
    ("kernel", kernels),
    ("kernel-user", of_a_user),
    ("fuse-overlayfs", of_fuse_overlayfs),
    ("aufs", files),
    ("attributes", attributes),
    ("redirects", redirected),
];

#[test]
fn a_conversion_that_is_killed_is_finished_by_the_next() {
    if !runs_here("a_conversion_that_is_killed_is_finished_by_the_next") {
        return;
    }
    let (mut cuts, mut wrong) = (0, Vec::new());
    for (from, prepare) in LAYERS {
        for (form, run) in FORMS {
            if from == "redirects" && matches!(form, "aufs" | "fuse-overlayfs") {
                continue;
            }
            let case = Case { name: format!("{from} to {form}"), prepare, run };
            guarded(&case.name, &mut wrong, |wrong| cuts += in_place(&case, wrong));
        }
    }
    report(cuts, 200, &wrong);
}

fn task(home: &Path) -> check::Task {
    let config = Config::new(vec![home.join("lower")], None, "/nowhere".into());
    let layers = Layers { upper: home.join("upper"), config };
    check::Task { layers, work: Some(home.join("work")) }
}

fn repair(home: &Path) -> Result<()> {
    let (left, _) = task(home).repair(&mut |_| {})?;
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}

/// What is found in uppers, and can be repaired.
fn damaged(dirs: &Dirs) {
    lower(dirs);
    dirs.whiteout("upper/nothing").file("upper/.wh.nothing-either", "");
    dirs.whiteout("upper/gone").file("upper/.wh.gone", "").file("upper/d/.wh.new", "");
    dirs.file("upper/o/.wh..opq", "").file("upper/o/.wh..wh..opq", "");
    dirs.set("upper/o", "user.fuseoverlayfs.opaque", "y").set(
        "upper/o",
        "user.overlay.opaque",
        "y",
    );
    dirs.set("upper/s/t", "user.overlay.opaque", "y");
    dirs.dir("upper/own").set("upper/own", "trusted.overlay.dirmeta_delegate", "y");
    dirs.set("upper/d/new", "trusted.overlay.origin", "rubbish");
    dirs.file("work/work/#1/half", "").file("work/work/#2", "");
    dirs.file(".ovlmerge-apply-1-1/root/f", "");
}

#[test]
fn a_repair_that_is_killed_is_finished_by_the_next() {
    if !runs_here("a_repair_that_is_killed_is_finished_by_the_next") {
        return;
    }
    let mut wrong = Vec::new();
    let case = Case { name: "check --repair".into(), prepare: damaged, run: repair };
    report(in_place(&case, &mut wrong), 20, &wrong);
}

const ENTRIES: [&str; 15] = [
    "d d",
    "f d/f = data",
    "l d/l -> f",
    "h h -> d/f",
    "c c 1,3",
    "p p",
    "f .wh.gone",
    "f o/.wh..wh..opq",
    "f o/new = new",
    "f implied/f = 1",
    "f late/.wh.x",
    "f late/y = 2",
    "f .wh.late",
    "f .wh..wh.plnk/1.2 = kept",
    "h from-aufs -> .wh..wh.plnk/1.2",
];

fn unpack_as(home: &Path, name: &str) -> Result<()> {
    let config = Config::new(Vec::new(), None, "/nowhere".into());
    let options = Options { config, limits: Limits::DEFAULT };
    apply(&*archive(&ENTRIES), &home.join(name), &options, &mut |_, _| {}).map(drop)
}

fn unpack(home: &Path) -> Result<()> {
    unpack_as(home, "out")
}

/// What is beside the layers.
fn beside(dirs: &Dirs) -> Vec<String> {
    let entries = fs::read_dir(dirs.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> =
        entries.map(|name| name.as_bytes().escape_ascii().to_string()).collect();
    names.retain(|name| !matches!(&**name, "lower" | "upper" | "work"));
    names.sort();
    names
}

/// Cut off, nothing is where the layer was to be, or all of it. With a full disk nothing is left.
#[test]
fn an_unpacking_that_is_killed_leaves_nothing_or_all() {
    if !runs_here("an_unpacking_that_is_killed_leaves_nothing_or_all") {
        return;
    }
    let case = Case { name: "apply".into(), prepare: |_| {}, run: unpack };
    let dirs = Dirs::new(case.prepare);
    let Ran { result, calls } = cut_off(&case, &dirs, Cut::Never);
    result.unwrap();
    let whole = on_disk(&dirs.path("out"));
    assert_eq!(beside(&dirs), ["out"]);
    let mut wrong = Vec::new();
    for at in 1..=calls.len() {
        for cut in [Cut::From(at), Cut::NoSpaceAt(at)] {
            let what = format!("{cut:?} ({})", calls[at - 1]);
            guarded(&what, &mut wrong, |wrong| {
                let dirs = Dirs::new(case.prepare);
                let first = cut_off(&case, &dirs, cut).result;
                let mut complain = |text: String| wrong.push(format!("{what}: {first:?}, {text}"));
                let published = dirs.path("out").exists();
                if published && on_disk(&dirs.path("out")) != whole {
                    complain("a part of the layer".to_owned());
                }
                if first.is_ok() && !published {
                    complain("there is no layer".to_owned());
                }
                if let (Cut::NoSpaceAt(_), Err(err)) = (cut, &first)
                    && (err.errno() != Errno::ENOSPC || !beside(&dirs).is_empty())
                {
                    complain(format!("left: {:?}", beside(&dirs)));
                }
                let name = if published { "other" } else { "out" };
                if let Err(err) = unpack_as(&dirs.path(""), name) {
                    complain(format!("a second run says {err:?}"));
                } else if on_disk(&dirs.path(name)) != whole {
                    complain("a second run makes something else".to_owned());
                }
                if beside(&dirs).iter().any(|name| !matches!(&**name, "out" | "other")) {
                    complain(format!("left after a second run: {:?}", beside(&dirs)));
                }
            });
        }
    }
    report(calls.len(), 50, &wrong);
}
