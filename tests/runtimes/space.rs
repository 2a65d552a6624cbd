//! Namespaces in which container programs run, and out of which nothing of theirs can leak.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::process::{output, pids_with_argument, run, text, wait_for};
use crate::support::{Dir, binary, need};

/// The ordinary user's number: one that no machine is likely to have given to somebody.
const USER: u32 = 64_242;

/// Where programs are found in there.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long one command may take. The longest takes some 30 s on two busy processors.
const PATIENCE: &str = "240";

/// Who calls the container programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Root,
    User,
}

/// Mount and process namespaces of their own, with a user, a configuration and a directory. All
/// processes and mounts in there go when this goes, or when this process does.
#[derive(Debug)]
pub struct Space {
    who: Who,
    holder: Child,
    /// The first process in there, as it is called out here.
    first: String,
    home: Dir,
    _home: TempDir,
}

/// What the tests call in there.
const PROGRAMS: [&str; 12] = [
    "podman",
    "buildah",
    "skopeo",
    "umoci",
    "crun",
    "conmon",
    "newuidmap",
    "busybox",
    "python3",
    "setcap",
    "setfattr",
    "zstd",
];

/// Whether the machine has what all tests of runtimes need.
pub fn can_run(test: &str) -> bool {
    need::root(test)
        && need::fuse_for_users(test)
        && need::kernel_overlay(test)
        && PROGRAMS.iter().all(|program| need::program(test, program))
}

/// Returns from the test, saying why, unless container programs can be run here.
#[macro_export]
macro_rules! needs_runtimes {
    () => {
        if !$crate::space::can_run($crate::test_name!()) {
            return;
        }
    };
}

impl Space {
    pub fn new(who: Who) -> Self {
        let temp = TempDir::with_prefix("ovlmerge-runtimes-").unwrap();
        std::fs::set_permissions(temp.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let home = Dir::new(std::fs::canonicalize(temp.path()).unwrap());
        home.dir("tmp").mode("tmp", 0o1777);
        for (name, content) in [
            ("policy.json", include_str!("etc/policy.json")),
            ("registries.conf", include_str!("etc/registries.conf")),
            ("containers.conf", include_str!("etc/containers.conf")),
        ] {
            home.file(format!("etc/containers/{name}"), content);
        }
        for (name, content) in [
            ("space.sh", include_str!("space.sh")),
            ("image.sh", include_str!("image.sh")),
            ("tree.py", include_str!("tree.py")),
            ("oci.py", include_str!("oci.py")),
            ("many.py", include_str!("many.py")),
        ] {
            home.file(name, content);
        }
        run("sh", &[home.path("image.sh").to_str().unwrap(), home.root().to_str().unwrap()]);

        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "bash"]);
        command.arg(home.path("space.sh")).arg(home.root()).arg(binary()).arg(USER.to_string());
        let holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut holder = holder.unwrap_or_else(|err| panic!("{command:?}: {err}"));
        let mut first = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let first = first.trim().to_owned();
        let space = Self { who, holder, first, home, _home: temp };
        assert!(!space.first.is_empty(), "the namespaces could not be made");
        space
    }

    pub fn who(&self) -> Who {
        self.who
    }

    /// The directory of the test.
    pub fn home(&self) -> &Dir {
        &self.home
    }

    /// The root file system of [`image.sh`](../image.sh).
    pub fn base_image(&self) -> PathBuf {
        self.home.path("base.tar")
    }

    /// The program under test, as it is called in there.
    pub fn program(&self) -> PathBuf {
        self.home.path("ovlmerge")
    }

    /// A directory that belongs to whom the space is for.
    pub fn own_dir(&self, name: &str) -> Dir {
        self.home.dir(name);
        if self.who == Who::User {
            chown(self.home.path(name), Some(USER), Some(USER)).unwrap();
        }
        self.home.sub(name)
    }

    /// A command in there: by [`Self::who`], with that environment and no other.
    pub fn command<A: AsRef<OsStr>>(&self, environment: &[String], args: &[A]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first, "--mount", "--pid"]);
        if self.who == Who::User {
            let id = USER.to_string();
            command.args(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"]);
        }
        command.args(["timeout", "--kill-after=5", PATIENCE, "env", "-i"]);
        command.arg(format!("--chdir={}", self.home.root().display())).arg("LC_ALL=C.UTF-8");
        command.arg(format!("PATH={PATH}"));
        command.arg(format!("TMPDIR={}", self.home.path("tmp").display()));
        command.args(environment).args(args).stdin(Stdio::null());
        command
    }

    /// A directory for other names of the program, beside it.
    pub fn links(&self) -> Dir {
        self.home.dir("ovlmerge.links");
        self.home.sub("ovlmerge.links")
    }

    /// Fails if a mount outlives its container, or the program its mount.
    #[track_caller]
    pub fn expect_nothing_mounted(&self) {
        // By whichever name it was called.
        let servers = || pids_with_argument(&self.program());
        let quiet = wait_for(Duration::from_secs(10), || servers().is_empty());
        assert!(quiet, "still there: {:?}", servers());
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        if let Err(err) = self.holder.kill().and_then(|()| self.holder.wait()) {
            eprintln!("the namespaces of {}: {err}", self.first);
        }
        // The kernel ends its processes on its own time, and their mounts are in our directory.
        let first = format!("/proc/{}", self.first);
        wait_for(Duration::from_secs(10), || !Path::new(&first).exists());
    }
}

/// The output of a command that has to succeed.
#[track_caller]
pub fn succeed(mut command: Command) -> String {
    let Output { status, stdout, stderr } = output(&mut command);
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{stderr}");
    stdout
}
