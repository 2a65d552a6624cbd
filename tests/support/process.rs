//! Programs that a test runs.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Runs a program to its end and returns its standard output. Fails the test if it fails.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = output(Command::new(program).args(args));
    assert!(
        output.status.success(),
        "{program} {args:?}: {}\n{}",
        output.status,
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Runs `script` in a shell, in the directory `dir`, and returns its standard output.
pub fn shell(dir: &Path, script: &str) -> String {
    let output =
        output(Command::new("sh").args(["-euc", script]).current_dir(dir).env("LC_ALL", "C"));
    assert!(
        output.status.success(),
        "in {}: {script}\n{}\n{}",
        dir.display(),
        output.status,
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Runs a command to its end, whatever that is.
pub fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|err| panic!("{command:?}: {err}"))
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether this machine is a virtual one whose processors are emulated (`tests/kernels`).
pub fn is_emulated() -> bool {
    std::env::var_os("OVLMERGE_EMULATED").is_some()
}

/// Waits until `condition` holds, at most `limit`, and five times as long on a machine that is
/// emulated. Says whether it came to hold.
pub fn wait_for(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + if is_emulated() { limit * 5 } else { limit };
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The processes whose command line contains `part`, such as a path that only one has.
pub fn pids_with_argument(part: &Path) -> Vec<i32> {
    use std::os::unix::ffi::OsStrExt;
    let part = part.as_os_str().as_bytes();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if line.windows(part.len()).any(|window| window == part) {
            found.push(pid);
        }
    }
    found
}

/// Whether a process exists and is not a zombie.
pub fn is_alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").starts_with(" Z"))
}
