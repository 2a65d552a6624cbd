//! What `ovlmerge check` finds, and what `--repair` makes of it.

use std::ffi::OsString;

use crate::call::{call, findings, layers};
use crate::disk::disk;
use crate::needs;
use crate::support::process::text;
use crate::support::tree::{self, Compare, assert_same_tree};
use crate::support::{Engine, Scratch};

fn args(s: &Scratch, flags: &[&str]) -> Vec<OsString> {
    let mut options = layers(s);
    options.push(",workdir=");
    options.push(s.work.root());
    let flags = flags.iter().map(OsString::from);
    ["check".into(), "-o".into(), options].into_iter().chain(flags).collect()
}

/// The findings, without their explanations: `OVL001 /a`.
#[track_caller]
fn found(s: &Scratch, flags: &[&str]) -> Vec<String> {
    findings(args(s, flags))
}

/// All of it is found, and a repair leaves `left` of it and the tree as it was.
#[track_caller]
fn check(s: &Scratch, wanted: &[&str], left: &[&str]) {
    let before = tree::dump(s.mount().root());
    assert_eq!(found(s, &[]), wanted);
    assert_eq!(found(s, &["--repair"]), left);
    assert_eq!(found(s, &[]), left);
    assert_same_tree(&before, &tree::dump(s.mount().root()), Compare::STRICT);
}

#[test]
fn what_a_mount_wrote_is_as_it_should_be() {
    needs!(root, mount);
    let s = Scratch::with_lowers(2);
    s.lower(1).file("d/a", "1").file("d/b", "2").file("e/sub/c", "3").file("f", "");
    s.lower(0).whiteout("d/b").file("d/g", "");
    let mut mnt = s.mount();
    let script = "rm f d/a; rm -r e; mkdir e; echo x > e/new; echo y >> d/g; mkdir n; ln d/g n/g";
    crate::support::process::shell(mnt.root(), script);
    mnt.unmount();
    check(&s, &[], &[]);
}

#[test]
fn whiteouts_that_hide_nothing() {
    needs!(root, mount);
    let s = Scratch::new();
    s.lower(0).file("a", "").file("d/a", "").file("o/a", "");
    s.upper.whiteout("a").whiteout("nothing").file(".wh.nothing-either", "");
    s.upper.file("d/.wh.a", "").opaque_dir("o").whiteout("o/a").whiteout("new/a");
    let wanted = ["OVL001 /.wh.nothing-either", "OVL001 /new/a", "OVL001 /nothing", "OVL001 /o/a"];
    check(&s, &wanted, &[]);
    assert!(s.upper.is_whiteout("a") && s.upper.exists("d/.wh.a"));
}

#[test]
fn two_whiteouts_for_one_name() {
    needs!(root, mount);
    let s = Scratch::new();
    s.lower(0).file("a", "").file("b", "").file("dir/x", "");
    s.upper.whiteout("a").file(".wh.a", "").file("b", "new").file(".wh.b", "");
    // This one has a meaning: nothing of the lower directory shows.
    s.upper.dir("dir").file(".wh.dir", "");
    check(&s, &["OVL002 /.wh.a", "OVL002 /.wh.b"], &[]);
    assert!(s.upper.exists(".wh.dir"));
}

/// Singularity's case: its layers come from such uppers, and no runtime imports them.
#[test]
fn what_fuse_overlayfs_leaves() {
    needs!(root, mount);
    let s = Scratch::new();
    s.lower(0).file("d/a", "").file("e/.opq", "");
    s.upper.dir("d").file("d/.wh..opq", "").file("d/.wh..wh..opq", "");
    s.upper.xattr("d", "user.fuseoverlayfs.opaque", "y").xattr("d", "user.overlay.opaque", "y");
    s.upper.file("e/.wh..opq", "");
    check(&s, &["OVL004 /d", "OVL003 /d/.wh..opq"], &[]);
    assert_eq!(disk(&s.upper), ["d ", "d d {opaque=y}", "d e", "f e/.wh..opq"]);
    assert_eq!(s.upper.xattr_names("d"), ["trusted.overlay.opaque"]);
    assert!(s.upper.exists("e/.wh..opq"), "it hides a name of the lower");
}

#[test]
fn opaque_marks_that_the_kernel_does_not_read() {
    needs!(root, mount);
    let s = Scratch::new();
    for dir in ["user", "fuse", "file", "good"] {
        s.lower(0).file(format!("{dir}/a"), "");
        s.upper.dir(dir);
    }
    s.upper.xattr("user", "user.overlay.opaque", "y").xattr(
        "fuse",
        "user.fuseoverlayfs.opaque",
        "y",
    );
    s.upper.file("file/.wh..wh..opq", "").xattr("good", "trusted.overlay.opaque", "y");
    check(&s, &["OVL005 /file", "OVL005 /fuse", "OVL005 /user"], &[]);
    for dir in ["user", "fuse", "file", "good"] {
        assert_eq!(s.upper.xattr_names(dir), ["trusted.overlay.opaque"], "{dir}");
        assert!(s.upper.names(dir).is_empty());
    }
}

#[test]
fn redirects() {
    needs!(root, mount);
    let s = Scratch::new();
    s.lower(0).file("old/a", "").file("other/a", "");
    s.upper.dir("lost").xattr("lost", "trusted.overlay.redirect", "/nowhere");
    s.upper.whiteout("old").dir("new").xattr("new", "trusted.overlay.redirect", "/old");
    s.upper.dir("twice").xattr("twice", "trusted.overlay.redirect", "/other").dir("other");
    let wanted = ["OVL006 /lost", "OVL007 /other"];
    check(&s, &wanted, &wanted);
    s.upper.dir("bad").xattr("bad", "trusted.overlay.redirect", "../x");
    assert_eq!(found(&s, &[]), ["OVL008 /bad", "OVL006 /lost", "OVL007 /other"]);
}

#[test]
fn a_metadata_only_copy_without_data() {
    needs!(root);
    let s = Scratch::new();
    s.lower(0).file("good", "data");
    for name in ["good", "lost"] {
        s.upper.file(name, "");
        let file = std::fs::File::options().write(true).open(s.upper.path(name)).unwrap();
        file.set_len(4).unwrap();
        s.upper.xattr(name, "trusted.overlay.metacopy", "");
    }
    assert_eq!(found(&s, &[]), ["OVL009 /lost"]);
    assert_eq!(found(&s, &["--repair"]), ["OVL009 /lost"]);
}

#[test]
fn a_delegation_to_nobody() {
    needs!(root, mount);
    let s = Scratch::new();
    s.lower(0).file("d/a", "");
    let mark = "user.overlay.dirmeta_delegate";
    s.upper.dir("d").xattr("d", mark, "y").dir("new").xattr("new", mark, "y");
    check(&s, &["OVL011 /new"], &[]);
    assert_eq!(s.upper.xattr_names("d"), [mark]);
}

#[test]
fn a_file_with_the_name_of_a_whiteout() {
    needs!(root, mount);
    let s = Scratch::new();
    s.upper.file(".wh.mine", "data").dir("d/.wh.mine");
    let wanted = ["OVL012 /.wh.mine", "OVL012 /d/.wh.mine"];
    check(&s, &wanted, &wanted);
    assert_eq!(s.upper.read(".wh.mine"), "data");
}

#[test]
fn the_work_directory() {
    needs!(root, mount);
    let s = Scratch::new();
    s.work.file("work/#1/a", "").file("work/#2", "");
    assert_eq!(found(&s, &[]), ["OVL013 workdir:/work/#1", "OVL013 workdir:/work/#2"]);
    assert_eq!(found(&s, &["--repair"]), [""; 0]);
    s.work.dir("work/incompat/volatile");
    s.upper.whiteout("nothing");
    let wanted = ["OVL001 /nothing", "OVL014 workdir:/work/incompat/volatile"];
    assert_eq!(found(&s, &[]), wanted);
    // Whoever knows better has to decide first.
    assert_eq!(found(&s, &["--repair"]), wanted);
    let said = text(&call(args(&s, &[])).stdout);
    assert!(said.contains("throw the upper away") && !said.contains("manual"), "{said}");
}

#[test]
fn never_while_it_is_mounted() {
    needs!(root, mount, kernel_overlay);
    let s = Scratch::new();
    s.upper.whiteout("nothing");
    let refused = |s: &Scratch| {
        for flags in [&[][..], &["--repair"]] {
            let output = call(args(s, flags));
            let said = text(&output.stderr);
            assert!(output.status.code() == Some(1) && said.contains("it is mounted"), "{said}");
        }
        assert!(s.upper.is_whiteout("nothing"));
    };
    let mut mnt = s.mount();
    refused(&s);
    mnt.unmount();
    if Engine::current() == Engine::Program {
        let mut options = layers(&s);
        options.push(",workdir=");
        options.push(s.work.root());
        let target = s.mnt.root();
        let flags = nix::mount::MsFlags::empty();
        let kind = Some("overlay");
        nix::mount::mount(kind, target, kind, flags, Some(options.as_os_str())).unwrap();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| refused(&s)));
        nix::mount::umount(target).unwrap();
        caught.unwrap();
    }
}

#[test]
fn as_json_and_as_text() {
    needs!(root);
    let s = Scratch::new();
    s.upper.whiteout("nothing");
    let said = call(args(&s, &["--json"]));
    let said: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(said["findings"][0]["id"], "OVL001");
    assert_eq!(said["findings"][0]["path"], "/nothing");
    assert_eq!(said["findings"][0]["repairable"], true);
    let said = text(&call(args(&s, &["--repair"])).stdout);
    assert_eq!(said, "1 repaired, 0 left\n");
    assert_eq!(text(&call(args(&s, &[])).stdout), "nothing is wrong\n");
    let said = call(["check".into(), "--repair".into(), "-o".into(), layers(&s)]);
    assert!(said.status.code() == Some(2) && text(&said.stderr).contains("workdir"));
}
