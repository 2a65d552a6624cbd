//! User namespaces with maps as those of containers have them: layers that belong to their root,
//! and scripts that run there.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::support::Scratch;
use crate::support::process::text;

/// Id 0 of the namespaces.
pub const ROOT: u32 = 100_000;
/// Nobody of those that have it.
pub const NOBODY: u32 = ROOT + 65534;
/// A map of 65,536 ids.
pub const ALL: &str = "0 100000 65536";

/// Layers whose directories belong to root of the namespace.
pub fn layers() -> Scratch {
    let s = Scratch::new();
    for dir in [s.base(), s.lower(0), &s.upper, &s.work, &s.mnt] {
        dir.owner("", ROOT, ROOT);
    }
    s
}

/// What a script says, all of it, as root of a user namespace with these maps. `$1` is the program,
/// `$2` the value of `-o` that mounts the layers, `$3` the mountpoint.
pub fn in_namespace(s: &Scratch, maps: [&str; 2], script: &str) -> String {
    // The maps are written between the two calls of a process that keeps its capabilities.
    let wait =
        "echo; read -r _; exec setpriv --reuid=0 --regid=0 --clear-groups sh -euc \"$@\" 2>&1";
    // Once: a server that is about to leave may still run the copy.
    let program = Some(s.base().path("ovlmerge")).filter(|copy| copy.exists());
    let mut child = Command::new("unshare")
        .args(["-Um", "--keep-caps", "sh", "-c", wait, "sh", script, "sh"])
        .arg(program.unwrap_or_else(|| s.program()))
        .arg(s.setup().option_string())
        .arg(s.mnt.root())
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = child.stdout.take().unwrap();
    said.read_exact(&mut [0]).unwrap();
    for (file, map) in ["uid_map", "gid_map"].iter().zip(maps) {
        std::fs::write(format!("/proc/{}/{file}", child.id()), map).unwrap();
    }
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut all = Vec::new();
    said.read_to_end(&mut all).unwrap();
    child.wait().unwrap();
    text(&all)
}
