//! What `ovlmerge apply` refuses because it is too much, what it leaves when it is killed, and
//! which forms of marks it is told to write.

use std::fs::File;
use std::io::Write;

use nix::fcntl::{Flock, FlockArg};

use crate::apply::{unpack, unpacked};
use crate::archive::{archive, entry};
use crate::call::{call, layers};
use crate::disk::disk;
use crate::needs;
use crate::support::process::{output, run, text};
use crate::support::{Scratch, binary};

/// A gigabyte and more of nothing, behind the end of the archive: nothing of it is ever written.
#[test]
fn what_grows_a_thousandfold() {
    needs!(root);
    let mut layer = zstd::encode_all(&*archive(&["f a = 1"]), 1).unwrap();
    let nothing = zstd::encode_all(&vec![0; 64 << 20][..], 1).unwrap();
    layer.extend(nothing.repeat(17));
    let s = Scratch::new();
    let refused = unpack(&s, &layer, &[]);
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("--max-ratio"), "{said}");
    assert!(!s.base().names("").iter().any(|name| name.contains("apply") || name == "out"));
    assert_eq!(unpacked(&s, &layer, &["--max-ratio=0"]).read("a"), "1");
}

#[test]
fn limits_can_be_taken_away() {
    needs!(root);
    let bytes = archive(&["f a = 12345", "f b"]);
    for (limits, ok) in [
        (&["--max-entries=2", "--max-size=5"][..], true),
        (&["--max-entries=1"], false),
        (&["--max-size=4"], false),
        (&["--max-entries=0", "--max-size=0"], true),
    ] {
        let output = unpack(&Scratch::new(), &bytes, limits);
        assert_eq!(output.status.success(), ok, "{limits:?}: {}", text(&output.stderr));
    }
    let help = text(&call(["apply", "--help"]).stdout);
    for default in ["1000000", "274877906944", "200"] {
        assert!(help.contains(default), "{default}: {help}");
    }
}

/// Once a killed run left its directory for ever, beside the images of all others.
#[test]
fn what_a_killed_run_left_goes_and_what_another_works_on_stays() {
    needs!(root, mount);
    let s = Scratch::new();
    let names = [".ovlmerge-apply-1-dead", ".ovlmerge-apply-2-busy", ".ovlmerge-apply-3-other"];
    for name in names {
        s.base().file(format!("{name}/root/file"), "x");
    }
    s.base().owner(names[2], 1234, 1234).file(".ovlmerge-apply-file", "");
    let busy = File::open(s.base().path(names[1])).unwrap();
    let busy = Flock::lock(busy, FlockArg::LockExclusiveNonblock).map_err(|(_, err)| err).unwrap();
    let mut options = layers(&s);
    options.push(",workdir=");
    options.push(s.work.root());
    let said = call(["check".into(), "-o".into(), options.clone()]);
    assert_eq!(
        text(&said.stdout).lines().next().unwrap().split(": ").next().unwrap(),
        format!("OVL027 upperdir/../{}", names[0])
    );
    unpacked(&s, &archive(&["f a"]), &[]);
    let left = |s: &Scratch| -> Vec<bool> {
        names.iter().map(|name| s.base().exists(format!("{name}/root/file"))).collect()
    };
    assert_eq!(left(&s), [false, true, true]);
    assert!(s.base().exists(".ovlmerge-apply-file"));
    drop(busy);
    let repaired = call(["check".into(), "--repair".into(), "-o".into(), options]);
    assert!(text(&repaired.stdout).contains("1 repaired, 0 left"), "{repaired:?}");
    assert_eq!(left(&s), [false, false, true]);
}

/// What the mode of a directory keeps us out of has to go as well.
#[test]
fn a_user_without_privilege_leaves_nothing_behind() {
    needs!(root);
    let s = Scratch::new();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes().copy_from_slice(&entry("d d"));
    header.set_mode(0);
    header.set_cksum();
    encoder.write_all(header.as_bytes()).unwrap();
    encoder.write_all(&archive(&["f d/e/f = 1"])).unwrap();
    let mut bytes = encoder.finish().unwrap();
    // The check sum is read when all modes are set.
    let at = bytes.len() - 6;
    bytes[at] ^= 1;
    std::fs::write(s.base().path("layer.tar"), bytes).unwrap();
    let script = format!(
        "mkdir {0}/in; chmod 777 {0}/in; setpriv --reuid=1234 --regid=1234 --clear-groups {1} \
         apply -o squash_to_uid=1234,squash_to_gid=1234 {0}/layer.tar {0}/in/out 2>{0}/said && exit 9 || true",
        s.base().root().display(),
        s.program().display()
    );
    run("sh", &["-ec", &script]);
    assert!(s.base().read("said").contains("reading the layer"), "{}", s.base().read("said"));
    assert!(s.base().names("in").is_empty(), "{:?}", s.base().names("in"));
}

#[test]
fn whiteouts_in_the_form_that_is_asked_for() {
    needs!(root, mount);
    let entries = ["f .wh.gone", "d o", "f o/.wh..wh..opq", "f o/new", "f sub/.wh.gone"];
    for form in ["auto", "char", "xattr", "aufs"] {
        for option in [["--whiteout", form], ["-o", &format!("whiteout={form}")]] {
            let s = Scratch::with_lowers(2);
            let below = s.lower(1);
            below.file("gone", "").file("o/old", "").file("sub/gone", "").file("sub/stays", "");
            let mut command = std::process::Command::new(binary());
            std::fs::write(s.base().path("layer.tar"), archive(&entries)).unwrap();
            std::fs::remove_dir(s.lower(0).root()).unwrap();
            command.arg("apply").args(option).arg(s.base().path("layer.tar"));
            let done = output(command.arg(s.lower(0).root()));
            assert!(done.status.success(), "{form}: {}", text(&done.stderr));
            let marks = disk(s.lower(0)).join("\n");
            let looks = match form {
                "auto" | "char" => s.lower(0).is_whiteout("gone"),
                "xattr" => s.lower(0).get_xattr("gone", "trusted.overlay.whiteout").is_some(),
                _ => s.lower(0).exists(".wh.gone") && s.lower(0).exists("o/.wh..wh..opq"),
            };
            assert!(looks, "{form}: {marks}");
            let mnt = s.mount();
            let seen = [mnt.place().names(""), mnt.place().names("o"), mnt.place().names("sub")];
            assert_eq!(seen, [vec!["o", "sub"], vec!["new"], vec!["stays"]], "{form}: {marks}");
        }
    }
}
