//! Layers that are one another or lie in one another, beside the kernel's overlayfs.

use super::refusal::assert_refusal;
use crate::support::{Dir, Engine, Kernel, Scratch, Setup, assert_errno};
use crate::{needs, not_the_kernels};

/// Options with the names of directories below one place, and the errno if they are refused.
const CASES: [(&str, i32); 27] = [
    ("lowerdir=l,upperdir=u,workdir=w", 0),
    // Upper or work directory in a lower.
    ("lowerdir=x,upperdir=x/u,workdir=x/w", 0),
    ("lowerdir=x,upperdir=x/u,workdir=w", 0),
    ("lowerdir=x,upperdir=u,workdir=x/w", 0),
    ("lowerdir=l::x,upperdir=x/u,workdir=x/w", 0),
    ("lowerdir=.,upperdir=u,workdir=w", 0),
    // A lower in them.
    ("lowerdir=u/in,upperdir=u,workdir=w", libc::ELOOP),
    ("lowerdir=w/in,upperdir=u,workdir=w", libc::ELOOP),
    ("lowerdir=l::u/in,upperdir=u,workdir=w", libc::ELOOP),
    // The same directory twice.
    ("lowerdir=u,upperdir=u,workdir=w", libc::ELOOP),
    ("lowerdir=w,upperdir=u,workdir=w", libc::ELOOP),
    ("lowerdir=l:l,upperdir=u,workdir=w", libc::ELOOP),
    ("lowerdir=l:l", libc::ELOOP),
    ("lowerdir=l:x:l", libc::ELOOP),
    ("lowerdir=l:link", libc::ELOOP),
    ("lowerdir=l:z::l", libc::ELOOP),
    ("lowerdir=l:z::x::x", libc::ELOOP),
    // A lower in another.
    ("lowerdir=x:x/sub", libc::ELOOP),
    ("lowerdir=x/sub:x", libc::ELOOP),
    ("lowerdir=x/sub/deep:l:x", libc::ELOOP),
    ("lowerdir=x:z::x/sub", libc::ELOOP),
    ("lowerdir=x/sub:z::x", libc::ELOOP),
    ("lowerdir=x/sub:x/sub2", 0),
    // Upper and work directory.
    ("lowerdir=l,upperdir=u,workdir=u", libc::EINVAL),
    ("lowerdir=l,upperdir=u,workdir=u/in", libc::EINVAL),
    ("lowerdir=l,upperdir=w/in,workdir=w", libc::EINVAL),
    ("lowerdir=l,upperdir=u,workdir=none", libc::ENOENT),
];

fn directories() -> (Scratch, Dir) {
    let s = Scratch::new();
    let at = s.base().sub("layers");
    for path in ["l", "x/u", "x/w", "x/sub/deep", "x/sub2", "z", "u/in", "w/in"] {
        at.dir(path);
    }
    at.file("x/f", "").symlink("link", "l");
    (s, at)
}

/// The same options with the whole paths.
fn options(case: &str, at: &Dir) -> String {
    let full = |path: &str| match path {
        "" => String::new(),
        path => at.path(path).display().to_string(),
    };
    let of_option = |option: &str| {
        let (name, paths) = option.split_once('=').unwrap();
        let paths: Vec<_> = paths.split(':').map(full).collect();
        format!("{name}={}", paths.join(":"))
    };
    case.split(',').map(of_option).collect::<Vec<_>>().join(",")
}

#[test]
fn decided_as_the_kernel_does() {
    needs!(mount, kernel_overlay);
    not_the_kernels!("it is the oracle here");
    for (case, errno) in CASES {
        let (s, at) = directories();
        let options = options(case, &at);
        match Kernel::try_new("overlay", &s.mnt, &options) {
            Ok(_) => assert_eq!(errno, 0, "{case}: the kernel mounts"),
            refused => assert_errno(refused, errno),
        }
        let (s, at) = directories();
        let setup = Setup::new(vec![], s.mnt.root()).option(&self::options(case, &at));
        if errno == 0 {
            drop(setup.mount());
            continue;
        }
        let message = std::io::Error::from_raw_os_error(errno).to_string();
        assert_refusal(&s, &setup.attempt(), 1, &[&message, "dir"]);
        assert!(!at.exists("w/work") && !at.exists("u/work"), "{case}: something was made");
    }
}

/// Names that lead to the upper and to the work directory, in a lower around them, lead nowhere.
#[test]
fn an_upper_in_a_lower_cannot_be_reached() {
    needs!(mount, kernel_overlay);
    let shown = |place: &Dir| {
        let errno = |path: &str| std::fs::symlink_metadata(place.path(path)).err()?.raw_os_error();
        let changed = std::fs::rename(place.path("u"), place.path("v")).unwrap_err();
        let names: Vec<_> = place.names("");
        (names, ["u", "w", "u/x", "sub"].map(errno), changed.raw_os_error())
    };
    for lowers in ["x", "above:x"] {
        let (s, at) = directories();
        at.dir("above/u");
        let options = options(&format!("lowerdir={lowers},upperdir=x/u,workdir=x/w"), &at);
        let oracle = shown(&Kernel::new("overlay", &s.mnt, &options));
        assert_eq!(oracle.1[0], Some(libc::ELOOP));
        if Engine::current() == Engine::Kernel {
            continue;
        }
        let m = Setup::new(vec![], s.mnt.root()).option(&options).mount();
        assert_eq!(shown(m.place()), oracle, "{lowers}");
        m.file("f", "changed");
        assert_eq!(at.read("x/u/f"), "changed");
    }
}

/// What lies on another file system that is mounted in a lower is not in that layer.
#[test]
fn a_mount_in_a_lower_is_another_layer() {
    needs!(mount);
    let (s, at) = directories();
    let _disk = Kernel::tmpfs(&at.sub("x/sub"));
    at.dir("x/sub/inner").dir("x/sub/up").dir("x/sub/work");
    let options = options("lowerdir=x/sub/inner:x,upperdir=x/sub/up,workdir=x/sub/work", &at);
    let m = Setup::new(vec![], s.mnt.root()).option(&options).mount();
    assert!(m.exists("f"));
}

/// A mount may cover any of its own directories.
#[test]
fn the_mountpoint_may_be_anywhere() {
    needs!(mount);
    for place in ["l", "l/in", "u", "u/in", "w", "w/in"] {
        let (_s, at) = directories();
        at.dir("l/in");
        let options = options("lowerdir=l,upperdir=u,workdir=w", &at);
        let mut m = Setup::new(vec![], &at.path(place)).option(&options).mount();
        m.file("new", "");
        m.unmount();
        assert!(at.exists("u/new"), "{place}");
    }
}

/// As with the kernel's mount API: a colon and a backslash are what they are, and one way of naming
/// layers excludes the other.
#[test]
fn layers_one_by_one() {
    needs!(mount);
    not_the_kernels!("mount(2) knows no such options");
    let (s, at) = directories();
    for name in [r"a\:b", "a:b", r"c\d"] {
        at.file(format!("{name}/of {name}"), "");
    }
    let of = |name: &str| format!("lowerdir+={}", at.path(name).display());
    let all = [of(r"a\:b"), of("a:b"), of(r"c\d")].join(",");
    let m = Setup::new(vec![], s.mnt.root()).option(&all).mount();
    assert_eq!(m.names(""), ["of a:b", r"of a\:b", r"of c\d"]);
    drop(m);
    let mixed = options("lowerdir=l", &at) + "," + &of("x");
    let refused = Setup::new(vec![], s.mnt.root()).option(&mixed).attempt();
    assert_refusal(&s, &refused, 2, &["`lowerdir+`", "after a lowerdir"]);
    // The later lowerdir is all there is.
    let m = Setup::new(vec![], s.mnt.root()).option(&(of("x") + "," + &options("lowerdir=l", &at)));
    assert!(m.mount().names("").is_empty());
}
