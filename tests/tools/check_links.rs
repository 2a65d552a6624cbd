//! What `ovlmerge check` finds in origins and in the index of hard links.

use std::ffi::OsString;
use std::fs;

use crate::call::findings;
use crate::needs;
use crate::support::process::shell;
use crate::support::tree::{self, Compare, assert_same_tree};
use crate::support::{Dir, Kernel, LoopFs, Mount, Scratch, Setup};

const ORIGIN: &str = "trusted.overlay.origin";
const COUNT: &str = "trusted.overlay.nlink";

/// Layers on a file system of their own, which has handles and a UUID.
struct Stack {
    fs: LoopFs,
    scratch: Scratch,
}

impl Stack {
    fn new() -> Self {
        let stack = Self { fs: LoopFs::ext4(16), scratch: Scratch::new() };
        for name in ["lower", "upper", "work"] {
            stack.fs.dir().dir(name);
        }
        let lower = stack.sub("lower");
        lower.file("a", "lower").hard_link("b", "a").hard_link("d/c", "a");
        lower.file("single", "1").file("d/other", "2").file("d/sub/x", "3").symlink("link", "a");
        lower.hard_link("d/link", "link").file("gone", "").hard_link("d/gone", "gone");
        stack
    }

    fn sub(&self, name: &str) -> Dir {
        self.fs.dir().sub(name)
    }

    fn kernel(&self, options: &str) -> Kernel {
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| self.sub(name));
        Kernel::overlay(&[lower], Some((&upper, &work)), &self.scratch.mnt, options)
    }

    fn ours(&self, option: &str) -> Mount {
        let path = |name| self.fs.path().join(name);
        let setup = Setup::new(vec![path("lower")], self.scratch.mnt.root());
        setup.upper(&path("upper")).work(&path("work")).option(option).mount()
    }

    /// The index with one hard link that was changed.
    fn with_entry() -> (Self, String) {
        let stack = Self::new();
        let mnt = stack.kernel("index=on");
        fs::write(mnt.path("a"), "upper").unwrap();
        drop(mnt);
        let [entry] = stack.sub("work").names("index").try_into().unwrap();
        (stack, entry)
    }

    fn args(&self, flags: &[&str]) -> Vec<OsString> {
        let root = self.fs.path().display();
        let options = format!("lowerdir={root}/lower,upperdir={root}/upper,workdir={root}/work");
        let words = ["check", "-o", &options].into_iter().chain(flags.iter().copied());
        words.map(OsString::from).collect()
    }

    #[track_caller]
    fn found(&self, flags: &[&str]) -> Vec<String> {
        findings(self.args(flags))
    }

    /// All of it is found, and a repair leaves `left` of it, and the tree as it was.
    #[track_caller]
    fn check(&self, wanted: &[&str], left: &[&str]) {
        let before = tree::dump(self.ours("index=off").root());
        assert_eq!(self.found(&[]), wanted);
        assert_eq!(self.found(&["--repair"]), left);
        assert_eq!(self.found(&[]), left);
        assert_same_tree(&before, &tree::dump(self.ours("index=off").root()), Compare::STRICT);
    }
}

/// Links that were changed, made, moved and removed, some of them all; a directory and a file that
/// moved; an `impure` that nothing needs any more.
const CHANGES: &str = "
    echo x >> a; ln a new; rm b; mv d/c d/moved; touch -h link; ln d/link link2
    echo y > gone; rm gone d/gone
    echo z >> single; mv single d/single; chmod 700 d/other; ln d/other other
    mkdir fresh; mv d/sub fresh/sub || cp -r d/sub fresh/sub; echo w > fresh/sub/x
    mkdir clean; rm -rf d/sub; mkdir d/sub; echo u > d/sub/x; echo t >> fresh/sub/x; rm fresh/sub/x";

#[test]
fn what_the_kernel_writes_is_as_it_should_be() {
    needs!(root, mount, kernel_overlay, loop_device);
    for options in ["index=on", "index=off", "index=on,redirect_dir=on,metacopy=on"] {
        let stack = Stack::new();
        let mnt = stack.kernel(options);
        shell(mnt.root(), CHANGES);
        drop(mnt);
        assert_eq!(stack.found(&[]), [""; 0], "{options}");
        assert_eq!(stack.sub("work").exists("index"), options.contains("index=on"));
        // And after the kernel looked over it once more.
        drop(stack.kernel(options));
        assert_eq!(stack.found(&["--repair"]), [""; 0], "{options}");
    }
}

#[test]
fn what_a_mount_with_an_index_writes_is_as_it_should_be() {
    needs!(root, mount, loop_device);
    for option in ["index=on", "index=auto", "index=off"] {
        let stack = Stack::new();
        let mut mnt = stack.ours(option);
        shell(mnt.root(), CHANGES);
        mnt.unmount();
        assert_eq!(stack.found(&[]), [""; 0], "{option}");
    }
}

#[test]
fn origins_that_lead_nowhere() {
    needs!(root, mount, kernel_overlay, loop_device);
    let stack = Stack::new();
    let mnt = stack.kernel("index=off");
    shell(mnt.root(), "echo x >> single; echo y >> d/other; echo z >> d/sub/x");
    drop(mnt);
    let upper = stack.sub("upper");
    let origin = upper.get_xattr("single", ORIGIN).unwrap();
    // As if another file had come into its place: the generation is another one.
    let mut lost = origin.clone();
    *lost.last_mut().unwrap() ^= 1;
    upper.xattr("single", ORIGIN, &lost);
    upper.xattr("d/other", ORIGIN, &origin[..9]);
    // That of a directory, on a file.
    let dir = upper.get_xattr("d", ORIGIN).unwrap();
    upper.xattr("d/sub/x", ORIGIN, &dir);
    let left = ["OVL016 /d/sub/x", "OVL016 /single"];
    stack.check(&["OVL015 /d/other", left[0], left[1]], &left);
    assert_eq!(upper.get_xattr("d/other", ORIGIN), None);
    assert_eq!(upper.get_xattr("single", ORIGIN), Some(lost));
}

#[test]
fn one_origin_for_two() {
    needs!(root, mount, kernel_overlay, loop_device);
    let stack = Stack::new();
    let mnt = stack.kernel("index=off");
    shell(mnt.root(), "echo x >> single; ln single other-name; echo y >> d/other; echo z > zz");
    drop(mnt);
    let upper = stack.sub("upper");
    let origin = upper.get_xattr("single", ORIGIN).unwrap();
    upper.xattr("zz", ORIGIN, &origin);
    // The names of one file are one object.
    stack.check(&["OVL017 /zz"], &["OVL017 /zz"]);
}

#[test]
fn the_root_of_another_lower() {
    needs!(root, mount, kernel_overlay, loop_device);
    let stack = Stack::new();
    drop(stack.kernel("index=on"));
    fs::rename(stack.fs.path().join("lower"), stack.fs.path().join("old")).unwrap();
    stack.sub("lower").file("a", "");
    assert_eq!(stack.found(&[]), ["OVL018 /"]);
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| stack.sub(name));
    let refused =
        Kernel::try_overlay(&[lower], Some((&upper, &work)), &stack.scratch.mnt, "index=on");
    assert_eq!(refused.err(), Some(nix::errno::Errno::ESTALE), "what the finding is about");
}

#[test]
fn flags_that_nobody_reads() {
    needs!(root, mount, loop_device);
    let stack = Stack::new();
    let upper = stack.sub("upper");
    for (name, flags) in [("good", "ia"), ("bad", "ix"), ("none", "")] {
        upper.file(name, "").xattr(name, "trusted.overlay.protattr", flags);
    }
    let wanted = ["OVL019 /bad", "OVL019 /none"];
    stack.check(&wanted, &wanted);
}

#[test]
fn the_index_of_another_upper() {
    needs!(root, mount, kernel_overlay, loop_device);
    let (stack, _) = Stack::with_entry();
    fs::rename(stack.fs.path().join("upper"), stack.fs.path().join("old")).unwrap();
    shell(stack.fs.path(), "mkdir upper");
    let wanted = ["OVL020 workdir:/index"];
    stack.check(&wanted, &wanted);
}

#[test]
fn entries_of_an_index_that_are_none() {
    needs!(root, mount, kernel_overlay, loop_device);
    let (stack, entry) = Stack::with_entry();
    let work = stack.sub("work");
    let stray = entry.replace('0', "1");
    work.file("index/mine", "").dir("index/#5");
    work.file(format!("index/{entry}x"), "");
    // In the form of an entry, and of a file without an origin.
    let stale = format!("00fb{}", &stray[4..]);
    let stale = format!("{}{}{}", &stale[..4], &entry[4..6], &stale[6..]);
    work.file(format!("index/{stale}"), "");
    let keep = [format!("OVL021 workdir:/index/{entry}x"), "OVL021 workdir:/index/mine".to_owned()];
    let all = ["OVL013 workdir:/index/#5".to_owned(), format!("OVL022 workdir:/index/{stale}")];
    let mut all: Vec<_> = all.into_iter().chain(keep.clone()).collect();
    all.sort_by_key(|line| line.split_once(' ').unwrap().1.to_owned());
    let [all, keep] = [&all[..], &keep[..]].map(|list| list.iter().map(String::as_str).collect());
    let (all, keep): (Vec<&str>, Vec<&str>) = (all, keep);
    stack.check(&all, &keep);
    assert!(work.exists(format!("index/{entry}")));
}

#[test]
fn an_entry_that_no_name_leads_to() {
    needs!(root, mount, kernel_overlay, loop_device);
    let (stack, entry) = Stack::with_entry();
    let upper = stack.sub("upper");
    fs::remove_file(upper.path("a")).unwrap();
    upper.whiteout("a").whiteout("b");
    // Its third name shows still.
    upper.dir("d");
    assert!(stack.found(&[]).is_empty());
    upper.whiteout("d/c");
    stack.check(&[&format!("OVL023 workdir:/index/{entry}")], &[]);
    assert!(stack.sub("work").names("index").is_empty());
}

#[test]
fn an_entry_whose_lower_is_gone() {
    needs!(root, mount, kernel_overlay, loop_device);
    let (stack, entry) = Stack::with_entry();
    let lower = stack.sub("lower");
    for name in ["a", "b", "d/c"] {
        fs::remove_file(lower.path(name)).unwrap();
    }
    let wanted = ["OVL016 /a", &format!("OVL024 workdir:/index/{entry}")];
    stack.check(&wanted, &wanted);
}

#[test]
fn wrong_counts_of_names() {
    needs!(root, mount, kernel_overlay, loop_device);
    let (stack, entry) = Stack::with_entry();
    let (work, name) = (stack.sub("work"), format!("index/{entry}"));
    assert_eq!(work.get_xattr(&name, COUNT).as_deref(), Some(&b"U+1"[..]), "three names");
    let finding = format!("OVL025 workdir:/{name}");
    for wrong in ["U+0", "U+40", "nonsense", "L-2"] {
        work.xattr(&name, COUNT, wrong);
        stack.check(&[&finding], &[]);
        assert_eq!(work.get_xattr(&name, COUNT).as_deref(), Some(&b"U+1"[..]), "{wrong}");
    }
    xattr::remove(work.path(&name), COUNT).unwrap();
    stack.check(&[&finding], &[]);
    let links = |mnt: &Dir| {
        ["a", "b", "d/c"].map(|name| std::os::unix::fs::MetadataExt::nlink(&mnt.stat(name)))
    };
    assert_eq!(links(&stack.kernel("index=on")), [3; 3]);
}

#[test]
fn a_file_that_the_index_lacks() {
    needs!(root, mount, kernel_overlay, loop_device);
    let (stack, entry) = Stack::with_entry();
    let index = stack.sub("work/index");
    fs::remove_file(index.path(&entry)).unwrap();
    let wanted = ["OVL026 /a"];
    stack.check(&wanted, &wanted);
    // Nobody asks where there is no index at all.
    fs::remove_dir(index.root()).unwrap();
    stack.check(&[], &[]);
}
