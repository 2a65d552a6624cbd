//! Command lines, and what they mean.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rstest::rstest;

use super::args::{Call, MountArgs, Subcommand, command, nearly_a_subcommand, read, subcommand};
use super::options;
use super::remount::Remount;
use super::request::UsageError;
use super::table::{IGNORED, OPTIONS};
use crate::config::{
    Access, Config, CopyLimit, Durability, IdRange, IdView, IndexChoice, NamespaceChoice, Numbers,
    Owners, Permissions, RenameLower,
};
use crate::id::Id;

fn call(args: &[&str]) -> (Result<Call, UsageError>, Vec<String>) {
    let args = ["ovlmerge"].iter().chain(args);
    let matches = command().try_get_matches_from(args).unwrap();
    let mut warnings = Vec::new();
    let parsed = read(&matches, "ovlmerge", |warning| warnings.push(warning));
    (parsed, warnings)
}

fn parse(args: &[&str]) -> (Result<MountArgs, UsageError>, Vec<String>) {
    let (parsed, warnings) = call(args);
    (parsed.map(mount), warnings)
}

fn mount(call: Call) -> MountArgs {
    match call {
        Call::Mount(mount) => *mount,
        Call::Remount(remount) => panic!("no mount: {remount:?}"),
    }
}

fn config(args: &[&str]) -> Config {
    let (parsed, warnings) = parse(args);
    assert_eq!(warnings, Vec::<String>::new(), "{args:?}");
    parsed.unwrap().config
}

const LAYERS: &str = "lowerdir=/l,upperdir=/u,workdir=/w";

/// The configuration of a mount with an upper and these options on /m.
fn with(options: &str) -> Config {
    config(&["-o", LAYERS, "-o", options, "/m"])
}

fn error(args: &[&str]) -> String {
    parse(args).0.unwrap_err().to_string()
}

#[test]
fn the_grammar_is_sound() {
    command().debug_assert();
}

#[test]
fn a_full_mount() {
    let found = config(&["-o", "lowerdir=/a:/b,upperdir=/u,workdir=/w", "/m"]);
    assert_eq!(found.lowers, [Path::new("/a"), Path::new("/b")]);
    let upper = found.upper.unwrap();
    assert_eq!((upper.upper, upper.work), ("/u".into(), "/w".into()));
    assert_eq!(found.mountpoint, Path::new("/m"));
}

#[rstest]
#[case(&["-olowerdir=/l", "/m"])]
#[case(&["/m", "-o", "lowerdir=/l"])]
#[case(&["overlay", "/m", "-o", "lowerdir=/l"])]
#[case(&["overlay", "-o", "lowerdir=/l", "/m"])]
#[case(&["-o", "lowerdir=/x", "/m", "-o", "lowerdir=/l"])]
#[case(&["-o", "rw,dev,suid", "overlay", "/m", "-o", "lowerdir=/l,,nodev,nosuid,"])]
#[case(&["-fo", "lowerdir=/l", "/m"])]
#[case(&["-d", "-o", "lowerdir=/l", "--", "/m"])]
fn options_stand_anywhere(#[case] args: &[&str]) {
    let found = config(args);
    assert_eq!(found.lowers, [Path::new("/l")]);
    assert_eq!(found.mountpoint, Path::new("/m"));
}

#[test]
fn debug_stays_in_front() {
    let flags = |args: &[&str]| {
        let parsed = parse(args).0.unwrap();
        (parsed.foreground, parsed.debug)
    };
    assert_eq!(flags(&["-olowerdir=/l", "/m"]), (false, false));
    assert_eq!(flags(&["-olowerdir=/l", "/m", "-f"]), (true, false));
    assert_eq!(flags(&["-olowerdir=/l", "--debug", "/m"]), (true, true));
    assert_eq!(flags(&["-olowerdir=/l,debug", "/m"]), (true, true));
}

/// `-s` and `max_threads` mean what they mean in libfuse.
#[test]
fn threads_as_libfuse_counts_them() {
    let threads = |args: &[&str]| config(args).threads;
    assert_eq!(threads(&["-s", "-olowerdir=/l", "/m"]), Some(1));
    assert_eq!(with("max_threads=1").threads, Some(1));
    let many = with("max_threads=1000").threads;
    assert_eq!(many, Some(crate::fuse::default_threads()));
}

/// mount(8) passes all options that it knows of the mount, or all that fstab has.
#[rstest]
#[case("ro,remount")]
#[case("remount,lowerdir=/l,upperdir=/u,workdir=/w,rw,dev,suid")]
#[case("ro,noatime,remount,user_id=0,group_id=0,default_permissions,allow_other,dev,suid")]
fn a_remount_needs_no_layers(#[case] options: &str) {
    let (parsed, warnings) = call(&["overlay", "/m", "-o", options]);
    let Call::Remount(found) = parsed.unwrap() else { panic!("{options}") };
    assert_eq!(found, Remount::new(Path::new("/m"), &[&options.into()]));
    assert_eq!(warnings, Vec::<String>::new());
}

/// The forms in which podman and its relatives have been seen to call a mount program.
#[rstest]
#[case("lowerdir=/s/l/A:/s/l/B,upperdir=/s/1/diff,workdir=/s/1/work,")]
#[case("lowerdir=/s/l/A:/s/l/B,upperdir=/s/1/diff,workdir=/s/1/work,,volatile")]
#[case("lowerdir=/s/l/A:/s/l/B,upperdir=/s/1/diff,workdir=/s/1/work,private")]
#[case(r#"lowerdir=/s/l/A:/s/l/B,upperdir=/s/1/diff,workdir=/s/1/work,context="u:r:t:s0:c1,c2""#)]
fn runtimes(#[case] options: &str) {
    let found = config(&["-o", options, "/s/1/merged"]);
    assert_eq!(found.lowers, [Path::new("/s/l/A"), Path::new("/s/l/B")]);
    assert_eq!(found.upper.unwrap().work, Path::new("/s/1/work"));
    assert_eq!(found.durability == Durability::Volatile, options.contains("volatile"));
}

type Change = fn(&mut Config);

fn all(id: u32) -> IdView {
    IdView::All(Id::new(id).unwrap())
}

fn mapped(ranges: &[(u32, u32, u32)]) -> IdView {
    let ranges = ranges.iter().map(|&(stored, shown, len)| IdRange { stored, shown, len });
    IdView::Mapped(ranges.collect())
}

#[test]
fn how_directories_are_renamed() {
    let table: &[(&str, Change)] = &[
        ("redirect_dir=nofollow,redirect_dir=on", |c| c.write_redirects = true),
        ("redirect_dir=on,redirect_dir=off", |_| {}),
        ("rename_lower=off", |c| c.rename_lower = RenameLower::Off),
        ("rename_lower=off,rename_lower=copy", |_| {}),
        ("rename_lower=copy:5:7", |c| {
            c.rename_lower = RenameLower::Copy(CopyLimit { entries: 5, bytes: 7 });
        }),
    ];
    for (options, change) in table {
        let mut expected = with("rw");
        change(&mut expected);
        assert_eq!(with(options), expected, "{options}");
    }
}

#[test]
fn each_option_of_the_mount_itself() {
    check(&[
        ("ro,rw", |_| {}),
        ("suid", |c| c.mount.suid = Some(true)),
        ("suid,nosuid", |c| c.mount.suid = Some(false)),
        ("dev", |c| c.mount.dev = Some(true)),
        ("nodev", |c| c.mount.dev = Some(false)),
        ("noexec", |c| c.mount.exec = false),
        ("noexec,exec", |_| {}),
        ("atime", |c| c.mount.atime = true),
        ("relatime", |c| c.mount.atime = true),
        ("strictatime", |c| c.mount.atime = true),
        ("atime,noatime,lazytime", |_| {}),
        ("nodiratime", |c| c.mount.diratime = false),
        ("nodiratime,diratime", |_| {}),
        ("sync", |c| c.mount.sync = true),
        ("sync,async", |_| {}),
        ("dirsync", |c| c.mount.dirsync = true),
        ("allow_other", |c| c.mount.access = Some(Access::Everybody)),
        ("allow_root", |c| c.mount.access = Some(Access::OwnerAndRoot)),
        ("default_permissions", |_| {}),
        ("fsname=a=b", |c| c.mount.fsname = "a=b".into()),
        ("subtype=fuse-overlayfs", |c| c.mount.subtype = "fuse-overlayfs".into()),
        ("x-systemd.automount,X-mount.mkdir=0755,user,_netdev,defaults,nofail", |_| {}),
    ]);
}

#[test]
fn each_option_of_the_overlay() {
    check(&[
        ("timeout=1.5", |c| c.timeout = Duration::from_millis(1500)),
        ("timeout=0", |c| c.timeout = Duration::ZERO),
        ("timeout=1000000000000", |_| {}),
        ("volatile", |c| c.durability = Durability::Volatile),
        ("fsync=0", |c| c.durability = Durability::Volatile),
        ("fsync=volatile,fsync=1", |_| {}),
        ("fsync=volatile", |c| c.durability = Durability::Volatile),
        ("fsync=strict", |c| c.durability = Durability::Strict),
        ("fsync=strict,fsync=auto", |_| {}),
        ("userxattr", |c| c.namespace = NamespaceChoice::User),
        ("xattr=user", |c| c.namespace = NamespaceChoice::User),
        ("xattr=trusted", |c| c.namespace = NamespaceChoice::Trusted),
        ("xattr=trusted,xattr=auto", |_| {}),
        ("writeback=1", |c| c.writeback = true),
        ("writeback=1,writeback=0,xattr_permissions=2,xattr_permissions=0", |_| {}),
        ("max_write=65536", |c| c.max_write = 65536),
        ("threads=3", |c| c.threads = Some(3)),
        ("threads=3,threaded=1", |c| c.threads = Some(3)),
        ("threaded=0,threads=1", |c| c.threads = Some(1)),
        ("threaded=0,threaded=1", |_| {}),
        ("spin=0", |c| c.spin = Duration::ZERO),
        ("dirmeta_delegate=off", |c| c.dirmeta_delegate = false),
        ("dirmeta_delegate=on", |_| {}),
        ("metacopy=off,verity=off,nfs_export=off,static_nlink", |_| {}),
        ("nfs_export=on", |c| c.nfs_export = true),
        ("index=off", |c| c.index = IndexChoice::Off),
        ("xino=off", |c| c.numbers = Numbers::Plain),
        ("ino32_t", |c| c.numbers = Numbers::Short),
        ("redirect_dir=nofollow", |c| c.follow_redirects = false),
        ("redirect_dir=nofollow,redirect_dir=follow,spin=0,spin=50", |_| {}),
        ("xattr_permissions=1", |c| c.permissions = Permissions::SecurityXattr),
        ("xattr_permissions=2", |c| c.permissions = Permissions::UserXattr),
        ("uidmapping=:0:1:70000", |c| c.owners.uids = mapped(&[(0, 1, 70_000)])),
        ("gidmapping=0:1:5:5:0:1", |c| c.owners.gids = mapped(&[(0, 1, 5), (5, 0, 1)])),
        ("uidmapping=0:1:5,uidmapping=0:2:5", |c| c.owners.uids = mapped(&[(0, 2, 5)])),
        ("squash_to_uid=5,gidmapping=0:1:5", |c| {
            c.owners = Owners { uids: all(5), gids: mapped(&[(0, 1, 5)]) };
        }),
        ("squash_to_gid=4294967294", |c| c.owners.gids = all(4_294_967_294)),
        ("squash_to_root", |c| {
            c.owners = Owners { uids: all(0), gids: all(0) };
        }),
        ("squash_to_root,squash_to_uid=0", |c| {
            c.owners = Owners { uids: all(0), gids: all(0) };
        }),
    ]);
}

/// Checks what options change in the configuration of a mount without them.
fn check(table: &[(&str, Change)]) {
    for (options, change) in table {
        let mut expected = with("rw");
        change(&mut expected);
        assert_eq!(with(options), expected, "{options}");
    }
}

#[rstest]
#[case(&["chekc", "/layer"], Some("check"))]
#[case(&["umonut", "/m"], Some("umount"))]
#[case(&["generat", "/d"], Some("generate"))]
#[case(&["stat2"], Some("stat"))]
#[case(&["mountpoint"], None)]
#[case(&["mount", "/m"], None)]
#[case(&["-o", "lowerdir=/l", "chekc"], None)]
#[case(&["dev"], None)]
#[case(&[], None)]
fn a_word_that_is_nearly_a_subcommand(#[case] words: &[&str], #[case] meant: Option<&str>) {
    let words: Vec<_> = words.iter().map(OsString::from).collect();
    assert_eq!(nearly_a_subcommand(&words), meant);
}

#[rstest]
#[case(&["/m"], "`lowerdir` is missing")]
#[case(&["-o", "ro", "/m"], "`lowerdir` is missing")]
#[case(&["-o", "lowerdir=/l"], "mountpoint is missing")]
#[case(&["-o", "lowerdir=/l", ""], "mountpoint is an empty path")]
#[case(&["-o", "lowerdir=/l", "/dev/fd/x"], "not /dev/fd/N")]
#[case(&["-o", "lowerdir=/l", "/dev/fd/2"], "3 or more")]
#[case(&["-o", "lowerdir=//so/data/l", "/m"], "plugins are not supported")]
#[case(&["-o", "lowerdir=/l,plugins=/a.so:/b.so", "/m"], "plugins are not supported")]
#[case(&["--strict", "-o", "lowerdir=/l,lowedir=/x", "/m"], "not known; did you mean `lowerdir`?")]
#[case(&["--strict", "-o", "lowerdir=/l,max_background=5", "/m"], "libfuse alone; leave it out")]
#[case(&["-o", "lowerdir=/l,nfs_export=maybe", "/m"], "option `nfs_export` cannot be")]
#[case(&["-o", "lowerdir=/l", "a", "b", "/m"], "too many arguments, b ")]
#[case(&["-o", "lowerdir", "/m"], "`lowerdir` needs a value: write lowerdir=DIR")]
#[case(&["-o", "lowerdir=", "/m"], "`lowerdir` needs a value")]
#[case(&["-o", "lowerdir=/a,verity=on", "/m"], "option `verity`: digests")]
#[case(&["-o", "lowerdir=/a,verity=require", "/m"], "leave it out")]
#[case(&["-o", "lowerdir=/a,metacopy=on,redirect_dir=nofollow", "/m"], "`metacopy=on` needs")]
#[case(&["-o", "lowerdir=/a::/d,lowerdir+=/b", "/m"], "`lowerdir+` names /b")]
#[case(&["-o", "lowerdir=/a:::/b", "/m"], "`lowerdir` cannot be \"/a:::/b\"")]
#[case(&["-o", "lowerdir=/a:", "/m"], "superfluous colon")]
#[case(&["-o", "lowerdir=/l,upperdir=/u", "/m"], "`upperdir` needs `workdir`")]
#[case(&["-o", "lowerdir=/l,workdir=/w", "/m"], "`workdir` needs `upperdir`")]
#[case(&["-o", "lowerdir=/l,upperdir=,workdir=/w", "/m"], "`upperdir` needs a value")]
#[case(&["-o", "lowerdir=/l,ro=1", "/m"], "`ro` takes no value")]
#[case(&["-o", "lowerdir=/l,timeout=soon", "/m"], "`timeout` cannot be \"soon\"")]
#[case(&["-o", "lowerdir=/l,timeout=-1", "/m"], "`timeout` cannot be \"-1\"")]
#[case(&["-o", "lowerdir=/l,timeout=NaN", "/m"], "`timeout` cannot be \"NaN\"")]
#[case(&["-o", "lowerdir=/l,max_write=1", "/m"], "from 4096 to 1048576")]
#[case(&["-o", "lowerdir=/l,threads=0", "/m"], "from 1 to 1024")]
#[case(&["-o", "lowerdir=/l,threads=many", "/m"], "`threads` cannot be \"many\"")]
#[case(&["-o", "lowerdir=/l,fsync=2", "/m"], "one of auto, strict, volatile, 0, 1")]
#[case(&["-o", "lowerdir=/l,rename_lower=copy:5", "/m"], "off, copy, or copy:ENTRIES:BYTES")]
#[case(&["-o", "lowerdir=/l,rename_lower=copy:5:-1", "/m"], "`rename_lower` cannot be")]
#[case(&["-o", "lowerdir=/l,rename_lower=on", "/m"], "`rename_lower` cannot be \"on\"")]
#[case(&["-o", "lowerdir=/l,xattr=both", "/m"], "one of auto, trusted, user")]
#[case(&["-o", "lowerdir=/l,uidmapping=", "/m"], "`uidmapping` needs a value")]
#[case(&["-o", "lowerdir=/l,uidmapping=0:1", "/m"], "`uidmapping` cannot be \"0:1\": give triples")]
#[case(&["-o", "lowerdir=/l,gidmapping=0:1:0", "/m"], "`gidmapping` cannot be \"0:1:0\"")]
#[case(&["-o", "lowerdir=/l,uidmapping=0:0:9:5:9:9", "/m"], "ranges that do not overlap")]
#[case(&["-o", "lowerdir=/l,squash_to_uid=root", "/m"], "`squash_to_uid` cannot be \"root\"")]
#[case(&["-o", "lowerdir=/l,squash_to_gid=4294967295", "/m"], "from 0 to 4294967294")]
#[case(&["-o", "lowerdir=/l,squash_to_root=1", "/m"], "`squash_to_root` takes no value")]
#[case(
    &["-o", "lowerdir=/l,squash_to_uid=5,uidmapping=0:1:5", "/m"],
    "`uidmapping` and `squash_to_uid` exclude each other"
)]
#[case(
    &["-o", "lowerdir=/l,gidmapping=0:1:5,squash_to_root", "/m"],
    "`gidmapping` and `squash_to_root` exclude each other"
)]
#[case(
    &["-o", "lowerdir=/l,squash_to_root,squash_to_gid=5", "/m"],
    "`squash_to_gid` and `squash_to_root` exclude each other"
)]
#[case(&["-o", "lowerdir=/l,xattr_permissions=3", "/m"], "one of 0, 1, 2")]
#[case(
    &["-o", "lowerdir=/l,xattr=trusted,userxattr", "/m"],
    "`xattr=trusted` and `userxattr` exclude each other"
)]
fn errors_name_the_option(#[case] args: &[&str], #[case] expected: &str) {
    let found = error(args);
    assert!(found.contains(expected), "{found}");
}

#[rstest]
#[case("lowedir=/x", "`lowedir` is not known and has no effect; did you mean `lowerdir`?")]
#[case("nosuit", "did you mean `nosuid`?")]
#[case("frobnicate=a.so", "`frobnicate` is not known and has no effect")]
#[case("max_idle_threads=3", "is of libfuse alone and has no effect; threads=N sets")]
#[case("noforget", "`noforget` is of libfuse alone and has no effect; nfs_export=on")]
fn unknown_options_are_warned_of(#[case] options: &str, #[case] expected: &str) {
    let (parsed, warnings) = parse(&["-o", LAYERS, "-o", options, "/m"]);
    assert_eq!(parsed.unwrap().config, with("rw"));
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:?}");
    };
    assert!(warning.contains(expected), "{warning}");
}

/// podman adds `volatile` to the options that a user has in storage.conf: the last counts.
#[rstest]
#[case(
    "lowerdir=/l,fsync=strict,volatile",
    "`volatile` and `fsync=strict` contradict",
    Durability::Volatile
)]
#[case("lowerdir=/l,volatile,fsync=1", "`fsync=1` counts", Durability::Normal)]
#[case("lowerdir=/l,allow_root,allow_other", "`allow_other` counts", Durability::Normal)]
#[case("lowerdir=/l,ino32_t,xino=on", "`ino32_t` and `xino=on` contradict", Durability::Normal)]
#[case("lowerdir=/l,threads=8,threaded=0", "`threaded=0` counts", Durability::Normal)]
#[case("lowerdir+=/a,lowerdir=/l", "`lowerdir+` has no effect with `lowerdir`", Durability::Normal)]
#[case("lowerdir=/l,sync,volatile", "`sync` has no effect with `volatile`", Durability::Volatile)]
fn contradictions_are_warned_of(
    #[case] options: &str,
    #[case] expected: &str,
    #[case] durability: Durability,
) {
    let (parsed, warnings) = parse(&["-o", options, "-o", "upperdir=/u,workdir=/w", "/m"]);
    assert_eq!(parsed.unwrap().config.durability, durability);
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:?}");
    };
    assert!(warning.contains(expected), "{warning}");
}

/// If an option is given twice, the last one counts, as for mount(8).
#[rstest]
#[case("volatile,fsync=0")]
#[case("fsync=strict,fsync=volatile,volatile")]
#[case("xattr=trusted,xattr=auto,userxattr")]
#[case("xattr=user,userxattr")]
#[case("sync,async,volatile")]
#[case("ro,rw,suid,nosuid")]
fn what_agrees_is_no_contradiction(#[case] options: &str) {
    assert_eq!(parse(&["-o", LAYERS, "-o", options, "/m"]).1, Vec::<String>::new());
}

#[rstest]
#[case("rw", "`rw` has no effect without `upperdir`: the mount is read-only")]
#[case("volatile", "`volatile` has no effect without `upperdir`")]
#[case("index=on", "`index=on` has no effect without `upperdir`")]
fn what_needs_an_upper_is_warned_of(#[case] options: &str, #[case] expected: &str) {
    let (parsed, warnings) = parse(&["-o", "lowerdir=/l", "-o", options, "/m"]);
    assert_eq!(parsed.unwrap().config.upper, None);
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:?}");
    };
    assert!(warning.contains(expected), "{warning}");
}

/// mount(8) writes `rw` into any line, and mount.fuse3 `dev` and `suid`.
#[test]
fn what_mount_writes_is_no_wish() {
    let options = "rw,lowerdir=/l,dev,suid";
    let (parsed, warnings) = parse(&["overlay", "/m", "-o", options]);
    assert_eq!((parsed.unwrap().config.upper, warnings), (None, Vec::new()));
}

#[test]
fn paths_become_absolute_and_stay_as_they_are_otherwise() {
    let here = std::env::current_dir().unwrap();
    let found = config(&["-o", r"lowerdir=a\:b:../c,upperdir=u:v,workdir=./w", "m"]);
    assert_eq!(found.lowers, [here.join("a:b"), here.join("../c")]);
    let upper = found.upper.unwrap();
    assert_eq!((upper.upper, upper.work), (here.join("u:v"), here.join("w")));
    assert_eq!(found.mountpoint, here.join("m"));
}

#[test]
fn names_need_not_be_utf8() {
    use std::os::unix::ffi::OsStringExt;
    let option = OsString::from_vec(b"-olowerdir=/\xff:/l".to_vec());
    let args = ["ovlmerge".into(), option, OsString::from_vec(b"/m\xfe".to_vec())];
    let matches = command().try_get_matches_from(args).unwrap();
    let found = read(&matches, "ovlmerge", |warning| panic!("{warning}")).unwrap();
    let found = mount(found).config;
    assert_eq!(found.lowers.first().unwrap().as_os_str().as_encoded_bytes(), b"/\xff");
    assert_eq!(found.mountpoint.as_os_str().as_encoded_bytes(), b"/m\xfe");
}

#[test]
fn there_may_be_many_long_layers() {
    let lowers: Vec<PathBuf> =
        (0..2000).map(|at| Path::new("/").join("x".repeat(100)).join(at.to_string())).collect();
    let option = super::escape::escape_paths(&lowers).into_string().unwrap();
    assert_eq!(config(&["-o", &format!("lowerdir={option}"), "/m"]).lowers, lowers);
}

#[test]
fn a_directory_may_be_called_demo() {
    let table: &[(&[&str], Option<&[&str]>)] = &[
        (&["demo"], Some(&[])),
        (&["demo", "--help"], Some(&["--help"])),
        (&["-f", "demo"], Some(&["-f"])),
        (&["./demo"], None),
        (&["overlay", "demo"], None),
        (&["demo", "-o", "lowerdir=/l"], None),
        (&["-olowerdir=/l", "demo"], None),
        (&["-fo", "lowerdir=/l", "demo"], None),
        (&["--help"], None),
        (&[], None),
    ];
    for (args, rest) in table {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let rest = rest.map(|rest| rest.iter().map(OsString::from).collect::<Vec<_>>());
        let expected = rest.map(|rest| (Subcommand::Demo, rest));
        assert_eq!(subcommand(&args), expected, "{args:?}");
    }
}

#[test]
fn no_word_has_two_meanings() {
    let mut words: Vec<_> = options::words().chain(IGNORED.iter().copied()).collect();
    let count = words.len();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), count);
    for option in OPTIONS {
        assert!(option.words().any(|word| word == option.name), "{}", option.name);
        assert!(!option.help.is_empty() && !option.help.ends_with('.'), "{}", option.name);
    }
}

#[test]
fn the_help_names_every_option() {
    let help = command().render_long_help().to_string();
    for word in options::words() {
        assert!(help.contains(word), "{word}");
    }
}
