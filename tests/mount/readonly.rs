//! Mounts without an upper, and `ro`.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::symlink;

use nix::sys::stat::{Mode, SFlag, mknod};

use crate::needs;
use crate::support::raw::{rename, set_xattr};
use crate::support::tree::{Compare, assert_same_tree, dump};
use crate::support::{Mount, Scratch, assert_errno};

fn filled() -> Scratch {
    let s = Scratch::with_lowers(2);
    s.lower(0).file("f", "x").xattr("f", "user.a", "1").dir("d").symlink("l", "f");
    s.lower(1).file("below", "").file("gone", "");
    s.lower(0).whiteout("gone");
    s
}

#[track_caller]
fn assert_refuses_changes(m: &Mount) {
    use std::os::unix::fs::{PermissionsExt, chown};
    let at = |name: &str| m.path(name);
    assert_errno(File::create(at("new")), libc::EROFS);
    assert_errno(OpenOptions::new().write(true).open(at("f")), libc::EROFS);
    assert_errno(fs::create_dir(at("new")), libc::EROFS);
    assert_errno(symlink("x", at("new")), libc::EROFS);
    assert_errno(mknod(&at("new"), SFlag::S_IFIFO, Mode::S_IRUSR, 0), libc::EROFS);
    assert_errno(fs::hard_link(at("f"), at("new")), libc::EROFS);
    assert_errno(fs::remove_file(at("f")), libc::EROFS);
    assert_errno(fs::remove_dir(at("d")), libc::EROFS);
    assert_errno(fs::rename(at("f"), at("new")), libc::EROFS);
    assert_errno(rename(&at("f"), &at("below"), libc::RENAME_EXCHANGE), libc::EROFS);
    assert_errno(fs::set_permissions(at("f"), fs::Permissions::from_mode(0o600)), libc::EROFS);
    assert_errno(chown(at("f"), Some(1), None), libc::EROFS);
    assert_errno(nix::unistd::truncate(&at("f"), 0), libc::EROFS);
    assert_errno(set_xattr(&at("f"), "user.b".as_ref(), b"", 0), libc::EROFS);
    assert_errno(xattr::remove(at("f"), "user.a"), libc::EROFS);
    let time = nix::sys::time::TimeSpec::new(1, 1);
    let flags = nix::sys::stat::UtimensatFlags::FollowSymlink;
    let set = nix::sys::stat::utimensat(nix::fcntl::AT_FDCWD, &at("f"), &time, &time, flags);
    assert_errno(set, libc::EROFS);
}

#[test]
fn without_an_upper_nothing_changes() {
    needs!(mount);
    let s = filled();
    let before = [0, 1].map(|number| dump(s.lower(number).root()));
    let m = s.setup().read_only().mount();
    assert_eq!(m.names(""), ["below", "d", "f", "l"]);
    assert_eq!(m.read("l"), "x");
    assert_eq!(m.get_xattr("f", "user.a").unwrap(), b"1");
    assert_refuses_changes(&m);
    for (number, tree) in before.iter().enumerate() {
        assert_same_tree(tree, &dump(s.lower(number).root()), Compare::STRICT);
    }
}

#[test]
fn ro_forbids_what_the_upper_would_allow() {
    needs!(mount);
    crate::not_the_kernels!("for it this is a flag of mount(2), not an option");
    let s = filled();
    s.upper.file("upper", "");
    let m = s.setup().option("ro").mount();
    assert_eq!(m.names(""), ["below", "d", "f", "l", "upper"]);
    assert_refuses_changes(&m);
    assert_eq!(s.upper.names(""), ["upper"]);
}

/// Layers that cannot be written are all that a read-only mount needs.
#[test]
fn a_single_layer_is_enough() {
    needs!(mount);
    crate::not_the_kernels!("it asks for two layers if there is no upper");
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    let m = s.setup().read_only().mount();
    assert_eq!(m.read("f"), "x");
}
