//! Mounts of an ordinary user, whose own modes bind the server too.
//!
//! A server with CAP_DAC_OVERRIDE never notices that a directory lacks `w`. One without it could
//! not even give it back: `chmod u+w` of a read-only directory of a lower was refused, and with it
//! the removal of whole trees, such as a cache of Go modules.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::mount::{Detached, Setup};
use crate::support::process::{output, run, text, wait_for};
use crate::support::user::{NOBODY, as_user};
use crate::support::{Dir, Scratch};
use crate::{needs, not_the_kernels};

const NO_PROGRAM: &str = "its caller is root";

/// Plain directories, and the layers of one mount, all of one user.
struct Own {
    home: Dir,
    program: PathBuf,
}

impl Own {
    fn new(s: &Scratch, name: &str, program: &Path) -> Self {
        let home = s.base().sub(name);
        home.dir("");
        for dir in ["plain", "lower", "upper", "work", "mnt"] {
            home.dir(dir);
            home.owner(dir, NOBODY, NOBODY);
        }
        home.owner("", NOBODY, NOBODY);
        Self { home, program: program.to_owned() }
    }

    fn mount(&self) -> Detached {
        self.mount_with("noatime")
    }

    fn mount_with(&self, option: &str) -> Detached {
        let options = Setup::new(vec![self.home.path("lower")], &self.home.path("mnt"))
            .upper(&self.home.path("upper"))
            .work(&self.home.path("work"))
            .option(option)
            .option_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
        command.arg(&self.program).arg("-o").arg(options).arg(self.home.path("mnt"));
        let done = output(&mut command);
        assert!(done.status.success(), "{}", text(&done.stderr));
        Detached::on(&self.home.path("mnt"))
    }

    /// What is in the work directory and has no business there.
    fn leftovers(&self) -> Vec<String> {
        // The server leaves some time after the mount is gone: it writes to the disk first.
        let names = || self.home.names("work/work");
        wait_for(Duration::from_secs(30), || names().is_empty());
        names()
    }
}

fn chmod(path: impl AsRef<Path>, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn append(path: impl AsRef<Path>) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(b"+")
}

fn names(path: impl AsRef<Path>) -> io::Result<String> {
    let mut all = fs::read_dir(path)?
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    all.sort();
    Ok(all.join(" "))
}

fn program(words: &[&OsStr]) -> io::Result<String> {
    let done = Command::new(words[0]).args(&words[1..]).output()?;
    Ok(format!("{:?}", done.status.code()))
}

/// `chmod -R u+rwX; rm -rf`, as who clears a cache does.
fn remove_all(path: &Path) -> io::Result<String> {
    let [chmod, all, mode] = ["chmod", "-R", "u+rwX"].map(OsStr::new);
    program(&[chmod, all, mode, path.as_os_str()])?;
    program(&["rm".as_ref(), "-rf".as_ref(), path.as_os_str()])
}

fn unnamed(dir: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(dir)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let follow = nix::fcntl::AtFlags::AT_SYMLINK_FOLLOW;
    let (here, to) = (nix::fcntl::AT_FDCWD, dir.join("t"));
    Ok(nix::unistd::linkat(here, path.as_str(), here, &to, follow)?)
}

/// A file that stays open while its mode goes.
fn write_without_mode(path: &Path) -> io::Result<String> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    chmod(path, 0)?;
    file.write_all(b"N")?;
    let mut rest = String::new();
    file.read_to_string(&mut rest)?;
    Ok(rest)
}

fn set_xattr(path: impl AsRef<Path>) -> io::Result<()> {
    xattr::set(path, "user.a", b"1")
}

fn set_time(path: impl AsRef<Path>) -> io::Result<()> {
    let five = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(5);
    File::open(path)?.set_modified(five)
}

/// An operation below a directory that holds `d`, the directory with the mode in question, and `o`.
type Operation = (&'static str, fn(&Path) -> io::Result<String>);

/// For calls that return nothing.
macro_rules! done {
    ($call:expr) => {
        $call.map(|()| String::new())
    };
}

const OPERATIONS: [Operation; 36] = [
    ("chmod", |r| done!(chmod(r.join("d"), 0o755))),
    ("chmod and more", |r| {
        chmod(r.join("d"), 0o755)?;
        fs::write(r.join("d/new"), "new")?;
        fs::remove_file(r.join("d/f"))?;
        fs::create_dir(r.join("d/new dir"))?;
        names(r.join("d"))
    }),
    ("touch", |r| program(&["touch".as_ref(), r.join("d").as_ref()])),
    ("setfattr", |r| done!(set_xattr(r.join("d")))),
    ("ls", |r| names(r.join("d"))),
    ("cat", |r| fs::read_to_string(r.join("d/f"))),
    ("create", |r| done!(fs::write(r.join("d/new"), "new"))),
    ("mkdir", |r| done!(fs::create_dir(r.join("d/new")))),
    ("mkdir -m 555", |r| {
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o555);
        done!(nix::unistd::mkdir(&r.join("d/new"), mode).map_err(io::Error::from))
    }),
    ("symlink", |r| done!(std::os::unix::fs::symlink("x", r.join("d/l")))),
    ("append", |r| done!(append(r.join("d/f")))),
    ("append below", |r| done!(append(r.join("d/sub/g")))),
    ("append below 555", |r| done!(append(r.join("d/locked/h")))),
    ("append to 200", |r| done!(append(r.join("d/blind")))),
    ("truncate", |r| {
        done!(OpenOptions::new().write(true).truncate(true).open(r.join("d/f")).map(drop))
    }),
    ("chmod file", |r| done!(chmod(r.join("d/f"), 0o600))),
    ("chmod 444 file", |r| done!(chmod(r.join("d/ro"), 0o400))),
    ("chmod 000 file", |r| done!(chmod(r.join("d/dark"), 0o644))),
    ("time of a file", |r| done!(set_time(r.join("d/f")))),
    ("time of a directory", |r| done!(set_time(r.join("d/sub")))),
    ("setfattr file", |r| done!(set_xattr(r.join("d/f")))),
    ("setfattr below", |r| done!(set_xattr(r.join("d/sub")))),
    ("link within", |r| done!(fs::hard_link(r.join("d/f"), r.join("d/l")))),
    ("link out", |r| done!(fs::hard_link(r.join("d/f"), r.join("o/l")))),
    ("unlink", |r| done!(fs::remove_file(r.join("d/f")))),
    ("rmdir", |r| done!(fs::remove_dir(r.join("d/empty")))),
    ("mv out", |r| done!(fs::rename(r.join("d/f"), r.join("o/f")))),
    ("mv in", |r| done!(fs::rename(r.join("o/p"), r.join("d/p")))),
    ("mv away and below", |r| done!(fs::rename(r.join("d"), r.join("o/d")))),
    ("unnamed", |r| done!(unnamed(&r.join("d")))),
    ("open, chmod 0", |r| write_without_mode(&r.join("d/f"))),
    ("open directory, chmod 0", |r| {
        let list = fs::read_dir(r.join("d"))?;
        chmod(r.join("d"), 0)?;
        Ok(list.count().to_string())
    }),
    ("chmod -R, rm -rf", |r| remove_all(&r.join("d"))),
    ("made again", |r| {
        remove_all(&r.join("d"))?;
        fs::create_dir(r.join("d"))?;
        chmod(r.join("d"), 0o555)?;
        names(r.join("d"))
    }),
    ("mkdir -m 555 over removed", |r| {
        fs::remove_file(r.join("o/p"))?;
        fs::remove_dir(r.join("o"))?;
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o555);
        nix::unistd::mkdir(&r.join("o"), mode)?;
        names(r.join("o"))
    }),
    ("mkdir -m 500, mv over removed", |r| {
        fs::remove_file(r.join("o/p"))?;
        fs::remove_dir(r.join("o"))?;
        fs::create_dir(r.join("n"))?;
        chmod(r.join("n"), 0o500)?;
        done!(fs::rename(r.join("n"), r.join("o")))
    }),
];

/// One tree for each operation.
fn build(at: &Path, content: bool) {
    for (number, _) in OPERATIONS.iter().enumerate() {
        let r = at.join(number.to_string());
        fs::create_dir_all(r.join("d")).unwrap();
        if !content {
            continue;
        }
        for dir in ["d/sub", "d/empty", "d/locked", "o"] {
            fs::create_dir(r.join(dir)).unwrap();
        }
        let files = ["d/f", "d/ro", "d/dark", "d/blind", "d/sub/g", "d/locked/h", "o/p"];
        for file in files {
            fs::write(r.join(file), file).unwrap();
        }
        let modes = [("d/ro", 0o444), ("d/dark", 0), ("d/blind", 0o200), ("d/locked", 0o555)];
        for (path, mode) in modes {
            chmod(r.join(path), mode).unwrap();
        }
    }
}

/// The mode, and whether there is a default ACL without `w`.
fn set_modes(at: &Path, mode: u32, acl: bool) {
    for (number, _) in OPERATIONS.iter().enumerate() {
        let d = at.join(number.to_string()).join("d");
        if acl {
            run("setfacl", &["-d", "-m", "u::r-x,g::r-x,o::r-x", d.to_str().unwrap()]);
        }
        chmod(d, mode).unwrap();
    }
}

/// What a user sees: mode and contents of all, or the error.
fn view(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let errno = |err: io::Error| format!("error {:?}", err.raw_os_error());
        let text = match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => {
                let listed = fs::read_dir(&path).map(|list| {
                    todo.extend(list.flatten().map(|entry| entry.path()));
                });
                format!("{:o} {}", meta.mode(), listed.map_or_else(errno, |()| String::new()))
            }
            Ok(meta) if meta.is_file() => {
                let read = fs::read_to_string(&path).unwrap_or_else(errno);
                format!("{:o} {read}", meta.mode())
            }
            Ok(meta) => format!("{:o}", meta.mode()),
            Err(err) => errno(err),
        };
        seen.insert(path.strip_prefix(root).unwrap().to_owned(), text);
    }
    seen
}

/// What cannot be had: a lower is never changed, so what its owner may not read stays unread.
fn is_beyond_reach(operation: &str, mode: u32, place: Place) -> bool {
    if place == Place::Upper {
        return false;
    }
    let unreadable_file = matches!(operation, "append to 200" | "chmod 000 file");
    // Moved as a whole it is copied up, with a file that cannot be read.
    let moves_it = operation == "mv away and below" && mode & 0o200 != 0;
    let unreadable_dir = mode & 0o500 != 0o500 && !matches!(operation, "touch" | "ls");
    unreadable_file || moves_it || unreadable_dir
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Lower,
    Merged,
    Upper,
}

fn compare(s: &Scratch, program: &Path, mode: u32, acl: bool, place: Place) -> Vec<String> {
    let own = Own::new(s, &format!("{mode:o}-{acl}-{place:?}"), program);
    let at = |dir: &str| own.home.path(dir);
    as_user(NOBODY, NOBODY, || {
        let lower = (place != Place::Upper).then(|| (at("lower"), true));
        let upper = (place != Place::Lower).then(|| (at("upper"), place == Place::Upper));
        for (dir, content) in [Some((at("plain"), true)), lower, upper].into_iter().flatten() {
            build(&dir, content);
            set_modes(&dir, mode, acl);
        }
    });
    let mut wrong = Vec::new();
    let mounted = own.mount();
    let errno = |done: io::Result<String>| done.map_err(|err| err.raw_os_error());
    let mut judge = |when: &str, name: &str, plain: String, found: String| {
        if plain != found && !is_beyond_reach(name, mode, place) {
            wrong.push(format!("{mode:o} {place:?} {name}{when}: {found}, not {plain}"));
        }
    };
    for (number, (name, act)) in OPERATIONS.iter().enumerate() {
        let number = number.to_string();
        let (plain, mnt) = (at("plain").join(&number), at("mnt").join(&number));
        let [plain, found] =
            [plain, mnt].map(|r| as_user(NOBODY, NOBODY, || format!("{:?}", errno(act(&r)))));
        judge("", name, plain, found);
    }
    drop(mounted);
    let _again = own.mount();
    for (number, (name, _)) in OPERATIONS.iter().enumerate() {
        let number = number.to_string();
        let (plain, mnt) = (at("plain").join(&number), at("mnt").join(&number));
        let [plain, found] = [plain, mnt].map(|r| as_user(NOBODY, NOBODY, || view(&r)));
        judge(" (afterwards)", name, format!("{plain:?}"), format!("{found:?}"));
    }
    let left = own.leftovers();
    if !left.is_empty() {
        wrong.push(format!("{mode:o} {place:?}: {left:?} in work"));
    }
    wrong
}

/// What a plain directory allows its owner an overlay of it allows too.
#[test]
fn what_the_owner_may_do_works() {
    needs!(mount, fuse_for_users, acl);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let program = s.program();
    let modes = [0o555, 0o500, 0o111, 0o311, 0, 0o755].map(|mode| (mode, false));
    let mut wrong = Vec::new();
    for (mode, acl) in modes.into_iter().chain([(0o755, true)]) {
        for place in [Place::Lower, Place::Merged, Place::Upper] {
            wrong.extend(compare(&s, &program, mode, acl, place));
        }
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
}

/// While several write below a directory without `w`, nobody sees that it has more for a moment,
/// and in the end it has not.
#[test]
fn a_mode_never_shows_that_something_is_being_made() {
    needs!(mount, fuse_for_users);
    not_the_kernels!(NO_PROGRAM);
    const FILES: usize = 60;
    let s = Scratch::new();
    let own = Own::new(&s, "race", &s.program());
    let d = own.home.path("lower/d");
    as_user(NOBODY, NOBODY, || {
        fs::create_dir(&d).unwrap();
        (0..FILES).for_each(|number| fs::write(d.join(number.to_string()), "x").unwrap());
        chmod(&d, 0o555).unwrap();
    });
    let mounted = own.mount();
    let d = own.home.path("mnt/d");
    let modes: Vec<u32> = std::thread::scope(|scope| {
        let writers = [0, 1, 2].map(|first| {
            let d = &d;
            scope.spawn(move || {
                as_user(NOBODY, NOBODY, || {
                    (first..FILES)
                        .step_by(3)
                        .for_each(|at| append(d.join(at.to_string())).unwrap());
                });
            })
        });
        let mut modes = Vec::new();
        while writers.iter().any(|writer| !writer.is_finished()) {
            modes.push(as_user(NOBODY, NOBODY, || {
                // A change of times makes the kernel ask for all attributes again.
                set_time(&d).unwrap();
                fs::metadata(&d).unwrap().mode() & 0o777
            }));
        }
        modes
    });
    assert!(modes.iter().all(|&mode| mode == 0o555), "{modes:?}");
    as_user(NOBODY, NOBODY, || {
        for number in 0..FILES {
            assert_eq!(fs::read_to_string(d.join(number.to_string())).unwrap(), "x+");
        }
    });
    drop(mounted);
    assert_eq!(own.home.mode_of("upper/d"), 0o555);
    assert_eq!(own.leftovers(), Vec::<String>::new());
}

/// A chmod meanwhile counts, whoever is at it.
#[test]
fn a_chmod_meanwhile_is_not_undone() {
    needs!(mount, fuse_for_users);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let own = Own::new(&s, "chmod", &s.program());
    let d = own.home.path("lower/d");
    const FILES: usize = 90;
    as_user(NOBODY, NOBODY, || {
        fs::create_dir(&d).unwrap();
        (0..FILES).for_each(|number| fs::write(d.join(number.to_string()), "x").unwrap());
        chmod(&d, 0o555).unwrap();
    });
    let mounted = own.mount();
    let d = own.home.path("mnt/d");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            as_user(NOBODY, NOBODY, || {
                (0..FILES).for_each(|at| append(d.join(at.to_string())).unwrap());
            });
        });
        for mode in [0o550, 0o500, 0o511, 0o555].into_iter().cycle() {
            as_user(NOBODY, NOBODY, || chmod(&d, mode).unwrap());
            let shown = as_user(NOBODY, NOBODY, || fs::metadata(&d).unwrap().mode() & 0o777);
            assert_eq!(shown, mode);
            if writer.is_finished() {
                break;
            }
        }
        writer.join().unwrap();
        as_user(NOBODY, NOBODY, || chmod(&d, 0o511).unwrap());
    });
    drop(mounted);
    assert_eq!(own.home.mode_of("upper/d"), 0o511);
}

/// A server that is killed while it has given itself rights leaves a note, which the next one goes
/// by before it sweeps the work directory.
#[test]
fn the_next_mount_takes_rights_back() {
    needs!(mount, fuse_for_users);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let own = Own::new(&s, "killed", &s.program());
    as_user(NOBODY, NOBODY, || {
        let upper = own.home.path("upper");
        fs::create_dir_all(upper.join("a/b")).unwrap();
        fs::create_dir(upper.join("other")).unwrap();
        fs::create_dir(own.home.path("work/work")).unwrap();
        // As they are in between.
        for (dir, bits) in [("a", "0"), ("a/b", "500"), ("other", "500")] {
            chmod(upper.join(dir), 0o755).unwrap();
            let mut number = fs::metadata(upper.join(dir)).unwrap().ino();
            if dir == "other" {
                number += 1_000_000;
            }
            let note = format!("{bits} {number} /{dir}");
            let name = format!("work/work/mode#{}", dir.replace('/', "-"));
            std::os::unix::fs::symlink(note, own.home.path(name)).unwrap();
        }
    });
    let mounted = own.mount();
    drop(mounted);
    assert_eq!(own.home.mode_of("upper/a"), 0o055);
    assert_eq!(own.home.mode_of("upper/a/b"), 0o555);
    assert_eq!(own.home.mode_of("upper/other"), 0o755, "the note is about another one");
    assert_eq!(own.leftovers(), Vec::<String>::new());
}

/// The root of the upper may lack `w` as well.
#[test]
fn an_upper_that_may_not_be_written_is_taken_from_its_owner() {
    needs!(mount, fuse_for_users);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let own = Own::new(&s, "root", &s.program());
    as_user(NOBODY, NOBODY, || fs::write(own.home.path("lower/f"), "x").unwrap());
    let mounted = own.mount();
    let mnt = own.home.path("mnt");
    as_user(NOBODY, NOBODY, || {
        // The kernel knows whose the root is once somebody has looked.
        fs::metadata(&mnt).unwrap();
        chmod(&mnt, 0o555).unwrap();
    });
    drop(mounted);
    let mounted = own.mount();
    as_user(NOBODY, NOBODY, || {
        fs::metadata(&mnt).unwrap();
        append(mnt.join("f")).unwrap();
        assert_eq!(fs::read_to_string(mnt.join("f")).unwrap(), "x+");
        crate::support::assert_errno(fs::write(mnt.join("new"), ""), libc::EACCES);
        chmod(&mnt, 0o755).unwrap();
        fs::write(mnt.join("new"), "").unwrap();
    });
    drop(mounted);
    assert_eq!(own.home.mode_of("upper"), 0o755);
}

/// Marks are attributes of the `user.` namespace, which nobody sets on what may not be written.
#[test]
fn what_may_not_be_written_is_marked() {
    needs!(mount, fuse_for_users);
    not_the_kernels!(NO_PROGRAM);
    for option in ["whiteout=xattr", "index=on"] {
        let s = Scratch::new();
        let own = Own::new(&s, "marks", &s.program());
        let mnt = own.home.path("mnt");
        as_user(NOBODY, NOBODY, || {
            let lower = own.home.path("lower");
            fs::create_dir(lower.join("d")).unwrap();
            for name in ["d/gone", "d/a", "d/dark"] {
                fs::write(lower.join(name), name).unwrap();
            }
            fs::hard_link(lower.join("d/a"), lower.join("d/b")).unwrap();
            chmod(lower.join("d/a"), 0o444).unwrap();
            chmod(lower.join("d"), 0o555).unwrap();
        });
        let mounted = own.mount_with(option);
        as_user(NOBODY, NOBODY, || {
            chmod(mnt.join("d"), 0o755).unwrap();
            fs::remove_file(mnt.join("d/gone")).unwrap();
            chmod(mnt.join("d/a"), 0o400).unwrap();
            fs::hard_link(mnt.join("d/a"), mnt.join("d/c")).unwrap();
            fs::remove_file(mnt.join("d/b")).unwrap();
            chmod(mnt.join("d/dark"), 0).unwrap();
            chmod(mnt.join("d"), 0o555).unwrap();
        });
        drop(mounted);
        let _again = own.mount_with(option);
        as_user(NOBODY, NOBODY, || {
            assert_eq!(names(mnt.join("d")).unwrap(), "a c dark", "{option}");
            assert_eq!(fs::read_to_string(mnt.join("d/c")).unwrap(), "d/a", "{option}");
            let modes = ["d", "d/a", "d/dark"]
                .map(|name| fs::metadata(mnt.join(name)).unwrap().mode() & 0o777);
            assert_eq!(modes, [0o555, 0o400, 0], "{option}");
            chmod(mnt.join("d/dark"), 0o600).unwrap();
            assert_eq!(fs::read_to_string(mnt.join("d/dark")).unwrap(), "d/dark", "{option}");
        });
        assert_eq!(own.home.mode_of("upper/d"), 0o555, "{option}");
    }
}

/// convert and check stopped at marks in directories without `w`, and on files without. They
/// rewrite them, and the modes are as they were.
#[test]
fn tools_rewrite_what_may_not_be_written() {
    needs!(root);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let own = Own::new(&s, "tools", &s.program());
    let (lower, upper) = (own.home.sub("lower"), own.home.sub("upper"));
    let tool = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
        let done = output(command.arg(&own.program).args(words).current_dir(own.home.root()));
        assert!(done.status.success(), "{words:?}: {}{}", text(&done.stdout), text(&done.stderr));
    };
    as_user(NOBODY, NOBODY, || {
        lower.file("d/gone", "").file("d/gone too", "").file("d/o/gone", "");
        upper.file("d/.wh.gone", "").file("d/gone too", "").dir("d/o").file("d/f", "");
        upper.xattr("d/gone too", "user.overlay.whiteout", "");
        for (path, value) in [("", "x"), ("d", "x"), ("d/o", "y")] {
            upper.xattr(path, "user.overlay.opaque", value);
        }
        // What check mends.
        upper.file("d/.wh.nothing", "").xattr("d/f", "user.overlay.origin", "rubbish");
        upper.mode("d/f", 0o444).mode("d/o", 0o555).mode("d", 0o555).mode("", 0o555);
    });
    let modes = || ["", "d", "d/o", "d/f"].map(|path| upper.mode_of(path));
    let before = modes();
    tool(&["check", "--repair", "-o", "lowerdir=lower,upperdir=upper,workdir=work"]);
    assert!(!upper.exists("d/.wh.nothing"));
    assert_eq!(modes(), before);
    tool(&["convert", "--to=aufs", "--seal", "upper"]);
    assert_eq!(upper.names("d"), [".wh.gone", ".wh.gone too", "f", "o"]);
    assert_eq!(upper.names("d/o"), [".wh..wh..opq"]);
    tool(&["convert", "--to=kernel-user", "upper"]);
    assert!(upper.is_whiteout("d/gone") && upper.is_whiteout("d/gone too"));
    assert_eq!(upper.get_xattr("d/o", "user.overlay.opaque").unwrap(), b"y");
    assert_eq!(modes(), before);
}
