//! The kernel's overlayfs with layers inside a mount of ovlmerge.

use std::process::Command;

use crate::scene::{PROGRAM, Scene};
use crate::support::process::{output, text};
use crate::support::tree::{Compare, assert_same_tree, dump};
use crate::support::{Dir, Kernel, Scratch, assert_errno, binary};

const NO_OPTIONS: &str = "redirect_dir=off,metacopy=off,index=off";
const FOLLOW: &str = "redirect_dir=on,metacopy=on,index=off";

/// Marks in both layers, all by attribute: devices 0:0 do not exist in a mount.
fn marked_layers(place: &Dir) -> Vec<Dir> {
    let [top, base] = ["top", "base"].map(|name| place.sub(name).dir("").clone());
    Scene::Xattr.fill(&base);
    base.file("old/inside", "renamed");
    top.file("d/a", "").xattr("d/a", "trusted.overlay.whiteout", "");
    top.xattr("d", "trusted.overlay.opaque", "x").xattr("", "trusted.overlay.opaque", "x");
    top.opaque_dir("again").file("again/other", "");
    top.dir("new").xattr("new", "trusted.overlay.redirect", "/old");
    top.file("old", "").xattr("old", "trusted.overlay.whiteout", "");
    vec![top, base]
}

/// The same layers in the mount and beside it, shown and changed by the kernel: no difference.
#[test]
fn lowers_inside() {
    needs_programs!();
    let s = Scratch::new();
    let m = s.mount();
    let places = [s.base().sub("direct").dir("").clone(), m.sub("inside").dir("").clone()];
    let trees = places.map(|place| {
        let lowers = marked_layers(&place);
        let home = Scratch::new();
        let kernel = Kernel::overlay(&lowers, Some((&home.upper, &home.work)), &home.mnt, FOLLOW);
        let before = Scene::Xattr.list(&kernel);
        kernel.file("d/a", "back").file("again/o", "back").file("new/inside", "changed");
        std::fs::remove_file(kernel.path("f")).unwrap();
        std::fs::rename(kernel.path("new"), kernel.path("newer")).unwrap();
        (before, dump(kernel.root()))
    });
    assert!(trees[0].0.contains("new/inside") && !trees[0].0.contains("again/o "));
    assert_eq!(trees[0].0, trees[1].0);
    assert_same_tree(&trees[0].1, &trees[1].1, Compare::TIMELESS);
}

/// The whole scene, with only the upper outside.
#[test]
fn the_scene_over_a_lower_inside() {
    needs_programs!();
    let (s, home) = (Scratch::new(), Scratch::new());
    let mut m = s.mount();
    let below = m.sub("below").dir("").clone();
    Scene::Xattr.fill(&below);
    let before = Scene::Xattr.list(&below);
    let upper = Some((&home.upper, &home.work));
    let kernel = Kernel::overlay(std::slice::from_ref(&below), upper, &home.mnt, NO_OPTIONS);
    Scene::Xattr.change(&kernel);
    Scene::Xattr.assert_changed(&kernel);
    drop(kernel);
    m.remount();
    let kernel = Kernel::overlay(std::slice::from_ref(&below), upper, &home.mnt, NO_OPTIONS);
    Scene::Xattr.assert_changed(&kernel);
    assert_eq!(Scene::Xattr.list(&below), before);
}

/// With `userxattr`, in a user namespace of which both mounts are.
#[test]
fn lowers_inside_in_a_user_namespace() {
    needs_programs!();
    if !crate::support::need::userns(crate::test_name!()) {
        return;
    }
    let s = Scratch::new();
    let script = r#"
        mkdir kernel tmpfs
        "$BIN" -o lowerdir=lower0,upperdir=upper,workdir=work mnt
        mkdir mnt/base mnt/top
        python3 "$TREE" fill xattr mnt/base
        mkdir mnt/top/d
        touch mnt/top/d/a mnt/top/gone
        setfattr -n user.overlay.whiteout mnt/top/d/a mnt/top/gone
        setfattr -n user.overlay.opaque -v x mnt/top/d mnt/top
        mount -t tmpfs tmpfs tmpfs
        mkdir tmpfs/u tmpfs/w
        layers=lowerdir=mnt/top:mnt/base,upperdir=tmpfs/u,workdir=tmpfs/w
        mount -t overlay overlay -o userxattr,$layers kernel
        test ! -e kernel/d/a
        test ! -e kernel/gone
        echo -n d/a >kernel/d/a
        echo -n gone >kernel/gone
        python3 "$TREE" change xattr kernel
        python3 "$TREE" list xattr kernel >listing
        umount kernel
        umount mnt
    "#;
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-euc", script]).current_dir(s.base().root());
    let done = output(command.env("BIN", binary()).env("TREE", PROGRAM).env("LC_ALL", "C"));
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(s.base().read("listing"), Scene::Xattr.changed());
}

/// The kernel asks of an upper behind FUSE that it knows RENAME_WHITEOUT. That makes a device 0:0,
/// which nobody can make in a mount of ovlmerge: there it would be a whiteout.
#[test]
fn no_upper_inside() {
    needs_programs!();
    let s = Scratch::new();
    let m = s.mount();
    let [upper, work, lower] = ["upper", "work", "lower"].map(|name| m.sub(name).dir("").clone());
    let home = Scratch::new();
    for options in [NO_OPTIONS, "userxattr", "volatile"] {
        let refused = Kernel::try_overlay(
            std::slice::from_ref(&lower),
            Some((&upper, &work)),
            &home.mnt,
            options,
        );
        assert_errno(refused.map_err(std::io::Error::from), libc::EINVAL);
    }
    // What it tried leaves nothing behind that anybody would see.
    m.file("upper/f", "");
    assert_eq!(m.names("upper"), ["f"]);
}
