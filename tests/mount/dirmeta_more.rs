//! Directories that lend their names: what else they have, and who else changes them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use crate::support::process::{output, run, shell, text};
use crate::support::tree::{Compare, assert_same_tree, dump};
use crate::support::{Scratch, binary};
use crate::{needs, not_the_kernels};

const UNKNOWN: &str = "the mark is not known to it yet";
const TRUSTED: &str = "trusted.overlay.dirmeta_delegate";
const USER: &str = "user.overlay.dirmeta_delegate";
const DEFAULT_ACL: &str = "system.posix_acl_default";

/// `d` with all sorts of metadata in lower 1, and marked, with others of its own, in lower 0.
fn implied() -> Scratch {
    let s = Scratch::with_lowers(2);
    s.lower(1).file("d/base", "").owner("d", 5, 6).mode("d", 0o2750);
    run("setfacl", &["-m", "u:77:rwx,d:u:78:rx", s.lower(1).path("d").to_str().unwrap()]);
    s.lower(1).xattr("d", "user.real", "1").times("d", 3_000, 5);
    s.lower(0).file("d/added", "");
    run("setfacl", &["-m", "u:99:rwx,d:u:99:rwx", s.lower(0).path("d").to_str().unwrap()]);
    s.lower(0).xattr("d", "user.implied", "1").xattr("d", TRUSTED, "y").times("d", 9_000, 5);
    s
}

fn acl(dir: &crate::support::Dir, path: &str) -> String {
    shell(dir.root(), &format!("getfacl -ncp {path}"))
}

#[test]
fn acls_come_from_the_source() {
    needs!(mount, acl);
    not_the_kernels!(UNKNOWN);
    let s = implied();
    let mut m = s.mount();
    let wanted = acl(s.lower(1), "d");
    assert!(wanted.contains("user:77:") && wanted.contains("default:user:78:"), "{wanted}");
    assert_eq!(acl(&m, "d"), wanted);
    // What is made in it inherits from what is shown; this copies the directory up.
    m.dir("d/made");
    let made = acl(&m, "d/made");
    assert!(made.contains("user:78:") && !made.contains("user:99:"), "{made}");
    assert_eq!(m.stat("d/made").gid(), 6);
    m.remount();
    assert_eq!(acl(&m, "d"), wanted);
    assert_eq!(acl(&s.upper, "d"), wanted);
    assert_eq!(m.xattr_names("d"), ["system.posix_acl_access", DEFAULT_ACL, "user.real"]);
}

/// A source without ACLs shows none, whatever the marked ones have.
#[test]
fn acls_of_marked_directories_are_not_shown() {
    needs!(mount, acl);
    not_the_kernels!(UNKNOWN);
    let s = implied();
    run("setfacl", &["-b", s.lower(1).path("d").to_str().unwrap()]);
    let m = s.mount();
    assert_eq!(m.xattr_names("d"), ["user.real"]);
    m.dir("d/made");
    assert!(m.xattr_names("d/made").is_empty() && s.upper.get_xattr("d", DEFAULT_ACL).is_none());
}

/// Every way to change a directory of the upper that is marked: the source's metadata first.
#[test]
fn each_change_takes_all_of_it_over() {
    needs!(mount, acl);
    not_the_kernels!(UNKNOWN);
    let changes: [(&str, &str); 8] = [
        ("chmod", "chmod 711 d"),
        ("chown", "chown 1:2 d"),
        ("touch", "touch -d @4000 d"),
        ("setxattr", "setfattr -n user.new -v 1 d"),
        ("removexattr", "setfattr -x user.real d"),
        ("setfacl", "setfacl -m u:80:r d"),
        ("create", "touch d/new"),
        ("remove", "rm d/added"),
    ];
    for (what, command) in changes {
        println!("{what}");
        let s = implied();
        s.upper.file("d/own", "").xattr("d", "user.stale", "1").mode("d", 0o700);
        s.upper.xattr("d", USER, "y").times("d", 9_999, 5);
        let mut m = s.mount();
        let oracle = s.base().sub("oracle");
        run("cp", &["-a", m.root().to_str().unwrap(), oracle.root().to_str().unwrap()]);
        for place in [m.place(), &oracle] {
            shell(place.root(), command);
        }
        for _ in 0..2 {
            assert_same_tree(&dump(oracle.root()), &dump(m.root()), Compare::TIMELESS);
            m.remount();
        }
        for name in [USER, TRUSTED, "user.stale"] {
            assert_eq!(s.upper.get_xattr("d", name), None, "{what}: {name}");
        }
    }
}

/// A copy out of the mount has the metadata, and no mark.
#[test]
fn copied_out_by_cp_a() {
    needs!(mount, acl);
    not_the_kernels!(UNKNOWN);
    let s = implied();
    let m = s.mount();
    let copy = s.base().sub("copy");
    run("cp", &["-a", m.root().to_str().unwrap(), copy.root().to_str().unwrap()]);
    assert_same_tree(&dump(m.root()), &dump(copy.root()), Compare::STRICT);
    assert_eq!((copy.mode_of("d"), copy.stat("d").mtime()), (s.lower(1).mode_of("d"), 3_000));
    assert_eq!(acl(&copy, "d"), acl(s.lower(1), "d"));
    assert_eq!(copy.get_xattr("d", TRUSTED), None);
    // A copy within the mount is one of its own.
    shell(m.root(), "cp -a d e");
    assert_eq!(s.upper.get_xattr("e", TRUSTED), None);
    assert_eq!(acl(&m, "e"), acl(&m, "d"));
}

/// Marked and opaque, in the upper: its own metadata, and nothing from below.
#[test]
fn a_marked_and_opaque_upper_directory_is_its_own_source() {
    needs!(mount);
    not_the_kernels!(UNKNOWN);
    let s = Scratch::new();
    s.lower(0).file("d/below", "").mode("d", 0o700).owner("d", 9, 9);
    s.upper.opaque_dir("d").xattr("d", USER, "y").mode("d", 0o751).owner("d", 3, 4);
    let mut m = s.mount();
    for _ in 0..2 {
        assert!(m.names("d").is_empty());
        assert_eq!((m.mode_of("d"), m.stat("d").uid(), m.stat("d").gid()), (0o751, 3, 4));
        m.owner("d", 3, 4);
        m.remount();
    }
    assert_eq!(s.upper.get_xattr("d", "trusted.overlay.opaque").unwrap(), b"y");
}

/// A marked directory that stands alone shows its own metadata, and its mark hides nothing.
#[test]
fn a_marked_directory_in_one_layer_is_its_own_source() {
    needs!(mount);
    not_the_kernels!(UNKNOWN);
    let s = Scratch::with_lowers(2);
    s.lower(0).file("d/f", "").xattr("d", TRUSTED, "y").mode("d", 0o711).owner("d", 3, 4);
    let m = s.mount();
    assert_eq!((m.mode_of("d"), m.stat("d").uid()), (0o711, 3));
    m.file("d/new", "");
    assert_eq!((m.mode_of("d"), m.stat("d").uid()), (0o711, 3));
    assert_eq!(s.upper.get_xattr("d", TRUSTED), None);
}

/// What lies between a marked directory and the real one ends the walk: a whiteout, a file.
#[test]
fn a_whiteout_or_a_file_below_ends_the_walk() {
    needs!(mount);
    not_the_kernels!(UNKNOWN);
    for file in [false, true] {
        let s = Scratch::with_lowers(3);
        s.lower(2).dir("d").mode("d", 0o700).owner("d", 9, 9);
        let _ = if file { s.lower(1).file("d", "") } else { s.lower(1).whiteout("d") };
        s.lower(0).dir("d").xattr("d", TRUSTED, "y").mode("d", 0o755);
        let m = s.mount();
        assert_eq!((m.mode_of("d"), m.stat("d").uid()), (0o755, 0));
    }
}

/// The option leaves marks in the upper alone.
#[test]
fn switched_off_a_mark_stays() {
    needs!(mount);
    not_the_kernels!(UNKNOWN);
    let s = Scratch::new();
    s.lower(0).dir("d").mode("d", 0o700);
    s.upper.dir("d").xattr("d", TRUSTED, "y").mode("d", 0o755);
    let m = s.setup().option("dirmeta_delegate=off").mount();
    m.file("d/f", "").owner("d", 0, 7);
    assert_eq!((m.mode_of("d"), m.stat("d").gid()), (0o755, 7));
    assert_eq!(m.get_xattr("d", TRUSTED), None);
    drop(m);
    assert_eq!(s.upper.get_xattr("d", TRUSTED).unwrap(), b"y");
}

/// In a user namespace `user.overlay.` is all there is.
#[test]
fn in_a_user_namespace() {
    needs!(mount, userns);
    not_the_kernels!(UNKNOWN);
    let s = Scratch::with_lowers(2);
    let script = r#"
        mkdir -p lower1/d lower0/d upper/e lower1/e
        chmod 1777 lower1/d; chmod 755 lower0/d; touch -d @3000 lower1/d
        setfattr -n user.overlay.dirmeta_delegate -v y lower0/d
        setfattr -n user.overlay.dirmeta_delegate -v y upper/e
        setfattr -n user.real -v 1 lower1/e
        chmod 2751 lower1/e
        "$BIN" -o lowerdir=lower0:lower1,upperdir=upper,workdir=work mnt
        stat -c '%n %a %Y' mnt/d
        stat -c '%n %a' mnt/e
        touch mnt/e/f mnt/d/f
        stat -c '%n %a' mnt/d mnt/e
        getfattr -n user.real --only-values mnt/e
        umount mnt
        getfattr -dm- upper/d upper/e | grep -c delegate || true
    "#;
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-euc", script]).current_dir(s.base().root());
    let done = output(command.env("BIN", binary()).env("LC_ALL", "C"));
    assert!(done.status.success(), "{}", text(&done.stderr));
    let wanted = "mnt/d 1777 3000\nmnt/e 2751\nmnt/d 1777\nmnt/e 2751\n10\n";
    assert_eq!(text(&done.stdout), wanted);
    assert_eq!(fs::metadata(s.upper.path("d")).unwrap().mode() & 0o7777, 0o1777);
}
