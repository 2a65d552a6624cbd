//! POSIX ACLs.

use std::fs;

use crate::needs;
use crate::support::process::{output, shell, text};
use crate::support::user::{NOBODY, as_user, with_umask};
use crate::support::{Mount, Scratch};

/// What getfacl says about a path, without comments, on one line.
fn acl(m: &Mount, path: &str) -> String {
    let all = shell(m.root(), &format!("getfacl -ncpE '{path}'"));
    all.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn an_acl_set_on_any_origin_is_kept_and_obeyed() {
    needs!(mount, acl);
    let s = Scratch::new();
    s.lower(0).file("lower", "x").mode("lower", 0o600);
    let mut m = s.mount();
    m.file("upper", "x").mode("upper", 0o600);
    let paths = ["lower", "upper"].map(|name| m.path(name));
    for path in &paths {
        assert!(as_user(NOBODY, NOBODY, || fs::read(path)).is_err());
    }
    shell(m.root(), "setfacl -m u:65534:r lower upper");
    for _ in 0..2 {
        for (name, path) in ["lower", "upper"].iter().zip(&paths) {
            assert!(acl(&m, name).contains("user:65534:r--"), "{}", acl(&m, name));
            // The group bits of the mode show the mask.
            assert_eq!(m.mode_of(name), 0o640);
            as_user(NOBODY, NOBODY, || {
                fs::read(path).unwrap();
                assert!(fs::write(path, "").is_err());
            });
        }
        m.remount();
    }
}

#[test]
fn an_acl_of_a_lower_is_obeyed_and_copied_up() {
    needs!(mount, acl);
    let s = Scratch::new();
    s.lower(0).file("f", "x").mode("f", 0o600);
    shell(s.lower(0).root(), "setfacl -m u:65534:rw f");
    let mut m = s.mount();
    let path = m.path("f");
    as_user(NOBODY, NOBODY, || {
        assert_eq!(fs::read(&path).unwrap(), b"x");
        fs::write(&path, "y").unwrap();
    });
    m.remount();
    assert_eq!(m.read("f"), "y");
    assert!(acl(&m, "f").contains("user:65534:rw-"));
    as_user(1, 1, || assert!(fs::read(&path).is_err()));
}

#[test]
fn chmod_changes_the_mask() {
    needs!(mount, acl);
    let s = Scratch::new();
    s.lower(0).file("f", "");
    shell(s.lower(0).root(), "setfacl -m u:65534:rwx f");
    let mut m = s.mount();
    m.mode("f", 0o640);
    for _ in 0..2 {
        let acl = acl(&m, "f");
        assert!(acl.contains("mask::r--") && acl.contains("user:65534:rwx"), "{acl}");
        m.remount();
    }
}

/// With a default ACL, a new file's access ACL comes from it and from the mode asked for, and the
/// umask has no say (acl(5), object creation). fuse-overlayfs only copied the default ACL.
#[test]
fn a_default_acl_becomes_the_access_acl_of_children() {
    needs!(mount, acl);
    let s = Scratch::new();
    s.lower(0).dir("d");
    shell(s.lower(0).root(), "setfacl -d -m u::rwx,u:65534:rwx,g::rx,o::- d");
    let mut m = s.mount();
    let dir = m.place().sub("d");
    with_umask(0o077, || {
        dir.file("file", "").dir("sub").node("fifo", nix::sys::stat::SFlag::S_IFIFO, 0, 0);
    });
    for _ in 0..2 {
        let file = acl(&m, "d/file");
        assert!(file.contains("user:65534:rwx") && file.contains("mask::rw-"), "{file}");
        assert!(file.contains("other::---"), "{file}");
        assert!(!file.contains("default:"), "{file}");
        assert_eq!(m.mode_of("d/file"), 0o660);
        let fifo = acl(&m, "d/fifo");
        assert!(fifo.contains("mask::r--") && fifo.contains("user:65534:rwx"), "{fifo}");
        let sub = acl(&m, "d/sub");
        assert!(sub.contains("user:65534:rwx") && sub.contains("default:user:65534:rwx"), "{sub}");
        assert_eq!(m.mode_of("d/sub"), 0o770);
        m.remount();
    }
}

#[test]
fn removing_an_acl_leaves_the_mode() {
    needs!(mount, acl);
    let s = Scratch::new();
    s.lower(0).file("f", "").dir("d");
    shell(s.lower(0).root(), "setfacl -m u:1:rw f; setfacl -d -m u:1:rw d");
    let mut m = s.mount();
    shell(m.root(), "setfacl -b f; setfacl -k d");
    for _ in 0..2 {
        assert_eq!(acl(&m, "f"), "user::rw- group::r-- other::r--");
        assert!(!acl(&m, "d").contains("default"));
        m.remount();
    }
}

#[test]
fn only_the_owner_sets_an_acl() {
    needs!(mount, acl);
    let s = Scratch::new();
    s.lower(0).file("theirs", "").file("own", "").owner("own", NOBODY, NOBODY);
    let m = s.mount();
    let set = |name: &str| {
        let path = m.path(name);
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        output(command.args(["setfacl", "-m", "u:1:r"]).arg(path))
    };
    assert!(set("own").status.success());
    let refused = set("theirs");
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("Operation not permitted"));
}
