//! File systems that other programs serve: fuse-overlayfs, squashfuse, fuse2fs.

use std::ops::Deref;
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};

use super::mount::is_mountpoint;
use super::process::{self, wait_for};
use super::scratch::{Dir, Scratch};

/// How long a server may take to leave.
const PATIENCE: Duration = Duration::from_secs(20);

/// A mount that goes, with its server, when this goes.
#[derive(Debug)]
pub struct FuseFs(Dir);

impl FuseFs {
    /// Runs `program`, which ends when it has mounted at `at`, its last argument.
    pub fn mount(program: &str, args: &[&str], at: &Dir) -> Self {
        let output = process::output(Command::new(program).args(args).arg(at.root()));
        assert!(output.status.success(), "{program}: {}", process::text(&output.stderr));
        let mount = Self(at.clone());
        assert!(is_mountpoint(at.root()), "{program}: nothing is mounted");
        mount
    }

    /// fuse-overlayfs with the layers of `s`, at its mountpoint.
    pub fn overlay(s: &Scratch) -> Self {
        let lowers: Vec<_> = s.lowers().iter().map(|dir| dir.root().to_str().unwrap()).collect();
        let [upper, work] = [&s.upper, &s.work].map(|dir| dir.root().display().to_string());
        let options = format!("lowerdir={},upperdir={upper},workdir={work}", lowers.join(":"));
        Self::mount("fuse-overlayfs", &["-o", &options], &s.mnt)
    }
}

impl Deref for FuseFs {
    type Target = Dir;

    fn deref(&self) -> &Dir {
        &self.0
    }
}

impl Drop for FuseFs {
    fn drop(&mut self) {
        let place = self.0.root();
        let servers = process::pids_with_argument(place);
        let gone = umount2(place, MntFlags::UMOUNT_NOFOLLOW)
            .or_else(|_| umount2(place, MntFlags::MNT_DETACH));
        if let Err(err) = gone {
            eprintln!("{} stays mounted: {err}", place.display());
        }
        for pid in servers {
            if !wait_for(PATIENCE, || !process::is_alive(pid)) {
                eprintln!("the server {pid} of {} stays", place.display());
            }
        }
    }
}
