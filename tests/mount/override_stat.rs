//! Owners, modes and types in an extended attribute: `xattr_permissions`, and layers that others
//! made so.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown};
use std::path::Path;
use std::process::Command;

use nix::sys::stat::SFlag;

use crate::needs;
use crate::not_the_kernels;
use crate::support::process::{output, shell, text};
use crate::support::user::{NOBODY, as_user};
use crate::support::{Dir, Scratch, assert_errno};

const SECURITY: &str = "security.fuseoverlayfs.override_stat";
const CONTAINERS: &str = "user.containers.override_stat";
const FUSE_OVERLAYFS: &str = "user.fuseoverlayfs.override_stat";

const WHY: &str = "it knows no such attribute";

/// Type, permissions, owner and device, in the words of stat(1).
fn shown(dir: &Dir, path: &str) -> String {
    let meta = dir.stat(path);
    format!("{:o} {}:{} {:x}", meta.mode(), meta.uid(), meta.gid(), meta.rdev())
}

fn value(dir: &Dir, path: &str, name: &str) -> String {
    text(&dir.get_xattr(path, name).unwrap_or_default())
}

/// What containers/storage unpacks with `force_mask`: one mode and one owner for all, and of
/// devices empty files. `short` is how fuse-overlayfs writes it.
fn fill(layer: &Dir, name: &str, short: bool) {
    let long = |value: &'static str, otherwise: &'static str| if short { otherwise } else { value };
    layer.file("bin/su", "program").file("null", "").file("disk", "").file("fifo", "");
    layer.file("socket", "").dir("tmp").symlink("link", "bin/su");
    for (path, value) in [
        ("", long("0:0:0555:dir", "0:0:40555")),
        ("bin", long("0:5:2755:dir", "0:5:42755")),
        ("bin/su", long("0:8:4711:file", "0:8:104711")),
        ("tmp", long("0:0:1777:dir", "0:0:41777")),
        ("null", "0:0:0666:char-1-3"),
        ("disk", "0:6:0660:block-8-1"),
        ("fifo", "1:2:0600:pipe"),
        ("socket", "3:4:0700:socket"),
    ] {
        layer.xattr(path, name, value).mode(path, 0o755);
    }
}

fn check(m: &Dir) {
    for (path, expected) in [
        ("", "40555 0:0 0"),
        ("bin", "42755 0:5 0"),
        ("bin/su", "104711 0:8 0"),
        ("tmp", "41777 0:0 0"),
        ("null", "20666 0:0 103"),
        ("disk", "60660 0:6 801"),
        ("fifo", "10600 1:2 0"),
        ("socket", "140700 3:4 0"),
        ("link", "120777 0:0 0"),
    ] {
        assert_eq!(shown(m, path), expected, "{path}");
    }
    assert_eq!(m.read("bin/su"), "program");
}

#[test]
fn a_layer_is_shown_as_its_root_says_that_it_is_kept() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    for (name, short) in
        [(CONTAINERS, false), (FUSE_OVERLAYFS, true), (SECURITY, true), (SECURITY, false)]
    {
        let s = Scratch::with_lowers(2);
        fill(s.lower(1), name, short);
        // The root of the upper one of the two is an ordinary one.
        s.lower(0).mode("", 0o555);
        let mut m = s.setup().read_only().mount();
        check(&m);
        m.remount();
        for entry in fs::read_dir(m.root()).unwrap() {
            let entry = entry.unwrap();
            let (listed, real) =
                (entry.file_type().unwrap(), m.stat(entry.file_name()).file_type());
            assert_eq!(listed, real, "{entry:?}");
        }
        assert!(fs::symlink_metadata(m.path("null")).unwrap().file_type().is_char_device());
        assert!(m.xattr_names("bin/su").is_empty(), "{:?}", m.xattr_names("bin/su"));
        check(&m);
    }
}

/// Without it on the root it is an attribute like another, but for being hidden.
#[test]
fn a_layer_whose_root_says_nothing_is_shown_as_it_is() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    s.lower(0).file("f", "").xattr("f", CONTAINERS, "7:8:4755:file").mode("f", 0o640);
    let m = s.mount();
    assert_eq!(shown(&m, "f"), "100640 0:0 0");
    assert!(m.xattr_names("f").is_empty());
}

#[test]
fn the_first_spelling_on_the_root_counts() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    s.lower(0).xattr("", FUSE_OVERLAYFS, "0:0:0755:dir").xattr("", CONTAINERS, "0:0:0755:dir");
    s.lower(0).file("f", "").xattr("f", FUSE_OVERLAYFS, "1:1:0600:file");
    s.lower(0).xattr("f", CONTAINERS, "2:2:0600:file").file("g", "");
    s.lower(0).xattr("g", FUSE_OVERLAYFS, "1:1:0600:file").mode("g", 0o640);
    let m = s.mount();
    assert_eq!((shown(&m, "f"), shown(&m, "g")), ("100600 2:2 0".into(), "100640 0:0 0".into()));
}

/// Whoever owns a directory can write its `user.` attributes. That must not make programs that run
/// as root when root mounts it.
#[test]
fn root_does_not_believe_the_layers_of_users() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    s.lower(0).file("sh", "").xattr("", CONTAINERS, "0:0:0755:dir");
    s.lower(0).xattr("sh", CONTAINERS, "0:0:4755:file").owner("sh", NOBODY, NOBODY);
    s.lower(0).owner("", NOBODY, NOBODY).mode("sh", 0o755);
    let m = s.mount();
    assert_eq!(shown(&m, "sh"), "100755 65534:65534 0");
    assert!(m.log().contains("do not count"), "{}", m.log());
}

#[test]
fn hostile_values_cost_nothing_but_their_meaning() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    s.lower(0).xattr("", CONTAINERS, "rubbish").mode("", 0o755);
    let long = "1".repeat(60_000);
    let values = [
        "",
        ":::",
        "0:0:0644:char-0-0",
        "0:0:0644:dir",
        "4294967295:0:0644:file",
        "-1:-1:-1:file",
        "0:0:99999:file",
        "0:0:0644:char-99999999999-1",
        "0:0:0644:file:more",
        &long,
    ];
    for (i, value) in values.iter().enumerate() {
        let name = format!("f{i}");
        s.lower(0).file(&name, "x").mode(&name, 0o604).owner(&name, 3, 4);
        // A file system may take less than the longest value.
        xattr::set(s.lower(0).path(&name), CONTAINERS, value.as_bytes()).ok();
    }
    s.lower(0).dir("d").mode("d", 0o705).xattr("d", CONTAINERS, "0:0:0644:symlink");
    s.lower(0).file("empty", "").xattr("empty", CONTAINERS, "0:0:0777:symlink");
    s.lower(0).file("nul", "a\0b").xattr("nul", CONTAINERS, "0:0:0777:symlink");
    s.lower(0).file("far", "x".repeat(4096)).xattr("far", CONTAINERS, "0:0:0777:symlink");
    s.lower(0).file("target", "f0").xattr("target", CONTAINERS, "0:0:0777:symlink");
    let m = s.mount();
    assert_eq!(m.names("").len(), values.len() + 5);
    for i in 0..values.len() {
        assert_eq!(shown(&m, &format!("f{i}")), "100604 3:4 0", "{i}");
    }
    assert_eq!(shown(&m, "d"), "40705 0:0 0");
    assert_eq!(fs::read_link(m.path("target")).unwrap(), Path::new("f0"));
    assert_eq!(m.read("target"), "x");
    for broken in ["empty", "nul", "far"] {
        assert_errno(fs::read_link(m.path(broken)), libc::EIO);
    }
}

/// One of each kind, made by a user.
fn make(m: &Dir) {
    shell(
        m.root(),
        "umask 022; echo text >file; mkdir dir dir/sub; mkfifo fifo; ln -s file link
         mknod null c 1 3; mknod disk b 8 1; ln file hard; perl -e 'use IO::Socket::UNIX;
         IO::Socket::UNIX->new(Local => \"socket\", Listen => 1) or die'
         chown 5:6 file dir null disk fifo socket; chown 5:6 dir/sub
         chmod 6755 file; chmod 3711 dir; chmod 640 null; chmod 4750 socket",
    );
}

const MADE: [(&str, &str); 8] = [
    ("file", "106755 5:6 0"),
    ("hard", "106755 5:6 0"),
    ("dir", "43711 5:6 0"),
    ("dir/sub", "40755 5:6 0"),
    ("null", "20640 5:6 103"),
    ("disk", "60644 5:6 801"),
    ("fifo", "10644 5:6 0"),
    ("socket", "144750 5:6 0"),
];

#[test]
fn each_form_keeps_everything_over_a_remount() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    for (permissions, name) in [("1", SECURITY), ("2", CONTAINERS), ("2", FUSE_OVERLAYFS)] {
        let s = Scratch::new();
        if name == FUSE_OVERLAYFS {
            // An upper that an older release of fuse-overlayfs began.
            s.upper.xattr("", name, "0:0:40755");
        }
        let option = format!("xattr_permissions={permissions}");
        let mut m = s.setup().option(&option).option("dev").mount();
        make(&m);
        for _ in 0..2 {
            for (path, expected) in MADE {
                assert_eq!(shown(&m, path), expected, "{name} {path}");
            }
            assert_eq!(fs::read_link(m.path("link")).unwrap(), Path::new("file"));
            assert_eq!(m.read("hard"), "text\n");
            assert_eq!(m.stat("file").nlink(), 2);
            m.remount();
        }
        assert!(value(&s.upper, "", name).starts_with("0:0:"));
        assert_eq!(value(&s.upper, "null", name), "5:6:0640:char-1-3");
        assert_eq!(value(&s.upper, "file", name), "5:6:6755:file");
        for (path, _) in MADE {
            let real = s.upper.stat(path);
            let is_dir = real.file_type().is_dir();
            assert_eq!(real.mode() & 0o7777, if is_dir { 0o700 } else { 0o600 }, "{path}");
            assert!(is_dir || real.file_type().is_file(), "{path}");
            assert_eq!((real.uid(), real.gid()), (0, 0), "{path}");
        }
        // As a lower layer, with no option, it is the same.
        m.unmount();
        let above = Scratch::new();
        let setup = above.setup().lowers(vec![s.upper.root().to_owned()]);
        let m = setup.mount();
        for (path, expected) in MADE {
            assert_eq!(shown(&m, path), expected, "{name} {path}");
        }
    }
}

/// The upper says itself how it is kept, whatever the next mount asks for.
#[test]
fn an_upper_goes_on_as_it_began() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    let mut m = s.setup().option("xattr_permissions=2").mount();
    m.file("f", "").owner("f", 1, 2);
    m.unmount();
    let mut m = s.mount();
    m.owner("f", 3, 4).file("g", "").mode("g", 0o4755);
    assert_eq!(value(&s.upper, "f", CONTAINERS), "3:4:0644:file");
    assert_eq!(value(&s.upper, "g", CONTAINERS), "0:0:4755:file");
    m.unmount();
    let refused = s.setup().option("xattr_permissions=1").attempt();
    assert!(!refused.status.success());
    let said = text(&refused.stderr);
    assert!(said.contains("it has its owners in user.containers.override_stat"), "{said}");
}

#[test]
fn permissions_are_those_that_are_shown() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    s.lower(0).file("low", "x").owner("low", 5, 6).mode("low", 0o640);
    let m = s.setup().option("xattr_permissions=2").mount();
    m.dir("open").mode("open", 0o2777).owner("open", 0, 9);
    m.mode("open", 0o2777).file("mine", "x").owner("mine", 5, 6).mode("mine", 0o640);
    as_user(5, 1, || {
        fs::write(m.path("mine"), "y").unwrap();
        fs::write(m.path("low"), "y").unwrap();
        File::create(m.path("open/f")).unwrap();
        fs::create_dir(m.path("open/d")).unwrap();
        fs::set_permissions(m.path("open/f"), fs::Permissions::from_mode(0o600)).unwrap();
    });
    as_user(7, 6, || {
        assert_eq!(fs::read(m.path("mine")).unwrap(), b"y");
        assert_errno(fs::write(m.path("mine"), "z"), libc::EACCES);
        assert_errno(File::open(m.path("open/f")), libc::EACCES);
    });
    as_user(8, 8, || assert_errno(fs::read(m.path("low")), libc::EACCES));
    assert_eq!(shown(&m, "open/f"), "100600 5:9 0");
    assert_eq!(shown(&m, "open/d"), "42755 5:9 0");
    assert_eq!(value(&s.upper, "low", CONTAINERS), "5:6:0640:file");
}

#[test]
fn copies_go_between_the_forms() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    // From ordinary layers to attributes.
    let s = Scratch::new();
    let null = SFlag::S_IFCHR;
    s.lower(0).file("d/f", "data").node("null", null, 1, 3).symlink("l", "d/f").dir("sg");
    s.lower(0).owner("d/f", 7, 8).mode("d/f", 0o4755).owner("null", 1, 2).owner("l", 3, 4);
    s.lower(0).owner("sg", 0, 9).mode("sg", 0o2775).xattr("d/f", "user.x", "y").times("d/f", -5, 7);
    let options = ["xattr_permissions=2", "xattr_permissions=0"];
    let m = s.setup().option(options[0]).mount();
    shell(m.root(), "touch -a d/f null; touch -ah l; touch sg/new");
    for (path, expected) in
        [("d/f", "104755 7:8 0"), ("null", "20644 1:2 103"), ("l", "120777 3:4 0")]
    {
        assert_eq!(shown(&m, path), expected, "{path}");
    }
    assert_eq!(m.get_xattr("d/f", "user.x").unwrap(), b"y");
    assert_eq!((m.read("d/f"), m.stat("d/f").mtime()), ("data".into(), -5));
    assert_eq!(value(&s.upper, "d/f", CONTAINERS), "7:8:4755:file");
    assert_eq!(value(&s.upper, "sg", CONTAINERS), "0:9:2775:dir");
    assert_eq!(shown(&m, "sg/new"), "100644 0:9 0");
    drop(m);
    // From attributes to ordinary ones.
    let s = Scratch::new();
    fill(s.lower(0), CONTAINERS, false);
    let mut m = s.setup().option(options[1]).mount();
    shell(m.root(), "touch -a bin/su tmp null disk fifo socket; touch -ah link; touch tmp/new");
    for _ in 0..2 {
        for (path, expected) in [("bin/su", "104711 0:8 0"), ("null", "20666 0:0 103")] {
            assert_eq!(shown(&m, path), expected);
            assert_eq!(shown(&s.upper, path), expected);
        }
        assert_eq!(shown(&s.upper, "tmp"), "41777 0:0 0");
        assert_eq!(shown(&s.upper, "disk"), "60660 0:6 801");
        assert_eq!(shown(&s.upper, "socket"), "140700 3:4 0");
        assert!(s.upper.xattr_names("bin/su").iter().all(|name| !name.contains("override")));
        m.remount();
    }
}

#[test]
fn set_id_bits_and_capabilities_go_as_they_ought_to() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    let mut m = s.setup().option("xattr_permissions=2").mount();
    m.file("suid", "x").mode("suid", 0o6755).file("cap", "x").file("given", "x");
    m.dir("dir").mode("dir", 0o6755);
    shell(m.root(), "setcap cap_net_raw+ep cap; setcap cap_net_raw+ep given");
    m.remount();
    let stored = "user.containers.override_security.capability";
    assert!(s.upper.get_xattr("cap", stored).is_some());
    assert!(s.upper.get_xattr("cap", "security.capability").is_none());
    assert_eq!(m.xattr_names("cap"), ["security.capability"]);
    assert!(shell(m.root(), "getcap cap").contains("cap_net_raw"));
    chown(m.path("suid"), Some(1), None).unwrap();
    assert_eq!(shown(&m, "suid"), "100755 1:0 0");
    m.mode("suid", 0o6755);
    m.mode("suid", 0o6777);
    as_user(9, 9, || fs::write(m.path("suid"), "y").unwrap());
    assert_eq!(shown(&m, "suid"), "100777 1:0 0");
    chown(m.path("dir"), Some(1), Some(1)).unwrap();
    assert_eq!(shown(&m, "dir"), "46755 1:1 0", "those of a directory stay");
    chown(m.path("given"), Some(1), None).unwrap();
    fs::write(m.path("cap"), "y").unwrap();
    for name in ["cap", "given"] {
        assert!(m.xattr_names(name).is_empty(), "{name}");
    }
    shell(m.root(), "setcap cap_net_raw+ep cap; echo more >>cap");
    assert!(m.xattr_names("cap").is_empty(), "and again");
}

/// Where containers/storage may set real capabilities it does, beside the attribute for the rest.
#[test]
fn real_capabilities_count_too() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    s.lower(0).xattr("", CONTAINERS, "0:0:0755:dir").file("f", "x").file("g", "x");
    shell(s.lower(0).root(), "setcap cap_net_raw+ep f; setcap cap_net_raw+ep g");
    s.lower(0).xattr("f", CONTAINERS, "0:0:0755:file").xattr("g", CONTAINERS, "0:0:0755:file");
    let mut m = s.setup().option("xattr_permissions=2").mount();
    shell(m.root(), "touch -a f g");
    for _ in 0..2 {
        for name in ["f", "g"] {
            assert_eq!(m.xattr_names(name), ["security.capability"]);
            assert!(shell(m.root(), &format!("getcap {name}")).contains("cap_net_raw"));
        }
        m.remount();
    }
    shell(m.root(), "setcap cap_chown+ep f; setcap -r g");
    assert!(shell(m.root(), "getcap f").contains("cap_chown"));
    assert!(m.xattr_names("g").is_empty());
    shell(m.root(), "chown 5:6 f");
    assert!(m.xattr_names("f").is_empty());
}

#[test]
fn there_are_no_acls() {
    needs!(mount, root, acl);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    s.lower(0).xattr("", CONTAINERS, "0:0:0755:dir").file("f", "");
    shell(s.lower(0).root(), "setfacl -m u:1:rwx f");
    s.lower(0).xattr("f", CONTAINERS, "0:0:0640:file");
    let m = s.setup().option("xattr_permissions=2").mount();
    m.file("new", "");
    for name in ["f", "new"] {
        let refused = output(Command::new("setfacl").args(["-m", "u:1:r"]).arg(m.path(name)));
        assert!(text(&refused.stderr).contains("Operation not supported"), "{refused:?}");
    }
    assert_eq!(shown(&m, "f"), "100640 0:0 0");
    assert!(!shell(m.root(), "getfacl -ncE f").contains("user:1"));
    m.mode("f", 0o604);
    assert_eq!(shown(&m, "f"), "100604 0:0 0");
}

#[test]
fn an_unlinked_file_keeps_its_attributes() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    s.lower(0).xattr("", CONTAINERS, "0:0:0755:dir").file("low", "x");
    s.lower(0).xattr("low", CONTAINERS, "5:6:0640:file");
    let m = s.setup().option("xattr_permissions=2").mount();
    m.file("up", "x").owner("up", 5, 6).mode("up", 0o640);
    for name in ["low", "up"] {
        let file = File::options().read(true).write(true).open(m.path(name)).unwrap();
        fs::remove_file(m.path(name)).unwrap();
        let seen = |file: &File| {
            let meta = file.metadata().unwrap();
            (meta.mode() & 0o7777, meta.uid(), meta.gid())
        };
        assert_eq!(seen(&file), (0o640, 5, 6), "{name}");
        nix::unistd::fchown(&file, Some(7.into()), Some(8.into())).unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(seen(&file), (0o600, 7, 8), "{name}");
    }
}

#[test]
fn removing_and_making_anew_leaves_canonical_marks() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    s.lower(0).file("d/old", "").file("f", "");
    let mut m = s.setup().option("xattr_permissions=2").mount();
    shell(m.root(), "rm -r d f; mkdir d; chown 1:2 d; mknod f c 1 3; mv d e; mkdir d");
    for _ in 0..2 {
        assert_eq!(m.names(""), ["d", "e", "f"]);
        assert_eq!((shown(&m, "e"), m.names("d").len()), ("40755 1:2 0".into(), 0));
        assert_eq!(shown(&m, "f"), "20644 0:0 103");
        m.remount();
    }
    assert_eq!(s.upper.get_xattr("d", "trusted.overlay.opaque").unwrap(), b"y");
    assert_eq!(s.upper.names("d").len(), 0);
    fs::remove_file(m.path("f")).unwrap();
    assert!(s.upper.is_whiteout("f"));
}

#[test]
fn lent_metadata_may_be_in_attributes() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::with_lowers(2);
    for layer in [0, 1] {
        s.lower(layer).xattr("", CONTAINERS, "0:0:0755:dir").dir("tmp");
        s.lower(layer).xattr("tmp", CONTAINERS, ["0:0:0755:dir", "7:8:1777:dir"][layer]);
    }
    s.lower(0).xattr("tmp", "user.overlay.dirmeta_delegate", "y").file("tmp/f", "");
    let m = s.setup().option("xattr_permissions=2").mount();
    assert_eq!(shown(&m, "tmp"), "41777 7:8 0");
    m.file("tmp/new", "");
    assert_eq!(shown(&m, "tmp"), "41777 7:8 0");
    assert_eq!(value(&s.upper, "tmp", CONTAINERS), "7:8:1777:dir");
}

#[test]
fn maps_are_for_what_the_attributes_say() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    s.lower(0).xattr("", CONTAINERS, "0:0:0755:dir").file("f", "");
    s.lower(0).xattr("f", CONTAINERS, "5:6:0640:file");
    let setup = s.setup().option("xattr_permissions=2");
    let m = setup.option("uidmapping=:0:5000:1000").option("gidmapping=:0:5000:1000").mount();
    assert_eq!(shown(&m, "f"), "100640 5005:5006 0");
    m.file("new", "");
    chown(m.path("new"), Some(5003), Some(5004)).unwrap();
    chown(m.path("f"), Some(5001), None).unwrap();
    assert_eq!(value(&s.upper, "new", CONTAINERS), "3:4:0644:file");
    assert_eq!(value(&s.upper, "f", CONTAINERS), "1:6:0640:file");
    assert_eq!(shown(&m, "new"), "100644 5003:5004 0");
}

/// What it is for: a server that may not give files away or make devices.
#[test]
fn no_privilege_is_needed() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    s.lower(0).xattr("", CONTAINERS, "0:0:0755:dir").file("su", "").mode("", 0o755);
    s.lower(0).xattr("su", CONTAINERS, "0:8:4755:file").mode("su", 0o755);
    let mount = |permissions: &str| {
        let lacks = "-chown,-mknod,-fsetid,-fowner,-setfcap";
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", lacks, "--"]).arg(crate::support::binary());
        let options = s.setup().option("dev").option(permissions).option_string();
        let done = output(command.arg("-o").arg(options).arg(s.mnt.root()));
        assert!(done.status.success(), "{}", text(&done.stderr));
    };
    let unmount = || shell(Path::new("/"), &format!("umount '{}'", s.mnt.root().display()));
    mount("xattr_permissions=0");
    let refused = output(Command::new("chown").arg("5:6").arg(s.mnt.path("su")));
    unmount();
    assert!(text(&refused.stderr).contains("Operation not permitted"), "{refused:?}");
    mount("xattr_permissions=2");
    let done = std::panic::catch_unwind(|| {
        make(&s.mnt);
        shell(s.mnt.root(), "touch su; mkdir out; cd dir; cp -a ../file ../null ../fifo .");
        shell(s.mnt.root(), "tar -C dir --numeric-owner -c . | tar -C out --numeric-owner -xp");
    });
    unmount();
    assert!(done.is_ok());
    mount("xattr_permissions=2");
    let paths = MADE.iter().map(|(path, _)| (*path).to_owned());
    let copies = ["out/file", "out/null", "out/fifo", "out/sub", "su"].map(str::to_owned);
    let found = std::panic::catch_unwind(|| {
        let all = paths.chain(copies).map(|path| format!("{path} {}", shown(&s.mnt, &path)));
        all.collect::<Vec<_>>()
    });
    unmount();
    let of = |path: &str| MADE.iter().find(|(made, _)| *made == path).unwrap().1;
    let mut expected: Vec<_> = MADE.map(|(path, shown)| format!("{path} {shown}")).into();
    for (path, original) in
        [("out/file", "file"), ("out/null", "null"), ("out/fifo", "fifo"), ("out/sub", "dir/sub")]
    {
        expected.push(format!("{path} {}", of(original)));
    }
    expected.push("su 104755 0:8 0".into());
    assert_eq!(found.unwrap(), expected);
}

#[test]
fn what_takes_privilege_is_refused_without() {
    needs!(mount, root, userns, fuse_for_users, guarded_security_attributes);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    for dir in [&s.upper, &s.work, &s.mnt] {
        dir.owner("", NOBODY, NOBODY);
    }
    let refused = output(
        Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .args(["unshare", "-Urm"])
            .arg(s.program())
            .arg("-o")
            .arg(s.setup().option("xattr_permissions=1").option_string())
            .arg(s.mnt.root()),
    );
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("use xattr_permissions=2"), "{said}");
}

/// chown(2) of a link that can keep no owner succeeds, as archives of images are unpacked with it.
#[test]
fn a_symbolic_link_has_a_real_owner_or_none() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    let s = Scratch::new();
    let m = s.setup().option("xattr_permissions=2").mount();
    m.symlink("l", "x");
    lchown(m.path("l"), Some(5), Some(6)).unwrap();
    assert_eq!(
        (shown(&m, "l"), shown(&s.upper, "l")),
        ("120777 5:6 0".into(), "120777 5:6 0".into())
    );
}

#[test]
fn a_file_without_a_name_gets_one_with_its_attributes() {
    needs!(mount, root);
    not_the_kernels!(WHY);
    needs!(fuse_tmpfile);
    let s = Scratch::new();
    let mut m = s.setup().option("xattr_permissions=2").mount();
    let dir = m.root().to_owned();
    as_user(0, 0, || {
        let flags = nix::fcntl::OFlag::O_TMPFILE | nix::fcntl::OFlag::O_RDWR;
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o640);
        let file = File::from(nix::fcntl::open(&dir, flags, mode).unwrap());
        nix::unistd::fchown(&file, Some(5.into()), Some(6.into())).unwrap();
        let proc = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        let follow = nix::fcntl::AtFlags::AT_SYMLINK_FOLLOW;
        let here = nix::fcntl::AT_FDCWD;
        nix::unistd::linkat(here, proc.as_str(), here, &dir.join("f"), follow).unwrap();
    });
    for _ in 0..2 {
        assert_eq!(shown(&m, "f"), "100640 5:6 0");
        m.remount();
    }
    assert_eq!(value(&s.upper, "f", CONTAINERS), "5:6:0640:file");
}
