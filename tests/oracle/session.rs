//! The outer side: starts executors, asks them, and never waits for ever.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::case::Links;
use super::executor::{END, ROLE};
use super::tree::Tree;

/// After this long without an answer an engine counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// What mounts the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Kernel,
    /// `index=on`: hard links of a lower keep their identity over copy-up.
    KernelIndex,
    /// `redirect_dir=on`: directories of a lower move.
    KernelRedirect,
    /// With `rename_lower=off`, as the kernel is by default.
    Ovlmerge,
    /// With what is its own default: directories of a lower move by being copied up.
    OvlmergeCopy,
    OvlmergeRedirect,
    /// With `index=on` as well.
    OvlmergeIndex,
    /// With `copy_up=open`: being opened for writing is a change, as for the kernel. Of a name that
    /// is a file of its own that shows.
    OvlmergeOpen,
    FuseOverlayfs,
}

impl Engine {
    pub const FUSE_OVERLAYFS: &'static str = "/usr/bin/fuse-overlayfs";

    pub fn is_kernel(self) -> bool {
        matches!(self, Self::Kernel | Self::KernelIndex | Self::KernelRedirect)
    }

    /// How it renames a directory of a lower, if it does: uppers of two that do so differently
    /// cannot be the same.
    pub fn moves_by(self) -> Option<&'static str> {
        match self {
            Self::KernelRedirect | Self::OvlmergeRedirect => Some("redirect"),
            Self::OvlmergeCopy => Some("copy"),
            _ => None,
        }
    }

    fn ours(options: &str) -> String {
        format!("@mount {} {options}", env!("CARGO_BIN_EXE_ovlmerge"))
    }

    /// The same engine for layers whose files may have several names.
    pub fn with_links(self, links: Links) -> Self {
        match (self, links) {
            (Self::Kernel, Links::InLower) => Self::KernelIndex,
            (Self::Ovlmerge, Links::InLower) => Self::OvlmergeIndex,
            (Self::Ovlmerge, Links::Apart) => Self::OvlmergeOpen,
            _ => self,
        }
    }

    fn request(self) -> String {
        match self {
            Self::Kernel => "@mount kernel redirect_dir=off,index=off".into(),
            Self::KernelIndex => "@mount kernel redirect_dir=off,index=on".into(),
            Self::KernelRedirect => "@mount kernel redirect_dir=on,index=off".into(),
            Self::Ovlmerge => Self::ours("rename_lower=off"),
            Self::OvlmergeCopy => Self::ours("rename_lower=copy"),
            Self::OvlmergeRedirect => Self::ours("rename_lower=off,redirect_dir=on"),
            Self::OvlmergeIndex => Self::ours("rename_lower=off,index=on"),
            Self::OvlmergeOpen => Self::ours("rename_lower=off,copy_up=open"),
            Self::FuseOverlayfs => format!("@mount {} -", Self::FUSE_OVERLAYFS),
        }
    }
}

/// With whose privileges the engine and the operations run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Root of the machine; markers in `trusted.overlay.`.
    Root,
    /// Root of a user namespace that maps this one id; markers in `user.overlay.`.
    Userns,
}

/// An executor, its scratch directory, and what it has mounted.
pub struct Session {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<String>,
    scratch: tempfile::TempDir,
    cases: usize,
    lowers: usize,
    mounted: Option<Engine>,
}

/// Why a session cannot go on: a request that could not be carried out, or no answer.
pub type Failure = String;

impl Session {
    pub fn start(place: Place) -> Result<Self, Failure> {
        let scratch = tempfile::tempdir().map_err(|err| format!("scratch directory: {err}"))?;
        let (role, user) = match place {
            Place::Root => ("root", None),
            Place::Userns => ("userns", Some("--map-root-user")),
        };
        let mut child = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(user)
            .arg(std::env::current_exe().map_err(|err| err.to_string())?)
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|err| format!("unshare: {err}"))?;
        let requests = child.stdin.take().ok_or("no pipe")?;
        let output = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        let (sender, answers) = channel();
        // Ends with the pipe, which ends with the child.
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, requests, answers, scratch, cases: 0, lowers: 0, mounted: None })
    }

    /// Sends a request without waiting, so that two engines work at the same time.
    pub fn send(&mut self, request: &str) -> Result<(), Failure> {
        writeln!(self.requests, "{request}").map_err(|err| format!("`{request}`: {err}"))
    }

    pub fn receive(&mut self) -> Result<Vec<String>, Failure> {
        let mut lines = Vec::new();
        loop {
            let line = self.answers.recv_timeout(PATIENCE);
            let line = line.map_err(|why| format!("{:?}: no answer: {why}", self.mounted))?;
            if line == END {
                return Ok(lines);
            }
            if line.starts_with("FAILED") {
                return Err(format!("{:?}: {line}", self.mounted));
            }
            lines.push(line);
        }
    }

    fn ask(&mut self, request: &str) -> Result<Vec<String>, Failure> {
        self.send(request)?;
        self.receive()
    }

    /// The answer to one operation.
    pub fn outcome(&mut self) -> Result<String, Failure> {
        Ok(self.receive()?.join(" "))
    }

    /// New layers, topmost first, each made by a script. An operation of a script may fail: random
    /// ones often do, and do so alike everywhere.
    pub fn build(&mut self, layers: &[Vec<String>]) -> Result<(), Failure> {
        self.unmount()?;
        self.cases += 1;
        self.lowers = layers.len();
        let dir = self.case_dir();
        self.ask(&format!("@case {} {}", dir.display(), layers.len()))?;
        for (nth, script) in layers.iter().enumerate() {
            self.ask(&format!("@build l{nth}"))?;
            for op in script {
                self.ask(op)?;
            }
        }
        self.ask("@settle").map(drop)
    }

    /// The same; the first is the upper.
    pub fn build_with_upper(&mut self, layers: &[Vec<String>]) -> Result<(), Failure> {
        let (upper, lowers) = layers.split_first().ok_or("no layers")?;
        self.build(lowers)?;
        self.ask("@build u")?;
        for op in upper {
            self.ask(op)?;
        }
        self.ask("@settle").map(drop)
    }

    fn case_dir(&self) -> PathBuf {
        self.scratch.path().join(self.cases.to_string())
    }

    pub fn mount(&mut self, engine: Engine) -> Result<(), Failure> {
        self.mounted = Some(engine);
        self.ask(&engine.request()).map(drop).inspect_err(|_| self.mounted = None)
    }

    pub fn mounted(&self) -> Option<Engine> {
        self.mounted
    }

    pub fn unmount(&mut self) -> Result<(), Failure> {
        if self.mounted.is_some() {
            self.ask("@unmount")?;
            self.mounted = None;
        }
        Ok(())
    }

    /// The merged tree, as the engine shows it now.
    pub fn merged(&mut self) -> Result<Tree, Failure> {
        let mut tree = self.tree("m")?;
        if self.mounted.is_some_and(Engine::is_kernel) {
            super::documented::hide_listed_whiteouts(&mut tree);
        }
        Ok(tree)
    }

    pub fn upper(&mut self) -> Result<Tree, Failure> {
        self.tree("u")
    }

    /// The lower layers as they are on disk, topmost first.
    pub fn lower_layers(&mut self) -> Result<Vec<Tree>, Failure> {
        (0..self.lowers).map(|nth| self.tree(&format!("l{nth}"))).collect()
    }

    fn tree(&mut self, of: &str) -> Result<Tree, Failure> {
        Ok(Tree::parse(&self.ask(&format!("@tree {of}"))?))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // unshare takes the executor with it, that its process namespace, and that all mounts.
        if self.child.kill().and_then(|()| self.child.wait().map(drop)).is_err() {
            println!("an executor could not be ended");
        }
    }
}
