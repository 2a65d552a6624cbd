//! Lowers on file systems of all kinds, with the upper on an ordinary one. The kernel takes each
//! upper over.

use std::process::Command;

use crate::scene::Scene;
use crate::support::{Dir, FuseFs, Kernel, LoopFs, Scratch, process};

const NO_OPTIONS: &str = "redirect_dir=off,metacopy=off,index=off";

/// Plays the scene over `below`, filled before, and shows the upper by the kernel.
#[track_caller]
fn play(scene: Scene, below: &Dir) {
    let s = Scratch::with_lowers(0);
    drop(scene.over(below, s.setup()));
    let kernel =
        Kernel::overlay(std::slice::from_ref(below), Some((&s.upper, &s.work)), &s.mnt, NO_OPTIONS);
    scene.assert_changed(&kernel);
}

/// The tree, in a directory of its own.
fn filled(scene: Scene) -> Scratch {
    let s = Scratch::new();
    scene.fill(s.lower(0));
    s
}

#[track_caller]
fn on_a_disk(disk: &LoopFs) {
    let below = disk.dir().sub("below");
    Scene::Xattr.fill(below.dir(""));
    disk.remount_read_only();
    play(Scene::Xattr, &below);
}

#[test]
fn ext4() {
    needs_programs!();
    on_a_disk(&LoopFs::ext4(8));
}

#[test]
fn xfs() {
    needs_programs!("mkfs.xfs");
    on_a_disk(&LoopFs::xfs(300));
}

#[test]
fn btrfs() {
    needs_programs!("mkfs.btrfs");
    on_a_disk(&LoopFs::btrfs(110));
}

#[test]
fn tmpfs() {
    needs_programs!();
    let s = Scratch::new();
    let place = Kernel::tmpfs(s.lower(0));
    Scene::Xattr.fill(&place);
    play(Scene::Xattr, &place);
}

/// A file system without extended attributes.
#[test]
fn ramfs() {
    needs_programs!();
    let s = Scratch::new();
    let place = Kernel::ramfs(s.lower(0));
    Scene::Plain.fill(&place);
    play(Scene::Plain, &place);
}

#[test]
fn squashfs() {
    needs_programs!("mksquashfs");
    let tree = filled(Scene::Xattr);
    play(Scene::Xattr, LoopFs::squashfs(tree.lower(0).root()).dir());
}

#[test]
fn erofs() {
    needs_programs!("mkfs.erofs");
    let tree = filled(Scene::Xattr);
    play(Scene::Xattr, LoopFs::erofs(tree.lower(0).root()).dir());
}

#[test]
fn squashfuse() {
    needs_programs!("mksquashfs", "squashfuse");
    let tree = filled(Scene::Xattr);
    let image = tree.base().path("image");
    let mut mksquashfs = Command::new("mksquashfs");
    mksquashfs.arg(tree.lower(0).root()).arg(&image).args(["-quiet", "-no-progress"]);
    assert!(process::output(&mut mksquashfs).status.success());
    let below = FuseFs::mount("squashfuse", &[image.to_str().unwrap()], &tree.mnt);
    play(Scene::Xattr, &below);
}

#[test]
fn fuse2fs() {
    needs_programs!("mkfs.ext4", "fuse2fs");
    let tree = filled(Scene::Xattr);
    let image = tree.base().path("image");
    let [from, to] = [tree.lower(0).root(), &image].map(|path| path.to_str().unwrap());
    process::run("mkfs.ext4", &["-q", "-d", from, to, "8M"]);
    let below = FuseFs::mount("fuse2fs", &["-o", "ro", to], &tree.mnt);
    std::fs::remove_dir(tree.lower(0).path("empty")).unwrap();
    let s = Scratch::with_lowers(0);
    let lowers = vec![below.root().to_owned()];
    let m = s.setup().lowers(lowers).mount();
    // It makes a directory of its own.
    assert!(m.exists("lost+found"));
    std::fs::remove_dir(m.path("lost+found")).unwrap();
    Scene::Xattr.change(&m);
    Scene::Xattr.assert_changed(&m);
}

/// A mount of Debian's fuse-overlayfs, with an upper of its own.
#[test]
fn fuse_overlayfs() {
    needs_programs!("fuse-overlayfs");
    let tree = filled(Scene::Xattr);
    let below = FuseFs::overlay(&tree);
    play(Scene::Xattr, &below);
}

/// A mount of ovlmerge, without an upper and with one in which all was changed already.
#[test]
fn ovlmerge() {
    needs_programs!();
    let tree = filled(Scene::Xattr);
    let below = tree.setup().read_only().mount();
    play(Scene::Xattr, &below);
    drop(below);
    let below = Scene::Xattr.over(tree.lower(0), tree.setup());
    let s = Scratch::with_lowers(0);
    let m = s.setup().lowers(vec![below.root().to_owned()]).mount();
    Scene::Xattr.assert_changed(&m);
    std::fs::remove_dir_all(m.path("again")).unwrap();
    std::fs::remove_file(m.path("linked")).unwrap();
    assert_eq!(below.names("again"), ["n"]);
    assert!(!m.exists("again") && m.read("h") == "h");
}

/// The kernel's overlayfs, of which the upper has whiteouts and opaque directories.
#[test]
fn kernel_overlay() {
    needs_programs!();
    let tree = filled(Scene::Xattr);
    let upper = Some((&tree.upper, &tree.work));
    let below = Kernel::overlay(tree.lowers(), upper, &tree.mnt, NO_OPTIONS);
    play(Scene::Xattr, &below);
    Scene::Xattr.change(&below);
    let s = Scratch::with_lowers(0);
    let m = s.setup().lowers(vec![below.root().to_owned()]).mount();
    Scene::Xattr.assert_changed(&m);
}

/// Several at once: numbers of files come from several file systems, and are told apart.
#[test]
fn three_kinds_in_one_stack() {
    needs_programs!("mksquashfs", "mkfs.erofs");
    let tree = filled(Scene::Xattr);
    let [squashfs, erofs] =
        [LoopFs::squashfs, LoopFs::erofs].map(|image| image(tree.lower(0).root()));
    let s = Scratch::with_lowers(0);
    let tmpfs = Kernel::tmpfs(s.base().sub("tmpfs").dir(""));
    tmpfs.whiteout("f").file("d/top", "top").file("h", "hh");
    let lowers = [tmpfs.root(), erofs.path(), squashfs.path()].map(std::path::Path::to_owned);
    let m = s.setup().lowers(lowers.to_vec()).mount();
    assert!(!m.exists("f") && m.read("h") == "hh");
    assert_eq!(m.names("d"), ["a", "b", "c", "sub", "top"]);
    let oracle = Kernel::overlay(
        &[tmpfs.clone(), erofs.dir().clone(), squashfs.dir().clone()],
        None,
        s.base().sub("oracle").dir(""),
        NO_OPTIONS,
    );
    assert_eq!(Scene::Xattr.list(&m), Scene::Xattr.list(&oracle));
    let mut numbers = std::collections::HashSet::new();
    let names = Scene::Xattr.list(&m);
    for path in names.lines().map(|line| line.split(' ').next().unwrap()) {
        use std::os::unix::fs::MetadataExt;
        assert!(numbers.insert(m.stat(path).ino()), "{path}");
    }
}
