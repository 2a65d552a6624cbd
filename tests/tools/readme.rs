//! The README's examples of layer tools: what they are said to print is what they print.

use std::process::Command;

use crate::needs;
use crate::support::process::{output, shell, text};
use crate::support::{Scratch, binary};

/// What lies there before each example; none is what the one before left.
const SCENES: [Option<&str>; 4] = [
    Some(
        "mkdir -p lower/etc upper/etc; echo Welcome >lower/etc/motd
         mknod upper/etc/motd c 0 0; echo pi >upper/etc/hostname",
    ),
    None,
    Some(
        "mkdir -p lower/etc lower/srv upper/etc upper/srv work; echo old >lower/srv/old
         mknod upper/etc/gone c 0 0; setfattr -n user.overlay.opaque -v y upper/srv",
    ),
    // As fuse-overlayfs 1.10 leaves it.
    Some(
        "mkdir -p upper/etc upper/opt upper/srv; mknod upper/etc/motd c 0 0
         for dir in upper/opt upper/srv; do
             mknod $dir/.wh..opq c 0 0; : >$dir/.wh..wh..opq; echo new >$dir/new
             setfattr -n user.fuseoverlayfs.opaque -v y $dir
         done",
    ),
];

/// Commands of others, and mounts.
fn is_ours(command: &str) -> bool {
    command.starts_with("ovlmerge ") && !command.starts_with("ovlmerge -o")
}

#[test]
fn examples_print_what_they_are_said_to() {
    needs!(root);
    if !crate::support::need::program(crate::test_name!(), "setfattr") {
        return;
    }
    let readme = include_str!("../../README.md");
    let (_, part) = readme.split_once("## Layer tools\n").unwrap();
    let (part, _) = part.split_once("### A running mount").unwrap();
    let examples: Vec<_> = part.split("```console\n").skip(1).collect();
    assert_eq!(examples.len(), SCENES.len());
    let mut s = Scratch::new();
    for (scene, example) in SCENES.iter().zip(examples) {
        if let Some(scene) = scene {
            s = Scratch::new();
            // Nothing else is there, and all of it is of one moment.
            let script = format!("rm -r *; {scene}; find . -exec touch -h -d @1000000000 {{}} +");
            shell(s.base().root(), &script);
        }
        let example = example.split("```").next().unwrap();
        for step in example.split("$ ").skip(1) {
            let (command, expected) = step.split_once('\n').unwrap();
            if !is_ours(command) {
                continue;
            }
            let words: Vec<_> = command.split(' ').skip(1).collect();
            let done = output(Command::new(binary()).args(words).current_dir(s.base().root()));
            let said = text(&done.stdout) + &text(&done.stderr);
            assert_eq!(said, expected, "{command}: what the README has is not what is printed");
        }
    }
}
