//! st_ino: what tells one file from another, and the same file from itself.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::support::tree::dump;
use crate::support::{LoopFs, Mount, Scratch};
use crate::{needs, not_the_kernels};

fn ino(m: &Mount, path: &str) -> u64 {
    m.stat(path).ino()
}

#[test]
fn a_number_stays_over_copy_up_and_remount() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0)
        .file("d/written", "x")
        .file("d/chmodded", "x")
        .symlink("d/link", "x")
        .node("d/fifo", nix::sys::stat::SFlag::S_IFIFO, 0, 0)
        .file("d/sub/f", "");
    let mut m = s.mount();
    let paths = ["d/written", "d/chmodded", "d/link", "d/fifo", "d/sub", "d"];
    let before = paths.map(|path| ino(&m, path));
    m.file("d/written", "y").mode("d/chmodded", 0o600).owner("d/link", 1, 1);
    m.owner("d/fifo", 1, 1).mode("d/sub", 0o700);
    assert_eq!(paths.map(|path| ino(&m, path)), before);
    assert!(paths.iter().all(|path| s.upper.exists(path)));
    m.remount();
    assert_eq!(paths.map(|path| ino(&m, path)), before);
}

#[test]
fn a_number_stays_over_rename() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("lower", "").dir("d");
    let mut m = s.mount();
    m.file("upper", "");
    let before = ["lower", "upper"].map(|name| ino(&m, name));
    for name in ["lower", "upper"] {
        fs::rename(m.path(name), m.path(format!("d/{name}"))).unwrap();
    }
    assert_eq!(["d/lower", "d/upper"].map(|name| ino(&m, name)), before);
    m.remount();
    assert_eq!(["d/lower", "d/upper"].map(|name| ino(&m, name)), before);
}

#[track_caller]
fn assert_all_different(m: &Mount) {
    let mut seen: HashMap<(u64, u64), PathBuf> = HashMap::new();
    for path in dump(m.root()).into_keys() {
        let meta = m.stat(&path);
        assert_ne!(meta.ino(), 0, "{}", path.display());
        if let Some(other) = seen.insert((meta.dev(), meta.ino()), path.clone()) {
            panic!("{} and {} have one number", path.display(), other.display());
        }
    }
}

#[test]
fn new_files_have_numbers_of_their_own() {
    needs!(mount);
    let s = Scratch::with_lowers(3);
    for number in 0..3 {
        for file in 0..30 {
            s.lower(number).file(format!("d{number}/f{file}"), "");
        }
    }
    let m = s.mount();
    for file in 0..50 {
        m.file(format!("new/f{file}"), "").file(format!("d1/new{file}"), "");
        if file < 30 {
            m.mode(format!("d0/f{file}"), 0o600);
        }
    }
    assert_all_different(&m);
    fs::remove_dir_all(m.path("new")).unwrap();
    for file in 0..50 {
        m.file(format!("again/f{file}"), "");
    }
    assert_all_different(&m);
}

/// Fresh file systems number their files alike, so the same number comes from each of them.
#[test]
fn layers_on_several_file_systems_do_not_collide() {
    needs!(mount, loop_device);
    let (one, two) = (LoopFs::ext4(16), LoopFs::ext4(16));
    let s = Scratch::new();
    for (fs, name) in [(&one, "one"), (&two, "two")] {
        for file in 0..200 {
            fs.dir().file(format!("{name}/f{file}"), "").file(format!("both/{name}{file}"), "");
        }
    }
    let lowers = vec![one.path().to_owned(), two.path().to_owned(), s.lower(0).root().to_owned()];
    let setup = s.setup().lowers(lowers);
    let mut m = setup.mount();
    for file in 0..50 {
        m.file(format!("up/f{file}"), "").mode(format!("one/f{file}"), 0o600);
        m.mode(format!("two/f{file}"), 0o600);
    }
    fs::remove_dir_all(m.path("lost+found")).unwrap();
    assert_all_different(&m);
    m.remount();
    assert_all_different(&m);
}

/// One number for the whole of st_ino: programs that use 32 bits, or compare with what fstat says.
#[test]
fn path_and_descriptor_agree() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "x").dir("d");
    let m = s.mount();
    for path in ["f", "d", ""] {
        let file = fs::File::open(m.path(path)).unwrap();
        let (by_path, by_file) = (m.stat(path), file.metadata().unwrap());
        assert_eq!((by_path.dev(), by_path.ino()), (by_file.dev(), by_file.ino()), "{path}");
    }
}

#[test]
fn all_is_on_one_device() {
    needs!(mount, loop_device);
    not_the_kernels!("it gives files of other file systems device numbers of their own");
    let other = LoopFs::ext4(16);
    other.dir().file("other", "");
    let s = Scratch::new();
    s.lower(0).file("own", "").dir("d");
    let lowers = vec![s.lower(0).root().to_owned(), other.path().to_owned()];
    let m = s.setup().lowers(lowers).mount();
    m.file("new", "");
    let device = m.stat("").dev();
    for path in ["own", "other", "new", "d"] {
        assert_eq!(m.stat(path).dev(), device, "{path}");
    }
}
