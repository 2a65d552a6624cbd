//! What `ovlmerge convert` makes of the markers of a layer.

use std::process::Output;

use crate::call::call;
use crate::disk::disk;
use crate::support::process::text;
use crate::support::tree::{self, Compare, Tree, assert_same_tree};
use crate::support::user::NOBODY;
use crate::support::{Dir, Kernel, Scratch, Setup};
use crate::{needs, not_the_kernels};

fn convert(layer: &Dir, flags: &[&str]) -> Output {
    let mut args = vec!["convert"];
    args.extend(flags);
    args.push(layer.root().to_str().unwrap());
    call(args)
}

/// Converts, and says what is on the disk then.
#[track_caller]
fn converted(layer: &Dir, flags: &[&str]) -> Vec<String> {
    let output = convert(layer, flags);
    assert!(output.status.success(), "{}", text(&output.stderr));
    disk(layer)
}

/// What a mount shows with the upper as the topmost layer.
fn merged(s: &Scratch) -> Tree {
    let all = [&s.upper, s.lower(0)].map(|dir| dir.root().to_owned()).to_vec();
    tree::dump(Setup::new(all, s.mnt.root()).mount().root())
}

/// A lower, and an upper with the same facts in one of four forms.
fn scene(form: &str) -> Scratch {
    let s = Scratch::new();
    for path in ["gone", "d/gone", "d/kept", "o/gone", "o/sub/gone", "z/kept"] {
        s.lower(0).file(path, "lower");
    }
    s.upper.file("d/new", "new").file("o/new", "new").file("o/sub/new", "");
    let hide = |path: &str| {
        let marker = match path.rsplit_once('/') {
            Some((dir, name)) => format!("{dir}/.wh.{name}"),
            None => format!(".wh.{path}"),
        };
        match form {
            "aufs" => drop(s.upper.file(marker, "").root()),
            "xattr" => {
                s.upper.file(path, "").xattr(path, "trusted.overlay.whiteout", "y");
                let above = path.rsplit_once('/').map_or("", |(dir, _)| dir);
                s.upper.xattr(above, "trusted.overlay.opaque", "x");
                s.upper.xattr("", "trusted.overlay.opaque", "x");
            }
            _ => drop(s.upper.whiteout(path).root()),
        }
    };
    hide("gone");
    hide("d/gone");
    match form {
        "aufs" => s.upper.file("o/.wh..wh..opq", ""),
        "kernel-user" => s.upper.xattr("o", "user.overlay.opaque", "y"),
        "fuse-overlayfs" => s.upper.xattr("o", "user.fuseoverlayfs.opaque", "y"),
        _ => s.upper.xattr("o", "trusted.overlay.opaque", "y"),
    };
    for dir in ["o/sub", "o", "d", ""] {
        s.upper.times(dir, 1000, 7);
    }
    s
}

const PLAIN: [&str; 5] = ["d d", "f d/new = new", "f o/new = new", "d o/sub", "f o/sub/new"];

fn wanted(form: &str) -> Vec<String> {
    let opaque = if form.starts_with("kernel") { " {opaque=y}" } else { "" };
    let mut lines: Vec<String> = PLAIN.map(str::to_owned).to_vec();
    lines.extend(["d ".to_owned(), format!("d o{opaque}")]);
    match form {
        "aufs" => {
            lines.extend(["f .wh.gone", "f d/.wh.gone", "f o/.wh..wh..opq"].map(str::to_owned))
        }
        _ => lines.extend(["w gone", "w d/gone"].map(str::to_owned)),
    }
    lines.sort_by(|one, other| one[2..].cmp(&other[2..]));
    lines
}

#[test]
fn from_every_form_to_every_other() {
    needs!(root, mount);
    for from in ["kernel", "kernel-user", "aufs", "fuse-overlayfs", "xattr"] {
        for to in ["kernel", "kernel-user", "aufs", "fuse-overlayfs"] {
            let s = scene(from);
            let before = merged(&s);
            assert_eq!(converted(&s.upper, &["--to", to]), wanted(to), "{from} to {to}");
            assert_same_tree(&before, &merged(&s), Compare::STRICT);
            let key = match to {
                "kernel" => &["trusted.overlay.opaque"][..],
                "kernel-user" => &["user.overlay.opaque"],
                "fuse-overlayfs" => &["user.fuseoverlayfs.opaque"],
                _ => &[],
            };
            assert_eq!(s.upper.xattr_names("o"), key, "{from} to {to}");
            // Nothing is left to do.
            let said = text(&convert(&s.upper, &["--to", to]).stdout);
            assert_eq!(said, "0 markers written, 0 removed\n", "{from} to {to}");
        }
    }
}

/// Stopped at any moment, a conversion has left some facts in two forms.
#[test]
fn what_was_stopped_is_finished() {
    needs!(root, mount);
    let s = scene("kernel");
    let before = merged(&s);
    s.upper
        .file("d/.wh.gone", "")
        .file("o/.wh..wh..opq", "")
        .times("d", 1000, 7)
        .times("o", 1000, 7);
    for form in ["aufs", "kernel"] {
        assert_eq!(converted(&s.upper, &["--to", form]), wanted(form));
        assert_same_tree(&before, &merged(&s), Compare::STRICT);
    }
}

/// An upper of the fuse-overlayfs that Debian has, as singularity packs it: two files beside each
/// mark, one of them without a meaning, and no runtime imports an archive of it.
#[test]
fn an_upper_of_fuse_overlayfs_becomes_a_clean_layer() {
    needs!(root, mount);
    let s = Scratch::new();
    s.lower(0).file("d/gone", "").file("f", "");
    s.upper.file("d/new", "").file("d/.wh..opq", "").file("d/.wh..wh..opq", "").whiteout("d/gone");
    s.upper.xattr("d", "user.fuseoverlayfs.opaque", "y").xattr("d", "user.overlay.opaque", "y");
    // What release 1.10 makes as root, which was refused.
    s.lower(0).file("e/gone", "");
    s.upper.opaque_dir("e").whiteout("e/.wh..opq").file("e/.wh..wh..opq", "").times("e", 5, 0);
    s.upper.file("f", "x").xattr("f", "trusted.overlay.origin", "1").file(".wh..wh.aufs", "");
    s.upper.xattr("", "trusted.overlay.impure", "y").times("d", 5, 0).times("", 5, 0);
    let before = merged(&s);
    let lines = converted(&s.upper, &["--seal"]);
    assert_eq!(lines, ["d ", "d d {opaque=y}", "f d/new", "d e {opaque=y}", "f f = x"]);
    assert_eq!(s.upper.xattr_names("d"), ["trusted.overlay.opaque"]);
    assert_same_tree(&before, &merged(&s), Compare::STRICT);
}

#[test]
fn other_marks_go_to_the_other_namespace() {
    needs!(root, mount);
    let s = Scratch::new();
    s.lower(0).file("old/a", "1").file("data", "data");
    s.upper.dir("new").xattr("new", "trusted.overlay.redirect", "/old").whiteout("old");
    s.upper.file("copy", "").xattr("copy", "trusted.overlay.metacopy", "");
    s.upper.xattr("copy", "trusted.overlay.redirect", "/data");
    std::fs::File::options().write(true).open(s.upper.path("copy")).unwrap().set_len(4).unwrap();
    s.upper.symlink("l", "x").xattr("l", "trusted.overlay.origin", "1");
    s.upper.xattr("new", "trusted.overlay.overlay.opaque", "y");
    let before = merged(&s);
    converted(&s.upper, &["--to", "kernel-user"]);
    assert_eq!(s.upper.xattr_names("copy"), ["user.overlay.metacopy", "user.overlay.redirect"]);
    let wanted = ["trusted.overlay.overlay.opaque", "user.overlay.redirect"];
    assert_eq!(s.upper.xattr_names("new"), wanted, "what users set stays");
    assert_eq!(s.upper.xattr_names("l"), [""; 0]);
    assert_same_tree(&before, &merged(&s), Compare::STRICT);
    // The other forms have no word for these, and nothing is changed.
    let before = disk(&s.upper);
    for form in ["aufs", "fuse-overlayfs"] {
        let output = convert(&s.upper, &["--to", form]);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("only the form of"), "{said}");
        assert_eq!(disk(&s.upper), before);
    }
}

#[test]
fn what_cannot_be_said_is_refused_before_anything_is_changed() {
    needs!(root);
    let s = Scratch::new();
    s.upper.whiteout("a").whiteout(format!("z/{}", "n".repeat(252)));
    let before = disk(&s.upper);
    let output = convert(&s.upper, &["--to", "aufs"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(disk(&s.upper), before);
    s.upper.file("d/.wh.mine", "data");
    let output = convert(&s.upper, &[]);
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("rename it"));
    assert_eq!(s.upper.read("d/.wh.mine"), "data");
}

/// A whiteout file beside a directory says that nothing merges with it.
#[test]
fn a_whiteout_file_beside_an_object() {
    needs!(root, mount);
    let s = Scratch::new();
    s.lower(0).file("d/gone", "").file("f", "");
    s.upper.file("d/new", "").file(".wh.d", "").file("f", "new").file(".wh.f", "");
    s.upper.times("d", 5, 0).times("", 5, 0);
    let before = merged(&s);
    assert_eq!(converted(&s.upper, &[]), ["d ", "d d {opaque=y}", "f d/new", "f f = new"]);
    assert_same_tree(&before, &merged(&s), Compare::STRICT);
}

#[test]
fn never_while_it_is_mounted() {
    needs!(root, mount);
    let s = scene("aufs");
    let _mnt = s.mount();
    let output = convert(&s.upper, &[]);
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("it is mounted"), "{said}");
}

/// The mount table shows a space as `\\040`, and has the path that was mounted: a layer in use was
/// taken for one that is not.
#[test]
fn never_while_the_kernel_has_it_mounted() {
    needs!(root, kernel_overlay);
    not_the_kernels!("the tool is what is tried");
    let s = Scratch::new();
    let lower = s.upper.dir("a layer").path("a layer");
    let lower = Dir::new(lower);
    lower.file("f", "").file(".wh.gone", "");
    std::os::unix::fs::symlink(lower.root(), s.work.path("link")).unwrap();
    let other = s.lower(0);
    other.file("g", "");
    let link = Dir::new(s.work.path("link"));
    let _mounted = Kernel::overlay(&[link, other.clone()], None, &s.mnt, "ro");
    let output = convert(&lower, &[]);
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("it is mounted"), "{said}");
    assert_eq!(lower.read("f"), "");
    assert!(lower.exists(".wh.gone"));
}

/// It stopped in the middle with "Operation not permitted", and lost origins on the way.
#[test]
fn an_ordinary_user_is_told_of_the_other_form() {
    needs!(root);
    let layers: [fn(&Dir); 3] = [
        |layer| {
            layer.file("o/.wh..wh..opq", "");
        },
        |layer| {
            layer.dir("o").file(".wh.o", "");
        },
        |layer| {
            layer.file("f", "").xattr("f", "user.overlay.origin", "1");
        },
    ];
    for fill in layers {
        let s = Scratch::new();
        fill(&s.upper.dir("layer").sub("layer"));
        let layer = s.upper.sub("layer");
        for path in ["", "o", "f", ".wh.o", "o/.wh..wh..opq"] {
            if layer.exists(path) {
                layer.owner(path, NOBODY, NOBODY);
            }
        }
        let before = disk(&layer);
        let path = layer.root().display();
        let output = s.shell_of_nobody(&[], &format!(r#""$1" convert --to kernel {path}"#));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("trusted.overlay.") && said.contains("--to kernel-user"), "{said}");
        assert_eq!(disk(&layer), before, "something was changed");
        assert!(convert(&layer, &["--to", "kernel-user"]).status.success());
    }
}
