//! Owners in user namespaces: the overflow id that somebody has, ids that the namespace lacks, and
//! ACLs with such ids.

use super::namespace::{ALL, NOBODY, ROOT, in_namespace, layers};
use crate::support::process::shell;
use crate::support::{Dir, Scratch};
use crate::{needs, not_the_kernels};

const WHY: &str = "mounts in a user namespace of its own";

/// An id that none of them has.
const STRANGER: u32 = 7;

/// What mounts the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Ours,
    Kernel,
}

/// What a script says that runs in the mount.
fn mounted(s: &Scratch, engine: Engine, options: &str, maps: [&str; 2], script: &str) -> String {
    let mount = match engine {
        Engine::Ours => format!("\"$1\" -o \"$2{options}\" \"$3\""),
        Engine::Kernel => format!("mount -t overlay -o \"userxattr,$2{options}\" overlay \"$3\""),
    };
    let script = format!("{mount}; cd \"$3\"; ({script}) || :; cd /; umount \"$3\"");
    in_namespace(s, maps, &script)
}

/// Names, types, owners and modes of what a layer holds but whiteouts, as the initial namespace
/// sees them.
fn held(dir: &Dir) -> String {
    shell(dir.root(), "find . -mindepth 1 ! -type c -printf '%p %y %U:%G %m\\n' | sort")
}

/// Without nobody.
const FEW: &str = "0 100000 1000";
const ONE: &str = "0 100000 1";

/// Objects of each kind that belong to `uid` and `gid`.
fn fill(dir: &Dir, uid: u32, gid: u32) {
    dir.file("file", "old\n").file("moved", "x").file("linked", "x").dir("dir").dir("dir/sub");
    dir.symlink("link", "file").file("given", "x").file("dir/f", "x");
    shell(dir.root(), "mkfifo fifo");
    for name in ["file", "moved", "linked", "dir", "dir/sub", "link", "fifo", "given", "dir/f"] {
        dir.owner(name, uid, gid);
    }
}

const CHANGES: &str = "
    chmod 600 file; echo more >> file; cat file; chmod 711 dir/sub; touch dir/new; mkdir dir/sub/new
    mv moved dir/moved; ln linked dir/linked; chown -h 3 link; chmod 600 fifo; chown 3:4 given
    rm dir/f; find . -mindepth 1 -printf '%p %y %U:%G %m %l\\n' | sort";

/// Files of nobody could be read and nothing else: stat(2) shows them as it shows those of somebody
/// whom the namespace lacks.
#[test]
fn what_belongs_to_nobody_can_be_changed() {
    needs!(mount, root, userns, kernel_overlay);
    not_the_kernels!(WHY);
    for (uid, gid) in [(NOBODY, NOBODY), (ROOT, NOBODY), (NOBODY, ROOT)] {
        let run = |engine| {
            let s = layers();
            fill(s.lower(0), uid, gid);
            let said = mounted(&s, engine, "", [ALL, ALL], CHANGES);
            (said, held(&s.upper))
        };
        let (said, upper) = run(Engine::Ours);
        assert!(said.starts_with("old\nmore\n"), "{said}");
        assert_eq!((said, upper), run(Engine::Kernel), "{uid}:{gid}");
    }
}

/// Where no further namespace can be made, there is nobody to ask. Files and directories that can
/// be opened as their owner may are what they seem to be.
#[test]
fn what_belongs_to_nobody_where_no_namespace_can_be_made() {
    needs!(mount, root, userns);
    not_the_kernels!(WHY);
    let alone = "echo 0 >/proc/sys/user/max_user_namespaces; ! unshare --user true 2>/dev/null";
    let s = layers();
    fill(s.lower(0), NOBODY, NOBODY);
    let changes = format!("{alone}; chmod 600 file; chgrp 3 dir; mv moved dir/moved; ls -A dir");
    let said = mounted(&s, Engine::Ours, "", [ALL, ALL], &changes);
    assert_eq!(said, "f\nmoved\nsub\n");
    let wanted = format!(
        "./dir d {NOBODY}:{} 755\n./dir/moved f {NOBODY}:{NOBODY} 644\n./file f {NOBODY}:{NOBODY} 600\n",
        ROOT + 3
    );
    assert_eq!(held(&s.upper), wanted);
    // What they cannot be is not guessed, neither of the user nor of the group.
    for (uid, gid) in
        [(STRANGER, STRANGER), (NOBODY, STRANGER), (ROOT + 7, STRANGER), (STRANGER, ROOT)]
    {
        let s = layers();
        fill(s.lower(0), uid, gid);
        s.lower(0)
            .mode("file", 0o644)
            .mode("moved", 0o666)
            .mode("dir", 0o2755)
            .mode("given", 0o600);
        let refused = format!(
            "{alone}; chmod 600 file || echo more >>file || mv moved new || touch dir/f || \
             chmod 400 given || echo none"
        );
        let said = mounted(&s, Engine::Ours, "", [ALL, ALL], &refused);
        assert!(said.ends_with("none\n"), "{uid}:{gid} {said}");
        assert_eq!(held(&s.upper), "", "{uid}:{gid}");
    }
}

/// What the namespace lacks can be read. A copy of it would be somebody else's. Where the mount
/// cannot show nobody either, the kernel refuses the change before the server is asked.
#[test]
fn what_belongs_to_somebody_unknown_is_refused() {
    needs!(mount, root, userns, kernel_overlay);
    not_the_kernels!(WHY);
    const TOO_LARGE: &str = "Value too large for defined data type";
    let changes = [
        "chmod 600 file",
        "touch dir/new",
        "mv moved other",
        "ln linked other",
        "chmod 600 fifo",
        "mv link other",
        "mv fifo other",
    ];
    let knows = |map: &str, id: u32| id == ROOT || id == NOBODY && map == ALL;
    for maps in [[ALL, ALL], [FEW, FEW], [ONE, ONE], [ALL, FEW], [FEW, ALL]] {
        for (uid, gid) in [(STRANGER, STRANGER), (ROOT, STRANGER), (NOBODY, NOBODY), (ROOT, NOBODY)]
        {
            if knows(maps[0], uid) && knows(maps[1], gid) {
                continue;
            }
            let s = layers();
            fill(s.lower(0), uid, gid);
            let each: String = changes.iter().map(|change| format!("! {change}; ")).collect();
            let removed = if maps == [ALL, ALL] { "rm given; ! test -e given; " } else { "" };
            let script = format!("{each} {removed} cat file");
            let said = mounted(&s, Engine::Ours, "", maps, &script);
            let lines: Vec<_> = said.lines().collect();
            assert_eq!(lines.len(), changes.len() + 1, "{maps:?} {uid}:{gid}: {said}");
            assert_eq!(lines.last(), Some(&"old"), "{said}");
            let refused = lines.iter().filter(|line| {
                line.contains(TOO_LARGE) || maps != [ALL, ALL] && line.contains("Permission denied")
            });
            assert_eq!(refused.count(), changes.len(), "{maps:?} {uid}:{gid}: {said}");
            assert_eq!(held(&s.upper), "", "{maps:?} {uid}:{gid}");
            let kernels = mounted(&s, Engine::Kernel, "", maps, "! mv moved other");
            assert!(kernels.contains(TOO_LARGE), "the kernel: {kernels}");
        }
    }
}

/// Where owners are in attributes, a number there is that of somebody.
#[test]
fn nobody_in_an_attribute() {
    needs!(mount, root, userns);
    not_the_kernels!(WHY);
    let s = layers();
    fill(s.lower(0), NOBODY, NOBODY);
    let script = "chmod 600 file; chown 65534:65534 given; touch dir/new; stat -c '%n %u:%g %a' file given dir";
    let expected = "file 65534:65534 600\ngiven 65534:65534 644\ndir 65534:65534 755\n";
    let said = mounted(&s, Engine::Ours, ",xattr_permissions=2", [ALL, ALL], script);
    assert_eq!(said, expected);
    let anew = "mv upper lower1; rm -r work; mkdir upper work; chown 100000:100000 upper work";
    shell(s.base().root(), anew);
    let lower = format!(",lowerdir={}", s.base().path("lower1").display());
    let script = "chmod 640 file; stat -c '%n %u:%g %a' file";
    let said = mounted(&s, Engine::Ours, &lower, [ALL, ALL], script);
    // The server of the first mount may not be gone yet, which is warned of.
    assert!(said.ends_with("file 65534:65534 640\n"), "{said}");
    let copy = format!("./file f {NOBODY}:{NOBODY} 640\n");
    assert_eq!(held(&s.upper), copy, "a real owner again");
}

/// One such entry made a file unusable: EINVAL for open, chmod, mv, and for whatever was made in a
/// directory with a default ACL. FUSE carries no entry for an id without a number; the kernel's
/// overlayfs shows it as 4294967295.
#[test]
fn acls_with_ids_that_the_namespace_lacks() {
    needs!(mount, root, userns, acl, kernel_overlay);
    not_the_kernels!(WHY);
    let script = "
        chmod 640 file; chmod 750 dir/sub; touch dir/new; mkdir dir/newdir; mv moved dir/moved
        setpriv --reuid=5 --regid=5 --clear-groups cat file read
        ! setpriv --reuid=6 --regid=6 --clear-groups cat file
        setpriv --reuid=6 --regid=6 --clear-groups touch shared/of6; setfacl -m u:9:r dir/sub/f
        find . | sort | xargs getfacl -np | grep -v 4294967295";
    let run = |engine| {
        let s = layers();
        let l = s.lower(0);
        l.file("file", "file\n").file("read", "read\n").file("moved", "x").file("dir/sub/f", "x");
        l.dir("shared");
        let five = ROOT + 5;
        let acls = format!(
            "setfacl -m u:{STRANGER}:rw,g:{STRANGER}:r,u:{five}:r file read moved
             setfacl -m u:{STRANGER}:rwx dir dir/sub shared
             setfacl -d -m u:{STRANGER}:rwx,g:8:rx,u:{five}:r dir shared
             setfacl -m o::rwx shared; chmod o= file; find . | xargs chown -h {ROOT}:{ROOT}"
        );
        shell(l.root(), &acls);
        mounted(&s, engine, "", [ALL, ALL], script)
    };
    let (ours, kernels) = (run(Engine::Ours), run(Engine::Kernel));
    assert!(ours.contains("default:user:5:r--") && ours.starts_with("file\nread\n"), "{ours}");
    assert!(!ours.contains("Invalid argument"), "{ours}");
    assert_eq!(ours, kernels);
}

/// A layer with somebody else's owner would be a lie.
#[test]
fn an_archive_of_what_belongs_to_somebody_unknown() {
    needs!(mount, root, userns);
    not_the_kernels!(WHY);
    for (owner, maps, expected) in [
        (NOBODY, [ALL, ALL], "65534/65534"),
        (STRANGER, [ALL, ALL], "not mapped"),
        (NOBODY, [FEW, FEW], "not mapped"),
    ] {
        let s = layers();
        s.upper.file("f", "x").owner("f", owner, owner);
        let script = "\"$1\" diff -o \"$2\" -f - | tar -tvf - --numeric-owner || :";
        let said = in_namespace(&s, maps, script);
        assert!(said.contains(expected), "{owner} {maps:?}: {said}");
    }
}

/// A directory with such an entry could not be moved either: mv(1) said "subdirectory of itself".
/// And a layer of it holds the entries that mean somebody.
#[test]
fn a_directory_whose_acl_has_ids_that_the_namespace_lacks() {
    needs!(mount, root, userns, acl);
    not_the_kernels!(WHY);
    let s = layers();
    s.lower(0).file("dir/sub/f", "x").dir("over");
    s.upper.file("new/f", "x");
    let acls = format!(
        "setfacl -R -m u:{STRANGER}:rwx,u:{}:rx \"$1\"; setfacl -d -m g:{STRANGER}:rwx \"$1\"
         find \"$1\" | xargs chown -h {ROOT}:{ROOT}",
        ROOT + 5
    );
    for dir in [s.lower(0).path("dir"), s.upper.path("new")] {
        shell(&dir, &acls.replace("\"$1\"", "."));
    }
    s.lower(0).owner("over", ROOT, ROOT);
    let script = "
        \"$1\" -o \"$2\" \"$3\"; cd \"$3\"
        show() { find $1 | sort | xargs getfacl -np | grep -v 4294967295 | sed \"s, $1, X,\"; }
        show dir >../before; show new >>../before
        mv dir moved; mv moved over/dir; mv new again
        show over/dir >../after; show again >>../after; cmp ../before ../after && cat ../after
        cd /; \"$1\" umount \"$3\"
        \"$1\" diff -o \"$2\" -f - 2>&1 >layer.tar; tar -tf layer.tar
        tar --xattrs --xattrs-include='*' -xf layer.tar -C \"$3\"; cd \"$3\"; getfacl -np again over/dir/sub/f";
    let script = script.replace("layer.tar", &s.base().path("layer.tar").display().to_string());
    let said = in_namespace(&s, [ALL, ALL], &script);
    for wanted in ["# file: X/sub/f", "user:5:r-x", "over/dir/sub/f\n", "again/f\n"] {
        assert!(said.contains(wanted), "{wanted} in\n{said}");
    }
    let unpacked = said.rsplit("# file: again").next().unwrap();
    assert_eq!(unpacked.matches("user:5:r-x").count(), 2, "{said}");
    assert!(!said.contains("Invalid argument") && !said.contains("4294967295"), "{said}");
}
