//! Images that are built, and what is sent to others of them.

use std::collections::BTreeSet;

use rstest::rstest;

use crate::image;
use crate::space::{Space, Who};
use crate::store::{BASE, Driver, Store, assert_same};
use crate::support::need;
use crate::{needs_runtimes, test_name};

const BUILT: &str = "localhost/built";

/// How `podman build` runs commands. As root, crun would want to set limits that a machine may not
/// allow, so they run in a chroot.
fn isolation(who: Who) -> &'static str {
    match who {
        Who::Root => "--isolation=chroot",
        Who::User => "--isolation=rootless",
    }
}

/// What [`oci.py`](../oci.py) finds in an image that is pushed to a directory.
fn pushed(store: &Store, image: &str, name: &str) -> BTreeSet<String> {
    let from = format!("containers-storage:{image}");
    let to = format!("{}/{name}", store.home().root().display());
    store.run(&["skopeo", "copy", "-q", &from, &format!("oci:{to}:latest")]);
    store.run(&["python3", "oci.py", &to]).lines().map(str::to_owned).collect()
}

/// The paths of a tree.
fn paths(tree: &BTreeSet<String>) -> BTreeSet<String> {
    tree.iter().map(|line| line.split_once(": ").unwrap().0.to_owned()).collect()
}

/// All but the line of the root, to which podman gives attributes of its own.
fn without_root(tree: &BTreeSet<String>) -> BTreeSet<String> {
    tree.iter().filter(|line| !line.starts_with("'': ")).cloned().collect()
}

/// The same steps with the program and with the kernel's overlayfs give the same image. What is
/// pushed of it keeps to the specification, and gives the same image to the kernel and to umoci.
#[rstest]
fn a_build_in_two_stages_is_what_the_kernel_makes(#[values(Who::Root, Who::User)] who: Who) {
    needs_runtimes!();
    let space = Space::new(who);
    space.home().file("build/Containerfile", include_str!("Containerfile"));
    space.home().file("build/context/dir/file", "from the context\n");
    let stores = [("ours", Driver::Program), ("kernels", Driver::Kernel)].map(|(name, driver)| {
        let store = Store::new(&space, name, driver);
        let tag = format!("--tag={BUILT}");
        store.podman(&["build", "--quiet", isolation(who), "--layers", &tag, "build"]);
        let layers = "--format={{len .RootFS.Layers}}";
        assert_eq!(store.podman(&["image", "inspect", layers, BUILT]), "13\n", "{driver:?}");
        store
    });
    let [ours, kernels] = &stores;
    let tree = ours.tree(BUILT);
    assert_same(&tree, &kernels.tree(BUILT));
    for expected in ["'usr/bin/own': 86755 0:0 ", "'opt/new/c': 40700 7:8", "'var/fifo': 1"] {
        assert!(tree.iter().any(|line| line.starts_with(expected)), "{expected}");
    }

    assert_same(&pushed(ours, BUILT, "oci"), &paths(&tree));
    let oci = format!("oci:{}:latest", ours.home().path("oci").display());
    kernels.run(&["skopeo", "copy", "-q", &oci, "containers-storage:localhost/pulled"]);
    assert_same(&tree, &kernels.tree("localhost/pulled"));
    let script = "umoci raw unpack --image ours/oci:latest tmp/out; python3 tree.py tmp/out";
    let unpacked = ours.inside(script, &[]).lines().map(str::to_owned).collect();
    assert_same(&without_root(&tree), &without_root(&unpacked));
    space.expect_nothing_mounted();
}

/// buildah without a Containerfile.
#[rstest]
fn buildah_step_by_step(#[values(Who::Root, Who::User)] who: Who) {
    needs_runtimes!();
    let space = Space::new(who);
    let store = Store::new(&space, "store", Driver::Program);
    store.home().file("file", "copied\n").mode("file", 0o4755);
    let script = r#"
        c=$(buildah from "$1")
        buildah copy --quiet --chown 3:4 "$c" store/file /opt/file >/dev/null
        dir=$(buildah mount "$c")
        setfattr -n user.by -v hand "$dir/opt/file"
        setcap cap_chown+ep "$dir/bin/busybox"
        rm -r "$dir/opt/old/deep"
        buildah unmount "$c" >/dev/null
        buildah run --isolation=chroot "$c" -- sh -c 'rm -r /opt/old; mkdir /opt/old'
        buildah config --cmd /bin/true "$c"
        buildah commit --quiet --rm "$c" "$2" >/dev/null
    "#;
    store.inside(script, &[BASE, BUILT]);
    let tree = store.tree(BUILT);
    let has = |start: &str, end: &str| {
        assert!(
            tree.iter().any(|line| line.starts_with(start) && line.ends_with(end)),
            "{start} {end} is not in {tree:#?}"
        );
    };
    has("'opt/file': 84755 3:4 ", "user.by=68616e64");
    has("'bin/busybox': ", "security.capability=0100000201000000000000000000000000000000");
    has("'opt/old': 40755 0:0", "");
    assert!(!tree.iter().any(|line| line.starts_with("'opt/old/")), "{tree:#?}");
    assert_same(&pushed(&store, BUILT, "oci"), &paths(&tree));
    space.expect_nothing_mounted();
}

/// Packages are installed and removed in a Debian image, by dpkg and its scripts.
#[test]
fn packages_are_installed_in_a_build() {
    needs_runtimes!();
    let image = match image::cached() {
        Ok(image) => image,
        Err(reason) => {
            need::lacks(test_name!(), &reason);
            return;
        }
    };
    let space = Space::new(Who::User);
    let store = Store::empty(&space, "store", Driver::Program);
    let tar = space.home().path("debian.tar");
    std::fs::copy(image, &tar).unwrap();
    store.podman(&["import", "--quiet", tar.to_str().unwrap(), "localhost/debian"]);
    space.home().file("build/Containerfile", include_str!("Containerfile.debian"));
    let tag = format!("--tag={BUILT}");
    store.podman(&["build", "--quiet", isolation(Who::User), "--layers", &tag, "build"]);
    let script = "getcap /usr/bin/less; getfattr --only-values -n user.kept /usr/share/kept; echo; \
                  dpkg --audit; dpkg -V | grep -v ' /usr/share/doc/' || true; \
                  ls /usr/bin/tree 2>/dev/null || ls /usr/share/doc; stat -c %u:%g /usr/share/doc";
    assert_eq!(store.in_new(BUILT, script), "/usr/bin/less cap_net_raw=ep\nyes\n0:0\n");
    let (mut found, mut shown) = (pushed(&store, BUILT, "oci"), paths(&store.tree(BUILT)));
    for paths in [&mut found, &mut shown] {
        // A user's podman leaves out the devices of a layer.
        paths.retain(|path| !path.starts_with("'dev/"));
    }
    assert_same(&found, &shown);
    assert!(found.len() > 5_000, "{}", found.len());
    space.expect_nothing_mounted();
}
