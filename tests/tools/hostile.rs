//! Archives that mean harm or are not whole: each is refused with a clear error, and nothing is
//! left.

use crate::apply::unpack;
use crate::archive::{archive, entry};
use crate::needs;
use crate::support::Scratch;
use crate::support::process::text;

use ovlmerge::tools::oci::pax;

/// The layer is refused, `words` are said, and the directory looks as before.
#[track_caller]
fn refused(bytes: &[u8], more: &[&str], words: &[&str]) {
    let s = Scratch::new();
    s.base().file("outside", "outside");
    let output = unpack(&s, bytes, more);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
    let left = ["layer.tar", "lower0", "mnt", "outside", "upper", "work"];
    assert_eq!(s.base().names(""), left, "{said}");
    assert_eq!(s.base().read("outside"), "outside");
}

#[track_caller]
fn lines_refused(lines: &[&str], words: &[&str]) {
    refused(&archive(lines), &[], words);
}

#[test]
fn paths_that_lead_out() {
    needs!(root);
    for path in ["../outside", "a/../../outside", "/../outside", "a/..", ".."] {
        lines_refused(&[&format!("f {path} = x")], &["leads out of the layer"]);
    }
    lines_refused(&["h a -> ../outside"], &["leads out of the layer"]);
    lines_refused(&["h a -> outside"], &["no such file"]);
    lines_refused(&["h a -> /etc/passwd"], &["no such file"]);
    lines_refused(&["f a/b/../c"], &["leads out of the layer"]);
}

/// Wherever a link points to, what is written through it is in the layer.
#[test]
fn links_do_not_lead_out() {
    needs!(root);
    let s = Scratch::new();
    s.base().file("outside", "outside");
    let base = s.base().root().display().to_string();
    let entries = [
        "l up -> ..".to_owned(),
        "f up/outside = x".to_owned(),
        format!("l abs -> {base}"),
        "f abs/outside = y".to_owned(),
    ];
    let output = unpack(&s, &archive(&entries.each_ref().map(String::as_str)), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(s.base().read("outside"), "outside");
    assert_eq!(s.base().read("out/outside"), "x");
    assert_eq!(s.base().read(format!("out/{base}/outside")), "y");
    lines_refused(&["l a -> b", "l b -> a", "f a/x"], &["a/x"]);
    lines_refused(&["l a -> ../outside", "h b -> a/x"], &["no such file"]);
}

#[test]
fn whiteouts_of_what_is_no_name() {
    needs!(root);
    for path in [".wh..", ".wh...", "a/.wh..", "a/.wh..."] {
        lines_refused(&[&format!("f {path}")], &["a whiteout of a name that is none"]);
    }
    lines_refused(&["f .wh."], &["a whiteout without a name"]);
    lines_refused(&["d .wh.a", "f .wh.a/b"], &["a whiteout is no directory"]);
    lines_refused(&["l l -> .wh.x", "f l/a"], &["the name of a marker"]);
}

#[test]
fn two_entries_for_one_path() {
    needs!(root);
    for entries in [
        ["f a = 1", "f a = 2"],
        ["f a", "d a"],
        ["d a", "f a"],
        ["f a/b", "l a -> b"],
        ["l a -> b", "f a"],
        ["f a", "h a -> a"],
    ] {
        lines_refused(&entries, &["a: two entries for one path"]);
    }
    lines_refused(&["f a", "f a/b"], &["a/b", "is a file"]);
    lines_refused(&["l ./ -> x"], &["the root of a layer is a directory"]);
}

#[test]
fn a_device_that_is_a_whiteout() {
    needs!(root);
    lines_refused(&["c a 0,0"], &["a: ", "which is a whiteout"]);
}

#[test]
fn more_than_was_allowed() {
    needs!(root);
    let many: Vec<String> = (0..100).map(|number| format!("c d{number} 1,3")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    refused(&archive(&many), &["--max-entries=99"], &["--max-entries"]);
    refused(&archive(&["f a = 12345"]), &["--max-size=4"], &["--max-size"]);
}

#[test]
fn a_layer_that_is_cut_off() {
    needs!(root);
    let whole = archive(&["f a = data", "f b = data"]);
    for len in [0, 100, 512, 700, 1024, 1536, 2000, 2048] {
        let said = if len == 512 || len == 1536 { "it is cut off" } else { "a part is missing" };
        refused(&whole[..len], &[], &[said]);
    }
    let gzip = {
        use std::io::Write;
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(&whole).unwrap();
        writer.finish().unwrap()
    };
    refused(&gzip[..gzip.len() - 1], &[], &["reading the layer"]);
    let mut flipped = gzip.clone();
    let last = flipped.len() - 5;
    flipped[last] ^= 1;
    refused(&flipped, &[], &["reading the layer"]);
}

/// The header says ten gigabytes, and there is nothing.
#[test]
fn sizes_that_are_lies() {
    needs!(root);
    let mut header = tar::Header::new_ustar();
    header.set_path("a").unwrap();
    header.set_size((8 << 30) - 1);
    header.set_cksum();
    refused(header.as_bytes(), &[], &["a: "]);
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_cksum();
    refused(header.as_bytes(), &[], &["an extended header of 8589934591 bytes"]);
}

/// chown(2) takes the largest number for "leave the owner as it is": a program with the setuid bit
/// became one of whoever unpacked the layer.
#[test]
fn an_owner_that_nobody_can_be() {
    needs!(root);
    for key in ["uid", "gid"] {
        for number in ["4294967295", "-1", "4294967296", "18446744073709551615"] {
            let bytes = [with_record(key, number, &["f a = 1"]), vec![0; 1024]].concat();
            for more in [&[][..], &["-o", "xattr_permissions=2"], &["-o", "squash_to_root"]] {
                refused(&bytes, more, &[if number.len() > 11 { key } else { number }]);
            }
        }
        let mut binary = entry("f a = 1");
        let at = if key == "uid" { 108 } else { 116 };
        // The form of GNU tar for numbers above seven octal digits.
        binary[at..at + 8].copy_from_slice(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        binary.resize(binary.len() + 1024, 0);
        set_check_sum(&mut binary);
        refused(&binary, &[], &["4294967295", "nobody"]);
    }
}

/// Of the header in front.
fn set_check_sum(bytes: &mut [u8]) {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes().copy_from_slice(&bytes[..512]);
    header.set_cksum();
    bytes[..512].copy_from_slice(header.as_bytes());
}

#[test]
fn what_is_no_archive() {
    needs!(root);
    refused(&[b'x'; 2048], &[], &["not a layer"]);
    refused(b"\xfd7zXZ\0 and more", &[], &["xz"]);
    let mut broken = entry("f a = 1");
    broken[0] = b'b';
    refused(&broken, &[], &["wrong check sum"]);
}

#[test]
fn a_directory_that_is_not_free() {
    needs!(root);
    let s = Scratch::new();
    s.base().file("out/mine", "mine");
    let output = unpack(&s, &archive(&["f a"]), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("new or empty"), "{}", text(&output.stderr));
    assert_eq!(s.base().names("out"), ["mine"]);
    std::fs::remove_dir_all(s.base().path("out")).unwrap();
    s.base().file("out", "mine");
    let output = unpack(&s, &archive(&["f a"]), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(s.base().read("out"), "mine");
    std::fs::remove_file(s.base().path("out")).unwrap();
    s.base().symlink("out", "mnt");
    assert_eq!(unpack(&s, &archive(&["f a"]), &[]).status.code(), Some(1));
    assert!(s.mnt.names("").is_empty());
}

/// An extended header with one record, and the entries that these lines describe.
pub fn with_record(key: &str, value: &str, lines: &[&str]) -> Vec<u8> {
    let mut record = Vec::new();
    pax::push(&mut record, key.as_bytes(), value.as_bytes()).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_size(record.len() as u64);
    header.set_cksum();
    let mut bytes = [header.as_bytes(), &*record].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes.extend(lines.iter().flat_map(|line| entry(line)));
    bytes
}

/// A path of four kilobytes implies two thousand directories: a file of some megabytes, well
/// compressed, would have made thousands of millions.
#[test]
fn paths_that_imply_many_directories() {
    needs!(root);
    let way = |first: &str| format!("{first}/{}/f", vec!["d"; 1500].join("/"));
    let mut bytes = with_record("path", &way("a"), &["f x"]);
    bytes.extend(with_record("path", &way("b"), &["f x"]));
    bytes.resize(bytes.len() + 1024, 0);
    refused(&bytes, &["--max-entries=1000"], &["implied directories", "--max-entries"]);
}

/// Chains of entries that take turns must not take time that grows with their square.
#[test]
fn a_deep_tree() {
    needs!(root);
    let s = Scratch::new();
    let path = vec!["d"; 1500].join("/");
    let mut bytes = with_record("path", &format!("{path}/f"), &["f x = deep"]);
    bytes.resize(bytes.len() + 1024, 0);
    let output = unpack(&s, &bytes, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(s.base().read(format!("out/{path}/f")), "deep");
}

/// Links lead to places deeper than any path names, and what is known of each directory holds its
/// path: a file of a few kilobytes took gigabytes of memory.
#[test]
fn a_tree_that_links_make_deeper() {
    needs!(root);
    let way = vec!["d"; 1500].join("/");
    let mut bytes = with_record("path", &way, &["d x"]);
    bytes.extend(with_record("linkpath", &way, &["l l0 -> x"]));
    bytes.extend(with_record("path", &format!("l0/{way}"), &["d x"]));
    bytes.resize(bytes.len() + 1024, 0);
    refused(&bytes, &[], &["/d/d", "a path of more than 4096 bytes"]);
}
