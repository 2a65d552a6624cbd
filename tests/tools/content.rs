//! What is in the headers and behind them: data, links, devices, attributes, numbers.

use std::os::unix::fs::FileExt;

use nix::sys::stat::SFlag;

use crate::call::{changed, diff, pack, refused};
use crate::layer::Layer;
use crate::needs;
use crate::support::process::{run, text};
use crate::support::scratch::not_text;
use crate::support::{Scratch, process};

#[test]
fn every_type() {
    needs!(root);
    let s = Scratch::new();
    s.upper.file("f", "data\n").dir("d").symlink("l", "some/where").hard_link("h", "f");
    s.upper.node("c", SFlag::S_IFCHR, 4, 300).node("b", SFlag::S_IFBLK, 4095, 1_048_575);
    s.upper.node("p", SFlag::S_IFIFO, 0, 0).owner("f", 1, 2).mode("f", 0o6755);
    s.upper.owner("l", 3, 4);
    let wanted = [
        "b 0644 0:0 b 4095,1048575",
        "c 0644 0:0 c 4,300",
        "d 0755 0:0 d/",
        "f 6755 1:2 f = data\\n",
        "h 6755 1:2 h -> f",
        "l 0777 3:4 l -> some/where",
        "p 0644 0:0 p",
    ];
    assert_eq!(changed(&s), wanted);
}

/// A socket cannot be in an archive. What it hides is gone all the same.
#[test]
fn sockets_are_left_out_and_hide_what_is_below() {
    needs!(root);
    let s = Scratch::new();
    s.lower(0).file("over", "");
    s.upper.node("over", SFlag::S_IFSOCK, 0, 0).node("s", SFlag::S_IFSOCK, 0, 0);
    assert_eq!(changed(&s), ["f 0000 0:0 .wh.over"]);
    let said = process::output(
        std::process::Command::new(crate::support::binary())
            .args(["diff", "--json", "-f", "/dev/null", "-o"])
            .arg(crate::call::layers(&s)),
    );
    assert!(text(&said.stdout).contains("\"skipped\":2"), "{}", text(&said.stdout));
    assert!(text(&said.stderr).contains("over is left out: a socket"), "{}", text(&said.stderr));
}

#[test]
fn the_first_name_of_a_file_has_the_data_and_the_others_are_links() {
    needs!(root);
    let s = Scratch::new();
    s.upper.file("z/first", "x").hard_link("a/second", "z/first").hard_link("m", "z/first");
    s.upper.node("n1", SFlag::S_IFIFO, 0, 0).hard_link("n2", "n1");
    let lines = changed(&s);
    assert!(lines.contains(&"f 0644 0:0 a/second = x".to_owned()), "{lines:#?}");
    assert!(lines.contains(&"h 0644 0:0 m -> a/second".to_owned()), "{lines:#?}");
    assert!(lines.contains(&"h 0644 0:0 z/first -> a/second".to_owned()), "{lines:#?}");
    assert!(lines.contains(&"h 0644 0:0 n2 -> n1".to_owned()), "{lines:#?}");
}

/// The other name is in a lower, where the layer cannot link to.
#[test]
fn a_name_of_which_the_other_is_unchanged_is_a_whole_file() {
    needs!(root, mount);
    let s = Scratch::new();
    s.lower(0).file("one", "old").hard_link("two", "one");
    let mut mnt = s.mount();
    std::fs::write(mnt.path("one"), "new").unwrap();
    mnt.unmount();
    assert!(changed(&s).contains(&"f 0644 0:0 one = new".to_owned()));
}

#[test]
fn data_that_is_elsewhere() {
    needs!(root);
    let s = Scratch::new();
    s.lower(0).file("old", "data of the lower");
    s.upper.whiteout("old").file("new", "");
    std::fs::File::options().write(true).open(s.upper.path("new")).unwrap().set_len(17).unwrap();
    s.upper.xattr("new", "trusted.overlay.metacopy", "");
    s.upper.xattr("new", "trusted.overlay.redirect", "/old").mode("new", 0o600);
    let wanted = ["f 0000 0:0 .wh.old", "f 0600 0:0 new = data of the lower"];
    assert_eq!(changed(&s), wanted);
    std::fs::remove_file(s.lower(0).path("old")).unwrap();
    let said = refused(&s, &[], 1);
    assert!(said.contains("new: ") && said.contains("no layer has its data"), "{said}");
}

#[test]
fn marks_are_left_out_and_what_users_set_is_kept() {
    needs!(root);
    let s = Scratch::new();
    s.upper.file("f", "").dir("d");
    for name in [
        "trusted.overlay.origin",
        "user.overlay.protattr",
        "trusted.overlay.unheard-of",
        "user.fuseoverlayfs.origin",
        "user.containers.override_stat",
        "user.keep",
        "trusted.keep",
        "user.overlay.overlay.inner",
    ] {
        s.upper.xattr("f", name, "1");
    }
    s.upper.xattr("d", "trusted.overlay.impure", "y").xattr("d", "user.nul", b"\0a");
    run("setcap", &["cap_net_raw+ep", s.upper.path("f").to_str().unwrap()]);
    let lines = changed(&s);
    assert_eq!(lines[0], "d 0755 0:0 d/ {user.nul=\\x00a}");
    let caps = r"{security.capability=\x01\x00\x00\x02\x00 \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00}";
    let wanted =
        format!("f 0644 0:0 f {caps} {{trusted.keep=1}} {{user.keep=1}} {{user.overlay.inner=1}}");
    assert_eq!(lines[1], wanted);
}

#[test]
fn names_longer_than_a_header_and_names_that_are_no_text() {
    needs!(root);
    let s = Scratch::new();
    let long = "n".repeat(255);
    s.upper.file(format!("{long}/{long}"), "1").symlink("l", "t".repeat(4000));
    s.upper.file(not_text("b"), "2").file(not_text(&"c".repeat(200)), "3");
    s.lower(0).file(&long[..255], "");
    let layer = diff(&s, &[]);
    assert_eq!(layer.entry(format!("{long}/{long}")).content, b"1");
    assert_eq!(layer.entry(b"b\xff\xfe\x80").content, b"2");
    let name = ["c".repeat(200).as_bytes(), b"\xff\xfe\x80"].concat();
    assert_eq!(layer.entry(name).content, b"3");
    assert!(layer.entry("l").line.ends_with(&"t".repeat(4000)));
}

/// What other programs make of it, with the extended headers of every sort.
#[test]
fn gnu_tar_reads_it() {
    needs!(root);
    let s = Scratch::new();
    let long = "n".repeat(200);
    s.upper.file(&long, "long").owner(&long, 3_000_000_000, 4_000_000_000).times(&long, -5, 0);
    s.upper.file("sub", "x").times("sub", 1_000_000_000, 123_456_789);
    let archive = s.base().path("layer.tar");
    std::fs::write(&archive, pack(&s, &[])).unwrap();
    let list =
        run("tar", &["--utc", "--full-time", "--numeric-owner", "-tvf", archive.to_str().unwrap()]);
    assert!(list.contains("3000000000/4000000000"), "{list}");
    assert!(list.contains("1969-12-31 23:59:55"), "{list}");
    assert!(list.contains("2001-09-09 01:46:40.123456789"), "{list}");
    assert!(list.contains(&long), "{list}");
}

#[test]
fn times_keep_their_fractions_and_may_be_before_1970() {
    needs!(root);
    let s = Scratch::new();
    s.upper.file("a", "").times("a", 1_000_000_000, 500_000_000);
    s.upper.file("b", "").times("b", -2, 250_000_000).file("c", "").times("c", 77, 0);
    let layer = diff(&s, &[]);
    let times = ["a", "b", "c"].map(|name| layer.mtime(name));
    assert_eq!(times, ["1000000000.5", "-1.75", "77"]);
}

#[test]
fn holes_are_zeros() {
    needs!(root);
    let s = Scratch::new();
    s.upper.file("f", "");
    let file = std::fs::File::options().write(true).open(s.upper.path("f")).unwrap();
    file.write_all_at(b"end", 3_000_000).unwrap();
    let content = diff(&s, &[]).entry("f").content.clone();
    assert_eq!(content.len(), 3_000_003);
    assert!(content[..3_000_000].iter().all(|byte| *byte == 0));
    assert_eq!(&content[3_000_000..], b"end");
}

#[test]
fn owners_as_a_mount_with_these_options_shows_them() {
    needs!(root);
    let s = Scratch::new();
    s.upper.file("f", "").owner("f", 100_007, 0).owner("", 100_000, 0);
    assert_eq!(
        diff_with(&s, "uidmapping=100000:0:1000").lines(),
        ["d 0755 0:0 ./", "f 0644 7:0 f"]
    );
    assert_eq!(diff_with(&s, "squash_to_root").lines(), ["d 0755 0:0 ./", "f 0644 0:0 f"]);
    s.upper.owner("f", 5, 0);
    let output = call_with(&s, "uidmapping=100000:0:1000");
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("f: its owner"), "{said}");
}

fn call_with(s: &Scratch, option: &str) -> std::process::Output {
    let mut options = crate::call::layers(s);
    options.push(",");
    options.push(option);
    crate::call::call(["diff".into(), "-o".into(), options])
}

fn diff_with(s: &Scratch, option: &str) -> Layer {
    Layer::read(&call_with(s, option).stdout)
}
