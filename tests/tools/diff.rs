//! What is in the layer that `ovlmerge diff` makes: names, whiteouts, directories.

use crate::call::{beside, changed, diff, done, layers, pack, refused, warned};
use crate::support::Scratch;
use crate::support::process::{run, text};
use crate::{layer::Layer, needs, not_the_kernels};
use nix::sys::stat::SFlag;

/// Times of directories would tell of every change in them.
fn settle(scratch: &Scratch, dirs: &[&str]) {
    for layer in scratch.lowers().iter().chain([&scratch.upper]) {
        for dir in dirs.iter().filter(|dir| layer.exists(dir)) {
            layer.times(dir, 1000, 0);
        }
    }
}

#[test]
fn a_new_file_a_changed_one_and_one_that_is_gone() {
    needs!(root);
    let s = Scratch::new();
    s.lower(0).file("etc/changed", "old").file("etc/gone", "x").file("etc/same", "x");
    s.upper.file("etc/changed", "new").whiteout("etc/gone").file("etc/added", "a");
    settle(&s, &["", "etc"]);
    let wanted =
        ["f 0000 0:0 etc/.wh.gone", "f 0644 0:0 etc/added = a", "f 0644 0:0 etc/changed = new"];
    assert_eq!(changed(&s), wanted);
}

/// No runtime needs a whiteout for nothing, and some refuse a layer with one.
#[test]
fn a_whiteout_for_a_name_that_no_lower_has_is_left_out() {
    needs!(root);
    let s = Scratch::new();
    s.lower(0).file("a", "");
    s.upper.whiteout("nothing").whiteout("d/nothing");
    s.lower(0).dir("d");
    settle(&s, &["", "d"]);
    assert_eq!(changed(&s), [""; 0]);
}

#[test]
fn a_whiteout_counts_what_the_lowers_show_not_what_they_hold() {
    needs!(root);
    let s = Scratch::with_lowers(2);
    s.lower(1).file("hidden", "").file("shown", "");
    s.lower(0).whiteout("hidden");
    s.upper.whiteout("hidden").whiteout("shown");
    settle(&s, &[""]);
    assert_eq!(changed(&s), ["f 0000 0:0 .wh.shown"]);
}

#[test]
fn whiteouts_of_every_form() {
    needs!(root);
    let s = Scratch::new();
    for name in ["device", "file", "attribute", ".opq"] {
        s.lower(0).file(name, "");
    }
    s.upper.whiteout("device").file(".wh.file", "").file("attribute", "");
    s.upper.xattr("", "trusted.overlay.opaque", "x");
    s.upper.xattr("attribute", "trusted.overlay.whiteout", "");
    s.upper.file(".wh..opq", "").file(".wh..wh.aufs", "").dir(".wh..wh.plnk");
    settle(&s, &[""]);
    let wanted =
        [".wh..opq", ".wh.attribute", ".wh.device", ".wh.file"].map(|w| format!("f 0000 0:0 {w}"));
    assert_eq!(changed(&s), wanted);
}

#[test]
fn an_opaque_directory_is_told_by_whiteouts() {
    needs!(root);
    let s = Scratch::new();
    s.lower(0).file("d/gone", "").file("d/again", "old").file("d/sub/gone", "").file("d/x/y", "");
    s.upper.opaque_dir("d").file("d/again", "new").dir("d/sub").file("d/new", "");
    settle(&s, &["", "d", "d/sub"]);
    let wanted = [
        "f 0000 0:0 d/.wh.gone",
        "f 0000 0:0 d/.wh.x",
        "f 0644 0:0 d/again = new",
        "f 0644 0:0 d/new",
        "f 0000 0:0 d/sub/.wh.gone",
    ];
    assert_eq!(changed(&s), wanted);
}

#[test]
fn an_opaque_directory_is_told_by_one_marker_if_asked_for() {
    needs!(root);
    let s = Scratch::new();
    s.lower(0).file("d/gone", "").file("d/sub/gone", "");
    s.upper.opaque_dir("d").dir("d/sub").file("d/a", "");
    // Nothing is below these, so they need no marker.
    s.upper.opaque_dir("new").file("new/a", "");
    s.lower(0).dir("empty");
    s.upper.opaque_dir("empty");
    let layer = diff(&s, &["--opaque=marker"]);
    let wanted = ["./", "d/", "d/.wh..wh..opq", "d/a", "d/sub/", "empty/", "new/", "new/a"];
    assert_eq!(layer.paths(), wanted);
}

#[test]
fn opaque_marks_of_every_form_and_only_those() {
    needs!(root);
    let s = Scratch::new();
    for dir in ["trusted", "user", "fuse", "file", "no"] {
        s.lower(0).file(format!("{dir}/gone"), "");
        s.upper.dir(dir);
    }
    s.upper.xattr("trusted", "trusted.overlay.opaque", "y");
    s.upper.xattr("user", "user.overlay.opaque", "y");
    s.upper.xattr("fuse", "user.fuseoverlayfs.opaque", "y");
    s.upper.file("file/.wh..wh..opq", "");
    s.upper.xattr("no", "user.overlay.opaque", "n");
    settle(&s, &["", "trusted", "user", "fuse", "file", "no"]);
    let whiteouts: Vec<_> = changed(&s).into_iter().filter(|line| line.contains(".wh.")).collect();
    let wanted =
        ["file", "fuse", "trusted", "user"].map(|dir| format!("f 0000 0:0 {dir}/.wh.gone"));
    assert_eq!(whiteouts, wanted);
}

#[test]
fn unchanged_parents_have_their_metadata_or_are_left_out() {
    needs!(root);
    let s = Scratch::new();
    s.lower(0).file("tmp/sub/a", "").mode("tmp", 0o1777).owner("tmp", 7, 8);
    s.upper.file("tmp/sub/a", "b").mode("tmp", 0o1777).owner("tmp", 7, 8);
    settle(&s, &["", "tmp", "tmp/sub"]);
    let file = "f 0644 0:0 tmp/sub/a = b";
    assert_eq!(diff(&s, &["--parents=changed"]).lines(), [file]);
    let all = ["d 0755 0:0 ./", "d 1777 7:8 tmp/", "d 0755 0:0 tmp/sub/", file];
    assert_eq!(diff(&s, &[]).lines(), all);
}

#[test]
fn a_directory_whose_metadata_changed_is_told_before_what_is_in_it() {
    needs!(root);
    let s = Scratch::new();
    for dir in ["mode", "owner", "time", "xattr", "acl", "same"] {
        s.lower(0).file(format!("{dir}/a"), "");
        s.upper.file(format!("{dir}/a"), "b");
    }
    settle(&s, &["", "mode", "owner", "time", "xattr", "acl", "same"]);
    s.upper.mode("mode", 0o700).owner("owner", 1, 0).xattr("xattr", "user.a", "1");
    s.upper.times("time", 1000, 1);
    // Marks are no change.
    s.upper.xattr("same", "trusted.overlay.origin", "").xattr("same", "user.overlay.impure", "y");
    run("setfacl", &["-m", "u:7:rx", s.upper.path("acl").to_str().unwrap()]);
    let paths = diff(&s, &["--parents=changed"]).paths();
    let wanted = [
        "acl/", "acl/a", "mode/", "mode/a", "owner/", "owner/a", "same/a", "time/", "time/a",
        "xattr/", "xattr/a",
    ];
    assert_eq!(paths, wanted);
}

/// Metadata that a directory of the upper only borrows is the real one.
#[test]
fn a_delegating_directory_has_the_metadata_of_the_one_below() {
    needs!(root);
    let s = Scratch::new();
    s.lower(0).file("tmp/a", "").mode("tmp", 0o1777).owner("tmp", 7, 8).xattr("tmp", "user.k", "v");
    s.upper.file("tmp/b", "").xattr("tmp", "user.overlay.dirmeta_delegate", "y");
    settle(&s, &["", "tmp"]);
    assert_eq!(diff(&s, &[]).lines()[1], "d 1777 7:8 tmp/ {user.k=v}");
    assert_eq!(changed(&s), ["f 0644 0:0 tmp/b"]);
    let off = [layers(&s), ",dirmeta_delegate=off".into()].concat_os();
    let layer = Layer::read(&done(["diff".into(), "-o".into(), off]).stdout);
    assert_eq!(layer.lines()[1], "d 0755 0:0 tmp/");
}

trait ConcatOs {
    fn concat_os(self) -> std::ffi::OsString;
}

impl ConcatOs for [std::ffi::OsString; 2] {
    fn concat_os(self) -> std::ffi::OsString {
        let [mut first, second] = self;
        first.push(second);
        first
    }
}

#[test]
fn types_that_change() {
    needs!(root);
    let s = Scratch::new();
    s.lower(0).file("to-dir", "").file("to-file/a", "").symlink("to-other", "x");
    s.upper.file("to-dir/a", "").file("to-file", "x").node("to-other", SFlag::S_IFIFO, 0, 0);
    settle(&s, &[""]);
    let wanted = [
        "d 0755 0:0 to-dir/",
        "f 0644 0:0 to-dir/a",
        "f 0644 0:0 to-file = x",
        "p 0644 0:0 to-other",
    ];
    assert_eq!(changed(&s), wanted);
}

/// buildkit's differ refuses such an upper.
#[test]
fn a_renamed_directory_of_a_lower_is_there_as_a_whole() {
    needs!(root);
    let s = Scratch::with_lowers(2);
    s.lower(1).file("old/deep/a", "1").file("old/b", "2").file("old/c", "3").file("new/x", "");
    s.lower(0).whiteout("old/c").file("old/d", "4");
    s.upper.whiteout("old").file("new/b", "changed").whiteout("new/d");
    s.upper.xattr("new", "trusted.overlay.redirect", "/old");
    settle(&s, &[""]);
    let wanted = [
        "f 0000 0:0 .wh.old",
        "d 0755 0:0 new/",
        "f 0000 0:0 new/.wh.x",
        "f 0644 0:0 new/b = changed",
        "d 0755 0:0 new/deep/",
        "f 0644 0:0 new/deep/a = 1",
    ];
    assert_eq!(changed(&s), wanted);
    let nofollow = [layers(&s), ",redirect_dir=nofollow".into()].concat_os();
    let output = crate::call::call(["diff".into(), "-o".into(), nofollow]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nofollow"), "{}", text(&output.stderr));
}

#[test]
fn names_are_in_the_order_of_their_bytes() {
    needs!(root);
    let s = Scratch::new();
    for name in ["b", "a", "a-", "a/z", "B", "\u{e9}", "!"] {
        match name.split_once('/') {
            Some((dir, _)) => s.upper.file(format!("{dir}.d/z"), ""),
            None => s.upper.file(name, ""),
        };
    }
    let wanted = ["./", "!", "B", "a", "a-", "a.d/", "a.d/z", "b", "\\xc3\\xa9"];
    assert_eq!(diff(&s, &[]).paths(), wanted);
}

/// Files called `.wh.*` cannot be in a layer: they would take something away.
#[test]
fn a_file_of_a_user_with_the_name_of_a_marker_is_an_error() {
    needs!(root);
    let s = Scratch::new();
    s.upper.file("d/.wh.mine", "data");
    let said = refused(&s, &[], 1);
    assert!(said.contains("d/.wh.mine") && said.contains("rename it"), "{said}");
    std::fs::remove_file(s.upper.path("d/.wh.mine")).unwrap();
    s.upper.dir("d/.wh.dir");
    assert!(refused(&s, &[], 1).contains("d/.wh.dir"));
}

#[test]
fn a_failure_leaves_no_file_and_the_old_one_alone() {
    needs!(root);
    let s = Scratch::new();
    s.upper.file("a", "").file("z/.wh.mine", "data");
    let out = beside(&s, "out.tar");
    std::fs::write(&out, "old").unwrap();
    refused(&s, &["-f", out.to_str().unwrap()], 1);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "old");
    assert_eq!(s.base().names(""), ["lower0", "mnt", "out.tar", "upper", "work"]);
}

#[test]
fn reading_changes_nothing() {
    needs!(root);
    let s = Scratch::new();
    s.lower(0).file("d/a", "1").file("e/b", "2");
    s.upper.file("d/a", "3").whiteout("e/b").opaque_dir("f");
    let facts = |s: &Scratch| {
        run("find", &[s.base().root().to_str().unwrap(), "-printf", "%p %m %T@ %C@ %n %i\n"])
    };
    let before = facts(&s);
    pack(&s, &[]);
    assert_eq!(before, facts(&s));
}

#[test]
fn a_tree_deeper_than_a_path_can_be() {
    needs!(root);
    let s = Scratch::new();
    let deep = vec!["d234567890".repeat(20); 30];
    // By steps, as no call takes a path of that length.
    let script =
        format!("for name in {}; do mkdir $name; cd -P $name; done; echo x > end", deep.join(" "));
    crate::support::process::shell(s.upper.root(), &script);
    let layer = diff(&s, &[]);
    assert_eq!(layer.0.len(), 32);
    assert_eq!(layer.0[31].path.len(), 30 * 201 + 3);
    assert_eq!(layer.0[31].content, b"x\n");
}

/// The layer was one of fewer changes than the mount showed, and nothing said so.
#[test]
fn a_file_that_others_show_by_the_index() {
    needs!(root, mount);
    let s = Scratch::new();
    s.lower(0).file("a", "old");
    for name in ["b", "c"] {
        std::fs::hard_link(s.lower(0).path("a"), s.lower(0).path(name)).unwrap();
    }
    let m = s.setup().option("index=on").mount();
    m.file("a", "new");
    assert_eq!(m.read("b"), "new");
    drop(m);
    let said = warned(&s);
    assert!(said.contains("a: 2 more names of the lowers"), "{said}");
}

/// What it said was the name of a file in it that nobody had asked for, and "Input/output error".
#[test]
fn a_directory_that_is_not_there_is_named() {
    needs!(root);
    let s = Scratch::new();
    let said = refused(&s, &["-f", beside(&s, "none/layer.tar").to_str().unwrap()], 1);
    let wanted =
        format!("the directory {} does not exist; create it", beside(&s, "none").display());
    assert!(said.contains(&wanted) && !said.contains("Input/output"), "{said}");
}

/// Where the work directory is named, it tells that a volatile mount has crashed. The layer is made
/// all the same.
#[test]
fn after_a_volatile_mount_that_was_killed() {
    needs!(root);
    let s = Scratch::new();
    s.upper.file("f", "x");
    let mut options = layers(&s);
    options.push(",workdir=");
    options.push(s.work.root());
    let changes = |options: &std::ffi::OsString| {
        let args = ["diff".into(), "--changes".into(), "-o".into(), options.clone()];
        let output = done::<std::ffi::OsString>(args);
        assert!(text(&output.stdout).contains("A /f"), "{}", text(&output.stdout));
        text(&output.stderr)
    };
    assert_eq!(changes(&options), "");
    s.work.dir("work/incompat/volatile");
    let said = changes(&options);
    assert!(said.contains("workdir=") && said.contains("did not end in order"), "{said}");
    // A mount that lives has not crashed.
    let lives = std::fs::File::open(s.work.root()).unwrap();
    let lock = nix::fcntl::Flock::lock(lives, nix::fcntl::FlockArg::LockShared).unwrap();
    assert_eq!(changes(&options), "");
    drop(lock);
    assert_eq!(changes(&layers(&s)), "", "nothing is guessed");
}

/// The upper of a mount that lives was called a lower, with the advice to give `timeout=`.
#[test]
fn of_an_upper_that_a_mount_writes_to() {
    needs!(root, mount);
    not_the_kernels!("the tool is what is tried");
    let s = Scratch::new();
    s.lower(0).file("f", "old");
    let m = s.mount();
    m.file("f", "new");
    let said = warned(&s);
    let upper = format!("upperdir={}: another mount is using it", s.upper.root().display());
    assert!(said.contains(&upper) && said.contains("ovlmerge umount"), "{said}");
    assert!(!said.contains("lowerdir=") && !said.contains("timeout"), "{said}");
    // A lower that is one is told of once.
    let other = Scratch::new();
    let mut options = std::ffi::OsString::from("lowerdir=");
    options.push(s.upper.root());
    options.push(",upperdir=");
    options.push(other.upper.root());
    let output = done(["diff".into(), "-o".into(), options]);
    let said = text(&output.stderr);
    assert_eq!(said.matches("another mount").count(), 1, "{said}");
    assert!(said.contains("lowerdir=") && !said.contains("timeout"), "{said}");
    drop(m);
    assert!(!warned(&s).contains("another mount"));
}
