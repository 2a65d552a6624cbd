//! Layers that are slow, and layers that hang: nobody waits for them who does not need them.
//!
//! The layer is served by the test. Whatever may wait for it is a program of its own, as a thread
//! of the test that hangs could not be ended.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::mount::{Detached, is_mountpoint};
use crate::support::process::{is_emulated, pids_with_argument, wait_for};
use crate::support::user::NOBODY;
use crate::support::{Dir, Mount, Scratch, Setup, SlowFs};
use crate::{needs, not_the_kernels};

const NO_PROGRAM: &str = "it has no threads of its own";

/// How long may take what waits for nobody, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// A mount whose upper layer of lowers is healthy, and whose lowest is slow.
struct Scene {
    s: Scratch,
    // After what uses it.
    slow: SlowFs,
    place: Dir,
    source: Dir,
}

const READERS: usize = 64;

impl Scene {
    fn new() -> Self {
        let s = Scratch::new();
        let source = s.base().sub("source");
        for reader in 0..READERS {
            source.file(format!("slow/{reader}"), format!("content of {reader}"));
        }
        source.file("linked/a", "a and b").hard_link("linked/b", "linked/a");
        let place = s.base().sub("slow-lower");
        place.dir("");
        s.lower(0).file("healthy/file", "healthy").file("healthy/other", "other");
        let slow = SlowFs::mount(source.root(), &place);
        Self { s, slow, place, source }
    }

    fn setup(&self) -> Setup {
        let lowers = vec![self.s.lower(0).root().to_owned(), self.place.root().to_owned()];
        self.s.setup().lowers(lowers)
    }

    /// Mounts, and has the names of both directories known.
    fn mount(&self, options: &str) -> Mount {
        let m = self.setup().option(options).mount();
        assert_eq!(m.names("slow").len(), READERS);
        assert_eq!(m.names("healthy"), ["file", "other"]);
        m
    }

    /// The same as the user who owns nothing else, and has all of it.
    fn mount_of_nobody(&self) -> OfNobody {
        let s = &self.s;
        let lower = ["", "healthy", "healthy/file", "healthy/other"];
        let all = lower.map(|path| s.lower(0).path(path));
        for path in all.iter().map(|path| &**path).chain([&s.upper, &s.work, &s.mnt].map(Dir::root))
        {
            std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut command = Command::new(s.program());
        command.arg("-o").arg(self.setup().option_string()).arg(s.mnt.root());
        assert!(command.uid(NOBODY).gid(NOBODY).status().unwrap().success());
        let mounted = OfNobody { dir: s.mnt.clone(), _mounted: Detached::on(s.mnt.root()) };
        run_soon_as(Some(NOBODY), "ls $M/slow $M/healthy >/dev/null", &mounted.dir);
        mounted
    }

    /// Programs that read the files of the slow layer, which hang.
    fn hang(&self, m: &Mount) -> Hanging {
        self.hang_as(None, m)
    }

    fn hang_as(&self, user: Option<u32>, m: &Dir) -> Hanging {
        let before = self.slow.waiting();
        let cat = |reader| start_as(user, "cat", &m.path(format!("slow/{reader}")));
        let hanging = Hanging((0..READERS).map(cat).collect());
        // Not less: if one of them does not even get there, it waits for another.
        let all = wait_for(SOON, || self.slow.waiting() >= before + READERS);
        assert!(all, "{} of {READERS} have reached the layer", self.slow.waiting());
        hanging
    }
}

/// A mount of an ordinary user, which is for that user alone.
struct OfNobody {
    dir: Dir,
    _mounted: Detached,
}

fn as_user(user: Option<u32>, mut command: Command) -> Command {
    if let Some(id) = user {
        command.uid(id).gid(id);
    }
    command
}

fn start(program: &str, argument: &Path) -> Child {
    start_as(None, program, argument)
}

fn start_as(user: Option<u32>, program: &str, argument: &Path) -> Child {
    let mut command = as_user(user, Command::new(program));
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
}

/// Runs a program that must end soon.
#[track_caller]
fn run_soon(script: &str, m: &Mount) -> Duration {
    run_soon_as(None, script, m)
}

#[track_caller]
fn run_soon_as(user: Option<u32>, script: &str, m: &Dir) -> Duration {
    let begin = Instant::now();
    let mut child = as_user(user, Command::new("sh"))
        .args(["-ec", script])
        .current_dir("/")
        .env("M", m.root())
        .spawn()
        .unwrap();
    let mut ended = None;
    if !wait_for(SOON, || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    }) {
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGKILL).unwrap();
        panic!("{script}: not done after {SOON:?}");
    }
    assert!(ended.unwrap().success(), "{script}");
    begin.elapsed()
}

/// Programs that are killed when the test ends.
struct Hanging(Vec<Child>);

impl Hanging {
    fn all_end(&mut self, limit: Duration) -> bool {
        wait_for(limit, || self.0.iter_mut().all(|child| child.try_wait().unwrap().is_some()))
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().ok();
        }
    }
}

/// What waits for nothing of the layer that hangs.
const HEALTHY: [&str; 6] = [
    "stat $M/healthy/other >/dev/null",
    "test $(cat $M/healthy/file) = healthy",
    "echo new > $M/healthy/new-$$",
    "mkdir $M/healthy/dir-$$",
    "echo more >> $M/healthy/file; sync -d $M/healthy/file",
    "ls -l $M/healthy >/dev/null",
];

fn a_hung_layer_holds_up_nobody_else(options: &str, known: bool) {
    let scene = Scene::new();
    let mut m = scene.mount(options);
    if known {
        // Then the kernel asks for data alone, and in the background.
        for reader in 0..READERS {
            m.stat(format!("slow/{reader}"));
        }
    }
    let frozen = scene.slow.freeze();
    let mut hanging = scene.hang(&m);
    for script in HEALTHY {
        println!("{options}: {script}: {:?}", run_soon(script, &m));
    }
    frozen.thaw();
    assert!(hanging.all_end(SOON), "requests are lost");
    for (reader, child) in hanging.0.iter_mut().enumerate() {
        let content = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
        assert_eq!(content, format!("content of {reader}"));
        assert!(child.wait().unwrap().success());
    }
    m.unmount();
}

#[test]
fn a_hung_layer_holds_up_nobody_who_does_not_need_it() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    a_hung_layer_holds_up_nobody_else("rw", true);
    a_hung_layer_holds_up_nobody_else("rw", false);
}

#[test]
fn a_hung_layer_holds_up_nobody_with_one_thread() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    a_hung_layer_holds_up_nobody_else("threads=1", true);
    a_hung_layer_holds_up_nobody_else("threads=1,index=on", false);
}

/// A server without privilege has as many threads, and as few to lose.
#[test]
fn a_hung_layer_holds_up_nobody_else_of_an_ordinary_user() {
    needs!(mount, fuse_for_users);
    not_the_kernels!(NO_PROGRAM);
    let scene = Scene::new();
    let m = scene.mount_of_nobody();
    let frozen = scene.slow.freeze();
    let mut hanging = scene.hang_as(Some(NOBODY), &m.dir);
    for script in HEALTHY {
        println!("{script}: {:?}", run_soon_as(Some(NOBODY), script, &m.dir));
    }
    // And each of them can be killed.
    let (killed, others) = hanging.0.split_at_mut(READERS / 2);
    for child in &mut *killed {
        assert!(child.try_wait().unwrap().is_none(), "it does not wait");
        child.kill().unwrap();
    }
    let ended = |child: &mut Child| child.try_wait().unwrap().is_some();
    assert!(wait_for(SOON, || killed.iter_mut().all(ended)), "the kill has no effect");
    assert!(!others.iter_mut().any(ended));
    frozen.thaw();
    assert!(wait_for(SOON, || others.iter_mut().all(ended)), "requests are lost");
    for (child, reader) in others.iter_mut().zip(READERS / 2..) {
        let content = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
        assert_eq!(content, format!("content of {reader}"));
    }
    drop(m);
    let gone = || pids_with_argument(scene.s.mnt.root()).is_empty();
    // Mounts in namespaces of other tests keep it.
    assert!(wait_for(SOON * 6, gone), "the server stays");
}

/// With an index, the file is copied before one of its names goes.
#[test]
fn a_name_that_goes_with_a_copy_holds_up_nobody() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let scene = Scene::new();
    let m = scene.mount("threads=1,index=on");
    assert_eq!(m.stat("linked/a").len(), 7);
    let frozen = scene.slow.freeze();
    let mut hanging = Hanging(vec![start("rm", &m.path("linked/a"))]);
    assert!(wait_for(SOON, || scene.slow.waiting() > 0));
    run_soon(HEALTHY[0], &m);
    run_soon(HEALTHY[3], &m);
    assert!(hanging.0[0].try_wait().unwrap().is_none(), "it does not wait");
    frozen.thaw();
    assert!(hanging.all_end(SOON));
    assert_eq!(m.names("linked"), ["b"]);
    assert_eq!(m.read("linked/b"), "a and b");
}

/// What is copied ahead of a change is a guess, and may not wait for what the change does not need.
#[test]
fn a_change_waits_for_no_layer_that_it_does_not_need() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let scene = Scene::new();
    for file in 0..20 {
        scene.s.lower(0).file(format!("tree/d{}/{file}", file % 4), "healthy");
    }
    let m = scene.mount("rw");
    for dir in 0..4 {
        assert_eq!(m.names(format!("tree/d{dir}")).len(), 5);
    }
    let frozen = scene.slow.freeze();
    run_soon("chmod -R u=rwX,go= $M/tree; chmod -R go=rX $M/tree", &m);
    assert_eq!(scene.slow.waiting(), 0, "the layer is asked");
    frozen.thaw();
    let ahead = m.statistics()["upper"]["copy_ups"].as_u64().unwrap();
    assert_eq!(ahead, 20);
}

/// Programs wait for a name, to copy a directory up, and for the names in another. Whoever looks at
/// what is beside these, or changes it, waits for none of them.
#[test]
fn all_goes_on_beside_a_name_that_hangs() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let scene = Scene::new();
    scene.source.file("both/hangs", "slow").dir("both/slow").file("both/full/x", "slow");
    let s = &scene.s;
    s.lower(0).file("both/changed", "healthy").file("both/read", "healthy");
    let m = scene.mount("rw");
    assert_eq!(m.names("both").len(), 5);
    // Nothing of these is remembered for long but that they are there.
    m.stat("both/slow");
    m.stat("both/full");
    let frozen = scene.slow.freeze();
    let script = |text: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", text]).env("M", m.root()).stdin(Stdio::null()).spawn().unwrap()
    };
    let _hanging = Hanging(vec![
        script("exec stat $M/both/hangs"),
        script("exec chmod 700 $M/both/slow"),
        script("exec ls $M/both/full"),
    ]);
    let hang = |count: usize| {
        wait_for(SOON, || m.statistics()["held_up"].as_array().unwrap().len() >= count)
    };
    assert!(hang(3), "{}", m.statistics()["held_up"]);
    // The kernel holds the lock of the directory for the first, so no name can come or go.
    // So does open(2) with O_CREAT on older ones.
    let append = "dd of=$M/both/changed oflag=append conv=notrunc,nocreat status=none";
    run_soon(&format!("chmod 600 $M/both/changed; echo more | {append}"), &m);
    run_soon("test $(cat $M/both/read) = healthy; ls $M/both >/dev/null", &m);
    run_soon("mv $M/healthy/other $M/healthy/another; touch $M/new", &m);
    frozen.thaw();
}

#[test]
fn whoever_waits_for_a_hung_layer_can_be_killed() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let scene = Scene::new();
    let m = scene.mount("timeout=0");
    let frozen = scene.slow.freeze();
    // A LOOKUP, a listing, a GETATTR and a READ.
    let mut hanging = Hanging(vec![
        start("stat", &m.path("slow/3")),
        start("ls", &m.path("slow")),
        start("cat", &m.path("slow/5")),
    ]);
    assert!(wait_for(SOON, || scene.slow.waiting() >= 1), "{}", scene.slow.waiting());
    std::thread::sleep(Duration::from_millis(200));
    let begin = Instant::now();
    for child in &mut hanging.0 {
        assert!(child.try_wait().unwrap().is_none(), "it does not wait");
        child.kill().unwrap();
    }
    assert!(hanging.all_end(SOON), "the kill has no effect");
    println!("killed after {:?}", begin.elapsed());
    for child in &mut hanging.0 {
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
    frozen.thaw();
    assert_eq!(m.read("slow/3"), "content of 3", "and all is as before");
}

#[test]
fn other_signals_do_not_interrupt() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let scene = Scene::new();
    let m = scene.mount("timeout=0");
    let frozen = scene.slow.freeze();
    let script = "trap : USR1; read -r line < $M/slow/3 || printf %s \"$line\"";
    let mut shell = Command::new("sh")
        .args(["-c", script])
        .env("M", m.root())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let before = scene.slow.waiting();
    assert!(wait_for(SOON, || scene.slow.waiting() > before || before > 0));
    std::thread::sleep(Duration::from_millis(200));
    kill(Pid::from_raw(shell.id().try_into().unwrap()), Signal::SIGUSR1).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    frozen.thaw();
    let content = std::io::read_to_string(shell.stdout.take().unwrap()).unwrap();
    assert_eq!(content, "content of 3");
    assert!(shell.wait().unwrap().success());
}

#[test]
fn a_hung_mount_ends_with_a_signal() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let scene = Scene::new();
    let mut m = scene.mount("rw");
    let frozen = scene.slow.freeze();
    let mut hanging = scene.hang(&m);
    kill(Pid::from_raw(m.pid().unwrap()), Signal::SIGTERM).unwrap();
    assert!(wait_for(SOON, || !is_mountpoint(m.root())), "it stays mounted");
    assert!(hanging.all_end(SOON), "its users wait for ever");
    frozen.thaw();
    assert!(m.server_leaves(SOON));
}

#[test]
fn a_hung_mount_can_be_detached() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let scene = Scene::new();
    let mut m = scene.mount("rw");
    let frozen = scene.slow.freeze();
    let mut hanging = scene.hang(&m);
    umount2(m.root(), MntFlags::MNT_DETACH).unwrap();
    for child in &mut hanging.0 {
        child.kill().unwrap();
    }
    assert!(hanging.all_end(SOON));
    frozen.thaw();
    assert!(m.server_leaves(SOON));
}

/// The report comes from a mount that hangs, and so does that of SIGUSR1.
#[test]
fn what_waits_for_which_layer_is_told() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let scene = Scene::new();
    let m = scene.setup().option("rw").env("OVLMERGE_LOG", "info").mount();
    assert_eq!(m.names("slow").len(), READERS);
    let frozen = scene.slow.freeze();
    let _hanging = scene.hang(&m);
    let held_up = || m.statistics()["held_up"].as_array().unwrap().clone();
    assert!(wait_for(SOON, || held_up().len() == READERS), "{:?}", held_up());
    for one in held_up() {
        assert_eq!(one["layer"], 2, "{one}");
        assert!(one["seconds"].as_f64().unwrap() >= 1.0 && one["process"] != 0, "{one}");
        assert!(one["path"].as_str().unwrap().starts_with("/slow"), "{one}");
    }
    let readers = &m.statistics()["threads"]["readers_now"];
    assert!(readers.as_u64().unwrap() as usize > READERS, "{readers}");
    kill(Pid::from_raw(m.pid().unwrap()), Signal::SIGUSR1).unwrap();
    assert!(wait_for(SOON, || m.log().contains("held_up")), "{}", m.log());
    let told = || m.log().matches("for layer 2 at /slow").count();
    assert!(wait_for(SOON, || told() > 0), "{}", m.log());
    frozen.thaw();
    assert!(wait_for(SOON, || m.log().contains("no request hangs")), "{}", m.log());
    assert_eq!(told(), 1, "{}", m.log());
    // And the threads go again.
    let few = || m.statistics()["threads"]["readers_now"].as_u64().unwrap() < 8;
    assert!(wait_for(Duration::from_secs(60), few), "{}", m.statistics()["threads"]);
}

/// Each operation of the layer takes a moment; that many readers wait at the same time.
#[test]
fn slow_requests_are_served_side_by_side() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    const AT_A_TIME: usize = 32;
    // What is read is known afterwards: each try takes files of its own.
    const TRIES: usize = 5;
    const FILES: usize = 8;
    for options in ["threads=1", "rw"] {
        let scene = Scene::new();
        for dir in 0..TRIES * (AT_A_TIME + 1) {
            for file in 0..FILES {
                scene.source.file(format!("{dir}/{file}"), "content");
            }
        }
        let m = scene.mount(options);
        scene.slow.delay(Duration::from_millis(5));
        let read = |dirs: std::ops::Range<usize>| {
            let (begin, files) = (Instant::now(), dirs.len() * FILES);
            std::thread::scope(|scope| {
                for dir in dirs {
                    let dir = m.sub(dir.to_string());
                    scope.spawn(move || (0..FILES).for_each(|f| drop(dir.read(f.to_string()))));
                }
            });
            files as f64 / begin.elapsed().as_secs_f64()
        };
        // A busy machine may have no time for it: then once more.
        let ratio = (0..TRIES).map(|number| {
            let first = number * (AT_A_TIME + 1);
            let one = read(first..first + 1);
            let ratio = read(first + 1..first + 1 + AT_A_TIME) / one;
            println!("{options}: {one:.0} files/s by one, {ratio:.1} times as many by all");
            ratio
        });
        // An emulated processor has no time to spare for so many.
        let wanted = if is_emulated() { 2.0 } else { 20.0 };
        assert!(ratio.into_iter().any(|ratio| ratio >= wanted), "{options}");
    }
}
