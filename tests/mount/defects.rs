//! Defects that other overlay programs in user space have or had. Each test tells the story, and
//! fails where the defect is present.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

use nix::sys::stat::{Mode, SFlag, fchmod, mknod};
use xattr::FileExt as _;

use crate::support::process::text;
use crate::support::scratch::not_text;
use crate::support::user::{NOBODY, as_user, with_umask};
use crate::support::{Scratch, raw};
use crate::{needs, not_the_kernels};

/// A file was opened for reading, and the kernel was handed the lower file to read from directly.
/// When it was then opened for writing, the same backing file was used: the data went into the
/// layer of the image, shared by all containers, and was missing from the merged tree.
#[test]
fn a_write_after_a_read_went_into_the_lower_layer() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "lower-content");
    let m = s.mount();
    let reader = File::open(m.path("f")).unwrap();
    let mut buffer = [0; 5];
    reader.read_exact_at(&mut buffer, 0).unwrap();
    let writer = OpenOptions::new().read(true).write(true).open(m.path("f")).unwrap();
    writer.write_all_at(b"HACKED", 0).unwrap();
    writer.sync_all().unwrap();
    assert_eq!(s.lower(0).read("f"), "lower-content");
    assert_eq!(m.read("f"), "HACKEDcontent");
    assert_eq!(s.upper.read("f"), "HACKEDcontent");
    reader.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"HACKE");
}

/// The umask was ignored: with 077, files came out as 644 and directories and FIFOs as 755. mknod
/// even added 755 to what was asked for.
#[test]
fn the_umask_was_ignored() {
    needs!(mount);
    let s = Scratch::new();
    let m = s.mount();
    let root = m.root().to_owned();
    with_umask(0o077, || {
        File::create(root.join("file")).unwrap();
        fs::create_dir(root.join("dir")).unwrap();
        for (name, kind) in [("fifo", SFlag::S_IFIFO), ("socket", SFlag::S_IFSOCK)] {
            mknod(&root.join(name), kind, Mode::from_bits_truncate(0o666), 0).unwrap();
        }
    });
    for (name, mode) in [("file", 0o600), ("dir", 0o700), ("fifo", 0o600), ("socket", 0o600)] {
        assert_eq!(m.mode_of(name), mode, "{name}");
    }
}

/// Directories lost their mode at copy-up: 0700 became 0755, which opens a private directory to
/// all; 1777 became 1755, after which /tmp was of no use to ordinary users; 2775 lost its setgid
/// bit.
#[test]
fn a_directory_lost_its_mode_at_copy_up() {
    needs!(mount);
    let s = Scratch::new();
    for mode in [0o700, 0o1777, 0o2775] {
        let name = format!("{mode:o}");
        s.lower(0).dir(&name).mode(&name, mode);
    }
    let m = s.mount();
    for mode in [0o700, 0o1777, 0o2775] {
        m.file(format!("{mode:o}/new"), "");
        assert_eq!(m.mode_of(format!("{mode:o}")), mode);
        assert_eq!(s.upper.mode_of(format!("{mode:o}")), mode);
    }
    let path = m.path("1777/by_nobody");
    as_user(NOBODY, NOBODY, || fs::write(&path, "").unwrap());
}

/// stat of a file from before 1970 panicked on a conversion, and after some of those the process
/// ended and took the mount with it.
#[test]
fn a_file_from_before_1970_took_the_mount_down() {
    needs!(mount);
    let s = Scratch::new();
    for number in 0..40 {
        s.lower(0).file(format!("f{number}"), "").times(format!("f{number}"), -number - 1, 7);
    }
    let m = s.mount();
    for number in 0..40 {
        assert_eq!(m.stat(format!("f{number}")).mtime(), -number - 1);
    }
    m.times("f0", -1_000_000, 1).file("alive", "");
    assert_eq!(m.stat("f0").mtime(), -1_000_000);
    assert!(!m.log().contains("panicked"), "{}", m.log());
}

/// tmpfile(3): a file is opened and unlinked, then used. fstat, fchmod, ftruncate and fsetxattr
/// answered ENOENT.
#[test]
fn an_unlinked_open_file_was_lost() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("lower", "x");
    let m = s.mount();
    m.file("upper", "x");
    for name in ["lower", "upper"] {
        let file = OpenOptions::new().read(true).write(true).open(m.path(name)).unwrap();
        fs::remove_file(m.path(name)).unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 0, "{name}");
        fchmod(&file, Mode::from_bits_truncate(0o640)).unwrap();
        file.set_len(100).unwrap();
        file.set_xattr("user.a", b"1").unwrap();
        let meta = file.metadata().unwrap();
        assert_eq!((meta.len(), meta.mode() & 0o777), (100, 0o640), "{name}");
    }
}

/// The work directory was never emptied, and names in it were used again from the beginning after
/// each mount: mkdir said EEXIST, and a copy-up went into an old file without emptying it, so that
/// old bytes stood behind the new content.
#[test]
fn old_files_in_the_work_directory_got_into_new_ones() {
    needs!(mount);
    let s = Scratch::new();
    for number in 0..20 {
        s.lower(0).file(format!("f{number}"), "short").dir(format!("d{number}"));
    }
    drop(s.mount());
    for number in 0..64 {
        for name in [format!("{number}"), format!("#{number:x}"), format!("tmp-{number}")] {
            s.work.file(format!("work/{name}"), "a long line from before the crash");
        }
    }
    let mut m = s.mount();
    for number in 0..20 {
        m.mode(format!("f{number}"), 0o600).mode(format!("d{number}"), 0o700);
        fs::create_dir(m.path(format!("new{number}"))).unwrap();
    }
    m.remount();
    for number in 0..20 {
        assert_eq!(m.read(format!("f{number}")), "short");
        assert!(m.names(format!("new{number}")).is_empty());
    }
    assert!(s.leftovers().is_empty(), "{:?}", s.leftovers());
}

/// A directory in the root was removed with all its content and made again. It was not marked as
/// opaque, so after a remount the deleted content was back.
#[test]
fn deleted_content_came_back_after_a_remount() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    s.lower(1).file("dir/secret", "").file("dir/sub/secret", "");
    s.lower(0).file("dir/other", "");
    let mut m = s.mount();
    fs::remove_dir_all(m.path("dir")).unwrap();
    fs::create_dir(m.path("dir")).unwrap();
    m.remount();
    assert!(m.names("dir").is_empty(), "{:?}", m.names("dir"));
}

/// Where the upper's file system knows no RENAME_WHITEOUT (another FUSE mount, NFS), rm of a lower
/// file always failed with EEXIST. Another mount of ours is such an upper.
#[test]
fn a_lower_file_could_not_be_removed_on_an_upper_without_whiteouts() {
    needs!(mount);
    not_the_kernels!("it takes no overlay as an upper");
    let outer = Scratch::new();
    let outside = outer.mount();
    outside.dir("upper").dir("work");
    let s = Scratch::new();
    s.lower(0).file("f", "x").file("d/g", "").file("d/h", "").file("e/old", "");
    let setup = s.setup().upper(&outside.path("upper")).work(&outside.path("work"));
    let mut m = setup.mount();
    fs::remove_file(m.path("f")).unwrap();
    fs::remove_file(m.path("d/g")).unwrap();
    fs::remove_dir_all(m.path("e")).unwrap();
    fs::create_dir(m.path("e")).unwrap();
    for _ in 0..2 {
        assert_eq!(m.names(""), ["d", "e"]);
        assert_eq!(m.names("d"), ["h"]);
        assert!(m.names("e").is_empty());
        m.remount();
    }
    m.unmount();
}

/// RENAME_EXCHANGE with a file of a lower layer as the second name said ENOENT.
#[test]
fn exchange_with_a_lower_file_failed() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("lower", "lower");
    let m = s.mount();
    m.file("upper", "upper");
    raw::rename(&m.path("upper"), &m.path("lower"), libc::RENAME_EXCHANGE).unwrap();
    assert_eq!((m.read("upper"), m.read("lower")), ("lower".into(), "upper".into()));
}

/// The answer to FS_IOC_GETFLAGS had eight bytes where the kernel waits for four: EIO for lsattr.
#[test]
fn lsattr_said_eio() {
    needs!(mount, file_flags);
    let s = Scratch::new();
    s.lower(0).file("lower", "");
    let m = s.mount();
    m.file("upper", "");
    for name in ["lower", "upper"] {
        raw::get_flags(&File::open(m.path(name)).unwrap()).unwrap();
    }
}

/// `\,` in an option was not taken for a comma, so layers with commas in their paths were not
/// found.
#[test]
fn a_comma_in_a_path_was_not_understood() {
    needs!(mount);
    let s = Scratch::new();
    let lower = s.base().sub("with,comma");
    lower.file("f", "x");
    let m = s.setup().lowers(vec![lower.root().to_owned()]).mount();
    assert_eq!(m.read("f"), "x");
}

/// /proc/mounts said `fuse` and no more, so tools that look for their own type found nothing.
#[test]
fn the_subtype_was_lost() {
    needs!(mount);
    not_the_kernels!("it has a type of its own");
    let s = Scratch::new();
    let m = s.mount();
    let line = crate::support::mount::mount_line(m.root()).unwrap();
    assert_eq!(line.split(' ').nth(2), Some("fuse.ovlmerge"), "{line}");
}

/// Without openat2(2), as on old kernels and under old seccomp profiles, nothing worked at all.
#[test]
fn nothing_worked_without_openat2() {
    needs!(mount);
    not_the_kernels!("it makes no system calls");
    let s = Scratch::with_lowers(2);
    s.lower(1).file("a/b/f", "x").symlink("a/up", "../..").file("gone", "");
    let mut m = s.setup().without_syscall(libc::SYS_openat2).mount();
    m.file("a/b/f", "changed").file("a/b/new", "").dir("a/d");
    fs::remove_file(m.path("gone")).unwrap();
    m.remount();
    assert_eq!(m.read("a/b/f"), "changed");
    assert_eq!(m.names("a/b"), ["f", "new"]);
    assert_eq!(m.names(""), ["a"]);
}

/// Names of extended attributes had to be UTF-8: others were dropped at copy-up without a word.
#[test]
fn attributes_with_odd_names_were_dropped_at_copy_up() {
    needs!(mount);
    let s = Scratch::new();
    let name = not_text("user.odd");
    s.lower(0).file("f", "").xattr("f", &name, "kept").dir("d").xattr("d", &name, "kept");
    let m = s.mount();
    for path in ["f", "d"] {
        m.mode(path, 0o700);
        assert_eq!(s.upper.get_xattr(path, &name).unwrap(), b"kept", "{path}");
        assert_eq!(m.get_xattr(path, &name).unwrap(), b"kept", "{path}");
    }
}

/// An owner that could not be kept at copy-up was dropped without a word: files of the image came
/// to belong to whoever wrote to them. In a user namespace that does not know the owner, the
/// copy-up has to fail, with nothing left of it.
#[test]
fn an_owner_was_lost_at_copy_up() {
    needs!(mount, userns, fuse_for_users);
    not_the_kernels!("it is mounted otherwise in a user namespace");
    let s = Scratch::new();
    s.lower(0).file("foreign", "x").owner("foreign", 4321, 4321).mode("foreign", 0o666);
    for dir in [&s.upper, &s.work, &s.mnt, s.lower(0)] {
        dir.owner("", NOBODY, NOBODY);
    }
    let script = "\"$1\" -o \"$2\" \"$3\" || exit 9; cd \"$3\" || exit 9
        cat foreign; (echo y >>foreign) 2>/dev/null && printf 0 || printf 2; cat foreign
        cd /; umount \"$3\"";
    let output = s.shell_of_nobody(&["unshare", "-Urm"], script);
    assert!(output.status.success(), "{}", text(&output.stderr));
    // Read, refused, read again.
    assert_eq!(text(&output.stdout), "x2x", "{}", text(&output.stderr));
    assert!(!s.upper.exists("foreign"), "owned by {}", s.upper.stat("foreign").uid());
    assert!(s.leftovers().is_empty(), "{:?}", s.leftovers());
}

/// Values from a layer were trusted, and `expect` did the rest. Whatever a layer holds, an
/// operation may fail, but the mount lives on.
#[test]
fn a_hostile_layer_took_the_mount_down() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    let long = vec![b'y'; 2_000];
    let values: [&[u8]; 6] = [b"", b"y", b"yy", b"\0", b"\xff\xff\xff\xff", &long];
    let markers = ["opaque", "redirect", "metacopy", "origin", "nlink", "dirmeta_delegate"];
    let mut number = 0;
    for marker in markers {
        for value in values {
            for namespace in ["trusted", "user"] {
                let name = format!("{namespace}.overlay.{marker}");
                for layer in 0..2 {
                    let at = s.lower(layer);
                    at.file(format!("d{number}/f"), "").file(format!("f{number}"), "");
                    at.xattr(format!("d{number}"), &name, value);
                    at.xattr(format!("f{number}"), &name, value);
                }
                number += 1;
            }
        }
    }
    s.lower(0).file(".wh.", "").dir(".wh..wh.").file("..wh", "").symlink("loop", "loop");
    let m = s.mount();
    for number in 0..number {
        // Any answer but silence.
        for path in [format!("d{number}"), format!("f{number}"), format!("d{number}/f")] {
            let path = m.path(path);
            let changed = fs::set_permissions(&path, fs::Permissions::from_mode(0o700));
            let listed = fs::read_dir(&path).map(|entries| entries.count());
            drop((changed, listed, fs::read(&path)));
        }
    }
    m.names("");
    m.file("alive", "yes");
    assert_eq!(m.read("alive"), "yes");
    assert!(!m.log().contains("panicked"), "{}", m.log());
}

/// fuse-overlayfs in C: new files in a setgid directory did not get its group, FIFOs ignored the
/// umask, and symbolic links lost owner and times at copy-up.
#[test]
fn group_umask_and_links_of_the_c_program() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).dir("d").owner("d", 0, 77).mode("d", 0o2777);
    s.lower(0).symlink("l", "x").owner("l", 5, 6).times("l", 1_000, 5);
    let m = s.mount();
    let at = m.sub("d");
    as_user(1234, 1234, || {
        at.file("f", "").dir("sub");
    });
    assert_eq!((at.stat("f").gid(), at.stat("sub").gid()), (77, 77));
    assert_eq!(at.mode_of("sub"), 0o2755);
    fs::rename(m.path("l"), m.path("l2")).unwrap();
    let meta = m.stat("l2");
    assert_eq!((meta.uid(), meta.gid(), meta.mtime()), (5, 6, 1_000));
    symlink("y", m.path("l")).unwrap();
}

/// Copy-up filled holes: a sparse image of a disk took all its nominal size.
#[test]
fn holes_were_filled_at_copy_up() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "begin");
    let file = OpenOptions::new().write(true).open(s.lower(0).path("f")).unwrap();
    file.write_all_at(b"end", 64 << 20).unwrap();
    let m = s.mount();
    m.mode("f", 0o600);
    // The kernel copies at least the mebibyte around each piece of data.
    assert!(s.upper.stat("f").blocks() * 512 <= 4 << 20);
    assert_eq!(s.upper.stat("f").len(), (64 << 20) + 3);
}
