//! Little memory, of which client and server have a part each.
//!
//! The kernel wants to write the pages of the client back before it gives memory to the server that
//! they are written to. Once both waited for one another for ever.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::leaving::abort;
use crate::support::process::wait_for;
use crate::support::{Mount, Scratch, need, passthrough_everywhere, raw};
use crate::{needs, not_the_kernels};

const NO_PROGRAM: &str = "it is no program";

/// Stores to a mapping.
const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mount/dirty.py");

const LIMIT: u64 = 40 << 20;
const DIRTY: u64 = 300 << 20;

/// What takes a second or two.
const PATIENCE: Duration = Duration::from_secs(180);

/// The versions of control groups, each by its file for the limit and the directories where it may
/// be mounted.
const VERSION_1: (&str, &[&str]) = ("memory.limit_in_bytes", &["/sys/fs/cgroup/memory"]);
const VERSION_2: (&str, &[&str]) = ("memory.max", &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]);

/// A control group with [`LIMIT`] of memory.
struct Group(PathBuf);

impl Group {
    /// One of this version, where it has a controller of memory.
    fn new((limit, places): (&str, &[&str])) -> Option<Self> {
        places.iter().find_map(|place| Self::below(Path::new(place), limit))
    }

    fn below(place: &Path, limit: &str) -> Option<Self> {
        let dir = place.join(format!("ovlmerge-test-{}", std::process::id()));
        if !place.join("cgroup.procs").exists() || fs::create_dir(&dir).is_err() {
            return None;
        }
        let group = Self(dir);
        fs::write(group.0.join(limit), LIMIT.to_string()).is_ok().then_some(group)
    }

    fn procs(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !wait_for(PATIENCE, || fs::remove_dir(&self.0).is_ok()) {
            eprintln!("{} stays", self.0.display());
        }
    }
}

fn dirty(m: &Mount, group: &Group) {
    let mut client = Command::new("python3");
    client.arg(CLIENT).arg(m.path("f"));
    raw::enter_group(&mut client, &group.procs());
    let mut client = client.spawn().unwrap();
    let ended = wait_for(PATIENCE, || client.try_wait().unwrap().is_some());
    if !ended {
        // Nothing else ends this: both are waiting in the kernel.
        abort(m);
        client.kill().unwrap();
    }
    let status = client.wait().unwrap();
    assert!(ended, "{}: client and server wait for one another", group.0.display());
    assert!(status.success(), "{}: {status}", group.0.display());
}

/// It hung every third time.
fn share(group: &Group, options: &[&str]) {
    for _ in 0..3 {
        let s = Scratch::new();
        let mut file = File::options();
        let file = file.read(true).write(true).create_new(true);
        let file = file.open(s.upper.path("f")).unwrap();
        file.set_len(DIRTY).unwrap();
        let setup = options.iter().fold(s.setup(), |setup, option| setup.option(option));
        let mut m = setup.group(&group.procs()).mount();
        dirty(&m, group);
        m.unmount();
        for at in (0..DIRTY).step_by(1 << 20) {
            let mut stored = [0; 8];
            file.read_exact_at(&mut stored, at).unwrap();
            assert_eq!(u64::from_le_bytes(stored), at, "{}", group.0.display());
        }
    }
}

/// Reclaim waits for pages under writeback in version 1 alone (`shrink_folio_list`, mm/vmscan.c),
/// and not for those of FUSE if the kernel gathers writes (`fuse_init_file_inode`, fs/fuse/file.c).
#[test]
fn a_limit_that_client_and_server_share() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    // Then no write can be gathered.
    if passthrough_everywhere() {
        return;
    }
    let groups: [(Option<Group>, &[&str]); 2] =
        [(Group::new(VERSION_2), &[]), (Group::new(VERSION_1), &["writeback=1"])];
    let mut there = 0;
    for (group, options) in groups {
        if let Some(group) = group {
            share(&group, options);
            there += 1;
        }
    }
    if there == 0 {
        need::lacks(crate::test_name!(), "needs a controller of memory (cgroup v1 or v2)");
    }
}

#[test]
#[ignore = "known failure: without CAP_SYS_RESOURCE (PR_SET_IO_FLUSHER) the server may still wait for its own pages"]
fn a_limit_of_version_1() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let Some(group) = Group::new(VERSION_1) else {
        need::lacks(crate::test_name!(), "needs cgroup v1 with a controller of memory");
        return;
    };
    share(&group, &[]);
}
