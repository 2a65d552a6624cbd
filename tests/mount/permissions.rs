//! Modes, owners, groups, umask, setuid, setgid, sticky, capabilities.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::needs;
use crate::support::user::{NOBODY, as_member, as_user, with_umask};
use crate::support::{Dir, Scratch, assert_errno};

fn chmod(path: &Path, mode: u32) -> std::io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// A umask, what it makes of 0666, and what of 0777.
const UMASKS: [(u32, u32, u32); 3] =
    [(0o077, 0o600, 0o700), (0, 0o666, 0o777), (0o137, 0o640, 0o640)];

fn make_one_of_each(at: &Dir) {
    let mode = Mode::from_bits_truncate(0o666);
    File::create(at.path("file")).unwrap();
    fs::create_dir(at.path("dir")).unwrap();
    mknod(&at.path("fifo"), SFlag::S_IFIFO, mode, 0).unwrap();
    mknod(&at.path("node"), SFlag::S_IFREG, mode, 0).unwrap();
    mknod(&at.path("null"), SFlag::S_IFCHR, mode, makedev(1, 3)).unwrap();
    UnixListener::bind(at.path("socket")).unwrap();
}

#[test]
fn the_umask_counts_for_everything_that_is_made() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).dir("lower");
    let mut m = s.mount();
    m.dir("upper");
    for parent in ["lower", "upper"] {
        for (umask, ..) in UMASKS {
            let at = m.sub(format!("{parent}/{umask:o}"));
            fs::create_dir(at.root()).unwrap();
            with_umask(umask, || make_one_of_each(&at));
        }
    }
    for _ in 0..2 {
        for parent in ["lower", "upper"] {
            for (umask, file, dir) in UMASKS {
                let at = m.sub(format!("{parent}/{umask:o}"));
                for name in ["file", "fifo", "node", "null"] {
                    assert_eq!(at.mode_of(name), file, "{parent} {name} umask {umask:o}");
                }
                assert_eq!(at.mode_of("dir"), dir, "{parent} dir umask {umask:o}");
                assert_eq!(at.mode_of("socket"), dir, "{parent} socket umask {umask:o}");
            }
        }
        m.remount();
    }
}

#[test]
fn every_bit_of_a_mode_survives_copy_up() {
    needs!(mount);
    let s = Scratch::new();
    let modes = [0, 0o400, 0o4755, 0o2755, 0o6711, 0o1777, 0o700, 0o7777];
    for mode in modes {
        let at = format!("{mode:o}");
        s.lower(0).file(format!("file{at}"), "x").file(format!("dir{at}/f"), "x");
        s.lower(0).owner(format!("file{at}"), 3, 4).owner(format!("dir{at}"), 5, 6);
        s.lower(0).mode(format!("file{at}"), mode).mode(format!("dir{at}"), mode);
    }
    let mut m = s.mount();
    for mode in modes {
        m.times(format!("file{mode:o}"), 1, 1).file(format!("dir{mode:o}/f"), "new");
    }
    for _ in 0..2 {
        for mode in modes {
            let (file, dir) = (format!("file{mode:o}"), format!("dir{mode:o}"));
            assert!(s.upper.exists(&file) && s.upper.exists(&dir));
            assert_eq!(m.mode_of(&file), mode, "{file}");
            assert_eq!(m.mode_of(&dir), mode, "{dir}");
            assert_eq!((m.stat(&file).uid(), m.stat(&file).gid()), (3, 4));
            assert_eq!((m.stat(&dir).uid(), m.stat(&dir).gid()), (5, 6));
        }
        m.remount();
    }
}

#[test]
fn what_others_may_not_they_cannot() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("secret", "x").mode("secret", 0o600);
    s.lower(0).file("closed/f", "x").mode("closed", 0o700).file("readable", "x");
    s.lower(0).dir("fixed").mode("fixed", 0o555);
    let m = s.mount();
    let [secret, closed, readable, fixed] =
        ["secret", "closed/f", "readable", "fixed/new"].map(|name| m.path(name));
    let check = || {
        as_user(NOBODY, NOBODY, || {
            assert_errno(fs::read(&secret), libc::EACCES);
            assert_errno(fs::metadata(&closed), libc::EACCES);
            assert_eq!(fs::read(&readable).unwrap(), b"x");
            assert_errno(File::options().append(true).open(&readable), libc::EACCES);
            assert_errno(fs::write(&fixed, ""), libc::EACCES);
            assert_errno(fs::remove_file(&readable), libc::EACCES);
            assert_errno(chmod(&readable, 0o777), libc::EPERM);
            assert_errno(chown(&readable, Some(NOBODY), None), libc::EPERM);
        });
    };
    check();
    assert!(s.upper.names("").is_empty());
    m.times("secret", 1, 1).file("closed/g", "").times("readable", 1, 1).times("fixed", 1, 1);
    check();
    // fuse-overlayfs issue 414: root may where the mode says nobody may.
    m.file("fixed/by_root", "");
    fs::create_dir(m.path("fixed/dir_by_root")).unwrap();
}

#[test]
fn a_user_owns_what_it_makes() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).dir("open").mode("open", 0o777);
    let mut m = s.mount();
    let at = m.place().sub("open");
    as_user(1234, 5678, || {
        at.file("f", "x").dir("d").symlink("l", "x").node("p", SFlag::S_IFIFO, 0, 0);
        at.hard_link("h", "f");
        chmod(&at.path("f"), 0o600).unwrap();
    });
    for _ in 0..2 {
        for name in ["f", "d", "l", "p", "h"] {
            let meta = at.stat(name);
            assert_eq!((meta.uid(), meta.gid()), (1234, 5678), "{name}");
        }
        m.remount();
    }
}

#[test]
fn a_setgid_directory_gives_its_group_on() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).dir("lower").owner("lower", 0, 77).mode("lower", 0o2777);
    let mut m = s.mount();
    m.dir("upper").owner("upper", 0, 77).mode("upper", 0o2777);
    for parent in ["lower", "upper"] {
        let at = m.place().sub(parent);
        as_user(1234, 5678, || {
            at.file("f", "").dir("d").symlink("l", "x").node("p", SFlag::S_IFIFO, 0, 0);
        });
    }
    for _ in 0..2 {
        for parent in ["lower", "upper"] {
            for name in ["f", "d", "l", "p"] {
                let meta = m.stat(format!("{parent}/{name}"));
                assert_eq!((meta.uid(), meta.gid()), (1234, 77), "{parent}/{name}");
            }
            assert_eq!(m.mode_of(format!("{parent}/d")), 0o2755, "{parent}");
            assert_eq!(m.mode_of(format!("{parent}/f")), 0o644, "{parent}");
            assert_eq!(m.mode_of(parent), 0o2777);
        }
        m.remount();
    }
}

#[test]
fn a_sticky_directory_protects_names() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("tmp/roots", "").file("tmp/own", "").owner("tmp/own", NOBODY, NOBODY);
    s.lower(0).mode("tmp", 0o1777);
    let mut m = s.mount();
    let at = m.place().sub("tmp");
    for _ in 0..2 {
        as_user(NOBODY, NOBODY, || {
            assert_errno(fs::remove_file(at.path("roots")), libc::EPERM);
            assert_errno(fs::rename(at.path("roots"), at.path("x")), libc::EPERM);
            at.file("new", "");
            fs::rename(at.path("own"), at.path("own2")).unwrap();
            fs::rename(at.path("own2"), at.path("own")).unwrap();
        });
        assert_eq!(at.mode_of(""), 0o1777);
        m.remount();
    }
    as_user(NOBODY, NOBODY, || fs::remove_file(at.path("own")).unwrap());
}

/// A change of a file's data, and what it is called.
type Action = (&'static str, fn(&Path));

#[test]
fn a_write_by_an_ordinary_user_clears_setuid_and_setgid() {
    needs!(mount);
    let s = Scratch::new();
    let actions: [Action; 4] = [
        ("write", |path| {
            File::options().write(true).open(path).unwrap().write_all(b"x").unwrap();
        }),
        ("append", |path| {
            File::options().append(true).open(path).unwrap().write_all(b"x").unwrap();
        }),
        ("truncate", |path| nix::unistd::truncate(path, 1).unwrap()),
        ("o_trunc", |path| drop(File::create(path).unwrap())),
    ];
    for (name, _) in actions {
        s.lower(0).file(format!("lower_{name}"), "content");
    }
    let mut m = s.mount();
    for (name, _) in actions {
        m.file(format!("upper_{name}"), "content");
    }
    drop(m);
    for (name, _) in actions {
        s.lower(0).mode(format!("lower_{name}"), 0o6777);
        s.upper.mode(format!("upper_{name}"), 0o6777);
    }
    m = s.mount();
    for (name, action) in actions {
        for layer in ["lower", "upper"] {
            let path = m.path(format!("{layer}_{name}"));
            as_user(NOBODY, NOBODY, || action(&path));
            let mode = m.mode_of(format!("{layer}_{name}"));
            assert_eq!(mode, 0o777, "{layer}_{name}: {mode:o}");
        }
    }
    m.remount();
    for (name, _) in actions {
        for layer in ["lower", "upper"] {
            assert_eq!(m.mode_of(format!("{layer}_{name}")), 0o777, "{layer}_{name}");
        }
    }
}

/// Root keeps the bits when it writes (it has CAP_FSETID), and loses them by a change of owner.
#[test]
fn root_keeps_setuid_by_writing_and_loses_it_by_chown() {
    needs!(mount);
    let s = Scratch::new();
    for name in ["written", "chowned"] {
        s.lower(0).file(name, "x").mode(name, 0o4755);
    }
    s.lower(0).dir("dir").mode("dir", 0o2755);
    let mut m = s.mount();
    File::options().append(true).open(m.path("written")).unwrap().write_all(b"y").unwrap();
    m.owner("chowned", 7, 7).owner("dir", 7, 7);
    for _ in 0..2 {
        assert_eq!(m.mode_of("written"), 0o4755);
        assert_eq!(m.mode_of("chowned"), 0o755);
        assert_eq!(m.mode_of("dir"), 0o2755);
        m.remount();
    }
}

/// VFS_CAP_REVISION_2 with CAP_NET_RAW permitted and effective, as for ping(8).
const PING: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn capabilities_survive_copy_up_and_go_at_a_change() {
    needs!(mount);
    let s = Scratch::new();
    for name in ["kept", "written", "truncated", "chowned"] {
        s.lower(0).file(name, "program").xattr(name, "security.capability", PING);
    }
    let mut m = s.mount();
    m.times("kept", 5, 5).file("new", "").xattr("new", "security.capability", PING);
    File::options().write(true).open(m.path("written")).unwrap().write_all(b"P").unwrap();
    nix::unistd::truncate(&m.path("truncated"), 3).unwrap();
    m.owner("chowned", 7, 7);
    for _ in 0..2 {
        for name in ["kept", "new"] {
            assert_eq!(m.get_xattr(name, "security.capability").unwrap(), PING, "{name}");
        }
        for name in ["written", "truncated", "chowned"] {
            assert_eq!(m.get_xattr(name, "security.capability"), None, "{name}");
        }
        m.remount();
    }
}

#[test]
fn a_setgid_bit_needs_membership() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "").owner("f", 1234, 77);
    let m = s.mount();
    let path = m.path("f");
    as_user(1234, 1234, || chmod(&path, 0o2755).unwrap());
    assert_eq!(m.mode_of("f"), 0o755);
    as_member(1234, 1234, &[77], || chmod(&path, 0o2755).unwrap());
    assert_eq!(m.mode_of("f"), 0o2755);
    as_user(1234, 1234, || {
        assert_errno(chown(&path, None, Some(88)), libc::EPERM);
        chown(&path, None, Some(1234)).unwrap();
    });
}

#[test]
fn access_follows_groups_beyond_the_first() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "x").owner("f", 0, 77).mode("f", 0o640);
    let m = s.mount();
    let path = m.path("f");
    as_user(1234, 1234, || assert_errno(File::open(&path), libc::EACCES));
    as_member(1234, 1234, &[5, 77], || {
        File::open(&path).unwrap();
        assert_errno(OpenOptions::new().write(true).open(&path), libc::EACCES);
    });
}

#[test]
fn a_program_in_a_lower_can_be_run() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("script", "#!/bin/sh\necho ran \"$1\"\n").mode("script", 0o755);
    let m = s.mount();
    fs::copy("/bin/echo", m.path("echo")).unwrap();
    let run = |name: &str| crate::support::process::run(m.path(name).to_str().unwrap(), &["well"]);
    assert_eq!(run("script"), "ran well\n");
    assert_eq!(run("echo"), "well\n");
    m.mode("script", 0o644);
    let refused = std::process::Command::new(m.path("script")).output();
    assert_errno(refused, libc::EACCES);
}
