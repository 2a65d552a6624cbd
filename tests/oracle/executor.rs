//! The inner role: a process of its own, in namespaces of its own, that mounts an engine and runs
//! operations in the mount.
//!
//! The test binary starts itself again under unshare(1): as the first process of a process
//! namespace, so that an engine's daemon becomes its child and everything dies with it, in a mount
//! namespace, so that no mount outlives it, and for the rootless runs in a user namespace.
//!
//! It reads requests from standard input, one a line: an operation, or a word that begins with `@`.
//! It answers with lines, the last of which is [`END`].

use std::fs::{self, File};
use std::io::{self, BufRead, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::op::Op;
use super::runner::Runner;
use super::tree::Tree;

/// Set in the environment of the inner process, to `root` or `userns`.
pub const ROLE: &str = "OVLMERGE_ORACLE_ROLE";
/// The last line of each answer.
pub const END: &str = "END";
/// When everything in the layers was changed last, until an operation changes it.
const LONG_AGO: i64 = 1_000_000_000;

/// Runs before main() of the test harness, as that would print among our answers and start threads.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = serve_if_asked;

extern "C" fn serve_if_asked() {
    let Some(role) = std::env::var_os(ROLE) else { return };
    let prefix = if role == "userns" { "user.overlay." } else { "trusted.overlay." };
    Executor {
        runner: Runner::new(prefix),
        dir: PathBuf::new(),
        lowers: 0,
        rootless: role == "userns",
    }
    .serve();
    std::process::exit(0);
}

struct Executor {
    runner: Runner,
    /// Holds `l0` (top), `l1`, ..., `u`, `w` and `m`.
    dir: PathBuf,
    lowers: usize,
    rootless: bool,
}

type Answer = Result<String, String>;

/// Turns any error into what the test prints.
fn told<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> String + '_ {
    move |err| format!("{what}: {err}")
}

impl Executor {
    fn serve(mut self) {
        let mut output = io::stdout();
        for line in io::stdin().lock().lines() {
            let line = line.unwrap();
            let answer = self.answer(&line);
            writeln!(output, "{}\n{END}", answer.trim_end()).unwrap();
        }
    }

    fn answer(&mut self, line: &str) -> String {
        if line.starts_with('@') {
            return self.command(line).unwrap_or_else(|why| format!("FAILED {line}: {why}"));
        }
        match line.parse::<Op>().map(|op| self.runner.run(&op)) {
            Ok(Ok(value)) if value.is_empty() => "ok".into(),
            Ok(Ok(value)) => value,
            Ok(Err(errno)) => format!("{errno:?}"),
            Err(why) => format!("FAILED {why}"),
        }
    }

    fn command(&mut self, line: &str) -> Answer {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["@case", dir, lowers] => self.start_case(dir, lowers.parse().unwrap_or(1)),
            ["@build", layer] => self.enter(layer),
            ["@settle"] => self.settle(),
            ["@mount", "kernel", options] => self.mount_kernel(options),
            ["@mount", program, options] => self.mount_fuse(program, options),
            ["@unmount"] => self.unmount(),
            ["@tree", of] => self.tree(of),
            _ => Err("no such request".into()),
        }
    }

    fn start_case(&mut self, dir: &str, lowers: usize) -> Answer {
        self.dir = PathBuf::from(dir);
        self.lowers = lowers;
        let layers = (0..lowers).map(|nth| format!("l{nth}"));
        for name in layers.chain(["u", "w", "m"].map(String::from)) {
            fs::create_dir_all(self.dir.join(name)).map_err(told(dir))?;
        }
        Ok(String::new())
    }

    fn enter(&mut self, layer: &str) -> Answer {
        self.runner.reset().map_err(told("reset"))?;
        std::env::set_current_dir(self.dir.join(layer)).map_err(told(layer))?;
        Ok(String::new())
    }

    /// Gives everything in all layers the same times, so that a change of any shows.
    fn settle(&mut self) -> Answer {
        self.runner.reset().map_err(told("reset"))?;
        std::env::set_current_dir("/").map_err(told("/"))?;
        let layers = (0..self.lowers).map(|nth| format!("l{nth}"));
        for layer in layers.chain(["u".to_owned()]) {
            settle(&self.dir.join(&layer)).map_err(told(&layer))?;
        }
        Ok(String::new())
    }

    fn options(&self) -> String {
        let layer = |name: String| self.dir.join(name).display().to_string();
        let lowers: Vec<String> = (0..self.lowers).map(|nth| layer(format!("l{nth}"))).collect();
        let (upper, work) = (layer("u".into()), layer("w".into()));
        format!("lowerdir={},upperdir={upper},workdir={work}", lowers.join(":"))
    }

    fn mount_kernel(&mut self, features: &str) -> Answer {
        // With `userxattr` redirects are off already, and naming them is refused.
        let features = match self.rootless {
            true => features.replace("redirect_dir=off", "userxattr"),
            false => features.into(),
        };
        let options = format!("{features},metacopy=off,xino=off,{}", self.options());
        let target = self.dir.join("m");
        let (kind, flags) = (Some("overlay"), MsFlags::empty());
        nix::mount::mount(kind, &target, kind, flags, Some(options.as_str()))
            .map_err(told("mount -t overlay"))?;
        self.enter("m")
    }

    fn mount_fuse(&mut self, program: &str, options: &str) -> Answer {
        let messages = self.dir.join("messages");
        let stderr = File::create(&messages).map_err(told("messages"))?;
        let mut command = Command::new(program);
        command.arg("-o").arg(self.options());
        if program.ends_with("ovlmerge") {
            let namespace = if self.rootless { "userxattr" } else { "xattr=trusted" };
            command.args(["-o", "dev", "-o", namespace, "-o", options]);
            if let Some(more) = std::env::var_os("OVLMERGE_TEST_OPTIONS") {
                command.arg("-o").arg(more);
            }
        }
        let status = command
            .arg(self.dir.join("m"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .env_remove(ROLE)
            .status()
            .map_err(told(program))?;
        if !status.success() {
            let messages = fs::read_to_string(messages).unwrap_or_default();
            return Err(format!("{status}: {}", messages.replace('\n', " | ")));
        }
        self.enter("m")
    }

    /// Unmounts and waits until the engine's daemon, which is our child by now, is gone.
    fn unmount(&mut self) -> Answer {
        self.runner.reset().map_err(told("reset"))?;
        std::env::set_current_dir("/").map_err(told("/"))?;
        nix::mount::umount(&self.dir.join("m")).map_err(told("umount"))?;
        let patience = Instant::now() + Duration::from_secs(10);
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Err(Errno::ECHILD) => return Ok(String::new()),
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    return Err(format!("the daemon died of {signal}"));
                }
                Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(1)),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(format!("waitpid: {errno}")),
            }
            if Instant::now() > patience {
                return Err("the daemon is still there 10 s after umount".into());
            }
        }
    }

    /// The tree of a layer or of the mount, as root sees it.
    fn tree(&mut self, of: &str) -> Answer {
        self.runner.become_user(0, 0).map_err(told("become root"))?;
        let mut tree = Tree::walk(&self.dir.join(of), self.runner.clock());
        if self.rootless {
            // The kernel can note no origins there, and shows two numbers for the two names of a
            // copy until the next mount.
            tree.drop_numbers();
        }
        Ok(tree.to_string())
    }
}

/// Sets the times of everything below `path`, and of itself, children first.
fn settle(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            settle(&entry?.path())?;
        }
    }
    // Different objects get different times, so that taking one for the other shows too.
    let name = path.file_name().unwrap_or_default().as_bytes();
    let varied = name.iter().fold(0, |sum, byte| sum + i64::from(*byte));
    let time = TimeSpec::new(LONG_AGO + varied, 123_456_789);
    let flags = UtimensatFlags::NoFollowSymlink;
    utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, flags).map_err(io::Error::from)
}
