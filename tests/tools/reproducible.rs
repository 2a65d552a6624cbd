//! The same tree gives the same bytes, and the digests are those of the bytes.

use sha2::{Digest, Sha256};

use crate::call::{beside, diff, pack, printed, refused};
use crate::layer::Layer;
use crate::needs;
use crate::support::process::run;
use crate::support::{Dir, Scratch};

fn fill(dir: &Dir, names: impl Iterator<Item = u32>) {
    for number in names {
        let name = format!("d/{number}");
        dir.file(&name, number.to_string()).times(&name, 5, 0);
    }
    dir.times("d", 6, 0).times("", 7, 0);
}

#[test]
fn the_order_in_which_files_were_made_does_not_matter() {
    needs!(root);
    let (one, other) = (Scratch::new(), Scratch::new());
    fill(&one.upper, 0..200);
    fill(&other.upper, (0..200).rev());
    for compression in ["none", "gzip", "zstd"] {
        let flag = format!("--compress={compression}");
        let bytes = pack(&one, &[&flag]);
        assert!(bytes == pack(&other, &[&flag]), "{compression}");
        assert!(bytes == pack(&one, &[&flag]), "{compression}");
    }
}

#[test]
fn digests_and_size_are_those_of_the_file() {
    needs!(root);
    let s = Scratch::new();
    fill(&s.upper, 0..20);
    let sha = |bytes: &[u8]| {
        let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
        format!("sha256:{hex}")
    };
    let archive = pack(&s, &[]);
    for (compression, unpack) in [("none", "cat"), ("gzip", "gzip -dc"), ("zstd", "zstd -dc")] {
        let out = beside(&s, compression);
        let (path, flag) = (out.to_str().unwrap(), format!("--compress={compression}"));
        let said = printed(&s, &["-f", path, &flag, "--json"]);
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        let bytes = std::fs::read(&out).unwrap();
        assert_eq!(said["digest"], sha(&bytes));
        assert_eq!(said["size"], bytes.len());
        assert_eq!(said["diff_id"], sha(&archive));
        assert_eq!(said["entries"], 22);
        let again = beside(&s, "unpacked");
        run("sh", &["-c", &format!("{unpack} {path} > {}", again.display())]);
        assert!(std::fs::read(again).unwrap() == archive, "{compression}");
        let text = printed(&s, &["-f", path, &flag]);
        let wanted =
            format!("digest {}\ndiff-id {}\nsize {}\n", sha(&bytes), sha(&archive), bytes.len());
        assert_eq!(text, wanted);
    }
}

#[test]
fn later_times_become_the_given_one() {
    needs!(root);
    let s = Scratch::new();
    s.upper.file("old", "").times("old", 10, 5).file("new", "").times("new", 2000, 0);
    s.upper.file("same", "").times("same", 1000, 1);
    let layer = diff(&s, &["--source-date-epoch=1000"]);
    let times = ["old", "new", "same", "./"].map(|name| layer.mtime(name));
    assert_eq!(times, ["10.000000005", "1000", "1000", "1000"]);
    let by_variable = std::process::Command::new(crate::support::binary())
        .args(["diff", "-o"])
        .arg(crate::call::layers(&s))
        .env("SOURCE_DATE_EPOCH", "1000")
        .output()
        .unwrap();
    assert_eq!(Layer::read(&by_variable.stdout).mtime("new"), "1000");
}

#[test]
fn a_command_line_that_makes_no_sense() {
    needs!(root);
    let s = Scratch::new();
    assert!(refused(&s, &["--changes", "-f", "x"], 2).contains("leave -f out"));
    assert!(refused(&s, &["--opaque=maybe"], 2).contains("explicit"));
    assert!(refused(&s, &["superfluous"], 2).contains("superfluous"));
    let call = |options: &str| {
        let output = crate::call::call(["diff", "-o", options]);
        (output.status.code(), crate::support::process::text(&output.stderr))
    };
    let (status, said) = call("lowerdir=/usr");
    assert!(status == Some(2) && said.contains("upperdir"), "{said}");
    let (status, said) = call("upperdir=/usr");
    assert!(status == Some(2) && said.contains("lowerdir"), "{said}");
    let (status, said) = call("lowerdir=/usr,upperdir=/does/not/exist");
    assert!(status == Some(1) && said.contains("upperdir=/does/not/exist"), "{said}");
    let (status, said) = call("lowerdir=/usr,upperdir=/usr");
    assert!(status == Some(1) && said.contains("also a lowerdir"), "{said}");
}
