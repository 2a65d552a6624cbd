//! Who may use a mount: `allow_other`, `allow_root`, and what groups a caller brings along.

use std::fs;
use std::process::{Command, Output};

use crate::support::process::{output, text};
use crate::support::user::{NOBODY, as_member, as_user};
use crate::support::{Scratch, assert_errno};
use crate::{needs, not_the_kernels};

const NO_PROGRAM: &str = "it is no program";

/// Mounts as nobody through fusermount3, with `line` in /etc/fuse.conf, and reads `f` as another
/// user, twice: what root has read meanwhile is no excuse. Prints who could, `owner`, `root`,
/// `other`.
fn readers(option: &str, line: &str) -> Output {
    let s = Scratch::new();
    s.lower(0).file("f", "x").mode("f", 0o644);
    for dir in [&s.upper, &s.work, &s.mnt, s.lower(0)] {
        dir.owner("", NOBODY, NOBODY);
    }
    s.base().file("fuse.conf", format!("{line}\n"));
    let script = r#"set -e
        mount --bind "$4" /etc/fuse.conf
        as() { u=$1; shift; setpriv --reuid=$u --regid=$u --clear-groups -- "$@"; }
        as 65534 "$1" -o "$2" "$3"; m=$3
        sees() { ! as "$1" cat "$m/f" >/dev/null 2>&1 || echo "$2"; }
        sees 1234 other
        sees 65534 owner
        sees 0 root
        sees 1234 'other, afterwards'
        umount "$m""#;
    let mut words = s.setup().option_string();
    words.push(option);
    output(
        Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(s.program())
            .arg(words)
            .arg(s.mnt.root())
            .arg(s.base().path("fuse.conf")),
    )
}

#[test]
fn who_may_use_the_mount_of_a_user() {
    needs!(mount, fuse_for_users);
    not_the_kernels!(NO_PROGRAM);
    for (option, line, expected) in [
        ("", "", "owner\n"),
        (",allow_root", "user_allow_other", "owner\nroot\n"),
        (",allow_root,noacl", "user_allow_other", "owner\nroot\n"),
        (",allow_other", "user_allow_other", "other\nowner\nroot\nother, afterwards\n"),
    ] {
        let found = readers(option, line);
        assert!(found.status.success(), "{option}: {}", text(&found.stderr));
        assert_eq!(text(&found.stdout), expected, "{option}");
    }
    let refused = readers(",allow_other", "");
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
    assert!(text(&refused.stderr).contains("user_allow_other"), "{}", text(&refused.stderr));
}

/// Root mounts for everybody, unless it says otherwise. The kernel has no word for `allow_root`,
/// and once gave others what it had in its caches: without ACLs no request came up to be refused.
#[test]
fn who_may_use_the_mount_of_root() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    for (option, open) in
        [("rw", true), ("allow_other", true), ("allow_root", false), ("allow_root,noacl", false)]
    {
        let s = Scratch::new();
        s.lower(0).file("f", "x").mode("f", 0o644);
        let m = s.setup().option(option).mount();
        for _ in 0..2 {
            let (read, listed) =
                as_user(NOBODY, NOBODY, || (fs::read(m.path("f")), fs::read_dir(m.root())));
            if open {
                assert_eq!((read.unwrap(), listed.unwrap().count()), (b"x".to_vec(), 1));
            } else {
                assert_errno(read, libc::EACCES);
                assert!(listed.map_or(0, |names| names.flatten().count()) == 0, "{option}");
            }
            // Now the kernel knows the file.
            assert_eq!((m.read("f"), m.names("")), ("x".into(), vec!["f".into()]));
        }
    }
}

/// FUSE tells the server one group of a caller. The kernel knows them all and checks by itself.
#[test]
fn supplementary_groups_count() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    for option in ["default_permissions", "allow_other"] {
        let s = Scratch::new();
        s.lower(0).file("shared/f", "x").file("shared/gone", "").mode("shared", 0o2770);
        s.lower(0).mode("shared/f", 0o660);
        for path in ["shared", "shared/f", "shared/gone"] {
            s.lower(0).owner(path, 0, 500);
        }
        let m = s.setup().option(option).mount();
        let change = || {
            fs::write(m.path("shared/f"), "y")?;
            fs::remove_file(m.path("shared/gone"))?;
            fs::write(m.path("shared/new"), "z")
        };
        assert_errno(as_member(1000, 1000, &[501, 502], change), libc::EACCES);
        as_member(1000, 1000, &[501, 500], change).unwrap();
        assert_eq!(
            (m.read("shared/f"), m.names("shared")),
            ("y".into(), vec!["f".into(), "new".into()])
        );
        // As everywhere in a set-gid directory, and a change of group to one that is theirs.
        let group = |path: &str| std::os::unix::fs::MetadataExt::gid(&m.stat(path));
        assert_eq!((group("shared/new"), group("shared/f")), (500, 500));
        let new = m.path("shared/new");
        let give = |group: u32| std::os::unix::fs::chown(&new, None, Some(group));
        as_member(1000, 1000, &[501, 500], || give(501)).unwrap();
        assert_errno(as_member(1000, 1000, &[501, 500], || give(502)), libc::EPERM);
        assert_eq!(group("shared/new"), 501);
    }
}
