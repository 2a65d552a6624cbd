//! Owners that appear as others: `uidmapping`, `gidmapping`, `squash_to_uid` and its like.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, chown, lchown, symlink};
use std::path::Path;
use std::process::Command;

use crate::support::mount::Setup;
use crate::support::process::{output, shell, text};
use crate::support::user::{NOBODY, as_user};
use crate::support::{Dir, Scratch, assert_errno};
use crate::{needs, not_the_kernels};

/// The ids 0 to 999 of the layers appear as 5000 to 5999.
const MAPS: &str = "uidmapping=:0:5000:1000,gidmapping=:0:5000:1000";

const WHY: &str = "its maps belong to the mounts of the layers";

fn owner(dir: &Dir, path: &str) -> (u32, u32) {
    let meta = dir.stat(path);
    (meta.uid(), meta.gid())
}

fn with(s: &Scratch, options: &str) -> Setup {
    options.split(',').fold(s.setup(), Setup::option)
}

#[test]
fn a_map_shows_ids_of_the_layers_as_others() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    s.lower(0).file("f", "").dir("d/e").symlink("l", "f").file("far", "");
    s.lower(0).owner("f", 7, 8).owner("d", 999, 0).owner("l", 1, 2).owner("far", 1000, 3);
    s.upper.file("above", "").owner("above", 5, 6);
    let mut m = with(&s, MAPS).mount();
    for _ in 0..2 {
        assert_eq!(owner(&m, ""), (5000, 5000));
        assert_eq!(owner(&m, "f"), (5007, 5008));
        assert_eq!(owner(&m, "d"), (5999, 5000));
        assert_eq!(owner(&m, "l"), (5001, 5002));
        assert_eq!(owner(&m, "above"), (5005, 5006));
        // The kernel shows an owner who is nobody by a number of its own choice.
        assert_eq!(owner(&m, "far"), (NOBODY, 5003));
        m.remount();
        // By readdirplus, of what was not looked up yet.
        let listed = shell(m.root(), "ls -ln | awk '{print $9, $3, $4}'");
        for line in ["f 5007 5008", "l 5001 5002", "above 5005 5006", "d 5999 5000"] {
            assert!(listed.lines().any(|found| found == line), "{listed}");
        }
    }
}

#[test]
fn what_is_made_is_stored_under_the_ids_of_the_layers() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    s.lower(0).dir("d").mode("d", 0o777).dir("sg").owner("sg", 0, 9).mode("sg", 0o2777);
    let mut m = with(&s, MAPS).mount();
    let made = ["file", "dir", "fifo", "link", "sock", "hard"];
    for place in ["d", "sg"] {
        let at = m.path(place);
        as_user(5007, 5008, || {
            File::create(at.join("file")).unwrap();
            fs::create_dir(at.join("dir")).unwrap();
            nix::unistd::mkfifo(&at.join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
            symlink("x", at.join("link")).unwrap();
            std::os::unix::net::UnixListener::bind(at.join("sock")).unwrap();
            fs::hard_link(at.join("file"), at.join("hard")).unwrap();
        });
    }
    as_user(5000, 5000, || File::create(m.path("d/root")).unwrap());
    // The root of the host, whom the map lacks, acts as that of the layers, as runtimes rely on.
    m.file("d/host", "");
    for _ in 0..2 {
        for name in made {
            assert_eq!(owner(&m, &format!("d/{name}")), (5007, 5008), "{name}");
            assert_eq!(owner(&m, &format!("sg/{name}")), (5007, 5009), "{name}");
            assert_eq!(owner(&s.upper, &format!("d/{name}")), (7, 8), "{name}");
            assert_eq!(owner(&s.upper, &format!("sg/{name}")), (7, 9), "{name}");
        }
        for name in ["d/root", "d/host"] {
            assert_eq!((owner(&m, name), owner(&s.upper, name)), ((5000, 5000), (0, 0)), "{name}");
        }
        // What was copied up on the way.
        assert_eq!((owner(&s.upper, "sg"), s.upper.mode_of("sg")), ((0, 9), 0o2777));
        m.remount();
    }
}

#[test]
fn chown_stores_the_ids_of_the_layers() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    s.lower(0).file("t/f", "").file("t/d/g", "").symlink("t/l", "f").mode("t/f", 0o6755);
    let mut m = with(&s, MAPS).mount();
    shell(m.root(), "chown -hR 5003:5004 t");
    for _ in 0..2 {
        for path in ["t", "t/f", "t/d", "t/d/g", "t/l"] {
            assert_eq!(owner(&m, path), (5003, 5004), "{path}");
            assert_eq!(owner(&s.upper, path), (3, 4), "{path}");
        }
        assert_eq!(m.mode_of("t/f"), 0o755, "set-id bits go with a chown");
        m.remount();
    }
    // An owner who changes the group only.
    chown(m.path("t/f"), None, Some(5999)).unwrap();
    assert_eq!(owner(&s.upper, "t/f"), (3, 999));
}

/// As on an id-mapped mount of the kernel (fsuidgid_has_mapping, notify_change, HAS_UNMAPPED_ID).
#[test]
fn who_is_not_in_the_map_gets_and_makes_nothing() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    s.lower(0).file("f", "x").file("far", "y").owner("far", 1000, 1000).mode("far", 0o666);
    s.lower(0).dir("open").mode("open", 0o777).dir("theirs").owner("theirs", 4000, 0);
    s.lower(0).mode("theirs", 0o777);
    let mut m = with(&s, MAPS).mount();
    as_user(7, 5000, || assert_errno(File::create(m.path("open/new")), libc::EOVERFLOW));
    as_user(5000, 7, || assert_errno(fs::create_dir(m.path("open/new")), libc::EOVERFLOW));
    assert_errno(chown(m.path("f"), Some(7), None), libc::EOVERFLOW);
    assert_errno(chown(m.path("f"), None, Some(6000)), libc::EOVERFLOW);
    // Nobody owns it: it can be read, as its mode says, and that is all.
    assert_eq!(m.read("far"), "y");
    assert_errno(fs::write(m.path("far"), "z"), libc::EACCES);
    assert_errno(fs::remove_file(m.path("far")), libc::EOVERFLOW);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    assert_errno(fs::set_permissions(m.path("far"), mode), libc::EOVERFLOW);
    assert_errno(File::create(m.path("theirs/new")), libc::EACCES);
    assert_eq!(s.upper.names(""), Vec::<String>::new(), "nothing has been copied up");
    // Given to somebody, it is theirs.
    chown(m.path("far"), Some(5001), Some(5001)).unwrap();
    m.remount();
    as_user(5001, 5001, || fs::write(m.path("far"), "z").unwrap());
    assert_eq!(owner(&s.upper, "far"), (1, 1));
}

#[test]
fn ids_in_acls_are_mapped_too() {
    needs!(mount, root, acl);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    s.lower(0).file("f", "x").file("g", "x").dir("d").mode("f", 0o600).mode("g", 0o600);
    s.lower(0).mode("d", 0o777);
    shell(s.lower(0).root(), "setfacl -m u:7:rw,g:8:r,u:2000:rw f; setfacl -d -m u:7:rwx d");
    let mut m = with(&s, MAPS).mount();
    shell(m.root(), "setfacl -m u:5009:rw,g:5010:r g");
    let refused = output(Command::new("setfacl").args(["-m", "u:9:r"]).arg(m.path("g")));
    assert!(text(&refused.stderr).contains("Invalid argument"), "{refused:?}");
    as_user(5001, 5001, || File::create(m.path("d/new")).unwrap());
    let acl = |dir: &Path, name: &str| shell(dir, &format!("getfacl -ncE {name}"));
    for _ in 0..2 {
        let f = acl(m.root(), "f");
        assert!(f.contains("user:5007:rw-") && f.contains("group:5008:r--"), "{f}");
        assert!(!f.contains("2000"), "no id of the mount is that one: {f}");
        as_user(5007, 5999, || fs::write(m.path("f"), "y").unwrap());
        as_user(5002, 5999, || assert_errno(fs::write(m.path("f"), "y"), libc::EACCES));
        as_user(5002, 5008, || assert_eq!(fs::read(m.path("f")).unwrap(), b"y"));
        assert!(acl(m.root(), "g").contains("user:5009:rw-"));
        assert!(acl(m.root(), "d/new").contains("user:5007:rwx"));
        let (g, new) = (acl(s.upper.root(), "g"), acl(s.upper.root(), "d/new"));
        assert!(g.contains("user:9:rw-") && g.contains("group:10:r--"), "{g}");
        assert!(new.contains("user:7:rwx"), "{new}");
        // A copy has all that the original had.
        assert!(acl(s.upper.root(), "f").contains("user:2000:rw-"));
        m.remount();
    }
}

/// Capabilities that root of a container gives a file name its id (capabilities(7), version 3).
#[test]
fn capabilities_are_bound_to_the_root_of_the_layers() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    let m = with(&s, MAPS).mount();
    let of = |root: u32| {
        let words = [0x0300_0001_u32, 1 << 13, 0, 0, 0, root];
        words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>()
    };
    m.file("f", "").xattr("f", "security.capability", of(5007));
    assert_eq!(m.get_xattr("f", "security.capability").unwrap(), of(5007));
    assert_eq!(s.upper.get_xattr("f", "security.capability").unwrap(), of(7));
    let refused = xattr::set(m.path("f"), "security.capability", &of(7));
    assert_errno(refused, libc::EOVERFLOW);
}

#[test]
fn archives_keep_owners() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    s.lower(0).file("in/a", "").dir("in/b").symlink("in/c", "a");
    s.lower(0).owner("in/a", 1, 2).owner("in/b", 3, 4).owner("in/c", 5, 6);
    let m = with(&s, MAPS).mount();
    shell(m.root(), "mkdir out && tar -C in --numeric-owner -c . | tar -C out --numeric-owner -xp");
    for (name, ids) in [("a", (1, 2)), ("b", (3, 4)), ("c", (5, 6))] {
        assert_eq!(owner(&s.upper, &format!("out/{name}")), ids);
        assert_eq!(owner(&m, &format!("out/{name}")), (ids.0 + 5000, ids.1 + 5000));
    }
}

#[test]
fn all_objects_have_the_owner_they_are_squashed_to() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    s.lower(0).file("f", "x").owner("f", 7, 8).dir("d").owner("d", 9, 9).symlink("l", "f");
    s.lower(0).mode("f", 0o4755);
    assert_eq!(s.lower(0).mode_of("f"), 0o4755);
    let mut m = with(&s, "squash_to_uid=1234,squash_to_gid=4321").mount();
    let path = m.path("new");
    as_user(1234, 4321, || fs::write(&path, "").unwrap());
    as_user(1234, 4321, || fs::write(m.path("f"), "y").unwrap());
    chown(m.path("new"), Some(55), Some(66)).unwrap();
    lchown(m.path("l"), Some(55), Some(66)).unwrap();
    for _ in 0..2 {
        for name in ["", "f", "d", "l", "new"] {
            assert_eq!(owner(&m, name), (1234, 4321), "{name}");
        }
        m.remount();
    }
    assert_eq!(owner(&s.upper, "new"), (0, 0), "of whoever runs the mount");
    assert_eq!(owner(&s.upper, "f"), (7, 8), "a copy keeps its owner");
    assert_eq!(m.mode_of("f"), 0o755, "the write took it");
}

/// chown(2) takes set-id bits away, whatever becomes of the owner.
#[test]
fn a_chown_without_effect_takes_set_id_bits() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    s.lower(0).file("f", "x").owner("f", 7, 8).mode("f", 0o6755);
    let m = with(&s, "squash_to_root").mount();
    assert_eq!((owner(&m, "f"), m.mode_of("f")), ((0, 0), 0o6755));
    chown(m.path("f"), Some(1), Some(1)).unwrap();
    assert_eq!((owner(&m, "f"), m.mode_of("f")), ((0, 0), 0o755));
    assert_eq!(owner(&s.upper, "f"), (7, 8));
}

#[test]
fn users_can_be_squashed_and_groups_mapped() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    s.lower(0).file("f", "x").owner("f", 7, 8);
    let m = with(&s, "squash_to_uid=3,gidmapping=0:5000:1000").mount();
    assert_eq!(owner(&m, "f"), (3, 5008));
    chown(m.path("f"), Some(9), Some(5009)).unwrap();
    assert_eq!((owner(&m, "f"), owner(&s.upper, "f")), ((3, 5009), (7, 9)));
}

/// A user without a map of subordinate ids has one id, and layers with more: what cannot be given
/// away stays theirs, but not as a program that runs as them.
#[test]
fn a_copy_that_cannot_have_its_owner_is_ours_without_set_id_bits() {
    needs!(mount, root, userns, fuse_for_users);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    s.lower(0).file("f", "x").mode("f", 0o6755).dir("d").mode("d", 0o755);
    for dir in [&s.upper, &s.work, &s.mnt] {
        dir.owner("", NOBODY, NOBODY);
    }
    let script = r#"set -e; "$1" -o "$2,$4" "$3"
        trap 'cd /; umount "$3"' EXIT; cd "$3"
        stat -c %u:%g:%a f; touch -c f d/new; touch d/new; stat -c %u:%g:%a f d"#;
    let program = s.program();
    let run = |options: &str| {
        output(
            Command::new("setpriv")
                .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
                .args(["unshare", "-Urm", "sh", "-c", script, "sh"])
                .arg(&program)
                .arg(s.setup().option_string())
                .args([s.mnt.root(), Path::new(options)]),
        )
    };
    let refused = run("rw");
    assert!(!refused.status.success(), "files of others cannot be copied up: {refused:?}");
    let done = run("squash_to_root");
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(text(&done.stdout), "0:0:6755\n0:0:755\n0:0:755\n");
    assert_eq!(owner(&s.upper, "f"), (NOBODY, NOBODY));
}

/// What podman does for `--userns=keep-id`: the mount program runs in the user namespace of a
/// rootless user, the container in one below it, and the layers hold the ids of the container.
#[test]
fn a_container_below_a_user_namespace_sees_the_ids_of_its_layers() {
    needs!(mount, root, userns, fuse_for_users);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    // The user 1000 and the subordinate ids from 200000 on: 0 and 1.. in the namespace.
    let outside = |id: u32| if id == 0 { 1000 } else { 200_000 + id - 1 };
    s.lower(0).file("root", "").file("kept", "").file("app", "").mode("", 0o777);
    for (name, id) in [("root", 0), ("kept", 1000), ("app", 1001)] {
        s.lower(0).owner(name, outside(id), outside(id));
    }
    for dir in [&s.upper, &s.work, &s.mnt] {
        dir.owner("", outside(0), outside(0));
    }
    s.upper.mode("", 0o777);
    s.base().dir("tmp").mode("tmp", 0o1777);
    // `below MAP COMMAND...` runs a command in a user namespace with that map.
    let script = r#"set -e
        below() {
            map=$1; shift
            fifo=$(mktemp -u); mkfifo -m 666 "$fifo"
            unshare -Um --keep-caps sh -c 'read -r _ <"$1"; shift; exec setpriv --reuid=0 --regid=0 --clear-groups "$@"' sh "$fifo" "$@" &
            child=$!
            own=$(readlink /proc/self/ns/user)
            while [ "$(readlink /proc/$child/ns/user)" = "$own" ]; do sleep 0.01; done
            printf "$map" >/proc/$child/uid_map; printf "$map" >/proc/$child/gid_map
            echo >"$fifo"; rm "$fifo"; wait $child
        }
        if [ "$1" = outer ]; then
            shift
            below '0 1000 1\n1 200000 70000\n' sh -c "$SCRIPT" sh inner "$@"
        else
            shift
            "$1" -o "$2" "$3"
            trap 'cd /; umount "$3"' EXIT
            below '0 1 1000\n1000 0 1\n1001 1001 60000\n' sh -c '
                cd "$1"; stat -c %n:%u:%g root kept app; touch new; chown 1001:1001 new
                setpriv --reuid=1000 --regid=1000 --clear-groups touch mine
                stat -c %n:%u:%g new mine' sh "$3"
        fi"#;
    let maps = "0:1:1000:1000:0:1:1001:1001:60000";
    let setup = s.setup().option(&format!("uidmapping=:{maps}"));
    let setup = setup.option(&format!("gidmapping=:{maps}"));
    let done = output(
        Command::new("sh")
            .args(["-c", script, "sh", "outer"])
            .arg(s.program())
            .arg(setup.option_string())
            .arg(s.mnt.root())
            .env("SCRIPT", script)
            .env("TMPDIR", s.base().path("tmp")),
    );
    assert!(done.status.success(), "{}", text(&done.stderr));
    let expected = "root:0:0\nkept:1000:1000\napp:1001:1001\nnew:1001:1001\nmine:1000:1000\n";
    assert_eq!(text(&done.stdout), expected, "{}", text(&done.stderr));
    assert_eq!(owner(&s.upper, "new"), (outside(1001), outside(1001)));
    assert_eq!(owner(&s.upper, "mine"), (outside(1000), outside(1000)));
}
