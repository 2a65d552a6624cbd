//! A store of images and containers, and the programs that work on it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::space::{PATH, Space, Who, succeed};
use crate::support::Dir;

/// What mounts the containers of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// The program under test, as `mount_program`.
    Program,
    /// The kernel's overlayfs.
    Kernel,
}

/// A store with a home directory of its own.
#[derive(Debug)]
pub struct Store<'a> {
    space: &'a Space,
    home: Dir,
    run: String,
    environment: Vec<String>,
}

/// The image that every store begins with.
pub const BASE: &str = "localhost/base";

impl<'a> Store<'a> {
    /// An empty one.
    pub fn empty(space: &'a Space, name: &str, driver: Driver) -> Self {
        let home = space.own_dir(name);
        // Short, as there are sockets of long names below it. What has a path of more than 107
        // bytes (sun_path, unix(7)) fails in ways that podman does not tell of.
        let run = format!("/run/user/{name}");
        succeed(space.command(&[], &["mkdir", "-m", "700", &run]));
        let environment = vec![
            format!("HOME={}", home.root().display()),
            format!("XDG_RUNTIME_DIR={run}"),
            format!("CONTAINERS_STORAGE_CONF={}", home.path("storage.conf").display()),
        ];
        let store = Self { space, home, run, environment };
        store.set_driver(driver);
        store
    }

    /// One that holds [`BASE`].
    pub fn new(space: &'a Space, name: &str, driver: Driver) -> Self {
        let store = Self::empty(space, name, driver);
        store.import_base();
        store
    }

    /// Makes the image [`BASE`].
    pub fn import_base(&self) {
        self.podman(&["import", "--quiet", self.space.base_image().to_str().unwrap(), BASE]);
    }

    /// Changes what mounts the containers from now on.
    pub fn set_driver(&self, driver: Driver) {
        // Where podman looks for the store of an ordinary user who has configured nothing.
        let root = self.home.path(".local/share/containers/storage");
        let mut text = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = {root:?}\nrunroot = \"{}/containers\"\n",
            self.run
        );
        if driver == Driver::Program {
            let program = self.space.program();
            text += &format!("[storage.options.overlay]\nmount_program = {program:?}\n");
        }
        self.home.file("storage.conf", text);
    }

    /// One more line for the section `storage.options.overlay` of the configuration.
    pub fn configure(&self, line: &str) {
        let text = self.home.read("storage.conf");
        self.home.file("storage.conf", format!("{text}{line}\n"));
    }

    /// Looks for programs in `dir` first, from now on.
    pub fn search_first(&mut self, dir: &Path) {
        self.environment.push(format!("PATH={}:{PATH}", dir.display()));
    }

    /// The home directory of whom the store belongs to.
    pub fn home(&self) -> &Dir {
        &self.home
    }

    /// A command with this store.
    pub fn command(&self, args: &[&str]) -> Command {
        self.space.command(&self.environment, args)
    }

    /// Runs a command, which must succeed, and returns its standard output.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        succeed(self.command(args))
    }

    /// Runs podman, which must succeed.
    #[track_caller]
    pub fn podman(&self, args: &[&str]) -> String {
        self.run(&[&["podman"], args].concat())
    }

    /// Runs a shell command in a new container that goes at once.
    #[track_caller]
    pub fn in_new(&self, image: &str, script: &str) -> String {
        self.podman(&["run", "--rm", image, "sh", "-euc", script])
    }

    /// Runs a shell script where the mounts of images and containers can be seen.
    #[track_caller]
    pub fn inside(&self, script: &str, args: &[&str]) -> String {
        let shell = ["sh", "-euc", script, "sh"];
        match self.space.who() {
            Who::Root => self.run(&[&shell, args].concat()),
            Who::User => self.podman(&[&["unshare"], &shell[..], args].concat()),
        }
    }

    /// All paths of an image, as it is when it is mounted: the lines of [`tree.py`](../tree.py).
    #[track_caller]
    pub fn tree(&self, image: &str) -> BTreeSet<String> {
        let script = r#"
            dir=$(podman image mount "$1")
            python3 tree.py "$dir"
            podman image unmount "$1" >/dev/null
        "#;
        self.inside(script, &[image]).lines().map(str::to_owned).collect()
    }

    /// What `podman diff` says of an image or a container, sorted.
    #[track_caller]
    pub fn diff(&self, of: &str) -> Vec<String> {
        let mut lines: Vec<_> = self.podman(&["diff", of]).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

/// Fails, and says where, if two trees differ.
#[track_caller]
pub fn assert_same(left: &BTreeSet<String>, right: &BTreeSet<String>) {
    let only = |one: &BTreeSet<String>, other| {
        let lines: Vec<_> = one.difference(other).take(20).cloned().collect();
        lines.join("\n")
    };
    assert!(left == right, "only left:\n{}\nonly right:\n{}", only(left, right), only(right, left));
}
