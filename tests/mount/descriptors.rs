//! Few descriptors. Most of those that the server has open only spare opening something again, so
//! they give way to what cannot be done without: unlinked files in use, listings, new files.
//!
//! Once the server answered EMFILE while it could have closed three quarters of what it had open.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::support::process::wait_for;
use crate::support::{Mount, Scratch};
use crate::{needs, not_the_kernels};

const NO_PROGRAM: &str = "it has no limit of its own";

const SOON: Duration = Duration::from_secs(60);

const DIRS: usize = 2000;
const UNLINKED: usize = 200;

fn dirs() -> impl Iterator<Item = String> {
    (0..DIRS).map(|number| format!("d{}/{number}", number % 10))
}

#[track_caller]
fn list_all(m: &Mount, extra: usize) {
    for dir in dirs() {
        let names = fs::read_dir(m.path(&dir));
        let names = names.and_then(|names| names.collect::<Result<Vec<_>, _>>());
        let names = names.unwrap_or_else(|err| panic!("{dir}: {err}"));
        assert!((1..=1 + extra).contains(&names.len()), "{dir}: {names:?}");
    }
}

/// Opens files, removes them, and leaves them open.
fn unlinked(m: &Mount) -> Vec<File> {
    let open = |number: usize| {
        let path = m.path(format!("u{number}"));
        let new = if number.is_multiple_of(2) { "lower" } else { "upper" };
        if new == "upper" {
            fs::write(&path, new).unwrap();
        }
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        // A file of a lower needs a descriptor once it is copied up.
        file.write_all_at(b"!", 5).unwrap();
        fs::remove_file(path).unwrap();
        file
    };
    (0..UNLINKED).map(open).collect()
}

#[test]
fn what_is_only_kept_gives_way() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    for dir in dirs() {
        s.lower(0).file(format!("{dir}/f"), "content");
    }
    for number in (0..UNLINKED).step_by(2) {
        s.lower(0).file(format!("u{number}"), "lower");
    }
    let m = s.setup().open_files(256).mount();
    list_all(&m, 0);
    let files = unlinked(&m);
    list_all(&m, 0);
    for (number, file) in files.iter().enumerate() {
        let mut content = [0; 6];
        file.read_exact_at(&mut content, 0).unwrap();
        let expected = if number.is_multiple_of(2) { b"lower!" } else { b"upper!" };
        assert_eq!(&content, expected, "{number}");
        file.write_all_at(b"more", 6).unwrap();
    }
    for (number, dir) in dirs().enumerate().step_by(7) {
        m.file(format!("{dir}/new"), "").mode(format!("{dir}/f"), 0o600);
        fs::rename(m.path(format!("{dir}/new")), m.path(format!("{dir}/named"))).unwrap();
        assert_eq!(m.read(format!("{dir}/f")), "content", "{number}");
    }
    list_all(&m, 1);
    let descriptors = &m.statistics()["descriptors"];
    assert!(descriptors["open"].as_u64().unwrap() <= 256, "{descriptors}");
    assert!(!m.log().contains("Too many open files"), "{}", m.log());
}

/// What nobody can close in its place is an error, and the mount goes on.
#[test]
fn without_anything_to_give_way_it_is_an_error() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.lower(0).file("d/f", "content");
    let m = s.setup().open_files(64).mount();
    let mut files = Vec::new();
    let failed = (0..64).find_map(|number| {
        let path = m.path(format!("u{number}"));
        let file = File::create(&path).and_then(|file| fs::remove_file(path).map(|()| file));
        match file {
            Ok(file) => {
                files.push(file);
                None
            }
            Err(err) => Some(err),
        }
    });
    assert_eq!(failed.unwrap().raw_os_error(), Some(libc::EMFILE));
    files.truncate(files.len() / 2);
    // The kernel tells a little later that nobody uses them any more.
    let works = || fs::read(m.path("d/f")).is_ok_and(|content| content == b"content");
    assert!(wait_for(SOON, works));
    m.file("new", "new");
}
