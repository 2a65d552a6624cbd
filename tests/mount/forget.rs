//! What the kernel forgets the server forgets.

use std::time::Duration;

use nix::mount::{MsFlags, mount};

use crate::support::Scratch;
use crate::support::process::wait_for;
use crate::{needs, not_the_kernels};

/// How many nodes may be left: the root, what asks and is asked, and those that were held by
/// something else when they were forgotten, which are looked at again when 64 have come together.
const LEFT: u64 = 70;

#[test]
fn no_node_outlives_what_the_kernel_knows() {
    needs!(mount);
    not_the_kernels!("it keeps no nodes");
    let s = Scratch::with_lowers(2);
    for file in 0..500 {
        s.lower(0).file(format!("d{}/f{file}", file % 20), "");
        s.lower(1).file(format!("d{}/g{file}", file % 20), "");
    }
    let m = s.mount();
    let nodes = || m.statistics()["caches"]["nodes"].as_u64().unwrap();
    let look_at_all = || {
        for file in 0..500 {
            m.stat(format!("d{}/f{file}", file % 20));
            m.stat(format!("d{}/g{file}", file % 20));
        }
        nodes() > 1000
    };
    for round in 0..3 {
        // More than once if the kernel's caches are dropped meanwhile, as other tests do.
        assert!(wait_for(Duration::from_secs(30), look_at_all), "round {round}: {}", nodes());
        // The kernel drops the names that nobody uses (`reconfigure_super`, fs/super.c), and then
        // tells of the inodes, when it has time.
        mount(None::<&str>, m.root(), None::<&str>, MsFlags::MS_REMOUNT, None::<&str>).unwrap();
        let forgotten = wait_for(Duration::from_secs(30), || nodes() <= LEFT);
        assert!(forgotten, "round {round}: {} nodes are left", nodes());
    }
}

/// What was freed here and there stayed with the process for good, as long as anything above it in
/// memory was in use: after a walk over a million files 140 MiB.
#[test]
fn memory_of_many_nodes_goes_back() {
    needs!(mount);
    not_the_kernels!("it keeps no nodes");
    // A few times what makes it worth while.
    const NAMES: u64 = 70_000;
    let s = Scratch::with_lowers(1);
    for name in 0..NAMES {
        s.lower(0).file(format!("{name}"), "");
    }
    let m = s.mount();
    let memory = || m.statistics()["memory"]["resident_bytes"].as_u64().unwrap();
    let before = memory();
    let look_at_all = || {
        for name in 0..NAMES {
            m.stat(format!("{name}"));
        }
        m.statistics()["caches"]["nodes"].as_u64().unwrap() > NAMES
    };
    // More than once if the kernel's caches are dropped meanwhile, as other tests do.
    assert!(wait_for(Duration::from_secs(300), look_at_all), "{}", m.statistics()["caches"]);
    let grown = memory() - before;
    assert!(grown > NAMES * 100, "{grown} bytes for {NAMES} names");
    mount(None::<&str>, m.root(), None::<&str>, MsFlags::MS_REMOUNT, None::<&str>).unwrap();
    let returned = wait_for(Duration::from_secs(120), || memory() < before + grown / 2);
    let (left, nodes) = (memory() - before, m.statistics()["caches"]["nodes"].clone());
    assert!(returned, "{left} bytes of {grown} are left, for {nodes} nodes");
}
