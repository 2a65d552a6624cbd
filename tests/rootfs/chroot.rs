//! A shell script as root of the mount.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Mounts what a program expects in a root filesystem, then leaves for it. All of this happens in
/// namespaces of its own, so the mounts go when the last process there does, however that ends.
const ENTER: &str = r#"
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    exec chroot "$1" /bin/sh -s
"#;

/// Runs `script` in a chroot to `root`, and panics with the end of its output if it fails.
pub fn run(root: &Path, script: &str, environment: &[(&str, &str)]) {
    let started = Instant::now();
    let script_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script_file.path(), script).unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", ENTER, "enter"])
        .arg(root)
        .envs(environment.iter().copied())
        .env_remove("TMPDIR")
        .stdin(Stdio::from(script_file.reopen().unwrap()))
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(40)..].join("\n");
    assert!(output.status.success(), "in the chroot: {}\n{tail}", output.status);
    let steps =
        lines.iter().filter(|line| line.starts_with("== ") || line.starts_with("installed "));
    let steps = steps.copied().collect::<Vec<_>>().join(" ");
    println!("{steps} in {:?}", started.elapsed());
}
