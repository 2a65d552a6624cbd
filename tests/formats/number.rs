//! Inode numbers: `origin` and `impure`, written by the kernel or by ovlmerge.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::layers::{Kernel, Layers, NO_INDEX, rename, show};
use crate::needs;
use crate::redirect::fill;
use crate::support::process::run;
use crate::support::raw::list_dir;
use crate::support::{Dir, LoopFs, Mount, Scratch, Setup};

type Numbers = BTreeMap<PathBuf, u64>;

/// The number of each object, by its path; that of the root is an engine's own affair.
fn numbers(mount: &Dir) -> Numbers {
    let paths = show(mount).into_keys().filter(|path| path.as_os_str() != "");
    paths.map(|path| (path.clone(), mount.stat(&path).ino())).collect()
}

/// Forgets all that the kernel has cached of file systems, and so does the server.
fn drop_caches() {
    fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
}

/// What a listing says is what stat(2) says, for every entry of every directory.
#[track_caller]
fn assert_listed_as_shown(mount: &Dir) {
    drop_caches();
    for (path, entry) in show(mount) {
        if entry.kind != 'd' {
            continue;
        }
        drop_caches();
        let listed = list_dir(&mount.path(&path));
        for found in listed {
            let name = String::from_utf8(found.name).unwrap();
            // The directory above a mountpoint is not in the mount.
            if name == ".." || (name == "." && path.as_os_str() == "") {
                continue;
            }
            let full = path.join(&name);
            assert_eq!(found.ino, mount.stat(&full).ino(), "{}", full.display());
        }
    }
}

fn copy_all_up(m: &Dir) {
    m.file("a/f", "changed").mode("a/h", 0o600).owner("a/sub/x", 1, 1).owner("a/link", 2, 2);
    m.mode("a/fifo", 0o600).mode("b/deep", 0o700).file("b/deep/er/z", "changed");
    m.file("new", "").file("b/deep/new", "");
    rename(m, "b/g", "c/sub/moved");
    rename(m, "new", "c/new");
}

#[test]
fn constant_over_copy_up_forget_and_remount() {
    needs_both!();
    let mut layers = Layers::new(NO_INDEX, fill);
    layers.plain(|_| ());
    let mut m = layers.ours();
    let before = numbers(&m);
    copy_all_up(&m);
    let after = numbers(&m);
    for (path, number) in &after {
        let old = match path.to_str().unwrap() {
            "c/sub/moved" => "b/g",
            path => path,
        };
        if let Some(old) = before.get(&PathBuf::from(old)) {
            assert_eq!(number, old, "{}", path.display());
        }
    }
    drop_caches();
    assert_eq!(numbers(&m), after, "forgotten and met again");
    m.remount();
    assert_eq!(numbers(&m), after, "mounted again");
    drop_caches();
    assert_eq!(numbers(&m), after);
    assert_listed_as_shown(&m);
}

/// The kernel's marks and ours lead to the same numbers.
#[test]
fn the_same_as_the_kernels() {
    needs_both!();
    let mut layers = Layers::new(NO_INDEX, fill);
    layers.generation(copy_all_up);
    let oracle = numbers(&layers.kernel());
    assert_eq!(numbers(&layers.ours()), oracle);
    layers.change(|m| {
        m.file("c/f", "changed").mode("c/h", 0o600);
        rename(m, "a/g", "b/deep/g");
    });
    let oracle = numbers(&layers.kernel());
    assert_eq!(numbers(&layers.ours()), oracle);
}

#[test]
fn listed_as_shown_in_an_upper_of_the_kernel() {
    needs_both!();
    let mut layers = Layers::new(NO_INDEX, fill);
    layers.generation(|m| {
        copy_all_up(m);
        rename(m, "a", "a1");
        m.dir("pure");
        rename(m, "c", "pure/c");
    });
    assert_listed_as_shown(&layers.kernel());
    assert_listed_as_shown(&layers.ours());
    layers.plain(|_| ());
    assert_listed_as_shown(&layers.ours());
    assert_listed_as_shown(&layers.ours_lowers());
}

/// A copy that moved into a directory of the upper alone keeps its number, and the listing there
/// says so too.
#[test]
fn moved_into_a_directory_of_the_upper() {
    needs_both!();
    let mut layers = Layers::new(NO_INDEX, fill);
    layers.plain(|_| ());
    let mut m = layers.ours();
    let before = m.stat("a/f").ino();
    m.dir("pure").mode("a/f", 0o600);
    rename(&m, "a/f", "pure/f");
    m.hard_link("pure/g", "pure/f");
    assert_eq!(m.stat("pure/f").ino(), before);
    assert_listed_as_shown(&m);
    m.remount();
    assert_listed_as_shown(&m);
    assert_eq!([m.stat("pure/f").ino(), m.stat("pure/g").ino()], [before, before]);
    drop(m);
    assert_eq!(layers.kernel().stat("pure/f").ino(), before);
}

/// Three file systems: the upper's and two of lowers. Fresh ones number their files alike.
struct Apart {
    scratch: Scratch,
    upper: LoopFs,
    lowers: [LoopFs; 2],
}

impl Apart {
    fn new(make: fn(u64) -> LoopFs, mebibytes: u64) -> Self {
        Self::of(make(mebibytes), [make(mebibytes), make(mebibytes)])
    }

    fn of(upper: LoopFs, lowers: [LoopFs; 2]) -> Self {
        let apart = Self { scratch: Scratch::new(), upper, lowers };
        fill(&apart.lowers[0].dir().sub("layer"));
        let lowest = apart.lowers[1].dir();
        lowest.file("layer/a/below", "").file("layer/low/f", "").symlink("layer/low/l", "f");
        lowest.hard_link("layer/low/twin", "layer/low/f");
        apart.upper.dir().dir("up").file("up/own", "");
        apart.upper.dir().dir("work");
        apart
    }

    fn lowers(&self) -> Vec<Dir> {
        self.lowers.iter().map(|fs| fs.dir().sub("layer")).collect()
    }

    fn ours(&self, option: &str) -> Mount {
        let lowers = self.lowers().iter().map(|dir| dir.root().to_owned()).collect();
        let [up, work] = ["up", "work"].map(|name| self.upper.path().join(name));
        let setup = Setup::new(lowers, self.scratch.mnt.root()).upper(&up).work(&work);
        setup.option(option).mount()
    }

    fn kernel(&self) -> Kernel {
        let [up, work] = ["up", "work"].map(|name| self.upper.dir().sub(name));
        let options = "xino=on,index=off,redirect_dir=off,metacopy=off";
        Kernel::overlay(&self.lowers(), Some((&up, &work)), &self.scratch.mnt, options)
    }
}

fn change_some(m: &Dir) {
    m.file("a/f", "changed").mode("a/h", 0o600).owner("a/link", 2, 2).mode("low", 0o700);
    m.file("low/g", "new").owner("low/l", 1, 1).mode("b/deep", 0o700);
    rename(m, "b/g", "low/moved");
}

/// No two objects have one number.
#[track_caller]
fn assert_apart(m: &Dir) -> Numbers {
    let numbers = numbers(m);
    let mut seen = BTreeMap::new();
    for (path, number) in &numbers {
        let is_link = m.stat(path).nlink() > 1 && !m.stat(path).is_dir();
        if let Some(other) = seen.insert(number, path).filter(|_| !is_link) {
            panic!("{} and {} have one number", path.display(), other.display());
        }
    }
    numbers
}

/// Numbers of the mount before changes, after them, and after more mounts, are one and the same.
#[track_caller]
fn assert_constant(apart: &Apart, option: &str) -> Numbers {
    let mut m = apart.ours(option);
    let before = assert_apart(&m);
    change_some(&m);
    let after = assert_apart(&m);
    for (path, number) in &before {
        let new = if path.as_os_str() == "b/g" { "low/moved".into() } else { path.clone() };
        assert_eq!(after.get(&new), Some(number), "{option}: {} over copy-up", path.display());
    }
    drop_caches();
    assert_eq!(numbers(&m), after, "{option}: forgotten and met again");
    m.remount();
    assert_eq!(numbers(&m), after, "{option}: mounted again");
    assert_listed_as_shown(&m);
    after
}

/// ext4 has numbers of 32 bits, so that the kernel takes the upper half for the file system.
#[test]
fn of_several_file_systems_the_same_as_the_kernels() {
    needs!(mount, loop_device, kernel_overlay);
    let apart = Apart::new(LoopFs::ext4, 16);
    let oracle = numbers(&apart.kernel());
    assert_eq!(numbers(&apart.ours("xino=auto")), oracle);
    assert!(oracle.values().any(|number| *number > 1 << 33), "{oracle:?}");
    let ours = assert_constant(&apart, "xino=on");
    assert_eq!(numbers(&apart.kernel()), ours, "the kernel knows the origins that ovlmerge noted");
}

/// xfs may have numbers of 64 bits: as few bits as will do.
#[test]
fn of_several_file_systems_with_long_numbers() {
    needs!(mount, loop_device, kernel_overlay);
    let apart = Apart::new(LoopFs::xfs, 300);
    change_some(&apart.kernel());
    let oracle = numbers(&apart.kernel());
    assert_eq!(numbers(&apart.ours("xino=on")), oracle);
    assert!(oracle.values().any(|number| *number > 1 << 62), "{oracle:?}");
}

/// Subvolumes of btrfs are devices of their own with one UUID: the handle tells the subvolume.
#[test]
fn of_subvolumes_of_btrfs() {
    needs!(mount, loop_device);
    let fs = LoopFs::btrfs(128);
    for name in ["one", "two", "three"] {
        run("btrfs", &["-q", "subvolume", "create", fs.path().join(name).to_str().unwrap()]);
    }
    let s = Scratch::new();
    fill(&fs.dir().sub("one/layer"));
    fs.dir().file("two/layer/low/f", "").symlink("two/layer/low/l", "f").dir("three/up");
    fs.dir().dir("three/work");
    let path = |name: &str| fs.path().join(name);
    let setup = Setup::new(vec![path("one/layer"), path("two/layer")], s.mnt.root());
    let mut m = setup.upper(&path("three/up")).work(&path("three/work")).mount();
    let before = assert_apart(&m);
    change_some(&m);
    m.remount();
    let after = assert_apart(&m);
    for (path, number) in before.iter().filter(|(path, _)| path.as_os_str() != "b/g") {
        assert_eq!(after.get(path), Some(number), "{}", path.display());
    }
    assert_listed_as_shown(&m);
}

/// A UUID of zeros is none. Taken for one, it led a mark without a UUID nowhere as soon as the
/// lowers lay on two file systems: their numbers changed with the next mount.
#[test]
fn of_a_file_system_whose_uuid_is_all_zero() {
    needs!(mount, loop_device);
    let none = || LoopFs::ext4_with_uuid(16, "00000000-0000-0000-0000-000000000000");
    let some = || LoopFs::ext4(16);
    for lowers in [[none(), some()], [some(), none()]] {
        assert_constant(&Apart::of(some(), lowers), "xino=on");
    }
}

/// Two images of one file system have one UUID: an origin leads to neither, and no number is lost
/// or given twice.
#[test]
fn of_two_file_systems_with_one_uuid() {
    needs!(mount, loop_device);
    let twin = |size| LoopFs::ext4_with_uuid(size, "6d2ae0a4-3f8c-4c0e-8f0d-5a6b7c8d9e0f");
    let apart = Apart::new(twin, 16);
    let mut m = apart.ours("xino=on");
    m.mode("a/f", 0o600).mode("b/g", 0o600);
    m.remount();
    assert_apart(&m);
    assert_listed_as_shown(&m);
}

#[test]
fn of_32_bits() {
    needs!(mount, loop_device);
    let apart = Apart::new(LoopFs::ext4, 16);
    let numbers = assert_constant(&apart, "ino32_t");
    assert!(numbers.values().all(|number| *number < 1 << 32), "{numbers:?}");
    assert!(numbers.values().any(|number| *number >= 1 << 31), "{numbers:?}");
}

/// Without the upper bits only the numbers of the upper's file system stay over a remount, but no
/// two objects have one while the kernel knows them.
#[test]
fn without_the_upper_bits() {
    needs!(mount, loop_device);
    let apart = Apart::new(LoopFs::ext4, 16);
    let tagged = numbers(&apart.ours("xino=on"));
    let mut m = apart.ours("xino=off");
    let own = apart.upper.dir().stat("up/own").ino();
    assert_eq!(m.stat("own").ino(), own);
    // As long as it is open, the kernel does not forget it.
    let open = std::fs::File::open(m.path("a/f")).unwrap();
    let before = assert_apart(&m);
    let below = ["a/f", "a/below", "low/f"].map(PathBuf::from);
    assert!(below.iter().all(|path| before[path] != tagged[path]), "{before:?} {tagged:?}");
    change_some(&m);
    let after = assert_apart(&m);
    assert_eq!(before[&PathBuf::from("a/f")], after[&PathBuf::from("a/f")]);
    drop(open);
    m.remount();
    assert_apart(&m);
    assert_eq!(m.stat("own").ino(), own);
}
