//! What `diff` takes down and `apply` puts up again, mounted on the same lowers, is the same tree.

use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::apply::unpack;
use crate::call::pack;
use crate::needs;
use crate::support::process::{shell, text};
use crate::support::tree::{self, Compare, assert_same_tree};
use crate::support::{Scratch, Setup};

/// The tree that the lowers show with `top` over them.
fn merged(s: &Scratch, top: &Path) -> tree::Tree {
    let lowers = s.lowers().iter().map(|dir| dir.root().to_owned());
    let all = [top.to_owned()].into_iter().chain(lowers).collect();
    let mount = Setup::new(all, s.mnt.root()).mount();
    tree::dump(mount.root())
}

/// The upper, and what comes of it, make the same tree of the lowers.
#[track_caller]
fn comes_back(s: &Scratch, diff: &[&str], apply: &[&str]) {
    let bytes = pack(s, diff);
    let out = s.base().path("out");
    if out.exists() {
        std::fs::remove_dir_all(&out).unwrap();
    }
    let output = unpack(s, &bytes, apply);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let compare = Compare { nlink: true, ..Compare::STRICT };
    assert_same_tree(&merged(s, s.upper.root()), &merged(s, &out), compare);
    // And once more: what is not needed was left out the first time.
    let again = {
        let lowers: Vec<_> =
            s.lowers().iter().map(|dir| dir.root().display().to_string()).collect();
        let options = format!("lowerdir={},upperdir={}", lowers.join(":"), out.display());
        let mut args = vec!["diff", "-o", &options];
        args.extend(diff);
        crate::call::done(args).stdout
    };
    assert!(again == bytes, "the second layer is not the first");
}

const WAYS: [&[&str]; 4] = [
    &[],
    &["--opaque=marker"],
    &["--parents=changed"],
    &["--opaque=marker", "--parents=changed", "--compress=gzip"],
];

/// All that a user does, through a mount.
#[test]
fn what_a_mount_wrote() {
    needs!(root, mount, acl);
    let s = Scratch::with_lowers(2);
    for dir in ["keep", "change", "replace", "gone", "mode"] {
        s.lower(1).file(format!("{dir}/a"), "1").file(format!("{dir}/sub/b"), "2");
    }
    s.lower(0).file("change/c", "3").hard_link("change/d", "change/c").whiteout("keep/a");
    let mut mnt = s.mount();
    shell(
        mnt.root(),
        "echo x > change/a; rm change/sub/b; rm -r gone; rm -r replace; mkdir replace;
         echo y > replace/new; mkdir replace/sub; chmod 1777 mode; ln change/a change/link;
         rm keep/sub/b; mkdir keep/sub/b; ln -s nowhere keep/link; mkfifo keep/pipe;
         mknod keep/null c 1 3; touch -d '1960-01-01 00:00:00.25' keep/old; echo z >> change/c;
         chown 70000:4000000000 keep/old; setfacl -m u:5:rwx keep/old; setfattr -n user.k -v v keep;
         chmod 4755 change/a; setcap cap_net_raw+ep replace/new; rm -r mode/sub; echo f > mode/sub;
         truncate -s 3M keep/sparse; echo end >> keep/sparse",
    );
    mnt.unmount();
    for way in WAYS {
        comes_back(&s, way, &[]);
    }
    comes_back(&s, &[], &["--xattr=user"]);
    comes_back(&s, &["--parents=changed"], &["--xattr=user"]);
}

/// Objects in a tree that a property test makes: where, what, and with which number in it.
fn objects() -> impl Strategy<Value = Vec<(Vec<u8>, u8, u8)>> {
    let name = prop::sample::select(vec![0u8, 1, 2]);
    let path = prop::collection::vec(name, 1..4);
    prop::collection::vec((path, 0u8..7, 0u8..3), 0..14)
}

/// Puts objects into a layer; what does not fit is left out.
fn fill(dir: &crate::support::Dir, objects: &[(Vec<u8>, u8, u8)], is_bottom: bool) {
    for (path, kind, number) in objects {
        let path: Vec<_> = path.iter().map(|part| ["a", "b", "c"][usize::from(*part)]).collect();
        let path = path.join("/");
        let above = Path::new(&path).parent().unwrap();
        let fits = std::fs::create_dir_all(dir.path(above)).is_ok();
        if !fits || std::fs::symlink_metadata(dir.path(&path)).is_ok() {
            continue;
        }
        match kind {
            0 | 1 => dir.file(&path, number.to_string()).mode(&path, 0o600 + u32::from(*number)),
            2 => dir.dir(&path).mode(&path, 0o700 + u32::from(*number)),
            3 if is_bottom => dir.symlink(&path, "target"),
            3 => dir.whiteout(&path),
            4 if !is_bottom => dir.opaque_dir(&path),
            5 => dir.symlink(&path, format!("target{number}")),
            _ => dir.dir(&path).xattr(&path, "user.k", number.to_string()),
        };
    }
    // So that a directory can be as it was below.
    let times = "find . -depth -exec touch -hd @1000 {} +";
    shell(dir.root(), times);
}

#[test]
fn random_trees() {
    needs!(root, mount);
    let cases = std::env::var("OVLMERGE_TEST_CASES").map_or(24, |text| text.parse().unwrap());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng =
        prop::test_runner::TestRng::deterministic_rng(prop::test_runner::RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let trees = (objects(), objects(), objects(), 0..WAYS.len());
    runner
        .run(&trees, |(bottom, lower, upper, way)| {
            let s = Scratch::with_lowers(2);
            fill(s.lower(1), &bottom, true);
            fill(s.lower(0), &lower, false);
            fill(&s.upper, &upper, false);
            comes_back(&s, WAYS[way], &[]);
            Ok(())
        })
        .unwrap();
}
