//! Positions in listings (`d_off`, telldir(3), seekdir(3)): small enough for programs of 32 bits,
//! and the same for a name however often the directory is read and changed meanwhile.

use std::collections::HashSet;
use std::fs::{self, File};

use nix::unistd::{Whence, lseek};

use crate::needs;
use crate::support::process::run;
use crate::support::raw::{DirEntry, getdents, list_dir};
use crate::support::{Dir, Mount, Scratch};

/// What a `long` of 32 bits holds (telldir(3)). glibc makes EOVERFLOW of more, and a program sees
/// an empty directory.
const LARGEST: i64 = 0x7fff_ffff;

fn fill(dir: &Dir, prefix: &str, count: usize) {
    for number in 0..count {
        dir.file(format!("{prefix}{number:04}"), "");
    }
}

/// A directory of the mount that two layers have names in.
fn scene() -> (Scratch, Mount) {
    let s = Scratch::new();
    fill(&s.lower(0).dir("d").sub("d"), "lower", 300);
    fill(&s.upper.dir("d").sub("d"), "upper", 300);
    let m = s.mount();
    (s, m)
}

fn open(m: &Mount) -> File {
    File::open(m.path("d")).unwrap()
}

/// All that is left of an open directory.
fn rest(dir: &File) -> Vec<DirEntry> {
    let mut all = Vec::new();
    loop {
        let some = getdents(dir, 1024).unwrap();
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

fn name(entry: &DirEntry) -> String {
    String::from_utf8(entry.name.clone()).unwrap()
}

fn names(entries: &[DirEntry]) -> Vec<String> {
    entries.iter().map(name).collect()
}

fn go(dir: &File, position: i64) {
    lseek(dir, position, Whence::SeekSet).unwrap();
}

#[test]
fn they_fit_into_31_bits() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    s.lower(0).dir("d/sub").file("one/x", "");
    fill(&s.lower(1).dir("d").sub("d"), "n", 100);
    let m = s.mount();
    fill(&m.dir("new").sub("new"), "n", 100);
    for round in 0..200 {
        m.file(format!("d/more{round}"), "");
        for path in ["", "d", "d/sub", "one", "new"] {
            let mut last = 0;
            for entry in list_dir(&m.path(path)) {
                assert!((last + 1..=LARGEST).contains(&entry.offset), "{path}: {entry:?}");
                last = entry.offset;
            }
        }
    }
}

/// A program may ask for any position between those that it was given.
#[test]
fn each_goes_on_somewhere() {
    needs!(mount);
    let (_s, m) = scene();
    let dir = open(&m);
    let all = rest(&dir);
    for position in 1..all.last().unwrap().offset {
        go(&dir, position);
        assert!(!getdents(&dir, 1024).unwrap().is_empty(), "{position} is taken for the end");
    }
}

/// One reader is in the middle while others read all and the names change: it misses no name that
/// stays, and sees none twice.
#[test]
fn names_that_stay_are_listed_once() {
    needs!(mount);
    let (_s, m) = scene();
    // The kernel keeps what one reader has seen to the end, and the next begins with that.
    list_dir(&m.path("d"));
    let dir = open(&m);
    let mut seen = names(&getdents(&dir, 4096).unwrap());
    for round in 0..3 {
        for gone in names(&list_dir(&m.path("d"))).iter().skip(2).step_by(7) {
            fs::remove_file(m.path("d").join(gone)).unwrap();
        }
        fill(&m.sub("d"), &format!("a{round}"), 20);
        // Others read to the end, twice, so that the listing is a new one.
        list_dir(&m.path("d"));
        list_dir(&m.path("d"));
        seen.extend(names(&getdents(&dir, 4096).unwrap()));
    }
    seen.extend(names(&rest(&dir)));
    let different: HashSet<_> = seen.iter().collect();
    assert_eq!(different.len(), seen.len(), "a name came twice");
    for stays in m.names("d").iter().filter(|name| !name.starts_with('a')) {
        assert!(different.contains(stays), "{stays} was missed");
    }
}

/// telldir(3) and seekdir(3), with changes between the two.
#[test]
fn a_position_stays_that_of_its_name() {
    needs!(mount);
    let (_s, m) = scene();
    let dir = open(&m);
    let all = rest(&dir);
    for entry in all.iter().skip(2).step_by(3) {
        fs::remove_file(m.path("d").join(name(entry))).unwrap();
    }
    fill(&m.sub("d"), "a", 50);
    list_dir(&m.path("d"));
    let (middle, behind) = (&all[300], &all[301..]);
    go(&dir, middle.offset);
    let left: Vec<_> =
        names(behind).into_iter().filter(|name| m.exists(format!("d/{name}"))).collect();
    let shown = names(&rest(&dir));
    let old: Vec<_> = shown.into_iter().filter(|name| !name.starts_with('a')).collect();
    assert_eq!(old, left);
    go(&dir, 0);
    assert_eq!(rest(&dir).len(), m.names("d").len() + 2, "rewinding shows what there is now");
}

/// With `ino32_t` the numbers of a listing fit too, on layers of several file systems.
#[test]
fn numbers_fit_into_32_bits_with_ino32_t() {
    needs!(mount);
    let (s, _m) = scene();
    let other = Scratch::in_dir(std::path::Path::new("/dev/shm"), 1);
    other.lower(0).file("d/other", "").dir("d/sub");
    let lowers = vec![other.lower(0).path(""), s.lower(0).path("")];
    let setup = other.setup().lowers(lowers).option("ino32_t");
    let m = setup.mount();
    m.mode("d/lower0001", 0o600);
    for path in ["", "d", "d/sub"] {
        for entry in list_dir(&m.path(path)).iter().filter(|entry| entry.name != b"..") {
            assert!(u32::try_from(entry.ino).is_ok(), "{entry:?}");
        }
    }
}

/// Reads a directory with what glibc has for programs of 32 bits without large files, goes back to
/// every position, and prints the names.
const LISTER: &str = r#"
#include <dirent.h>
#include <stdio.h>
#include <string.h>
int *__errno_location(void);
int main(int count, char **args) {
    long positions[1000], at = 0;
    char names[1000][64];
    DIR *dir = opendir(args[1]);
    struct dirent *entry;
    for (*__errno_location() = 0; (positions[at] = telldir(dir)), (entry = readdir(dir)); at++) {
        strcpy(names[at], entry->d_name);
        puts(entry->d_name);
    }
    if (*__errno_location()) return perror("readdir"), 1;
    while (at-- > 0) {
        seekdir(dir, positions[at]);
        entry = readdir(dir);
        if (!entry || strcmp(entry->d_name, names[at])) return puts("elsewhere"), 1;
    }
    return sizeof(long) != 4;
}
"#;

/// Such a program saw every directory as empty (EOVERFLOW).
#[test]
fn a_program_of_32_bits_reads_directories() {
    needs!(mount, gcc_for_32_bits);
    let (s, m) = scene();
    let [source, program] = ["lister.c", "lister"].map(|name| s.base().path(name));
    std::fs::write(&source, LISTER).unwrap();
    let [from, to] = [&source, &program].map(|path| path.to_str().unwrap());
    run("gcc", &["-m32", "-static", "-o", to, from]);
    fill(&m.dir("new").sub("new"), "n", 100);
    for path in ["", "d", "new"] {
        let listed = run(to, &[m.path(path).to_str().unwrap()]);
        let mut names: Vec<_> = listed.lines().filter(|name| !name.starts_with('.')).collect();
        names.sort_unstable();
        assert_eq!(names, m.names(path), "{path}");
    }
}
