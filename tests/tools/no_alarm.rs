//! `ovlmerge check` finds nothing wrong with uppers that a mount wrote, whatever was done in it.
//!
//! The mount is one of ovlmerge, in each form that it writes, one of the kernel's overlayfs, or
//! both by turns.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use crate::call::findings;
use crate::support::process::{output, text};
use crate::support::{Dir, Engine, Kernel, Scratch};
use crate::{needs, not_the_kernels};

/// Commands of one round.
const ROUND: usize = 150;
/// Names in each directory.
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Numbers that follow one another without order, always alike.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        // The constants of Knuth's MMIX.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn path(&mut self) -> String {
        let parts: Vec<_> = (0..=self.below(3)).map(|_| NAMES[self.below(NAMES.len())]).collect();
        parts.join("/")
    }

    /// A script of commands, some of which fail.
    fn script(&mut self) -> String {
        let mut script = String::new();
        for _ in 0..ROUND {
            let (one, other) = (self.path(), self.path());
            let command = match self.below(16) {
                0 | 1 => format!("echo x >> {one}"),
                2 => format!("echo new > {one}"),
                3 | 4 => format!("mkdir {one}"),
                5 => format!("rm -rf {one}"),
                6 => format!("rm -f {one}"),
                7 => format!("rmdir {one}"),
                8 | 9 => format!("mv -T {one} {other}"),
                10 => format!("ln -T {one} {other}"),
                11 => format!("ln -s x {one}"),
                12 => format!("chmod u+x {one}"),
                13 => format!("touch -h {one}"),
                14 => format!("rm -rf {one}; mkdir {one}; echo x > {one}/new"),
                _ => format!("cp -r {one} {other}"),
            };
            writeln!(script, "{command}").unwrap();
        }
        script
    }
}

/// Runs a script whose commands may fail.
fn run(script: &str, place: &Path) {
    output(Command::new("sh").arg("-c").arg(script).current_dir(place));
}

/// Trees with files of several names.
fn below(s: &Scratch) {
    for (number, dir) in s.lowers().iter().enumerate() {
        let mut chance = Chance(77 + number as u64);
        for _ in 0..40 {
            let path = chance.path();
            if is_free(dir, Path::new(&path)) {
                dir.file(&path, path.clone());
            }
        }
        dir.file("linked/one", "x").hard_link("linked/two", "linked/one");
        dir.hard_link("linked/three", "linked/one").dir("empty");
    }
    s.lower(1).file("hidden/x", "").file("opaque/x", "");
    s.lower(0).whiteout("hidden").opaque_dir("opaque");
}

/// Whether a file can be made at a path.
fn is_free(dir: &Dir, path: &Path) -> bool {
    let kind = |path: &Path| std::fs::symlink_metadata(dir.path(path)).map(|it| it.is_dir());
    let above = path.ancestors().skip(1).all(|above| kind(above).unwrap_or(true));
    above && kind(path).is_err()
}

fn layers(s: &Scratch) -> String {
    let [one, two] = [s.lower(0), s.lower(1)].map(|dir| dir.root().display().to_string());
    let (upper, work) = (s.upper.root().display(), s.work.root().display());
    format!("lowerdir={one}:{two},upperdir={upper},workdir={work}")
}

#[track_caller]
fn assert_nothing_is_found(s: &Scratch, options: &str) {
    let options = OsString::from(layers(s) + options);
    let found = findings(["check".into(), "-o".into(), options].into_iter().collect());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn of_a_mount_in_each_form() {
    needs!(root, mount);
    not_the_kernels!("it has one form");
    let options = [
        "rw",
        "index=on",
        "redirect_dir=on",
        "metacopy=on",
        "index=on,redirect_dir=on,metacopy=on",
        "whiteout=xattr",
        "whiteout=xattr,redirect_dir=on",
        "whiteout=aufs",
        "userxattr",
        "xattr_permissions=2",
    ];
    for (seed, option) in (1..).zip(options) {
        let s = Scratch::with_lowers(2);
        below(&s);
        let mut chance = Chance(seed);
        let setup = s.setup().option(option);
        for _ in 0..2 {
            let mut m = setup.mount();
            run(&chance.script(), m.root());
            m.unmount();
        }
        eprintln!("{option}");
        assert_nothing_is_found(&s, "");
    }
}

#[test]
fn of_the_kernel_and_by_turns() {
    needs!(root, mount, kernel_overlay);
    not_the_kernels!("it takes turns here");
    for (seed, option) in (1..).zip(["index=off", "index=on", "redirect_dir=on,metacopy=on"]) {
        for ours_too in [false, true] {
            let s = Scratch::with_lowers(2);
            below(&s);
            let mut chance = Chance(seed);
            for _ in 0..2 {
                let kernel = Kernel::overlay(s.lowers(), Some((&s.upper, &s.work)), &s.mnt, option);
                run(&chance.script(), kernel.root());
                drop(kernel);
                eprintln!("{option}, turns: {ours_too}, after the kernel");
                assert_nothing_is_found(&s, "");
                if ours_too {
                    let mut m = s.setup().option(option).mount();
                    run(&chance.script(), m.root());
                    m.unmount();
                    eprintln!("{option}, after ovlmerge");
                    assert_nothing_is_found(&s, "");
                }
            }
        }
    }
}

/// By root of a user namespace, whose marks are in `user.overlay.`: there, and seen from outside.
/// The kernel does not mark a new directory there as one with copies in it when one gets a name in
/// it.
#[test]
fn of_a_user_namespace() {
    needs!(root, mount, userns, kernel_overlay);
    not_the_kernels!("it takes turns here");
    let s = Scratch::with_lowers(2);
    below(&s);
    s.lower(0).file("copied", "x");
    let mut chance = Chance(7);
    let ours = chance.script() + "chmod 600 copied";
    let kernels = chance.script() + "mkdir fresh; ln copied fresh/again";
    let layers = layers(&s);
    let program = s.program();
    let m = s.mnt.root().display();
    let script = format!(
        "set -e; p={}; o={layers}; m={m}
        cd \"$m\"; cd ..
        $p -o $o $m; (cd $m; set +e; {ours}) >/dev/null 2>&1; umount $m
        mount -t overlay overlay -o userxattr,$o $m
        (cd $m; set +e; {kernels}) >/dev/null 2>&1; umount $m
        $p check -o $o",
        program.display(),
    );
    let inside = output(Command::new("unshare").args([
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        &script,
    ]));
    assert!(inside.status.success(), "{}{}", text(&inside.stdout), text(&inside.stderr));
    let has =
        |path: &str, mark: &str| s.upper.get_xattr(path, format!("user.overlay.{mark}")).is_some();
    assert!(has("fresh/again", "origin") && !has("fresh", "impure"));
    assert_nothing_is_found(&s, "");
}

/// A file that says opaque is as it should be where nothing is in the form of the kernel, and a
/// mistake beside that.
#[test]
fn opaque_files_by_themselves() {
    needs!(root);
    if Engine::current() == Engine::Kernel {
        return;
    }
    let s = Scratch::with_lowers(2);
    s.lower(1).file("d/a", "").file("gone", "").file("other", "");
    s.upper.file("d/.wh..wh..opq", "").file(".wh.gone", "");
    assert_nothing_is_found(&s, "");
    s.upper.whiteout("other");
    assert_nothing_is_found(&s, ",whiteout=aufs");
    let args = ["check".into(), "-o".into(), OsString::from(layers(&s))];
    assert_eq!(findings(args.into_iter().collect()), ["OVL005 /d"]);
}
