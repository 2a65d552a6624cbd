//! `ovlmerge stat`: what a running mount tells about itself, and whom.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::SFlag;
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::call::{call, done};
use crate::needs;
use crate::support::process::{output, text, wait_for};
use crate::support::user::{NOBODY, as_user};
use crate::support::{Scratch, assert_errno, raw};

/// The answer about a mount.
#[track_caller]
pub fn stat(path: &Path) -> Value {
    let output = done([OsStr::new("stat"), OsStr::new("--json"), path.as_os_str()]);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn count(all: &Value, group: &str, name: &str) -> u64 {
    all[group][name].as_u64().unwrap_or(0)
}

/// A question as the program asks it.
const QUESTION: &str = "system.ovlmerge.stat";

#[test]
fn what_happened_is_counted() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    s.lower(0).file("f", "12345").file("gone", "").file("d/a", "").file("d/b", "");
    s.lower(1).file("d/c", "").file("moved", "data");
    let m = s.mount();
    let before = m.statistics();
    for name in ["d/a", "d/b", "d/c"] {
        m.stat(name);
    }
    assert!(!m.exists("d/none"));
    let after = m.statistics();
    let more = |group: &str, name: &str| count(&after, group, name) - count(&before, group, name);
    // `d` and four names in it; the kernel keeps absent names, which are no errors.
    assert_eq!((more("requests", "LOOKUP"), more("errors", "ENOENT")), (5, 0));
    assert_eq!(after["upper"], before["upper"], "nothing was changed");

    fs::OpenOptions::new().append(true).open(m.path("f")).unwrap().sync_all().unwrap();
    m.file("f", "x");
    fs::remove_file(m.path("gone")).unwrap();
    fs::rename(m.path("moved"), m.path("there")).unwrap();
    m.file("d/a", "y");
    fs::File::open(m.path("d/a")).unwrap().sync_all().unwrap();
    let last = m.statistics();
    let upper = &last["upper"];
    assert_eq!((&upper["copy_ups"], &upper["copied_directories"]), (&json!(3), &json!(1)));
    assert_eq!((&upper["whiteouts"], &last["requests"]["RENAME2"]), (&json!(2), &Value::Null));
    // The copy that has data, and `d/a`, unless it lies in memory.
    assert!((1..=2).contains(&count(&last, "upper", "fsyncs")), "{upper}");
    assert!(count(&last, "errors", "ENODATA") + count(&last, "errors", "ENOSYS") > 0);
}

#[test]
fn layers_forms_and_options_are_told() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    let options = "whiteout=xattr,xattr=user,timeout=2.5,threads=3,volatile";
    let m = s.setup().option(options).mount();
    let all = stat(m.root());
    assert_eq!(all["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(all["pid"], m.pid().unwrap());
    assert_eq!(all["mountpoint"], m.root().to_str().unwrap());
    let layers: Vec<_> = all["layers"].as_array().unwrap().iter().collect();
    let dev = s.upper.stat("").dev();
    let expected = [
        (0, "upper", s.upper.root()),
        (1, "lower", s.lower(0).root()),
        (2, "lower", s.lower(1).root()),
    ];
    assert_eq!((layers.len(), &all["layer_count"]), (3, &json!(3)));
    for (layer, (number, role, path)) in layers.iter().zip(expected) {
        assert_eq!((&layer["layer"], &layer["role"]), (&json!(number), &json!(role)));
        assert_eq!(layer["path"], path.to_str().unwrap());
        assert_eq!(layer["device"], format!("{}:{}", libc::major(dev), libc::minor(dev)));
        assert_eq!((&layer["read_only"], &layer["owners"]), (&json!(false), &json!("inode")));
    }
    assert_eq!(layers[0]["work"], s.work.root().to_str().unwrap());
    let asked = |form: &str| json!({ "form": form, "from": "asked" });
    assert_eq!(all["forms"]["whiteout"], asked("xattr"));
    assert_eq!(all["forms"]["xattr"], asked("user"));
    assert_eq!(all["forms"]["opaque"], json!({ "form": "xattr", "from": "probed" }));
    assert_eq!((&all["options"]["timeout"], &all["threads"]["readers"]), (&json!(2.5), &json!(3)));
    assert_eq!(
        (&all["features"]["volatile"], &all["features"]["index"]),
        (&json!(true), &json!(false))
    );
    assert!(all["kernel"]["capabilities"].as_array().unwrap().contains(&json!("PARALLEL_DIROPS")));
    for (group, name) in [
        ("caches", "nodes"),
        ("memory", "resident_bytes"),
        ("memory", "cached_bytes"),
        ("descriptors", "open"),
        ("descriptors", "cached_limit"),
        ("threads", "all"),
        ("kernel", "max_write"),
    ] {
        assert!(count(&all, group, name) > 0, "{group}.{name}: {all}");
    }
}

#[test]
fn a_mount_without_an_upper_has_none() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    let m = s.setup().read_only().mount();
    let all = stat(m.root());
    assert_eq!((&all["upper"], &all["forms"]), (&Value::Null, &Value::Null));
    assert_eq!(all["layers"][0]["layer"], 1);
    assert_eq!(all["layer_count"], 2);
}

/// Of any type and mode; no list of attributes shows it, and none can be set.
#[test]
fn everything_can_be_asked() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "").dir("d").symlink("l", "nowhere").mode("f", 0);
    s.lower(0).node("fifo", SFlag::S_IFIFO, 0, 0).node("null", SFlag::S_IFCHR, 1, 3);
    for options in ["", "noxattrs=1", "noacl"] {
        let m = s.setup().option(options).mount();
        for name in ["f", "d", "l", "fifo", "null", ""] {
            assert_eq!(stat(&m.path(name))["pid"], m.pid().unwrap(), "{options} {name}");
            assert_eq!(stat(&m.path(name))["mountpoint"], m.root().to_str().unwrap());
        }
        if options != "noxattrs=1" {
            assert!(m.xattr_names("f").iter().all(|name| !name.contains("ovlmerge")));
            let set = raw::set_xattr(&m.path("f"), QUESTION.as_ref(), b"x", 0);
            assert_errno(set, libc::EOPNOTSUPP);
            assert_errno(xattr::remove(m.path("f"), QUESTION), libc::EOPNOTSUPP);
        }
        assert_errno(
            xattr::get(m.path("f"), "user.none")
                .map(|it| it.ok_or(libc::ENODATA))
                .and_then(|it| it.map_err(std::io::Error::from_raw_os_error)),
            if options == "noxattrs=1" { libc::EOPNOTSUPP } else { libc::ENODATA },
        );
        let none = raw::get_xattr(&m.path("f"), "system.ovlmerge.none", 100);
        assert_errno(none, libc::ENODATA);
    }
}

/// One answer of the kernel has no more than 64 KiB.
#[test]
fn many_layers_with_long_paths() {
    needs!(mount);
    let s = Scratch::with_lowers(0);
    let lowers: Vec<_> =
        (0..400).map(|number| s.base().path(format!("{}/{number}", "long".repeat(40)))).collect();
    for lower in &lowers {
        fs::create_dir_all(lower).unwrap();
    }
    let m = s.setup().lowers(lowers.clone()).mount();
    let all = stat(m.root());
    let layers = all["layers"].as_array().unwrap();
    assert!(all["layers"].to_string().len() > 65536);
    assert_eq!(layers.len(), 401);
    for (layer, lower) in layers.iter().skip(1).zip(&lowers) {
        assert_eq!(layer["path"], lower.to_str().unwrap());
    }
}

/// Runs the program through another one.
fn asked_by(s: &Scratch, words: &[&str], path: &Path) -> Output {
    let (runner, args) = words.split_first().unwrap();
    output(Command::new(runner).args(args).arg(s.program()).arg("stat").arg(path))
}

/// Paths of layers on the host are nobody's business in a container, not even its root's; other
/// users may see neither.
#[test]
fn strangers_get_no_answer() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "");
    let m = s.mount();
    assert!(asked_by(&s, &["env"], &m.path("f")).status.success(), "who may");
    let strangers: [&[&str]; 3] = [
        &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"],
        // As root of a container is: the same user, but mounts of its own.
        &["unshare", "--mount", "--"],
        &["unshare", "--mount", "--pid", "--fork", "--"],
    ];
    for stranger in strangers {
        let output = asked_by(&s, stranger, &m.path("f"));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stranger:?}: {said}");
        assert!(said.contains("only to the user of its server and to root"), "{said}");
        assert!(output.stdout.is_empty() && !said.contains("lower0"), "{said}");
    }
    // Another root directory in the same namespace, that of the mount itself.
    let file = fs::File::open(m.root()).unwrap();
    let answer = std::thread::spawn(move || {
        // Its own root directory comes with it.
        raw::own_umask(0o022);
        std::os::unix::fs::chroot("/proc/self/fd/".to_owned() + &fd_number(&file)).unwrap();
        raw::get_xattr(Path::new("/f"), QUESTION, 65536)
    });
    assert_errno(answer.join().unwrap(), libc::EACCES);
    let path = m.path("f");
    assert_errno(as_user(NOBODY, NOBODY, || raw::get_xattr(&path, QUESTION, 65536)), libc::EACCES);
    assert!(raw::get_xattr(&path, QUESTION, 65536).unwrap() > 0, "the owner still may");
}

fn fd_number(file: &fs::File) -> String {
    use std::os::fd::AsRawFd;
    file.as_raw_fd().to_string()
}

/// A file system on top asks in the name of its own owner: that is not the user who asks.
#[test]
fn an_overlay_on_top_vouches_for_nobody() {
    needs!(mount, kernel_overlay);
    let s = Scratch::with_lowers(2);
    s.lower(0).file("f", "");
    let m = s.mount();
    let on_top = Scratch::with_lowers(0);
    let options = format!("lowerdir={}:{}", m.root().display(), s.lower(1).root().display());
    let flags = nix::mount::MsFlags::empty();
    let (kind, place) = (Some("overlay"), on_top.mnt.root());
    nix::mount::mount(kind, place, kind, flags, Some(options.as_str())).unwrap();
    let _undone = crate::support::mount::Detached::on(place);
    let path = on_top.mnt.path("f");
    assert!(raw::get_xattr(&path, QUESTION, 65536).unwrap() > 0, "root may ask anyhow");
    assert_errno(as_user(NOBODY, NOBODY, || raw::get_xattr(&path, QUESTION, 65536)), libc::EACCES);
    // And the program does not take the answer of a layer for one of this mount.
    let refused = call([OsStr::new("stat"), path.as_os_str()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("is not on a mount of ovlmerge"));
}

/// As rootless containers have it: the user's own mount in a user namespace, and in it a container
/// with mounts of its own.
#[test]
fn a_user_asks_about_their_own_mount() {
    needs!(mount, userns, fuse_for_users);
    let s = Scratch::new();
    s.lower(0).file("f", "x").mode("f", 0);
    for (dir, path) in [(s.lower(0), ""), (s.lower(0), "f"), (&s.upper, ""), (&s.work, "")] {
        dir.owner(path, NOBODY, NOBODY);
    }
    s.mnt.owner("", NOBODY, NOBODY);
    let script = "\"$1\" -o \"$2\" \"$3\" && \"$1\" stat --json \"$3/f\" && \
                  ! unshare -m \"$1\" stat --json \"$3/f\" && umount \"$3\"";
    let output = s.shell_of_nobody(&["unshare", "-Urm"], script);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("only to the user of its server"), "the container: {said}");
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(all["forms"]["xattr"], json!({ "form": "user", "from": "probed" }));
    assert_eq!(all["layers"][1]["path"], s.lower(0).root().to_str().unwrap());
}

#[test]
fn what_is_no_mount_of_ours_is_said_so() {
    let s = Scratch::new();
    s.lower(0).file("f", "");
    for (path, words) in [
        (s.lower(0).path("f"), "is not on a mount of ovlmerge"),
        ("/proc/self".into(), "is not on a mount of ovlmerge"),
        (s.lower(0).path("none"), "No such file"),
    ] {
        let output = call([OsStr::new("stat"), path.as_os_str()]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
        let said = text(&output.stderr);
        assert!(said.contains(words) && said.contains(path.to_str().unwrap()), "{said}");
    }
    for wrong in [&["stat"][..], &["stat", "--xml", "/"], &["stat", "/", "/"]] {
        assert_eq!(call(wrong).status.code(), Some(2), "{wrong:?}");
    }
    let help = text(&done(["stat", "--help"]).stdout);
    assert!(help.contains("--json") && help.contains("Exit status"), "{help}");
}

#[test]
fn people_read_lines() {
    needs!(mount);
    let s = Scratch::new();
    let m = s.mount();
    let shown = text(&done([OsStr::new("stat"), m.root().as_os_str()]).stdout);
    let layer = format!("  layer=1 role=lower path={}", s.lower(0).root().display());
    assert!(shown.lines().any(|line| line.starts_with(&layer)), "{shown}");
    assert!(shown.contains(&format!("\nmountpoint: {}\n", m.root().display())), "{shown}");
}

/// Whatever is logged otherwise, and as often as it is asked for.
#[test]
fn a_signal_logs_the_same() {
    needs!(mount);
    let s = Scratch::new();
    let mut m = s.mount();
    for turn in 1..=2 {
        kill(Pid::from_raw(m.pid().unwrap()), Signal::SIGUSR1).unwrap();
        let logged = || m.log().lines().filter(|line| line.contains("statistics")).count();
        assert!(wait_for(Duration::from_secs(10), || logged() == turn), "{}", m.log());
    }
    let log = m.log();
    let line = log.lines().last().unwrap();
    let all: Value = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
    let mut asked = stat(m.root());
    assert_eq!((&all["layers"], &all["options"]), (&asked["layers"], &asked["options"]));
    let names = |value: &mut Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&mut all.clone()), names(&mut asked));
    m.unmount();
}

/// The message was "Transport endpoint is not connected" and no more.
#[test]
fn a_mount_whose_server_is_dead() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    let m = s.setup().background().mount();
    let pid = m.pid().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let soon = Duration::from_secs(60);
    assert!(wait_for(soon, || !crate::support::process::is_alive(pid)));
    let advice = format!("is dead; unmount it (ovlmerge umount {})", m.root().display());
    for (tool, path) in [("stat", ""), ("stat", "f"), ("which", "f")] {
        let output = call([OsStr::new(tool), m.path(path).as_os_str()]);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(&advice), "{said}");
    }
    let other = Scratch::new();
    let refused = other.setup().lowers(vec![m.root().to_owned()]).attempt();
    let said = text(&refused.stderr);
    assert!(said.contains("lowerdir=") && said.contains("is dead; unmount"), "{said}");
}
