//! Lowers on id-mapped mounts, with and without a map of ours: podman 4.3 as root asks for both.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, umount2};

use crate::support::mount::Setup;
use crate::support::{Dir, Scratch, raw};
use crate::{needs, not_the_kernels};

const WHY: &str = "its maps belong to the mounts of the layers";

/// A directory that shows another with owners mapped by a line of `uid_map`.
#[derive(Debug)]
struct IdMapped(PathBuf);

impl IdMapped {
    fn new(source: &Path, target: &Path, map: &str) -> Self {
        let namespace = namespace(map);
        raw::mount_idmapped(source, target, &namespace).unwrap();
        Self(target.to_owned())
    }
}

impl Drop for IdMapped {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

/// A user namespace with this map for users and groups.
fn namespace(map: &str) -> File {
    let mut child = Command::new("unshare")
        .args(["-U", "sh", "-c", "echo; read -r _"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let proc = Dir::new(format!("/proc/{}", child.id()));
    for file in ["uid_map", "gid_map"] {
        std::fs::write(proc.path(file), map).unwrap();
    }
    let namespace = File::open(proc.path("ns/user")).unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    child.wait().unwrap();
    namespace
}

fn owners(dir: &Dir, names: [&str; 3]) -> [(u32, u32); 3] {
    names.map(|name| (dir.stat(name).uid(), dir.stat(name).gid()))
}

const NAMES: [&str; 3] = ["root", "user", "dir"];
const MAP: &str = "0 5000 1000";
const OPTIONS: [&str; 2] = ["uidmapping=:0:5000:1000", "gidmapping=:0:5000:1000"];

fn layers() -> Scratch {
    let s = Scratch::with_lowers(2);
    s.lower(0).file("root", "").file("user", "").owner("user", 7, 8).dir("dir").owner("dir", 1, 2);
    s.base().dir("mapped");
    s
}

fn mapped(setup: Setup) -> Setup {
    OPTIONS.iter().fold(setup, |setup, option| setup.option(option))
}

fn setup(s: &Scratch, lowers: &[&Path], writable: bool) -> Setup {
    let lowers = lowers.iter().map(|path| path.to_path_buf()).collect();
    let setup = Setup::new(lowers, s.mnt.root());
    if writable { setup.upper(s.upper.root()).work(s.work.root()) } else { setup }
}

/// They were mapped twice, so that all of them belonged to nobody.
#[test]
fn owners_are_mapped_once() {
    needs!(mount, root, userns, idmapped_mounts);
    not_the_kernels!(WHY);
    let s = layers();
    let view = s.base().sub("mapped");
    // As podman does it: one mount for all layers, unmounted as soon as ours is there.
    let idmapped = IdMapped::new(s.base().root(), view.root(), MAP);
    let lower = view.path(s.lower(0).root().strip_prefix(s.base().root()).unwrap());
    assert_eq!(owners(&Dir::new(&lower), NAMES), [(5000, 5000), (5007, 5008), (5001, 5002)]);
    let m = mapped(setup(&s, &[&lower], true)).mount();
    drop(idmapped);
    for _ in 0..2 {
        assert_eq!(owners(&m, NAMES), [(5000, 5000), (5007, 5008), (5001, 5002)]);
        m.mode("user", 0o600).file("dir/new", "").owner("dir/new", 5003, 5004);
    }
    assert_eq!((s.upper.stat("user").uid(), s.upper.stat("user").gid()), (7, 8));
    assert_eq!((s.upper.stat("dir/new").uid(), s.upper.stat("dir/new").gid()), (3, 4));
}

/// What `podman diff` mounts: the upper as a layer as it is, the others mapped.
#[test]
fn layers_with_and_without() {
    needs!(mount, root, userns, idmapped_mounts);
    not_the_kernels!(WHY);
    let s = layers();
    s.lower(1).file("above", "").owner("above", 9, 9);
    let view = s.base().sub("mapped");
    let _idmapped = IdMapped::new(s.lower(0).root(), view.root(), MAP);
    let m = mapped(setup(&s, &[s.lower(1).root(), view.root()], false)).mount();
    assert_eq!(owners(&m, NAMES), [(5000, 5000), (5007, 5008), (5001, 5002)]);
    assert_eq!(m.stat("above").uid(), 5009);
}

/// Other maps say how the layer is, as on a home directory that is mapped as a whole.
#[test]
fn another_map_is_what_the_layer_is() {
    needs!(mount, root, userns, idmapped_mounts);
    not_the_kernels!(WHY);
    let s = layers();
    let view = s.base().sub("mapped");
    let _idmapped = IdMapped::new(s.lower(0).root(), view.root(), "0 100 50");
    let m = mapped(setup(&s, &[view.root()], true)).mount();
    assert_eq!(owners(&m, NAMES), [(5100, 5100), (5107, 5108), (5101, 5102)]);
    drop(m);
    let m = setup(&s, &[view.root()], true).mount();
    assert_eq!(owners(&m, NAMES), [(100, 100), (107, 108), (101, 102)], "without a map of ours");
}
