//! Images that are built.

use rstest::rstest;

use crate::space::{Space, Who, can_run};
use crate::store::{Driver, Store, assert_same};

/// The same steps with the program and with the kernel's overlayfs give the same image.
#[rstest]
fn a_build_in_two_stages_is_what_the_kernel_makes(#[values(Who::Root, Who::User)] who: Who) {
    if !can_run("a_build_in_two_stages_is_what_the_kernel_makes") {
        return;
    }
    let space = Space::new(who);
    space.home().file("build/Containerfile", include_str!("Containerfile"));
    space.home().file("build/context/dir/file", "from the context\n");
    let trees = [("ours", Driver::Program), ("kernels", Driver::Kernel)].map(|(name, driver)| {
        let store = Store::new(&space, name, driver);
        store.podman(&["build", "--quiet", "--isolation=chroot", "--layers", "--tag=localhost/built", "build"]);
        let layers = store.podman(&[
            "image", "inspect", "--format={{len .RootFS.Layers}}", "localhost/built",
        ]);
        assert_eq!(layers, "13\n", "layers, {driver:?}");
        store.tree("localhost/built")
    });
    assert_same(&trees[0], &trees[1]);
    assert!(trees[0].iter().any(|line| line.starts_with("'usr/bin/own': 86755 0:0 ")));
    space.expect_nothing_mounted();
}
