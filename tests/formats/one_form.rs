//! An upper holds whiteouts and opaque marks of one form, the one that was chosen, whatever is
//! done. A rename used to leave a device 0:0, the kernel's form, in uppers of another form.

use std::fs;
use std::path::{Path, PathBuf};

use crate::layers::{Kernel, show};
use crate::support::process::{shell, text};
use crate::support::tree::{Compare, assert_same_tree};
use crate::support::{Dir, Mount, Scratch, need, raw};
use crate::{needs, not_the_kernels};

const OPAQUE: &str = "trusted.overlay.opaque";
const WHITEOUT: &str = "trusted.overlay.whiteout";

/// What a test does in a mount of the layer that [`below`] makes.
type Act = fn(&Mount);

fn below(dir: &Dir) {
    for path in ["a", "b", "c", "d/x", "d/y", "d/sub/z", "e/x", "f/x", "g/x", "gone", "one"] {
        dir.file(path, path);
    }
    dir.dir("empty").symlink("link", "a").hard_link("hard", "one");
}

fn mv(m: &Mount, from: &str, to: &str) {
    fs::rename(m.path(from), m.path(to)).unwrap();
}

fn rm(m: &Mount, path: &str) {
    fs::remove_file(m.path(path)).unwrap();
}

fn rm_tree(m: &Mount, path: &str) {
    fs::remove_dir_all(m.path(path)).unwrap();
}

/// Each leaves or replaces a whiteout, or marks a directory as opaque.
const OPERATIONS: [(&str, Act); 27] = [
    ("unlink", |m| rm(m, "a")),
    ("unlink what was copied up", |m| rm(m.file("a", "new").then(m), "a")),
    ("rmdir", |m| fs::remove_dir(m.path("empty")).unwrap()),
    ("a tree is removed", |m| rm_tree(m, "d")),
    ("a copied tree is removed", |m| rm_tree(m.file("d/x", "new").then(m), "d")),
    ("rename", |m| mv(m, "a", "new")),
    ("rename into a directory of a lower", |m| mv(m, "a", "d/new")),
    ("rename out of one", |m| mv(m, "d/x", "new")),
    ("rename over a file of a lower", |m| mv(m, "a", "b")),
    ("rename of a copy over a copy", |m| mv(m.file("a", "1").file("b", "2").then(m), "a", "b")),
    ("rename onto a removed name", |m| {
        rm(m, "gone");
        mv(m, "a", "gone");
    }),
    ("rename of a link", |m| mv(m, "link", "new")),
    ("rename of one of several names", |m| mv(m, "hard", "new")),
    ("rename of a directory", |m| mv(m, "d", "new")),
    ("rename of a directory into another", |m| mv(m, "d/sub", "e/sub")),
    ("rename of a directory onto a removed one", |m| {
        rm_tree(m, "e");
        mv(m, "d", "e");
    }),
    ("rename of a directory onto a removed file", |m| {
        rm(m, "a");
        mv(m, "d", "a");
    }),
    ("rename of a directory onto an empty one", |m| mv(m, "d", "empty")),
    ("rename of a directory onto one that was emptied", |m| {
        rm(m, "e/x");
        mv(m, "d", "e");
    }),
    ("rename of a new directory onto one that was emptied", |m| {
        rm(m, "e/x");
        mv(m.dir("new").file("new/x", "new").then(m), "new", "e");
    }),
    ("rename of a directory onto one that was only copied up", |m| {
        mv(m.mode("empty", 0o711).then(m), "d/sub", "empty");
    }),
    ("rename of a new directory onto a removed one", |m| {
        rm_tree(m, "e");
        mv(m.dir("new").then(m), "new", "e");
    }),
    ("exchange of files", |m| exchange(m, "a", "b")),
    ("exchange of a file and a directory", |m| exchange(m, "a", "d")),
    ("a directory is made anew", |m| {
        rm_tree(m, "d");
        m.dir("d").file("d/x", "new");
        rm(m, "d/x");
    }),
    ("a removed name is used and removed again", |m| {
        rm(m, "a");
        m.file("a", "new");
        rm(m, "a");
        m.symlink("a", "b");
        rm(m, "a");
        fs::hard_link(m.path("b"), m.path("a")).unwrap();
        rm(m, "a");
    }),
    ("renames one after the other", |m| {
        for (from, to) in [("a", "n1"), ("b", "a"), ("n1", "b"), ("d", "n2"), ("e", "d")] {
            mv(m, from, to);
        }
        mv(m, "n2/x", "d/x");
        rm_tree(m, "n2");
    }),
];

fn exchange(m: &Mount, one: &str, other: &str) {
    raw::rename(&m.path(one), &m.path(other), libc::RENAME_EXCHANGE).unwrap();
}

/// Goes on after a step that gives nothing of use.
trait Then {
    fn then<'a>(&self, m: &'a Mount) -> &'a Mount;
}

impl<T> Then for T {
    fn then<'a>(&self, m: &'a Mount) -> &'a Mount {
        m
    }
}

/// Everything in a layer, with its path.
fn entries(layer: &Dir) -> Vec<PathBuf> {
    let mut todo = vec![PathBuf::new()];
    let mut found = Vec::new();
    while let Some(path) = todo.pop() {
        if fs::symlink_metadata(layer.path(&path)).unwrap().is_dir() {
            todo.extend(layer.names(&path).iter().map(|name| path.join(name)));
        }
        found.push(path);
    }
    found
}

/// A mark, of root or of users.
fn mark_of(upper: &Dir, path: &Path, mark: &str) -> Option<Vec<u8>> {
    let of_users = mark.replacen("trusted.", "user.", 1);
    // Links and devices have no attributes of users.
    [mark, &of_users].into_iter().find_map(|mark| upper.get_xattr(path, mark))
}

/// Marks of the upper that are not of this form.
fn foreign(upper: &Dir, form: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for path in entries(upper) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let says = |mark| mark_of(upper, &path, mark);
        let opaque = says(OPAQUE);
        let kinds = [
            ("char", upper.is_whiteout(&path)),
            ("xattr", says(WHITEOUT).is_some() || opaque.as_deref() == Some(b"x")),
            ("aufs", name.is_some_and(|name| name.starts_with(".wh."))),
        ];
        let others = kinds.iter().filter(|(of, is_one)| *is_one && *of != form);
        wrong.extend(others.map(|(of, _)| format!("{path:?} is of the form {of}")));
        if form == "aufs" && opaque.is_some() {
            wrong.push(format!("{path:?} has an attribute that says opaque"));
        }
        let above = path.parent().unwrap_or(Path::new(""));
        if says(WHITEOUT).is_some() && mark_of(upper, above, OPAQUE).is_none() {
            wrong.push(format!("{path:?} is in a directory that does not tell of whiteouts"));
        }
    }
    wrong
}

/// Runs each operation on an upper with this form, and compares what is left with what a new mount
/// shows, and with what the kernel's overlayfs makes of it where it reads the form.
fn each_operation(form: &str, options: &[&str], kernel_reads_it: bool) {
    for (what, act) in OPERATIONS {
        let s = Scratch::new();
        below(s.lower(0));
        let option = format!("whiteout={form}");
        let setup = options.iter().fold(s.setup().option(&option), |setup, one| setup.option(one));
        let mut m = setup.mount();
        act(&m);
        let shown = show(&m);
        m.remount();
        assert_same_tree(&shown, &show(&m), Compare::STRICT);
        drop(m);
        let wrong = foreign(&s.upper, form);
        assert!(wrong.is_empty(), "{what}, {form}, {options:?}: {wrong:#?}");
        if kernel_reads_it {
            let layers = [s.upper.clone(), s.lower(0).clone()];
            let kernel = Kernel::overlay(&layers, None, &s.mnt, "redirect_dir=follow");
            assert_same_tree(&shown, &show(&kernel), Compare::STRICT);
        }
    }
}

#[test]
fn char() {
    needs_both!();
    each_operation("char", &[], true);
    each_operation("char", &["redirect_dir=on"], true);
}

#[test]
fn xattr() {
    needs_both!();
    let kernel_reads_it = need::overlay_xattr_whiteouts(crate::test_name!());
    each_operation("xattr", &[], kernel_reads_it);
    each_operation("xattr", &["redirect_dir=on"], kernel_reads_it);
}

#[test]
fn aufs() {
    needs!(mount);
    not_the_kernels!("it has no such option");
    each_operation("aufs", &[], false);
}

/// As root of a user namespace, where marks are attributes of users.
#[test]
fn xattr_in_a_user_namespace() {
    needs!(mount, userns);
    not_the_kernels!("it is mounted otherwise in a user namespace");
    let s = Scratch::new();
    below(s.lower(0));
    for dir in [s.lower(0), &s.upper, &s.work, &s.mnt] {
        shell(dir.root(), "chown -hR 65534:65534 .");
    }
    let script = "\"$1\" -o \"$2,whiteout=xattr\" \"$3\" || exit 9; cd \"$3\" || exit 9
        mv a b && mv c d/new && mv d/x new && mv link other && mv d moved && rm -r f && mkdir f &&
        rm e/x && mv -T moved e && rm gone && touch gone && rm gone && mv hard two && find . | sort
        cd /; \"$1\" umount \"$3\"; \"$1\" -o \"$2,whiteout=xattr\" \"$3\" && cd \"$3\"
        echo again; find . | sort; cd /; \"$1\" umount \"$3\"";
    let output = s.shell_of_nobody(&["unshare", "-Urm"], script);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    let (before, after) = said.split_once("again\n").unwrap();
    assert_eq!(before, after);
    assert!(before.contains("./e/sub/z\n") && before.contains("./new\n"), "{before}");
    let wrong = foreign(&s.upper, "xattr");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whiteouts that another program left in another form: one that moves with a rename is written
/// anew in the form of the mount.
#[test]
fn what_moves_gets_the_form_of_the_upper() {
    needs_both!();
    for form in ["char", "xattr"] {
        let s = Scratch::new();
        below(s.lower(0));
        s.upper.xattr("", OPAQUE, "x");
        match form {
            "char" => s.upper.file("e", "").xattr("e", WHITEOUT, "y"),
            _ => s.upper.whiteout("e"),
        };
        let m = s.setup().option(&format!("whiteout={form}")).mount();
        assert!(!m.exists("e"));
        mv(&m, "d", "e");
        assert!(m.exists("e/sub/z") && !m.exists("d"));
        drop(m);
        let is_device = s.upper.is_whiteout("d");
        let is_file = s.upper.get_xattr("d", WHITEOUT).is_some();
        assert_eq!((is_device, is_file), (form == "char", form == "xattr"), "{form}");
    }
}
