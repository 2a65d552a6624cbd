//! Removing names.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::Command;

use nix::fcntl::{FallocateFlags, fallocate};

use crate::support::tree::dump;
use crate::support::{Dir, Kernel, Scratch, assert_errno, passthrough_everywhere};
use crate::{needs, not_the_kernels};

#[test]
fn a_name_goes_from_every_layer_at_once() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    s.lower(1).file("both", "1").file("d/one", "1");
    s.lower(0).file("both", "0");
    s.upper.file("both", "u");
    let before = (dump(s.lower(0).root()), dump(s.lower(1).root()));
    let mut m = s.mount();
    fs::remove_file(m.path("both")).unwrap();
    fs::remove_file(m.path("d/one")).unwrap();
    for _ in 0..2 {
        assert_eq!(m.names(""), ["d"]);
        assert!(m.names("d").is_empty());
        assert!(!m.exists("both"));
        assert_errno(fs::remove_file(m.path("both")), libc::ENOENT);
        m.remount();
    }
    assert!(before == (dump(s.lower(0).root()), dump(s.lower(1).root())));
}

/// The kernel's way: a whiteout, and not a byte of the file is touched. Peers copy the file up
/// first.
#[test]
fn removing_a_huge_lower_file_copies_nothing() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("d/huge", "");
    let huge = fs::File::options().write(true).open(s.lower(0).path("d/huge")).unwrap();
    huge.set_len(4 << 30).unwrap();
    let m = s.mount();
    let start = std::time::Instant::now();
    fs::remove_file(m.path("d/huge")).unwrap();
    assert!(start.elapsed().as_secs() < 2);
    assert!(s.upper.is_whiteout("d/huge"));
}

#[test]
fn every_type_can_be_removed() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0)
        .symlink("link", "x")
        .node("fifo", nix::sys::stat::SFlag::S_IFIFO, 0, 0)
        .node("dev", nix::sys::stat::SFlag::S_IFCHR, 1, 3)
        .file("f", "");
    let mut m = s.mount();
    for name in ["link", "fifo", "dev", "f"] {
        fs::remove_file(m.path(name)).unwrap();
    }
    m.remount();
    assert!(m.names("").is_empty());
}

#[test]
fn remove_and_create_again_many_times() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "lower");
    let mut m = s.mount();
    for round in 0..50 {
        fs::remove_file(m.path("f")).unwrap();
        assert!(!m.exists("f"));
        m.file("f", format!("{round}"));
    }
    assert_eq!(m.read("f"), "49");
    m.remount();
    assert_eq!(m.read("f"), "49");
    assert_eq!(s.upper.names(""), ["f"]);
}

#[test]
fn removing_a_whole_tree_and_its_neighbours_stay() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    for number in 0..2 {
        for dir in 0..5 {
            for file in 0..20 {
                s.lower(number).file(format!("t/{dir}/s/{file}-{number}"), "");
            }
        }
        s.lower(number).file(format!("kept{number}"), "");
    }
    let mut m = s.mount();
    m.file("t/3/s/new", "");
    fs::remove_dir_all(m.path("t")).unwrap();
    for _ in 0..2 {
        assert_eq!(m.names(""), ["kept0", "kept1"]);
        m.remount();
    }
    assert!(s.upper.is_whiteout("t"));
}

/// The file is kept until the client forgets it, as nobody tells whether it is open. Its room is
/// there for whoever comes next all the same, by whichever call.
#[test]
fn room_that_a_removed_file_had_is_there_at_once() {
    needs!(mount);
    // Then the kernel writes, and the server learns of no failure.
    if passthrough_everywhere() {
        return;
    }
    let memory = Scratch::new();
    // 16 MiB.
    let disk = Kernel::tmpfs(memory.base().sub("disk").dir(""));
    let base = Dir::new(disk.root());
    base.dir("upper").dir("work");
    let content = vec![7; 10 << 20];
    memory.lower(0).file("lower", &content);
    let m = memory.setup().upper(&base.path("upper")).work(&base.path("work")).mount();
    for round in 0..30 {
        m.file("new", &content);
        fs::remove_file(m.path("new")).unwrap();
        let new = File::create(m.path("new")).unwrap();
        fallocate(&new, FallocateFlags::empty(), 0, 10 << 20).unwrap();
        drop(new);
        fs::remove_file(m.path("new")).unwrap();
        if round == 29 {
            // A copy-up needs as much.
            m.mode("lower", 0o600);
            assert!(fs::read(m.path("lower")).unwrap() == content);
        }
    }
    for _ in 0..30 {
        let mut unnamed = File::options();
        unnamed.write(true).custom_flags(libc::O_TMPFILE);
        match unnamed.open(m.root()) {
            Ok(file) => (&file).write_all(&content[..6 << 20]).unwrap(),
            // Before Linux 6.1.
            Err(err) => assert_eq!(err.raw_os_error(), Some(libc::EOPNOTSUPP)),
        }
    }
    // What is open keeps its room, and its data.
    let open = File::open(m.path("lower")).unwrap();
    fs::remove_file(m.path("lower")).unwrap();
    assert_errno(fs::write(m.path("new"), &content), libc::ENOSPC);
    let mut kept = Vec::new();
    (&open).read_to_end(&mut kept).unwrap();
    assert!(kept == content);
    drop(open);
    m.file("new", &content);
}

/// A directory takes an inode, and is kept for who has it open until the client forgets it. Where
/// all were taken, what was made just after one had gone found no room.
#[test]
fn room_that_a_removed_directory_had_is_there_at_once() {
    needs!(mount);
    let s = Scratch::new();
    let options = "mode=755,size=16m,nr_inodes=64";
    let disk = Kernel::new("tmpfs", s.base().sub("disk").dir(""), options);
    let base = Dir::new(disk.root());
    base.dir("upper").dir("work");
    let m = s.setup().upper(&base.path("upper")).work(&base.path("work")).mount();
    let made = (0..).take_while(|number| fs::create_dir(m.path(format!("d{number}"))).is_ok());
    assert!(made.count() > 20);
    let [d0, d1] = ["d0", "d1"].map(|name| m.path(name));
    for round in 0..50 {
        let make = |path| fs::create_dir(path).unwrap_or_else(|err| panic!("{round}: {err}"));
        fs::remove_dir(&d0).unwrap();
        make(&d0);
        fs::rename(&d1, &d0).unwrap();
        make(&d1);
    }
    // What is open keeps its room.
    let open = File::open(&d0).unwrap();
    fs::remove_dir(&d0).unwrap();
    assert_errno(fs::create_dir(&d0), libc::ENOSPC);
    drop(open);
    fs::create_dir(&d0).unwrap();
}

/// A program of the upper that is run past the mount can be opened to read alone when it loses its
/// name. Who had it open to write could not write to it any more (EBADF), also when it had ended.
#[test]
fn a_program_that_ran_when_it_lost_its_name_can_be_written_to() {
    needs!(mount);
    not_the_kernels!("there it cannot be opened to write while it runs");
    // There the kernel writes to what it was given when the file was opened.
    if passthrough_everywhere() {
        return;
    }
    let s = Scratch::new();
    // By a program, so that no other has it open to write when it is started.
    let copy = Command::new("cp").arg("/bin/sleep").arg(s.upper.path("x")).status().unwrap();
    assert!(copy.success());
    let m = s.mount();
    let mut runs = Command::new(s.upper.path("x")).arg("1000").spawn().unwrap();
    let file = File::options().read(true).write(true).open(m.path("x")).unwrap();
    fs::remove_file(m.path("x")).unwrap();
    let refused = file.write_all_at(b"no", 0);
    runs.kill().unwrap();
    runs.wait().unwrap();
    assert_errno(refused, libc::ETXTBSY);
    file.write_all_at(b"yes", 0).unwrap();
    file.set_len(3).unwrap();
    let mut now = [0; 3];
    file.read_exact_at(&mut now, 0).unwrap();
    assert_eq!(&now, b"yes");
}
