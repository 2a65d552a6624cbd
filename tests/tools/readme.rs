//! The README's examples: what they are said to print is what they print.

use std::path::{Path, PathBuf};
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

/// The examples of the README between two heads.
fn examples(from: &str, to: &str) -> Vec<&'static str> {
    let readme = include_str!("../../README.md");
    let (_, part) = readme.split_once(from).unwrap();
    let (part, _) = part.split_once(to).unwrap();
    part.split("```console\n").skip(1).map(|part| part.split("```").next().unwrap()).collect()
}

/// The commands of an example, each with what it prints.
fn steps(example: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    example.split("$ ").skip(1).map(|step| step.split_once('\n').unwrap())
}

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
    let examples = examples("## Layer tools\n", "### A running mount");
    assert_eq!(examples.len(), SCENES.len());
    let mut s = Scratch::new();
    for (scene, example) in SCENES.iter().zip(examples) {
        if let Some(scene) = scene {
            s = Scratch::new();
            // Nothing else is there, and all of it is of one moment.
            let script = format!("rm -r *; {scene}; find . -exec touch -h -d @1000000000 {{}} +");
            shell(s.base().root(), &script);
        }
        for (command, expected) in steps(example) {
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

/// Takes the mount away if the test fails before it does.
struct Mountpoint(PathBuf);

impl Drop for Mountpoint {
    fn drop(&mut self) {
        // It fails where all went well.
        Command::new("umount").arg("-l").arg(&self.0).output().ok();
    }
}

/// Runs a command line as a shell does, and returns what it prints.
fn type_in(dir: &Path, command: &str) -> String {
    let program = binary();
    let program = program.parent().unwrap().display();
    let path = format!("{program}:{}", std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    let done = output(shell.args(["-c", command]).env("PATH", path).current_dir(dir));
    text(&done.stdout) + &text(&done.stderr)
}

#[test]
fn the_first_mount_goes_as_it_is_shown() {
    needs!(root, fuse);
    let s = Scratch::new();
    let scene = "rm -r *; mkdir -p app/etc base/etc base/usr/games
         echo 'Welcome to base' >base/etc/motd; echo base >base/etc/hostname
         echo app >app/etc/app.conf; echo 1 >base/usr/games/chess";
    shell(s.base().root(), scene);
    let root = s.base().root().canonicalize().unwrap();
    let _mountpoint = Mountpoint(root.join("merged"));
    let first = examples("## First mount\n", "## Podman");
    let [stat, which] = examples("### A running mount\n", "## Guarantees")[..] else {
        panic!("one example of stat, one of which");
    };
    let goes_as_shown = |(command, expected): &(&str, &str)| {
        assert_eq!(type_in(&root, command), *expected, "{command}");
    };
    let first: Vec<_> = first.into_iter().flat_map(steps).collect();
    let end = first.iter().position(|(command, _)| command.starts_with("ovlmerge umount")).unwrap();
    let (mounted, after) = first.split_at(end);
    mounted.iter().for_each(goes_as_shown);
    for (command, expected) in steps(which) {
        // The README is of a machine that has the layers there.
        let expected = expected.replace("/srv/", &format!("{}/", root.display()));
        assert_eq!(type_in(&root, command), expected, "{command}");
    }
    for (command, expected) in steps(stat) {
        let said = type_in(&root, command);
        for line in expected.lines().filter(|line| *line != "...") {
            // Devices, file systems and sizes are those of the machine.
            let name = line.split_inclusive([':', ' ']).find(|part| *part != " ").unwrap();
            assert!(said.contains(name), "{command}: no {name} in {said}");
        }
    }
    after.iter().for_each(goes_as_shown);
}
