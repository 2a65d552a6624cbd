//! The life of a root filesystem on ovlmerge, and what the kernel says of what it left behind.

use std::time::Instant;

use crate::kernel::KernelOverlay;
use crate::support::tree::{Compare, Tree, assert_same_tree, dump};
use crate::support::{Engine, Mount, Scratch, need};
use crate::{chroot, image, layers, needs, test_name};

/// Link counts too: nothing here has links on both sides of a copy-up.
const ALL: Compare = Compare { nlink: true, ..Compare::STRICT };

#[test]
fn debian_root_filesystem() {
    needs!(mount, kernel_overlay, acl);
    let image = match image::cached() {
        Ok(image) => image,
        Err(reason) => {
            need::lacks(test_name!(), &reason);
            return;
        }
    };
    let started = Instant::now();
    let scratch = Scratch::with_lowers(3);
    layers::fill(&image, &scratch);
    let lowers_before: Vec<_> = scratch.lowers().iter().map(|dir| dump(dir.root())).collect();
    println!("layers after {:?}", started.elapsed());

    let mut mount = mount(&scratch);
    let packages = [("PACKAGES", image::PACKAGES), ("PURGE", image::PURGE)];
    chroot::run(mount.root(), include_str!("install.sh"), &packages);
    let before = dump(mount.root());
    expect(&before);
    mount.remount();
    println!("{} paths, mounted anew after {:?}", before.len(), started.elapsed());
    assert_same_tree(&before, &dump(mount.root()), ALL);
    mount.unmount();
    assert_eq!(scratch.leftovers(), [""; 0], "in the work directory");

    kernel_agrees(&scratch, &before);
    let after = kernel_changes(&scratch);
    println!("the kernel is done after {:?}", started.elapsed());
    mount.remount();
    assert_same_tree(&after, &dump(mount.root()), ALL);
    mount.unmount();

    for (layer, before) in scratch.lowers().iter().zip(&lowers_before) {
        assert_same_tree(before, &dump(layer.root()), ALL);
    }
    println!("all of it in {:?}", started.elapsed());
}

fn mount(scratch: &Scratch) -> Mount {
    let setup = scratch.setup();
    match Engine::current() {
        Engine::Program => setup.option("suid").option("dev").mount(),
        Engine::Kernel => setup.mount(),
    }
}

/// A few things that must be there, or not, lest two empty trees be compared.
fn expect(tree: &Tree) {
    let has = |path: &str| tree.contains_key(std::path::Path::new(path));
    for path in ["usr/bin/gcc", "usr/bin/sudo", "srv/project/add", "srv/special/socket", "media"] {
        assert!(has(path), "{path} is missing");
    }
    let removed = ["usr/bin/nano", "usr/share/doc/apt", "usr/share/pixmaps"];
    for path in removed.into_iter().chain(layers::HIDDEN) {
        assert!(!has(path), "{path} is there");
    }
    assert!(tree.len() > 8_000, "only {} paths", tree.len());
}

/// The upper as the topmost of the kernel's lower layers, which changes nothing in it.
fn kernel_agrees(scratch: &Scratch, expected: &Tree) {
    let layers = [&scratch.upper].into_iter().chain(scratch.lowers());
    let layers: Vec<_> = layers.map(|dir| dir.root().to_str().unwrap()).collect();
    let options = format!("lowerdir={}", layers.join(":"));
    let overlay = KernelOverlay::mount(&options, scratch.mnt.root());
    assert_same_tree(expected, &dump(overlay.path()), ALL);
}

/// The upper as the kernel's upper, changed there. Returns the tree as the kernel leaves it.
fn kernel_changes(scratch: &Scratch) -> Tree {
    let work = scratch.base().sub("kernel-work");
    work.dir("");
    let setup = scratch.setup().work(work.root());
    let options = setup.option_string().into_string().unwrap();
    let overlay = KernelOverlay::mount(&options, scratch.mnt.root());
    chroot::run(overlay.path(), include_str!("change.sh"), &[]);
    dump(overlay.path())
}
