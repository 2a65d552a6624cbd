//! Containers in user namespaces of their own: podman tells the program how owners are mapped.
//!
//! As root, podman 4.3 hands over lowers whose mounts map owners, and tells the program the same
//! map once more.

use std::collections::BTreeSet;

use rstest::rstest;

use crate::needs_runtimes;
use crate::space::{Space, Who};
use crate::store::{BASE, Driver, Store, assert_same};

/// What root of the container sees, and changes.
const AS_ROOT: &str = r#"
    stat -c '%u:%g %a %n' /opt/old/deep /usr/bin/setuid /bin/busybox
    echo new > /new
    chown 3:4 /new
    chown -R 5:6 /opt/old/deep
    chown 7:8 /usr/bin/setuid
    chmod 4711 /usr/bin/setuid
    touch /opt/old
    stat -c '%u:%g %a %n' /new /opt/old/deep/file /usr/bin/setuid
"#;

const SEEN: &str = "1:2 755 /opt/old/deep\n1:2 6755 /usr/bin/setuid\n0:0 755 /bin/busybox\n\
                    3:4 644 /new\n5:6 644 /opt/old/deep/file\n7:8 4711 /usr/bin/setuid\n";

/// Paths that podman itself makes or changes in containers.
const PODMANS: [&str; 8] = [
    "''",
    "'etc'",
    "'etc/passwd'",
    "'etc/group'",
    "'etc/hosts'",
    "'etc/hostname'",
    "'etc/mtab'",
    "'etc/resolv.conf'",
];

fn without_podmans(tree: BTreeSet<String>) -> BTreeSet<String> {
    let podmans = |line: &str| {
        let path = line.split_once(": ").unwrap().0;
        PODMANS.contains(&path) || path.starts_with("'run") || path.starts_with("'dev")
    };
    tree.into_iter().filter(|line| !podmans(line)).collect()
}

/// The image has the owners that the container saw, whatever they were outside.
#[rstest]
#[case::keep_id(&["--userns=keep-id", "--user=0"])]
#[case::auto(&["--userns=auto"])]
#[case::auto_of_some_size(&["--userns=auto:size=3000"])]
#[case::shifted(&["--uidmap=0:100:1000", "--gidmap=0:200:1000"])]
#[case::in_pieces(&["--uidmap=0:100:2", "--uidmap=2:500:999", "--gidmap=0:1:2", "--gidmap=2:9:999"])]
fn owners_are_those_of_the_container(#[case] options: &[&str]) {
    needs_runtimes!();
    owners_stay(Who::User, options);
}

/// The owners of the layers were mapped twice: files of the image belonged to nobody. Maps in
/// pieces are not tried: there podman 4.3 gives paths below id-mapped mounts that root may not
/// search.
#[rstest]
#[case::shifted(&["--uidmap=0:100000:1000", "--gidmap=0:200000:1000"])]
#[case::by_one(&["--uidmap=0:1:1000", "--gidmap=0:1:1000"])]
fn owners_are_those_of_the_container_of_root(#[case] options: &[&str]) {
    needs_runtimes!();
    owners_stay(Who::Root, options);
}

fn owners_stay(who: Who, options: &[&str]) {
    let space = Space::new(who);
    let store = Store::new(&space, "store", Driver::Program);
    let run = ["run", "--name=one"];
    let out = store.podman(&[&run, options, &[BASE, "sh", "-euc", AS_ROOT]].concat());
    assert_eq!(out, SEEN);
    store.podman(&["commit", "--quiet", "one", "localhost/changed"]);
    let plain = ["podman", "run", "--name=two", BASE, "sh", "-euc", AS_ROOT];
    assert_eq!(store.run(&plain), SEEN, "without a map");
    store.podman(&["commit", "--quiet", "two", "localhost/plain"]);
    assert_same(
        &without_podmans(store.tree("localhost/changed")),
        &without_podmans(store.tree("localhost/plain")),
    );
    space.expect_nothing_mounted();
}

/// The user has the same number inside.
#[test]
fn keep_id_lets_the_user_work() {
    needs_runtimes!();
    let space = Space::new(Who::User);
    let store = Store::new(&space, "store", Driver::Program);
    let script = "id -u; echo mine > /tmp/mine; stat -c %u:%g /tmp/mine /opt/old/file; \
                  ! touch /opt/old/file 2>/dev/null; rm /tmp/mine; mkdir /tmp/dir; cat /etc/group \
                  > /tmp/dir/copy; chmod 700 /tmp/dir; ls -n /tmp/dir | grep -c 64242";
    let out = store.podman(&["run", "--name=one", "--userns=keep-id", BASE, "sh", "-euc", script]);
    assert_eq!(out, "64242\n64242:64242\n0:0\n1\n");
    store.podman(&["commit", "--quiet", "one", "localhost/changed"]);
    let tree = store.tree("localhost/changed");
    assert!(tree.iter().any(|line| line.starts_with("'tmp/dir': 40700 64242:64242")), "{tree:#?}");
    space.expect_nothing_mounted();
}

/// A container with a single id: all in it is root's.
#[test]
fn a_single_id() {
    needs_runtimes!();
    let space = Space::new(Who::User);
    let store = Store::new(&space, "store", Driver::Program);
    let script = "stat -c %u:%g /opt/old/deep /opt/old/file; echo new > /new; rm -r /opt/old/deep; \
                  mkdir /opt/old/deep; chmod 700 /usr/bin/setuid; stat -c %u:%g:%a /usr/bin/setuid";
    let one = ["--uidmap=0:0:1", "--gidmap=0:0:1"];
    let out = store.podman(&[&["run", "--rm"], &one[..], &[BASE, "sh", "-euc", script]].concat());
    assert_eq!(out, "0:0\n0:0\n0:0:700\n");
    assert_eq!(store.in_new(BASE, "stat -c %u:%g /opt/old/deep"), "1:2\n");
    space.expect_nothing_mounted();
}
