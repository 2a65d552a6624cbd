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
use crate::support::{Mount, Scratch, need, raw};
use crate::{needs, not_the_kernels};

const NO_PROGRAM: &str = "it is no program";

/// Stores to a mapping.
const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mount/dirty.py");

const LIMIT: u64 = 40 << 20;
const DIRTY: u64 = 300 << 20;

/// What takes a second or two.
const PATIENCE: Duration = Duration::from_secs(180);

/// A control group with [`LIMIT`] of memory.
struct Group(PathBuf);

impl Group {
    /// One in each hierarchy that has a controller of memory.
    fn each() -> Vec<Self> {
        // The files of version 2 and version 1, each with the directories where it may be mounted.
        let known = [
            ("memory.max", &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"][..]),
            ("memory.limit_in_bytes", &["/sys/fs/cgroup/memory"][..]),
        ];
        let groups = known.iter().flat_map(|(limit, places)| {
            places.iter().filter_map(move |place| Self::below(Path::new(place), limit))
        });
        groups.collect()
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

#[test]
#[ignore = "known failure: without CAP_SYS_RESOURCE (PR_SET_IO_FLUSHER) the server may still wait for its own pages"]
fn a_limit_that_client_and_server_share() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let groups = Group::each();
    if groups.is_empty() {
        need::lacks(crate::test_name!(), "needs a controller of memory (cgroup v1 or v2)");
        return;
    }
    for group in groups {
        // It hung every third time.
        for _ in 0..3 {
            let s = Scratch::new();
            let mut options = File::options();
            let file = options.read(true).write(true).create_new(true);
            let file = file.open(s.upper.path("f")).unwrap();
            file.set_len(DIRTY).unwrap();
            let mut m = s.setup().group(&group.procs()).mount();
            dirty(&m, &group);
            m.unmount();
            for at in (0..DIRTY).step_by(1 << 20) {
                let mut stored = [0; 8];
                file.read_exact_at(&mut stored, at).unwrap();
                assert_eq!(u64::from_le_bytes(stored), at, "{}", group.0.display());
            }
        }
    }
}
