//! One store, mounted now by the program and now by the kernel's overlayfs.

use std::collections::BTreeSet;

use rstest::rstest;

use crate::needs_runtimes;
use crate::space::{Space, Who};
use crate::store::{BASE, Driver, Store, assert_same};
use crate::support::process::{self, pids_with_argument};

/// Changes what a container has, in many ways. What it makes depends on nothing but what is there.
const CHANGES: &str = "rm -rf /opt/old/deep; mkdir /opt/old/deep; echo d > /opt/old/deep/d; \
                       mv /opt/old/file /opt/old/moved; chmod 600 /etc/passwd; rm /etc/group; \
                       ln /usr/bin/setuid /usr/bin/twin; chown 5:6 /usr/bin/capable; \
                       mv /usr/bin/capable /tmp; mkdir -p /a/b/c; echo x >> /opt/old/twin; ";

/// The type of the file system that a container is on.
fn engine(store: &Store, container: &str) -> String {
    let script = "while read -r _ dir type _; do [ $dir != / ] || echo $type; done < /proc/mounts";
    store.podman(&["exec", container, "sh", "-c", script])
}

fn stop(store: &Store) {
    store.podman(&["stop", "--time=1", "one"]);
}

/// An ordinary user's podman remembers that a mount program was used, and looks for another one
/// then, unless it is made to find out anew.
fn forget_the_program(store: &Store) {
    let flag = ".local/share/containers/storage/overlay/.has-mount-program";
    assert_eq!(store.home().read(flag), "true");
    std::fs::remove_file(store.home().path(flag)).unwrap();
}

/// A container and an image begun on the kernel's overlayfs, carried on by the program, and taken
/// back.
#[rstest]
fn from_the_kernel_to_the_program_and_back(#[values(Who::Root, Who::User)] who: Who) {
    needs_runtimes!();
    let space = Space::new(who);
    let store = Store::new(&space, "store", Driver::Kernel);
    let wait = "trap exit TERM; while :; do sleep 0.1; done";
    let script = format!("if ! [ -e /a ]; then {CHANGES} fi; {wait}");
    store.podman(&["run", "--detach", "--name=one", BASE, "sh", "-euc", &script]);
    assert_eq!(engine(&store, "one"), "overlay\n");
    stop(&store);
    store.podman(&["commit", "--quiet", "one", "localhost/kernels"]);
    let tree = store.tree("localhost/kernels");

    store.set_driver(Driver::Program);
    assert_same(&tree, &store.tree("localhost/kernels"));
    store.podman(&["start", "one"]);
    assert_eq!(engine(&store, "one"), "fuse.ovlmerge\n");
    let more = "rm -r /opt/old/deep /a/b; mkdir /a/b; echo 2 > /a/b/2; rm /usr/bin/setuid; \
                mkdir /opt/old/deep; echo p > /opt/old/deep/p; mv /tmp/capable /usr/bin/back; \
                touch /tmp/t";
    store.podman(&["exec", "one", "sh", "-euc", more]);
    stop(&store);
    store.podman(&["commit", "--quiet", "one", "localhost/programs"]);
    let tree = store.tree("localhost/programs");
    // Its layers are written for a mount program: see `layers_for_a_program_stay_with_one`.
    store.podman(&["rmi", "localhost/programs"]);

    store.set_driver(Driver::Kernel);
    forget_the_program(&store);
    store.podman(&["start", "one"]);
    assert_eq!(engine(&store, "one"), "overlay\n");
    stop(&store);
    store.podman(&["commit", "--quiet", "one", "localhost/again"]);
    assert_same(&tree, &store.tree("localhost/again"));
    space.expect_nothing_mounted();
}

/// For a mount program podman unpacks layers with AUFS whiteouts, which the kernel's overlayfs does
/// not know. When no mount program is configured any more, it finds these and looks for one that is
/// called fuse-overlayfs. To the kernel such an image gets by way of an OCI directory.
#[rstest]
fn layers_for_a_program_stay_with_one(#[values(Who::Root, Who::User)] who: Who) {
    needs_runtimes!();
    let space = Space::new(who);
    let mut store = Store::new(&space, "store", Driver::Program);
    store.podman(&["run", "--name=one", BASE, "sh", "-euc", CHANGES]);
    store.podman(&["commit", "--quiet", "one", "localhost/programs"]);
    let tree = store.tree("localhost/programs");

    let links = space.links();
    links.symlink("fuse-overlayfs", space.program());
    store.search_first(links.root());
    store.set_driver(Driver::Kernel);
    forget_the_program(&store);
    let wait = "trap exit TERM; while :; do sleep 0.1; done";
    store.podman(&["run", "--detach", "--name=two", "localhost/programs", "sh", "-euc", wait]);
    assert!(engine(&store, "two").starts_with("fuse."));
    assert_same(&tree, &store.tree("localhost/programs"));
    let servers = pids_with_argument(&links.path("fuse-overlayfs"));
    assert_eq!(servers.len(), 1, "{servers:?}");
    store.podman(&["rm", "--force", "--time=0", "--all"]);

    let kernels = Store::empty(&space, "kernels", Driver::Kernel);
    let image = "containers-storage:localhost/programs";
    let mut before = tree;
    for (from, to) in [(&store, &kernels), (&kernels, &store)] {
        let dir = format!("oci:{}:image", from.home().path("image").display());
        from.run(&["skopeo", "copy", "-q", image, &dir]);
        to.podman(&["rmi", "--ignore", "localhost/programs"]);
        to.run(&["skopeo", "copy", "-q", &dir, image]);
        let after = to.tree("localhost/programs");
        assert_same(&before, &after);
        before = after;
    }
    space.expect_nothing_mounted();
}

/// Without what podman 4.3 loses when it writes down modes: set-id and sticky bits, capabilities,
/// and all of the root directory's.
fn without_privileges(tree: &BTreeSet<String>) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for line in tree {
        let (path, facts) = line.split_once(": ").unwrap();
        let (kind, permissions) = (&facts[..1], &facts[2..]);
        let facts: Vec<_> = permissions.split(" security.capability=").collect();
        if path != "''" {
            lines.insert(format!("{path}: {kind}{}", facts[0]));
        }
    }
    lines
}

/// Where a file system cannot hold owners, or shows all files to all, podman forces modes on what
/// it unpacks and writes down the right ones beside, for the program to show.
#[rstest]
fn a_store_with_forced_modes(#[values(Who::Root, Who::User)] who: Who) {
    needs_runtimes!();
    let space = Space::new(who);
    // Podman 4.3 cannot write down anything beside a FIFO.
    let base = space.base_image();
    process::run("tar", &["--delete", "--file", base.to_str().unwrap(), "./opt/old/fifo"]);
    let forced = Store::empty(&space, "forced", Driver::Program);
    forced.configure("force_mask = \"700\"");
    forced.import_base();
    let plain = Store::new(&space, "plain", Driver::Program);
    let changes = format!("{CHANGES} chown 3:4 /a/b; chmod 1777 /a");
    for store in [&forced, &plain] {
        store.podman(&["run", "--name=one", BASE, "sh", "-euc", &changes]);
        store.podman(&["commit", "--quiet", "one", "localhost/changed"]);
    }
    for image in [BASE, "localhost/changed"] {
        assert_same(
            &without_privileges(&forced.tree(image)),
            &without_privileges(&plain.tree(image)),
        );
    }
    let kept = "find forced/.local/share/containers/storage/overlay/*/diff -path '*/usr/bin/setuid' \
                -exec getfattr -h -n user.containers.override_stat --only-values {} \\; -quit";
    let kept = forced.inside(kept, &[]);
    assert!(kept.starts_with("1:2:0755"), "{kept}");
    space.expect_nothing_mounted();
}
