//! From data to directories.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;

use crate::spec::{DIR_MODES, Dir, FILE_MODES, Item, Layers, Meta, NAMES, OWNERS, Opaque, XATTRS};

/// The directories of one case; they go when this goes.
#[derive(Debug)]
pub struct Disk {
    home: tempfile::TempDir,
    pub lowers: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
}

impl Disk {
    pub fn build(layers: &Layers) -> Self {
        let home = tempfile::Builder::new().prefix("ovlmerge-model-").tempdir_in(place()).unwrap();
        let mut lowers = Vec::new();
        for (number, spec) in layers.lowers.iter().enumerate() {
            let path = home.path().join(format!("lower{number}"));
            build_layer(&path, spec);
            lowers.push(path);
        }
        let [upper, work] = ["upper", "work"].map(|name| home.path().join(name));
        build_layer(&upper, &upper_of(layers));
        fs::create_dir(&work).unwrap();
        Self { home, lowers, upper, work }
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }
}

/// The upper that a case begins with.
pub fn upper_of(layers: &Layers) -> Dir {
    layers.upper.clone().unwrap_or_else(|| Dir::plain(Vec::new()))
}

/// Memory, if it takes attributes: nothing here needs a disk.
fn place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let takes = tempfile::NamedTempFile::new_in(memory).is_ok_and(|file| {
        let set = |name| xattr::set(file.path(), name, b"y").is_ok();
        set("user.probe") && set("trusted.probe")
    });
    if takes { memory.into() } else { std::env::temp_dir() }
}

pub fn path_of(dir: &Path, name: &[u8]) -> PathBuf {
    dir.join(OsStr::from_bytes(name))
}

fn build_layer(path: &Path, spec: &Dir) {
    let mut files = Vec::new();
    build_dir(path, spec, &mut files);
}

fn build_dir(path: &Path, spec: &Dir, files: &mut Vec<PathBuf>) {
    fs::create_dir(path).unwrap();
    for (name, item) in spec.entries() {
        build_item(&path_of(path, NAMES[usize::from(name)]), item, files);
    }
    for name in &spec.hidden {
        let marker = [b".wh.", NAMES[usize::from(*name)]].concat();
        fs::write(path_of(path, &marker), "").unwrap();
    }
    match spec.opaque {
        Some(Opaque::Trusted) => set(path, "trusted.overlay.opaque"),
        Some(Opaque::User) => set(path, "user.overlay.opaque"),
        Some(Opaque::FuseOverlayfs) => set(path, "user.fuseoverlayfs.opaque"),
        Some(Opaque::Aufs) => fs::write(path.join(".wh..wh..opq"), "").unwrap(),
        None => {}
    }
    match spec.delegate {
        Some(true) => set(path, "trusted.overlay.dirmeta_delegate"),
        Some(false) => set(path, "user.overlay.dirmeta_delegate"),
        None => {}
    }
    dress(path, &spec.meta, Some(DIR_MODES[usize::from(spec.meta.mode)]), true);
}

fn build_item(path: &Path, item: &Item, files: &mut Vec<PathBuf>) {
    match item {
        Item::Dir(spec) => build_dir(path, spec, files),
        Item::File(content, meta) => {
            fs::write(path, content_of(*content)).unwrap();
            dress(path, meta, Some(FILE_MODES[usize::from(meta.mode)]), true);
            files.push(path.into());
        }
        Item::Link(back) => match link_target(*back, files.len()) {
            Some(target) => fs::hard_link(&files[target], path).unwrap(),
            None => build_item(path, &Item::File(*back, Meta::PLAIN), files),
        },
        Item::Symlink(target, meta) => {
            std::os::unix::fs::symlink(OsStr::from_bytes(&target_of(*target)), path).unwrap();
            dress(path, meta, None, false);
        }
        Item::Fifo(meta) => {
            mknod(path, SFlag::S_IFIFO, Mode::empty(), 0).unwrap();
            dress(path, meta, Some(FILE_MODES[usize::from(meta.mode)]), false);
        }
        Item::Whiteout => mknod(path, SFlag::S_IFCHR, Mode::empty(), 0).unwrap(),
    }
}

/// Which of the files made so far a link means.
pub fn link_target(back: u8, files: usize) -> Option<usize> {
    files.checked_sub(1).map(|last| last - usize::from(back) % files)
}

pub fn content_of(seed: u8) -> Vec<u8> {
    vec![seed; usize::from(seed % 5)]
}

pub fn target_of(seed: u8) -> Vec<u8> {
    format!("t{seed}").into_bytes()
}

/// Whether an object of this kind can have the attribute: those of users are for files and
/// directories (xattr(7)).
pub fn holds(user_xattrs: bool, name: &str) -> bool {
    user_xattrs || !name.starts_with("user.")
}

fn dress(path: &Path, meta: &Meta, mode: Option<u32>, user_xattrs: bool) {
    let (uid, gid) = OWNERS[usize::from(meta.owner)];
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
    if let Some(mode) = mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    if let Some((name, value)) = meta.xattr {
        let (name, _) = XATTRS[usize::from(name)];
        if holds(user_xattrs, name) {
            xattr::set(path, name, &[b'0' + value]).unwrap();
        }
    }
    let time = TimeSpec::new(1000 + i64::from(meta.mtime), 7);
    let flags = UtimensatFlags::NoFollowSymlink;
    utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, flags).unwrap();
}

fn set(path: &Path, name: &str) {
    xattr::set(path, name, b"y").unwrap();
}
