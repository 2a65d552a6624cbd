//! pjdfstest on ovlmerge, on the kernel's overlayfs and on a plain directory, all on ext4: what
//! fails on ovlmerge must fail on one of the others too, and must be listed with its reason.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::kernel::KernelOverlay;
use crate::report::{self, Outcome, Report};
use crate::support::{Engine, LoopFs, Scratch, process};
use crate::{needs, test_name, tool};

const CONFIG: &str = include_str!("pjdfstest.toml");
const KNOWN_FAILURES: &str = include_str!("pjdfstest.known");
/// Mebibytes. The one file that is longer than 2 GiB is sparse.
const VOLUME: u64 = 512;

#[test]
fn pjdfstest_on_new_files() {
    needs!(mount, loop_device, kernel_overlay);
    let Some(suite) = tool::find(test_name!(), "pjdfstest") else { return };
    let volume = LoopFs::ext4(VOLUME);
    let scratch = Scratch::in_dir(volume.path(), 2);
    compare(&suite, &scratch, "");
}

/// The suite makes its own files, so its work area is what can stand in lower layers: a directory
/// that is merged from two, in one that is merged from three, each copied up by the first thing
/// that is made there.
#[test]
fn pjdfstest_in_lower_directories() {
    needs!(mount, loop_device, kernel_overlay);
    let Some(suite) = tool::find(test_name!(), "pjdfstest") else { return };
    let volume = LoopFs::ext4(VOLUME);
    let scratch = Scratch::in_dir(volume.path(), 3);
    for (layer, dir) in [(0, "home/user/area"), (1, "home/user/area"), (2, "home")] {
        for number in 0..50 {
            let name = format!("{dir}/file{layer}.{number}");
            scratch.lower(layer).file(name, "in a lower layer");
        }
    }
    compare(&suite, &scratch, "home/user/area");
}

/// Runs the suite in the directory `area` of the mount, and holds it against the others.
fn compare(suite: &Path, scratch: &Scratch, area: &str) {
    let mountpoint = short_directory();
    let mut setup = scratch.setup().mountpoint(mountpoint.path());
    if Engine::current() == Engine::Program {
        setup = setup.option("suid").option("dev");
    }
    let mut mount = setup.mount();
    let report = run_suite(suite, &mount.path(area));
    mount.unmount();
    judge(baseline(suite), &report);
}

fn judge(baseline: &[Report; 2], report: &Report) {
    let names = |report| report::failed(report).map(str::to_owned).collect::<BTreeSet<_>>();
    let unlike = |wanted: fn(&Outcome) -> bool| {
        let cases = report.iter().filter(move |(name, outcome)| {
            wanted(outcome) && !baseline.iter().any(|other| other.get(*name).is_some_and(wanted))
        });
        cases.map(|(name, outcome)| format!("{name}: {outcome:?}")).collect::<Vec<_>>()
    };
    for other in baseline {
        assert!(report.keys().eq(other.keys()), "not the same cases were run");
    }
    let failed = unlike(|outcome| matches!(outcome, Outcome::Failed(_)));
    assert!(failed.is_empty(), "fail neither on the kernel's overlayfs nor on ext4: {failed:#?}");
    let skipped = unlike(|outcome| matches!(outcome, Outcome::Skipped(_)));
    assert!(skipped.is_empty(), "run on the kernel's overlayfs and on ext4: {skipped:#?}");

    let known = report::known_failures(KNOWN_FAILURES).into_keys().collect::<BTreeSet<_>>();
    let failed = names(report);
    let new: Vec<_> = failed.difference(&known).collect();
    assert!(new.is_empty(), "fail, and are not in the list of known failures: {new:#?}");
    let gone: Vec<_> = known.difference(&failed).collect();
    assert!(gone.is_empty(), "pass, and are in the list of known failures: {gone:#?}");
    println!("{} cases, {} known failures", report.len(), failed.len());
}

/// The reports of a plain directory and of the kernel's overlayfs, made once.
fn baseline(suite: &Path) -> &'static [Report; 2] {
    static BASELINE: OnceLock<[Report; 2]> = OnceLock::new();
    BASELINE.get_or_init(|| {
        let volume = LoopFs::ext4(VOLUME);
        let plain = run_suite(suite, volume.path());
        let failed: Vec<_> = report::failed(&plain).collect();
        assert!(failed.is_empty(), "fail on a plain directory: {failed:#?}");
        let scratch = Scratch::in_dir(volume.path(), 1);
        let options = scratch.setup().option_string().into_string().unwrap();
        let mountpoint = short_directory();
        let overlay = KernelOverlay::mount(&options, mountpoint.path());
        [plain, run_suite(suite, overlay.path())]
    })
}

/// For a mountpoint: sockets are bound in it by absolute names, for which there is little room.
fn short_directory() -> TempDir {
    TempDir::with_prefix("pjd").unwrap()
}

/// All cases in `area`. Those that remount the file system run apart, after the others: some of
/// these leave files open, and what has files open for writing cannot be made read-only.
fn run_suite(suite: &Path, area: &Path) -> Report {
    // The suite asks for a name of -1 bytes where the path of its work area has 9 bytes, and adds
    // 56 to those that it binds sockets to.
    let length = area.as_os_str().len();
    assert!((10..=51).contains(&length), "TMPDIR leads to {}", area.display());
    let mut report = run_cases(suite, area, CONFIG, &[]);
    let remounting = CONFIG.replace("allow_remount = false", "allow_remount = true");
    assert_ne!(remounting, CONFIG);
    report.extend(run_cases(suite, area, &remounting, &["erofs"]));
    report
}

fn run_cases(suite: &Path, area: &Path, config: &str, patterns: &[&str]) -> Report {
    let scratch = TempDir::new().unwrap();
    let another_file_system = tempfile::tempdir_in("/dev/shm").unwrap();
    let config_file = scratch.path().join("config.toml");
    fs::write(&config_file, config).unwrap();
    let mut command = Command::new(suite);
    command.arg("-c").arg(config_file).arg("-p").arg(area);
    command.arg("-s").arg(another_file_system.path()).args(patterns);
    command.env("PATH", path_with_mount(scratch.path()));
    command.env("NO_COLOR", "1").env("RUST_BACKTRACE", "0");
    let output = process::output(&mut command);
    let text = process::text(&output.stdout);
    assert!(!text.is_empty(), "{command:?}: {}", process::text(&output.stderr));
    report::parse(&text)
}

/// A search path with a mount(8) first that leaves /sbin/mount.fuse alone, which takes a remount
/// for a new mount.
fn path_with_mount(dir: &Path) -> String {
    let script = dir.join("mount");
    let path = std::env::var("PATH").unwrap_or_default();
    fs::write(&script, format!("#!/bin/sh\nPATH={path}:/bin exec mount -i \"$@\"\n")).unwrap();
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    format!("{}:{path}", dir.display())
}
