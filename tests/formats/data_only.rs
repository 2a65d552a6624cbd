//! Layers that lend data and no names: `lowerdir=a:b::data`, `lowerdir+=`, `datadir+=`.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::layers::{Kernel, show};
use crate::support::tree::{Compare, assert_same_tree};
use crate::support::{Dir, Scratch};
use crate::{needs, not_the_kernels};

const METACOPY: &str = "trusted.overlay.metacopy";
const REDIRECT: &str = "trusted.overlay.redirect";

/// A file without data that says where they are.
fn stub(dir: &Dir, path: &str, size: u64, redirect: &str) {
    dir.file(path, "");
    File::options().write(true).open(dir.path(path)).unwrap().set_len(size).unwrap();
    dir.xattr(path, METACOPY, "").times(path, 1_000_000, 5);
    if !redirect.is_empty() {
        dir.xattr(path, REDIRECT, redirect);
    }
}

/// Lowers 0 and 1 merge, 2 and 3 are data-only.
fn stack() -> Scratch {
    let s = Scratch::with_lowers(4);
    s.lower(1).file("d/plain", "plain");
    stub(s.lower(0), "d/first", 5000, "/objects/1");
    stub(s.lower(0), "d/second", 6000, "/objects/2");
    stub(s.lower(0), "d/both", 7000, "/objects/3");
    stub(s.lower(0), "chain", 5000, "/below");
    stub(s.lower(1), "below", 5000, "/objects/1");
    s.lower(2).file("objects/1", vec![b'1'; 5000]).file("objects/3", vec![b'3'; 7000]);
    s.lower(3).file("objects/2", vec![b'2'; 6000]).file("objects/3", vec![b'x'; 7000]);
    s.lower(2).file("hidden", "").file("d/hidden", "");
    s
}

fn path(s: &Scratch, number: usize) -> String {
    s.lower(number).root().to_str().unwrap().to_owned()
}

fn lowerdir(s: &Scratch) -> String {
    format!("lowerdir={}:{}::{}::{}", path(s, 0), path(s, 1), path(s, 2), path(s, 3))
}

#[test]
fn the_same_as_the_kernels() {
    needs_both!();
    needs!(overlay_data_only);
    let s = stack();
    let options = format!("{},redirect_dir=on,metacopy=on", lowerdir(&s));
    let kernel = Kernel::new("overlay", &s.mnt, &options);
    let oracle = show(&kernel);
    assert_eq!(kernel.read("d/both"), "3".repeat(7000), "the first layer that has it");
    assert!(!kernel.exists("hidden") && !kernel.exists("objects"));
    drop(kernel);
    let one_by_one = format!(
        "lowerdir+={},lowerdir+={},datadir+={},datadir+={}",
        path(&s, 0),
        path(&s, 1),
        path(&s, 2),
        path(&s, 3)
    );
    // The last of several lowerdirs counts.
    for spelling in [format!("lowerdir=/,{}", lowerdir(&s)), one_by_one] {
        let m = s.setup().read_only().lowers(vec![]).option(&spelling).mount();
        assert_same_tree(&oracle, &show(&m), Compare::STRICT);
        assert_eq!(m.stat("d/first").blocks(), s.lower(2).stat("objects/1").blocks());
    }
}

#[test]
fn changes_above_them() {
    needs!(mount);
    not_the_kernels!("it is the oracle here, with options of its own");
    let s = stack();
    let before = [2, 3].map(|number| crate::support::tree::dump(s.lower(number).root()));
    let mut m = s.setup().option(&lowerdir(&s)).mount();
    m.mode("d/first", 0o600).file("hidden", "ours");
    let file = File::options().write(true).open(m.path("d/second")).unwrap();
    file.write_all_at(b"WRITTEN", 10).unwrap();
    drop(file);
    fs::rename(m.path("chain"), m.path("d/chain")).unwrap();
    fs::remove_file(m.path("d/both")).unwrap();
    for _ in 0..2 {
        assert_eq!(m.names("d"), ["chain", "first", "plain", "second"]);
        assert_eq!(m.read("d/first"), "1".repeat(5000));
        assert_eq!(m.read("d/chain"), "1".repeat(5000));
        assert_eq!(m.read("d/second"), format!("{}WRITTEN{}", "2".repeat(10), "2".repeat(5983)));
        m.remount();
    }
    drop(m);
    for (number, tree) in before.iter().enumerate() {
        let now = crate::support::tree::dump(s.lower(number + 2).root());
        assert_same_tree(tree, &now, Compare::STRICT);
    }
}

/// Only absolute redirects lead there, only to regular files, never through a link; whatever is
/// wrong costs that file its data and nothing else.
#[test]
fn what_leads_nowhere() {
    needs!(mount);
    not_the_kernels!("it refuses the lookup");
    let s = Scratch::with_lowers(2);
    s.lower(0).file("good", "good");
    stub(s.lower(0), "relative", 4000, "data");
    stub(s.lower(0), "none", 4000, "");
    stub(s.lower(0), "dir", 4000, "/dir");
    stub(s.lower(0), "link", 4000, "/link");
    stub(s.lower(0), "through", 4000, "/way/data");
    stub(s.lower(0), "outside", 4000, "/../data");
    stub(s.lower(0), "missing", 4000, "/nothing");
    for name in ["data", "none", "relative", "dir/data"] {
        s.lower(1).file(name, "x".repeat(4000));
    }
    s.lower(1).symlink("link", "data").symlink("way", "dir");
    s.base().file("data", "x".repeat(4000));
    let m = s.setup().option(&format!("lowerdir={}::{}", path(&s, 0), path(&s, 1))).mount();
    for name in ["relative", "none", "dir", "link", "through", "outside", "missing"] {
        let read = fs::read(m.path(name));
        crate::support::assert_errno(read, libc::EIO);
        assert_eq!(m.stat(name).size(), 4000, "{name}");
        fs::remove_file(m.path(name)).unwrap();
    }
    assert_eq!(m.names(""), ["good"]);
}

/// As in the kernel, `redirect_dir=nofollow` is about merged layers.
#[test]
fn where_other_redirects_are_not_followed() {
    needs!(mount);
    not_the_kernels!("it is the oracle here, with options of its own");
    let s = stack();
    let m = s.setup().option(&lowerdir(&s)).option("redirect_dir=nofollow").mount();
    assert_eq!(m.read("d/first"), "1".repeat(5000));
    crate::support::assert_errno(fs::read(m.path("chain")), libc::EIO);
}

/// In a user namespace the kernel follows only these redirects (`userxattr`), and those only from
/// the last of the layers that merge.
#[test]
fn in_the_user_namespace() {
    needs_both!();
    needs!(overlay_data_only, overlay_data_only_of_users);
    let s = Scratch::with_lowers(3);
    s.lower(0).file("plain", "");
    s.lower(2).file("objects/1", vec![b'1'; 5000]);
    stub(s.lower(1), "f", 5000, "");
    xattr::remove(s.lower(1).path("f"), METACOPY).unwrap();
    s.lower(1).xattr("f", "user.overlay.metacopy", "");
    s.lower(1).xattr("f", "user.overlay.redirect", "/objects/1");
    let lowers = format!("lowerdir={}:{}::{}", path(&s, 0), path(&s, 1), path(&s, 2));
    let kernel = Kernel::new("overlay", &s.mnt, &format!("{lowers},userxattr"));
    let oracle = show(&kernel);
    assert_eq!(kernel.read("f"), "1".repeat(5000));
    drop(kernel);
    let m = s.setup().read_only().option(&lowers).mount();
    assert_same_tree(&oracle, &show(&m), Compare::STRICT);
}
