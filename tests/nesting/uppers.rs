//! Uppers on file systems of all kinds, over an ordinary lower: which form the marks get.

use std::path::Path;

use crate::scene::Scene;
use crate::support::tree::dump;
use crate::support::{Dir, FuseFs, Kernel, LoopFs, Mount, Scratch};

const NO_OPTIONS: &str = "redirect_dir=off,metacopy=off,index=off";
const OPAQUE: &str = "trusted.overlay.opaque";
const WHITEOUT: &str = "trusted.overlay.whiteout";

/// What stands for the names that are gone, and in the directory that hides what is below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marks {
    /// Devices 0:0, `opaque=y`.
    Kernel,
    /// Empty files with an attribute in directories with another, `opaque=y`.
    Attributes,
    /// Devices 0:0, `.wh..wh..opq`.
    DevicesAlone,
    /// `.wh.` names.
    Aufs,
}

/// An attribute; none where the file system has no attributes.
fn mark(upper: &Dir, path: &str, name: &str) -> Option<Vec<u8>> {
    xattr::get(upper.path(path), name).ok().flatten()
}

/// The names that are gone and that the lower has.
const GONE: [&str; 6] = ["gone", "d/a", "d/b", "d/sub", "r", "empty"];

impl Marks {
    #[track_caller]
    fn assert_in(self, upper: &Dir) {
        let tree = dump(upper.root());
        let has = |path: &str| tree.contains_key(Path::new(path));
        for path in GONE {
            let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
            let aufs = Path::new(dir).join(format!(".wh.{name}"));
            let by_attribute = has(path)
                && mark(upper, path, WHITEOUT).is_some()
                && mark(upper, dir, OPAQUE).as_deref() == Some(b"x");
            let found = match () {
                () if upper.is_whiteout(path) => "device",
                () if by_attribute => "attribute",
                () if tree.contains_key(&aufs) => "name",
                () => "nothing",
            };
            let wanted = match self {
                Self::Kernel | Self::DevicesAlone => "device",
                Self::Attributes => "attribute",
                Self::Aufs => "name",
            };
            assert_eq!(found, wanted, "{path}");
        }
        let aufs = tree.keys().filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".wh."))
        });
        let opaque = mark(upper, "again", OPAQUE).is_some();
        let names = match self {
            Self::Kernel | Self::Attributes => 0,
            Self::DevicesAlone => 1,
            Self::Aufs => 1 + GONE.len(),
        };
        assert_eq!((aufs.count(), opaque), (names, names == 0));
        assert_eq!(has("again/.wh..wh..opq"), names > 0);
    }
}

/// Plays the scene with upper and work in `place`.
#[track_caller]
fn play(scene: Scene, place: &Dir, marks: Marks) -> (Scratch, Mount) {
    let s = Scratch::new();
    scene.fill(s.lower(0));
    let [upper, work] = ["upper", "work"].map(|name| place.sub(name).dir("").clone());
    let mut m = scene.over(s.lower(0), s.setup().upper(upper.root()).work(work.root()));
    marks.assert_in(&upper);
    // Names come back, and go once more.
    for _ in 0..2 {
        m.file("gone", "again").dir("d/sub").file("again/o", "").file("d/a", "a");
        m.remount();
        assert_eq!((m.read("gone").as_str(), m.names("d/sub").len()), ("again", 0));
        for path in ["gone", "again/o", "d/a"] {
            std::fs::remove_file(m.path(path)).unwrap();
        }
        std::fs::remove_dir(m.path("d/sub")).unwrap();
        m.remount();
        scene.assert_changed(&m);
    }
    marks.assert_in(&upper);
    (s, m)
}

/// The same where the kernel can take the upper over.
#[track_caller]
fn play_and_hand_over(place: &Dir) {
    let (s, m) = play(Scene::Xattr, place, Marks::Kernel);
    drop(m);
    let [upper, work] = ["upper", "work"].map(|name| place.sub(name));
    let kernel = Kernel::overlay(s.lowers(), Some((&upper, &work)), &s.mnt, NO_OPTIONS);
    Scene::Xattr.assert_changed(&kernel);
}

#[test]
fn ext4() {
    needs_programs!();
    play_and_hand_over(LoopFs::ext4(8).dir());
}

#[test]
fn xfs() {
    needs_programs!("mkfs.xfs");
    play_and_hand_over(LoopFs::xfs(300).dir());
}

#[test]
fn btrfs() {
    needs_programs!("mkfs.btrfs");
    play_and_hand_over(LoopFs::btrfs(110).dir());
}

#[test]
fn tmpfs() {
    needs_programs!();
    let place = Scratch::new();
    play_and_hand_over(&Kernel::tmpfs(&place.mnt));
}

/// No devices 0:0, but attributes: the kernel's overlayfs. It reads the result as a lower.
#[test]
fn kernel_overlay() {
    needs_programs!();
    let place = Scratch::new();
    let upper = Some((&place.upper, &place.work));
    let outer = Kernel::overlay(place.lowers(), upper, &place.mnt, NO_OPTIONS);
    let (s, m) = play(Scene::Xattr, &outer, Marks::Attributes);
    drop(m);
    let lowers = [outer.sub("upper"), s.lower(0).clone()];
    let kernel = Kernel::overlay(&lowers, None, &s.mnt, NO_OPTIONS);
    Scene::Xattr.assert_changed(&kernel);
}

/// The same in a mount of ovlmerge.
#[test]
fn ovlmerge() {
    needs_programs!();
    let place = Scratch::new();
    let outer = place.mount();
    let (s, m) = play(Scene::Xattr, &outer, Marks::Attributes);
    drop(m);
    let lowers = [outer.sub("upper"), s.lower(0).clone()];
    let kernel = Kernel::overlay(&lowers, None, &s.mnt, NO_OPTIONS);
    Scene::Xattr.assert_changed(&kernel);
}

/// Devices 0:0, but no attributes.
#[test]
fn ramfs() {
    needs_programs!();
    let place = Scratch::new();
    play(Scene::Plain, &Kernel::ramfs(&place.mnt), Marks::DevicesAlone);
}

/// Neither: an overlay over such a file system.
#[test]
fn kernel_overlay_without_attributes() {
    needs_programs!();
    let place = Scratch::new();
    let ramfs = Kernel::ramfs(place.base().sub("ramfs").dir(""));
    let [upper, work] = ["upper", "work"].map(|name| ramfs.sub(name).dir("").clone());
    let outer = Kernel::overlay(place.lowers(), Some((&upper, &work)), &place.mnt, NO_OPTIONS);
    play(Scene::Plain, &outer, Marks::Aufs);
}

/// It takes attributes `user.overlay.*` and hides them, so that no mark could be read again.
#[test]
fn fuse_overlayfs() {
    needs_programs!("fuse-overlayfs");
    let place = Scratch::new();
    let [lower, upper, work] = ["l", "u", "w"].map(|name| {
        let dir = place.base().path(name);
        std::fs::create_dir(&dir).unwrap();
        dir.to_str().unwrap().to_owned()
    });
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let outer = FuseFs::mount("fuse-overlayfs", &["-o", &options], &place.mnt);
    let s = Scratch::new();
    s.lower(0).file("d/a", "a");
    let [upper, work] = ["u", "w"].map(|name| outer.sub(name).dir("").root().to_owned());
    let mut m = s.setup().upper(&upper).work(&work).mount();
    std::fs::remove_file(m.path("d/a")).unwrap();
    std::os::unix::fs::symlink("q", m.path("d/a")).unwrap();
    std::fs::remove_file(m.path("d/a")).unwrap();
    m.remount();
    assert!(!m.exists("d/a"));
    assert!(upper.join("d/.wh.a").exists());
}

/// A file system behind FUSE that knows neither the flags of renameat2(2) nor O_TMPFILE.
#[test]
fn fuse2fs() {
    needs_programs!("fuse2fs");
    let place = Scratch::new();
    let image = place.base().path("image");
    let image = image.to_str().unwrap();
    crate::support::process::run("mkfs.ext4", &["-q", image, "8M"]);
    let outer = FuseFs::mount("fuse2fs", &["-o", "rw,dev", image], &place.mnt);
    let (_s, mut m) = play(Scene::Xattr, &outer, Marks::Kernel);
    // A directory takes a name that was removed, and leaves one that was.
    m.file("fresh/x", "").dir("kept/sub");
    std::fs::rename(m.path("fresh"), m.path("d/sub")).unwrap();
    m.remount();
    assert_eq!((m.names("d/sub"), m.exists("fresh")), (vec!["x".to_owned()], false));
    std::fs::rename(m.path("d/sub"), m.path("gone")).unwrap();
    m.remount();
    assert_eq!((m.names("gone"), m.exists("d/sub")), (vec!["x".to_owned()], false));
    let names = dump(outer.root());
    assert!(!names.keys().any(|path| path.to_string_lossy().contains(".wh.")), "no guard stays");
    // What users ask for and the file system cannot do: EINVAL (renameat2(2)), and all stays.
    let (one, other) = (m.path("gone"), m.path("kept"));
    let refused = crate::support::raw::rename(&one, &other, libc::RENAME_EXCHANGE);
    crate::support::assert_errno(refused, libc::EINVAL);
    assert_eq!((m.names("gone"), m.exists("kept/sub")), (vec!["x".to_owned()], true));
}
