//! What `ovlmerge apply` makes of a layer.

use std::ffi::OsString;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::archive::{archive, entry};
use crate::call::{done, pack};
use crate::disk::disk;
use crate::needs;
use crate::support::process::{output, run, text};
use crate::support::{Dir, Scratch, binary};

/// Unpacks an archive into `DIR/out`.
pub fn unpack(s: &Scratch, bytes: &[u8], more: &[&str]) -> Output {
    let layer = s.base().path("layer.tar");
    std::fs::write(&layer, bytes).unwrap();
    output(Command::new(binary()).arg("apply").args(more).arg(layer).arg(s.base().path("out")))
}

#[track_caller]
pub fn unpacked(s: &Scratch, bytes: &[u8], more: &[&str]) -> Dir {
    let output = unpack(s, bytes, more);
    assert!(output.status.success(), "{}", text(&output.stderr));
    s.base().sub("out")
}

/// What is on the disk when these entries are unpacked, without the marks of implied directories.
#[track_caller]
fn lines(entries: &[&str]) -> Vec<String> {
    disk(&unpacked(&Scratch::new(), &archive(entries), &["--dirmeta-delegate=off"]))
}

/// The same for every order of the entries.
#[track_caller]
fn whatever_the_order(entries: &[&str], wanted: &[&str]) {
    fn orders(chosen: &mut Vec<usize>, count: usize, see: &mut dyn FnMut(&[usize])) {
        if chosen.len() == count {
            return see(chosen);
        }
        for next in (0..count).filter(|next| !chosen.contains(next)).collect::<Vec<_>>() {
            chosen.push(next);
            orders(chosen, count, see);
            chosen.pop();
        }
    }
    orders(&mut Vec::new(), entries.len(), &mut |order| {
        let entries: Vec<_> = order.iter().map(|place| entries[*place]).collect();
        assert_eq!(lines(&entries), wanted, "{entries:?}");
    });
}

#[test]
fn every_type() {
    needs!(root);
    let s = Scratch::new();
    let entries =
        ["d d", "f d/f = data", "l d/l -> ../x", "h h -> d/f", "c c 4,300", "b b 7,1", "p p"];
    let out = unpacked(&s, &archive(&entries), &[]);
    assert_eq!(out.read("h"), "data");
    assert_eq!(out.stat("d/f").nlink(), 2);
    assert_eq!(std::fs::read_link(out.path("d/l")).unwrap().to_str(), Some("../x"));
    use std::os::unix::fs::MetadataExt;
    assert_eq!(out.stat("c").rdev(), nix::libc::makedev(4, 300));
    assert_eq!(out.stat("b").mode() & 0o170_000, 0o060_000);
    assert_eq!(out.stat("p").mode() & 0o170_000, 0o010_000);
    for name in ["d", "d/f", "d/l", "c", "b", "p"] {
        assert_eq!(out.stat(name).mtime(), 1000, "{name}");
    }
    assert_eq!((out.mode_of("d"), out.mode_of("d/f")), (0o755, 0o644));
    assert_eq!(s.base().names(""), ["layer.tar", "lower0", "mnt", "out", "upper", "work"]);
}

#[test]
fn a_whiteout_is_a_device() {
    needs!(root);
    assert_eq!(lines(&["f .wh.a", "d d", "f d/.wh.b"]), ["d ", "w a", "d d", "w d/b"]);
}

/// containerd and containers/storage remove the new file when its whiteout comes later.
#[test]
fn a_whiteout_takes_nothing_of_its_own_layer_away() {
    needs!(root);
    whatever_the_order(&["f x = new", "f .wh.x"], &["d ", "f x = new"]);
    whatever_the_order(&["l x -> y", "f .wh.x"], &["d ", "l x -> y"]);
    let wanted = ["d ", "d x {opaque=y}", "f x/new"];
    for entries in [["d x", "f x/new", "f .wh.x"], ["f .wh.x", "d x", "f x/new"]] {
        assert_eq!(lines(&entries), wanted);
    }
    whatever_the_order(&["f x/new", "f .wh.x"], &wanted);
}

/// containerd and containers/storage remove what is in a directory that no entry describes.
#[test]
fn a_late_opaque_marker_takes_nothing_of_its_own_layer_away() {
    needs!(root);
    let wanted = ["d ", "d a", "d a/b {opaque=y}", "f a/b/c = 1"];
    whatever_the_order(&["f a/b/c = 1", "f a/b/.wh..wh..opq"], &wanted);
    whatever_the_order(&["d a/b", "f a/b/c = 1", "f a/b/.wh..wh..opq"], &wanted);
}

/// The kernel lists a whiteout in an opaque directory.
#[test]
fn no_marker_is_left_where_nothing_shows_from_below() {
    needs!(root);
    let entries = ["f d/.wh.x", "f d/.wh..wh..opq", "f d/sub/.wh.y"];
    whatever_the_order(&entries[..2], &["d ", "d d {opaque=y}"]);
    let entries = ["f d/.wh..wh..opq", "f d/e/.wh..wh..opq", "f d/e/f = 1", "f d/e/.wh.g"];
    whatever_the_order(&entries, &["d ", "d d {opaque=y}", "d d/e", "f d/e/f = 1"]);
    let entries = [".wh.x", "x/.wh.y"].map(|path| format!("f {path}"));
    whatever_the_order(&[&entries[0], &entries[1]], &["d ", "w x"]);
    let entries = ["f .wh.x", "f x/y/.wh.z", "f x/.wh.w"];
    whatever_the_order(&entries, &["d ", "w x"]);
}

/// umoci writes whiteouts for all that was in a directory that became something else. Where that
/// was a link they were put where it leads to: a file there became an empty directory.
#[test]
fn markers_in_a_directory_that_became_something_else() {
    needs!(root);
    whatever_the_order(&["l d -> other", "f d/.wh.x"], &["d ", "l d -> other"]);
    whatever_the_order(
        &["l d -> other", "f d/e/.wh.x", "f d/.wh..wh..opq"],
        &["d ", "l d -> other"],
    );
    whatever_the_order(&["f d = x", "f d/.wh.x", "f d/e/.wh.y"], &["d ", "f d = x"]);
    whatever_the_order(&["d e", "l d -> e", "f d/.wh.x"], &["d ", "l d -> e", "d e"]);
}

#[test]
fn an_opaque_root() {
    needs!(root);
    whatever_the_order(&["f .wh..wh..opq", "f .wh.a", "f b"], &["d  {opaque=y}", "f b"]);
}

#[test]
fn implied_directories_delegate_until_their_entry_comes() {
    needs!(root);
    let s = Scratch::new();
    std::fs::write(s.base().path("l"), archive(&["f a/b/c", "d a", "d ."])).unwrap();
    let said = done(["apply".into(), "--json".into(), s.base().path("l"), s.base().path("o")]);
    let told: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(told["implied_directories"], 1, "that which has no entry at last");
    let s = Scratch::new();
    let entries = ["f a/b/c", "d a", "f o/x", "f .wh.o", "f o/sub/y"];
    let out = unpacked(&s, &archive(&entries), &[]);
    let wanted = [
        "d  {dirmeta_delegate=y}",
        "d a",
        "d a/b {dirmeta_delegate=y}",
        "f a/b/c",
        "d o {opaque=y}",
        "d o/sub",
        "f o/sub/y",
        "f o/x",
    ];
    assert_eq!(disk(&out), wanted);
    assert_eq!((out.mode_of("a/b"), out.mode_of("a")), (0o755, 0o755));
    let s = Scratch::new();
    assert_eq!(disk(&unpacked(&s, &archive(&["d ./", "f a"]), &[])), ["d ", "f a"]);
}

#[test]
fn marks_in_the_namespace_that_is_asked_for() {
    needs!(root);
    for (flag, name) in [("trusted", "trusted"), ("user", "user"), ("auto", "trusted")] {
        let s = Scratch::new();
        let bytes = archive(&["d d", "f d/.wh..wh..opq", "f e/f"]);
        let out = unpacked(&s, &bytes, &[&format!("--xattr={flag}")]);
        assert_eq!(out.xattr_names("d"), [format!("{name}.overlay.opaque")]);
        assert_eq!(out.xattr_names("e"), [format!("{name}.overlay.dirmeta_delegate")]);
    }
}

#[test]
fn links_of_this_layer_are_followed_inside_of_it() {
    needs!(root);
    let wanted = ["d ", "l bin -> usr/bin", "d usr", "d usr/bin", "f usr/bin/sh"];
    assert_eq!(lines(&["l bin -> usr/bin", "f bin/sh"]), wanted);
    let wanted = ["d ", "d a", "l a/l -> /x/../y", "d x", "d y", "f y/f"];
    assert_eq!(lines(&["l a/l -> /x/../y", "f a/l/f"]), wanted);
    let wanted = ["d ", "d etc", "f etc/f", "l up -> ../../../../etc"];
    assert_eq!(lines(&["l up -> ../../../../etc", "f up/f"]), wanted);
}

#[test]
fn what_aufs_left_is_passed_over_but_for_its_links() {
    needs!(root);
    let entries = [
        "d .wh..wh.plnk",
        "f .wh..wh.plnk/123.45 = linked",
        "f .wh..wh.aufs",
        "d .wh..wh.orph",
        "f .wh..wh.orph/x",
        "h a -> .wh..wh.plnk/123.45",
        "h b -> .wh..wh.plnk/123.45",
    ];
    assert_eq!(lines(&entries), ["d ", "f a = linked", "f b = linked"]);
}

#[test]
fn modes_owners_capabilities_and_attributes_of_what_diff_wrote() {
    needs!(root);
    let s = Scratch::new();
    s.upper.file("suid", "x").owner("suid", 5, 6).mode("suid", 0o6755).times("suid", -5, 250);
    s.upper.file("caps", "").file("acl", "").xattr("acl", "user.a", "line\n2=\0");
    s.upper.dir("sticky").mode("sticky", 0o1777).owner("sticky", 7, 8).file("sticky/f", "");
    s.upper.xattr("sticky", "user.overlay.overlay.opaque", "y");
    run("setcap", &["cap_net_raw+ep", s.upper.path("caps").to_str().unwrap()]);
    run("setfacl", &["-m", "u:9:rwx", s.upper.path("acl").to_str().unwrap()]);
    run("setfacl", &["-d", "-m", "u:9:rwx", s.upper.path("sticky").to_str().unwrap()]);
    for name in ["sticky", "caps", "acl", "sticky/f"] {
        s.upper.times(name, 2_000_000_000, 123_456_789);
    }
    s.upper.times("", 77, 0);
    let bytes = crate::call::pack(&s, &["--compress=zstd"]);
    let out = unpacked(&s, &bytes, &[]);
    let read = |dir: &Dir| crate::support::tree::dump(dir.root());
    crate::support::tree::assert_same_tree(
        &read(&s.upper),
        &read(&out),
        crate::support::tree::Compare::STRICT,
    );
    assert_eq!(out.get_xattr("sticky", "user.overlay.overlay.opaque").as_deref(), Some(&b"y"[..]));
    assert_eq!(out.stat("").mtime(), 77);
}

use std::os::unix::fs::MetadataExt;

#[test]
fn compressed_layers_from_a_file_and_from_standard_input() {
    needs!(root);
    for program in ["cat", "gzip -c", "zstd -qc"] {
        let s = Scratch::new();
        std::fs::write(s.base().path("plain"), archive(&["f a = 1"])).unwrap();
        let plain = s.base().path("plain").display().to_string();
        let packed = s.base().path("packed").display().to_string();
        run("sh", &["-c", &format!("{program} < {plain} > {packed}")]);
        let out = unpacked(&s, &std::fs::read(&packed).unwrap(), &[]);
        assert_eq!(out.read("a"), "1", "{program}");
        let other = s.base().path("other");
        let mut child = Command::new(binary())
            .args([OsString::from("apply"), "--json".into(), "-".into(), other.into()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let bytes = std::fs::read(&packed).unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let said = child.wait_with_output().unwrap();
        let said: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
        assert_eq!(said["entries"], 1);
        let wanted = run("sh", &["-c", &format!("sha256sum < {plain} | cut -d' ' -f1")]);
        assert_eq!(said["diff_id"], format!("sha256:{}", wanted.trim()));
        let wanted = run("sh", &["-c", &format!("sha256sum < {packed} | cut -d' ' -f1")]);
        assert_eq!(said["digest"], format!("sha256:{}", wanted.trim()));
    }
}

#[test]
fn an_empty_directory_may_be_there() {
    needs!(root);
    let s = Scratch::new();
    s.base().dir("out").mode("out", 0o700);
    assert_eq!(unpacked(&s, &archive(&["d ./", "f a"]), &[]).mode_of(""), 0o755);
}

#[test]
fn owners_are_stored_as_a_mount_with_these_options_stores_them() {
    needs!(root);
    let s = Scratch::new();
    let out = unpacked(&s, &archive(&["d ./", "f a"]), &["-o", "uidmapping=100000:0:1000"]);
    assert_eq!((out.stat("a").uid(), out.stat("").uid()), (100_000, 100_000));
}

/// A layer made by another program.
#[test]
fn an_archive_of_gnu_tar() {
    needs!(root);
    let s = Scratch::new();
    let long = "n".repeat(150);
    s.upper.file(format!("{long}/{long}"), "x").symlink("l", "t".repeat(120)).file("b", "y");
    s.upper.hard_link("a", "b").owner("b", 5_000_000, 3);
    for format in ["gnu", "posix", "pax"] {
        let from = s.upper.root().display().to_string();
        let tar = s.base().path("gnu.tar").display().to_string();
        let format_flag = format!("--format={format}");
        run("tar", &[&format_flag, "--xattrs", "-C", &from, "-cf", &tar, "."]);
        let to = s.base().path(format);
        done(["apply".into(), OsString::from(&tar), to.clone().into()]);
        let read = |dir: &std::path::Path| crate::support::tree::dump(dir);
        let compare = crate::support::tree::Compare {
            mtime: format != "gnu",
            ..crate::support::tree::Compare::STRICT
        };
        crate::support::tree::assert_same_tree(&read(s.upper.root()), &read(&to), compare);
    }
}

/// The unprivileged way: in a user namespace of one's own.
#[test]
fn in_a_user_namespace() {
    needs!(root, userns);
    let s = Scratch::new();
    let mut bytes = entry("f .wh.gone");
    bytes.extend(archive(&["d o", "f o/.wh..wh..opq", "f i/f"]));
    std::fs::write(s.base().path("layer.tar"), bytes).unwrap();
    let script = format!(
        "chmod 777 {0}; setpriv --reuid=1234 --regid=1234 --clear-groups unshare -Ur {1} apply \
         {0}/layer.tar {0}/out",
        s.base().root().display(),
        s.program().display()
    );
    run("sh", &["-ec", &script]);
    let wanted = [
        "d  {dirmeta_delegate=y}",
        "w gone",
        "d i {dirmeta_delegate=y}",
        "f i/f",
        "d o {opaque=y}",
    ];
    let out = s.base().sub("out");
    assert_eq!(disk(&out), wanted);
    assert_eq!(out.xattr_names("o"), ["user.overlay.opaque"]);
    assert_eq!(out.stat("i/f").uid(), 1234);
}

/// The kernel says no more than EINVAL.
#[test]
fn an_acl_with_an_id_that_the_namespace_lacks_is_named() {
    needs!(root, userns);
    let s = Scratch::new();
    s.upper.file("d/f", "");
    run("setfacl", &["-m", "u:7:r", s.upper.path("d/f").to_str().unwrap()]);
    std::fs::write(s.base().path("layer.tar"), pack(&s, &[])).unwrap();
    let script = format!(
        "chmod 777 {0}; chmod a+r {0}/layer.tar; ! setpriv --reuid=0 --regid=0 --clear-groups \
         unshare --user --map-root-user {1} apply {0}/layer.tar {0}/out 2>{0}/said",
        s.base().root().display(),
        s.program().display()
    );
    run("sh", &["-ec", &script]);
    let said = s.base().read("said");
    for word in ["d/f", "system.posix_acl_access", "names a user or group", "podman unshare"] {
        assert!(said.contains(word), "{said}");
    }
    assert!(!s.base().exists("out"));
}

/// Owners, modes and devices of a layer, by somebody who may give and make none of them.
#[test]
fn by_a_user_without_privilege() {
    needs!(root, mount);
    let s = Scratch::new();
    let bytes = archive(&["d d", "f d/f = 1", "c c 1,3", "p p", "l l -> x", "f implied/f"]);
    std::fs::write(s.base().path("layer.tar"), bytes).unwrap();
    let script = format!(
        "chmod 777 {0}; setpriv --reuid=1234 --regid=1234 --clear-groups {1} apply {0}/layer.tar \
         {0}/plain 2>{0}/said || true; setpriv --reuid=1234 --regid=1234 --clear-groups {1} apply \
         -o xattr_permissions=2 {0}/layer.tar {0}/out",
        s.base().root().display(),
        s.program().display()
    );
    run("sh", &["-ec", &script]);
    let said = s.base().read("said");
    assert!(said.contains("it cannot be given to 0:0"), "{said}");
    assert!(!s.base().exists("plain"));
    let out = s.base().sub("out");
    assert_eq!(out.stat("d/f").uid(), 1234);
    let value = |path| text(&out.get_xattr(path, "user.containers.override_stat").unwrap());
    assert_eq!(value("d"), "0:0:0755:dir");
    assert_eq!(value("d/f"), "0:0:0644:file");
    assert_eq!(value("c"), "0:0:0644:char-1-3");
    assert_eq!(value("p"), "0:0:0644:pipe");
    assert_eq!(value("implied"), "0:0:0755:dir");
}

/// A layer that its own modes would keep its owner from writing: a root and a directory without
/// `w`, and a file without it that has an attribute.
#[test]
fn what_may_not_be_written_is_unpacked() {
    needs!(root, mount);
    let s = Scratch::new();
    let script = format!(
        "cd {0}; chmod 777 .; setpriv --reuid=1234 --regid=1234 --clear-groups sh -euc '
             mkdir -p in/d; echo x >in/d/f; setfattr -n user.a -v 1 in/d/f
             chmod 444 in/d/f; chmod 555 in/d in
             tar -C in --format=pax --xattrs --xattrs-include=user.* -cf layer.tar .
             {1} apply layer.tar out'",
        s.base().root().display(),
        s.program().display()
    );
    run("sh", &["-ec", &script]);
    let out = s.base().sub("out");
    assert_eq!(["", "d", "d/f"].map(|path| out.mode_of(path)), [0o555, 0o555, 0o444]);
    assert_eq!(
        (out.read("d/f"), out.get_xattr("d/f", "user.a")),
        ("x\n".into(), Some(b"1".into()))
    );
}

#[test]
fn a_directory_above_that_is_not_there_is_named() {
    needs!(root);
    let s = Scratch::new();
    s.base().file("layer.tar", crate::call::pack(&s, &[]));
    let (layer, above) = (s.base().path("layer.tar"), s.base().path("none"));
    let output = crate::call::call([
        std::ffi::OsStr::new("apply"),
        layer.as_os_str(),
        above.join("layer").as_os_str(),
    ]);
    let said = crate::support::process::text(&output.stderr);
    let wanted = format!("the directory {} does not exist; create it", above.display());
    assert!(output.status.code() == Some(1) && said.contains(&wanted), "{said}");
}
