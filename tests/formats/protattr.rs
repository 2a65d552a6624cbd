//! Immutable and append-only objects: whoever marked them, both engines refuse the same.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use crate::layers::{Layers, NO_INDEX};
use crate::needs;
use crate::support::raw::{get_flags, set_flags, set_xattr};
use crate::support::{Dir, Scratch};

/// As in linux/fs.h.
const IMMUTABLE: i32 = 0x10;
const APPEND: i32 = 0x20;

const FLAGS: [(&str, i32); 3] = [("a", APPEND), ("i", IMMUTABLE), ("ai", APPEND | IMMUTABLE)];

type Attempt = fn(&Dir, &str) -> io::Result<()>;

fn write(dir: &Dir, name: &str, options: &mut OpenOptions) -> io::Result<()> {
    options.open(dir.path(name))?.write_all(b"x")
}

/// What is tried with a file.
const ON_FILES: [(&str, Attempt); 11] = [
    ("write", |m, f| write(m, f, OpenOptions::new().write(true))),
    ("append", |m, f| write(m, f, OpenOptions::new().append(true))),
    ("truncate", |m, f| File::options().write(true).open(m.path(f))?.set_len(1)),
    ("extend", |m, f| File::options().write(true).open(m.path(f))?.set_len(100)),
    ("unlink", |m, f| fs::remove_file(m.path(f))),
    ("rename", |m, f| fs::rename(m.path(f), m.path(format!("{f}-new")))),
    ("replace", |m, f| {
        m.file(format!("{f}-other"), "");
        fs::rename(m.path(format!("{f}-other")), m.path(f))
    }),
    ("link", |m, f| fs::hard_link(m.path(f), m.path(format!("{f}-new")))),
    ("chmod", |m, f| fs::set_permissions(m.path(f), PermissionsExt::from_mode(0o600))),
    ("setxattr", |m, f| set_xattr(&m.path(f), "user.x".as_ref(), b"1", 0)),
    ("utimes", |m, f| {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        File::open(m.path(f))?.set_modified(then)
    }),
];

/// What is tried with a directory that holds `sub` and `file`.
const ON_DIRS: [(&str, Attempt); 9] = [
    ("create", |m, d| File::create_new(m.path(format!("{d}/new"))).map(drop)),
    ("mkdir", |m, d| fs::create_dir(m.path(format!("{d}/new")))),
    ("unlink", |m, d| fs::remove_file(m.path(format!("{d}/file")))),
    ("rmdir", |m, d| fs::remove_dir(m.path(format!("{d}/sub")))),
    ("rename", |m, d| fs::rename(m.path(format!("{d}/file")), m.path(format!("{d}/new")))),
    ("link", |m, d| fs::hard_link(m.path(format!("{d}/file")), m.path(format!("{d}/new")))),
    ("move", |m, d| fs::rename(m.path(d), m.path(format!("{d}-new")))),
    ("chmod", |m, d| fs::set_permissions(m.path(d), PermissionsExt::from_mode(0o700))),
    ("write", |m, d| write(m, &format!("{d}/file"), OpenOptions::new().write(true))),
];

fn objects() -> impl Iterator<Item = (String, i32)> {
    let all = |of: &'static str, attempts: &'static [(&str, Attempt)]| {
        FLAGS.iter().flat_map(move |(letters, flags)| {
            let name = move |(what, _): &(&str, Attempt)| format!("{of}-{letters}-{what}");
            attempts.iter().map(name).map(|name| (name, *flags))
        })
    };
    all("file", &ON_FILES).chain(all("dir", &ON_DIRS))
}

fn fill(layer: &Dir) {
    for (name, _) in objects() {
        match name.starts_with("dir") {
            true => drop(layer.file(format!("{name}/file"), "content").dir(format!("{name}/sub"))),
            false => drop(layer.file(&name, "content")),
        }
    }
}

fn protect(place: &Dir) {
    for (name, flags) in objects() {
        let object = File::open(place.path(&name)).unwrap();
        set_flags(&object, get_flags(&object).unwrap() | flags).unwrap();
    }
}

/// Flags on a lower itself would keep the test from ending cleanly.
struct Freed<'a>(&'a Dir);

impl Drop for Freed<'_> {
    fn drop(&mut self) {
        for (name, _) in objects() {
            if let Ok(object) = File::open(self.0.path(&name))
                && let Ok(flags) = get_flags(&object)
                && let Err(err) = set_flags(&object, flags & !(IMMUTABLE | APPEND))
            {
                eprintln!("{name}: {err}");
            }
        }
    }
}

/// What each attempt comes to, and the flags that are shown.
fn outcomes(m: &Dir) -> Vec<String> {
    let mut outcomes: Vec<String> = Vec::new();
    for (name, _) in objects() {
        let flags = get_flags(&File::open(m.path(&name)).unwrap()).unwrap();
        outcomes.push(format!("{name}: {:#x}", flags & (IMMUTABLE | APPEND)));
    }
    for (of, attempts) in [("file", &ON_FILES[..]), ("dir", &ON_DIRS[..])] {
        for (letters, _) in FLAGS {
            for (what, attempt) in attempts {
                let name = format!("{of}-{letters}-{what}");
                let errno = attempt(m, &name).err().map(|err| err.raw_os_error());
                outcomes.push(format!("{name}: {errno:?}"));
            }
        }
    }
    outcomes
}

#[derive(Clone, Copy)]
enum Engine {
    Kernel,
    Ovlmerge,
}

fn on(engine: Engine, layers: &Layers, act: impl FnOnce(&Dir)) {
    match engine {
        Engine::Kernel => act(&layers.kernel()),
        Engine::Ovlmerge => act(&layers.ours()),
    }
}

fn marked_by(marks: Engine, shows: Engine) -> Vec<String> {
    let mut layers = Layers::new(NO_INDEX, fill);
    layers.plain(|_| ());
    on(marks, &layers, protect);
    let mut found = Vec::new();
    on(shows, &layers, |m| found = outcomes(m));
    found
}

#[test]
fn whoever_marks_them_both_refuse_the_same() {
    needs_both!();
    needs!(file_flags);
    needs!(overlay_protattr);
    let oracle = marked_by(Engine::Kernel, Engine::Kernel);
    assert!(oracle.iter().any(|outcome| outcome == "file-i-unlink: Some(Some(1))"), "{oracle:?}");
    for (marks, shows) in [
        (Engine::Kernel, Engine::Ovlmerge),
        (Engine::Ovlmerge, Engine::Ovlmerge),
        (Engine::Ovlmerge, Engine::Kernel),
    ] {
        assert_eq!(oracle, marked_by(marks, shows));
    }
}

/// In the lower it is the inode that has the flags.
#[test]
fn protected_in_the_lower() {
    needs_both!();
    needs!(file_flags);
    needs!(overlay_protattr);
    let found = [Engine::Kernel, Engine::Ovlmerge].map(|engine| {
        let mut layers = Layers::new(NO_INDEX, fill);
        let lower = layers.layer(0).clone();
        let _freed = Freed(&lower);
        protect(&lower);
        layers.plain(|_| ());
        let mut found = Vec::new();
        on(engine, &layers, |m| found = outcomes(m));
        // Copies of append-only directories are append-only.
        for other in [Engine::Kernel, Engine::Ovlmerge] {
            on(other, &layers, |m| {
                let dir = File::open(m.path("dir-a-create")).unwrap();
                assert_eq!(get_flags(&dir).unwrap() & APPEND, APPEND);
                fs::remove_file(m.path("dir-a-create/new")).unwrap_err();
            });
        }
        found
    });
    assert_eq!(found[0], found[1]);
}

/// Where the kernel writes by itself, what it is not told has to be refused when a file is opened.
#[test]
fn refused_when_opened_for_passthrough() {
    needs!(mount, file_flags);
    let mut layers = Layers::new(NO_INDEX, fill);
    layers.plain(|_| ());
    protect(&layers.ours());
    let m = layers.ours_writing("io=passthrough");
    let errno = |name: &str, options: &mut OpenOptions| {
        write(&m, name, options).err().and_then(|err| err.raw_os_error())
    };
    let (mut write, mut append) = (OpenOptions::new(), OpenOptions::new());
    let (write, append) = (write.write(true), append.append(true));
    assert_eq!(errno("file-i-write", write), Some(libc::EPERM));
    assert_eq!(errno("file-i-append", append), Some(libc::EPERM));
    assert_eq!(errno("file-a-write", write), Some(libc::EPERM));
    assert_eq!(errno("file-a-append", append), None);
}

#[test]
fn written_as_the_kernel_does() {
    needs_both!();
    needs!(file_flags);
    needs!(overlay_protattr);
    let values = [Engine::Kernel, Engine::Ovlmerge].map(|engine| {
        let mut layers = Layers::new(NO_INDEX, |dir| {
            dir.file("f", "").file("d/x", "");
        });
        layers.plain(|_| ());
        let set = |name: &str, wanted: i32| {
            on(engine, &layers, |m| {
                let object = File::open(m.path(name)).unwrap();
                let flags = get_flags(&object).unwrap() & !(IMMUTABLE | APPEND);
                set_flags(&object, flags | wanted).unwrap();
            });
            let top = layers.top();
            let own = get_flags(&File::open(top.path(name)).unwrap()).unwrap();
            (top.get_xattr(name, "trusted.overlay.protattr"), own & (IMMUTABLE | APPEND))
        };
        [set("f", APPEND), set("d", IMMUTABLE), set("f", IMMUTABLE | APPEND), set("f", 0)]
    });
    assert_eq!(values[0], values[1]);
    let value = |text: &str| Some(text.as_bytes().to_vec());
    let expected = [value("a"), value("i"), value("ai"), None].map(|value| (value, 0));
    assert_eq!(values[0], expected);
}

/// Values that are none mean nothing, and hinder nothing.
#[test]
fn rubbish_means_nothing() {
    needs!(mount);
    let s = Scratch::new();
    for (nth, value) in [&b""[..], b"x", b"ix", &[b'i'; 33], &[0xff; 1500]].iter().enumerate() {
        let name = format!("f{nth}");
        s.upper.file(&name, "").xattr(&name, "trusted.overlay.protattr", value);
        s.upper.xattr(&name, "user.overlay.protattr", value);
    }
    // In a lower it is a mark of another mount.
    s.lower(0).file("lower", "").xattr("lower", "trusted.overlay.protattr", "i");
    let m = s.mount();
    for name in m.names("") {
        m.file(&name, "written");
        fs::remove_file(m.path(&name)).unwrap();
    }
}
