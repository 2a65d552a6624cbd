//! Layers that are changed or removed behind the back of the mount.

use std::fs::{self, File};
use std::io::Read;

use crate::needs;
use crate::support::{LoopFs, Scratch};

/// Any answer will do for what is gone, as long as there is one and it is no lie about the data.
#[test]
fn a_removed_lower_leaves_the_mount_alive() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    for number in 0..20 {
        s.lower(0).file(format!("gone/d{number}/f"), "content");
        s.lower(0).file(format!("gone/f{number}"), "content");
    }
    s.lower(1).file("kept", "kept").file("gone/kept", "kept");
    let m = s.mount();
    assert_eq!(m.read("gone/f0"), "content");
    let mut open = File::open(m.path("gone/f1")).unwrap();
    m.file("own", "own");
    fs::remove_dir_all(s.lower(0).root()).unwrap();
    let mut text = String::new();
    assert_content_or_error(open.read_to_string(&mut text).map(|_| text), "the open file");
    for number in 0..20 {
        for path in [format!("gone/d{number}/f"), format!("gone/f{number}")] {
            assert_content_or_error(fs::read_to_string(m.path(&path)), &path);
            let changed = fs::write(m.path(&path), "new");
            if changed.is_ok() {
                assert_eq!(m.read(&path), "new");
            }
        }
    }
    drop(fs::read_dir(m.path("gone")).map(|entries| entries.count()));
    assert_eq!((m.read("kept"), m.read("own")), ("kept".into(), "own".into()));
    m.file("later", "works").file("kept", "changed");
    assert_eq!((m.read("later"), m.read("kept")), ("works".into(), "changed".into()));
    assert!(m.is_mounted());
    assert!(!m.log().contains("panicked"), "{}", m.log());
}

#[track_caller]
fn assert_content_or_error(read: std::io::Result<String>, what: &str) {
    match read {
        Ok(text) => assert_eq!(text, "content", "{what}"),
        Err(err) => {
            let known = [libc::ENOENT, libc::ESTALE, libc::EIO];
            assert!(known.contains(&err.raw_os_error().unwrap()), "{what}: {err}");
        }
    }
}

/// A stick that is pulled: the file system of a lower answers EIO or nothing.
#[test]
fn a_lower_whose_file_system_is_shut_down_is_an_error_not_a_loss() {
    needs!(mount, loop_device);
    if !crate::support::need::program(crate::test_name!(), "xfs_io")
        || !crate::support::need::program(crate::test_name!(), "mkfs.xfs")
    {
        return;
    }
    let disk = LoopFs::xfs(320);
    disk.dir().file("d/f", "content").file("d/g", "content");
    let s = Scratch::new();
    s.lower(0).file("kept", "kept");
    let lowers = vec![disk.path().to_owned(), s.lower(0).root().to_owned()];
    let m = s.setup().lowers(lowers).mount();
    assert_eq!(m.read("d/f"), "content");
    m.file("own/first", "");
    let path = disk.path().to_str().unwrap();
    crate::support::process::run("xfs_io", &["-x", "-c", "shutdown -f", path]);
    // A directory that cannot be read is an error; an empty one would make rm -r "succeed".
    let listed = fs::read_dir(m.path("d"));
    let listed = listed.and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    assert!(listed.as_ref().map_or(true, |entries| entries.len() == 2), "{listed:?}");
    assert_content_or_error(fs::read_to_string(m.path("d/g")), "d/g");
    let changed = fs::OpenOptions::new().write(true).open(m.path("d/g"));
    let changed = changed.and_then(|file| file.set_len(3));
    assert!(changed.is_err(), "it was copied up from nowhere");
    assert!(!s.upper.exists("d/g"));
    // What has nothing to do with that layer goes on.
    m.file("own/new", "works");
    assert_eq!(m.read("own/new"), "works");
    assert!(m.is_mounted());
}
