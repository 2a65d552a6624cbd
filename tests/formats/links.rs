//! The index of hard links, written by the kernel or by ovlmerge.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::layers::Kernel;
use crate::needs;
use crate::support::raw::list_dir;
use crate::support::{Dir, LoopFs, Mount, Scratch, Setup, assert_errno};

const KERNEL: &str = "index=on,redirect_dir=off,metacopy=off";

/// A lower with hard links, an upper and a work directory, on a file system with a UUID.
struct Stack {
    fs: LoopFs,
    scratch: Scratch,
}

fn three_names(lower: &Dir) {
    lower.file("a", "lower").hard_link("b", "a").hard_link("d/c", "a").file("single", "");
    lower.symlink("d/link", "a").hard_link("d/link2", "d/link");
}

impl Stack {
    fn new() -> Self {
        let stack = Self { fs: LoopFs::ext4(16), scratch: Scratch::new() };
        for name in ["lower", "upper", "work"] {
            stack.fs.dir().dir(name);
        }
        three_names(&stack.sub("lower"));
        stack
    }

    fn sub(&self, name: &str) -> Dir {
        self.fs.dir().sub(name)
    }

    fn setup(&self, option: &str) -> Setup {
        let path = |name| self.fs.path().join(name);
        let setup = Setup::new(vec![path("lower")], self.scratch.mnt.root());
        setup.upper(&path("upper")).work(&path("work")).option(option)
    }

    fn ours(&self, option: &str) -> Mount {
        self.setup(option).mount()
    }

    fn kernel(&self) -> Kernel {
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| self.sub(name));
        Kernel::overlay(&[lower], Some((&upper, &work)), &self.scratch.mnt, KERNEL)
    }

    /// Entries of the index, with the number of names that their files have.
    fn index(&self) -> BTreeMap<String, i64> {
        let index = self.sub("work/index");
        let entry = |name: String| {
            let path = index.path(&name);
            let count = xattr::get(&path, "trusted.overlay.nlink").unwrap().unwrap_or_default();
            let origin = xattr::get(&path, "trusted.overlay.origin").unwrap().unwrap();
            let hex: String = origin.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, name);
            // What the upper has, and how many more or less that is in the mount.
            let more = String::from_utf8(count).unwrap();
            let more: i64 = more.strip_prefix('U').unwrap().parse().unwrap();
            let links = index.stat(&name).nlink().cast_signed();
            (name, links + more)
        };
        self.entries().into_iter().map(entry).collect()
    }

    fn entries(&self) -> Vec<String> {
        let names = list_dir(self.sub("work/index").root()).into_iter();
        let names = names.map(|found| String::from_utf8(found.name).unwrap());
        names.filter(|name| !name.starts_with(['.', '#'])).collect()
    }

    /// The entry of the only hard link that was copied up.
    fn entry(&self) -> PathBuf {
        let [entry] = self.entries().try_into().unwrap();
        self.sub("work/index").path(entry)
    }
}

/// Content, link count and number of each name.
fn seen(m: &Dir) -> Vec<(&'static str, String, u64, u64)> {
    let there = ["a", "b", "d/c", "new", "d/moved"].into_iter().filter(|name| m.exists(name));
    there.map(|name| (name, m.read(name), m.stat(name).nlink(), m.stat(name).ino())).collect()
}

/// The same entry, the same origin, the same number of names.
#[test]
fn written_as_the_kernel_does() {
    needs!(mount, loop_device, kernel_overlay);
    let change = |m: &Dir| {
        m.file("b", "new").mode("d/c", 0o600).owner("d/link", 3, 3);
        for name in ["a", "b", "d/c", "d/link", "d/link2"] {
            m.owner(name, 4, 4);
        }
        fs::remove_file(m.path("a")).unwrap();
        m.hard_link("new", "b");
    };
    let stack = Stack::new();
    change(&stack.kernel());
    let (oracle, shown) = (stack.index(), seen(&stack.kernel()));
    assert_eq!(oracle.len(), 2, "{oracle:?}");
    for name in ["upper", "work"] {
        fs::remove_dir_all(stack.sub(name).root()).unwrap();
        stack.fs.dir().dir(name);
    }
    for option in ["index=on", "index=auto"] {
        let mut m = stack.ours(option);
        change(&m);
        assert_eq!(seen(&m), shown);
        m.remount();
        assert_eq!(seen(&m), shown);
        drop(m);
        assert_eq!(stack.index(), oracle, "{option}");
        assert_eq!(seen(&stack.kernel()), shown);
        for name in ["upper", "work"] {
            fs::remove_dir_all(stack.sub(name).root()).unwrap();
            stack.fs.dir().dir(name);
        }
    }
}

/// What one wrote through one name, the other reads through all.
#[test]
fn taken_over_in_turns() {
    needs!(mount, loop_device, kernel_overlay);
    let stack = Stack::new();
    stack.kernel().file("a", "kernel");
    let m = stack.ours("index=auto");
    assert_eq!([m.read("b"), m.read("d/c")], ["kernel", "kernel"]);
    m.file("d/c", "ours");
    fs::remove_file(m.path("b")).unwrap();
    fs::rename(m.path("a"), m.path("d/moved")).unwrap();
    let left = seen(&m);
    drop(m);
    let m = stack.kernel();
    assert_eq!(seen(&m), left);
    assert_eq!(m.stat("d/moved").nlink(), 2);
    fs::remove_file(m.path("d/moved")).unwrap();
    drop(m);
    let m = stack.ours("index=on");
    assert_eq!((m.read("d/c").as_str(), m.stat("d/c").nlink()), ("ours", 1));
    fs::remove_file(m.path("d/c")).unwrap();
    drop(m);
    assert_eq!(stack.entries(), Vec::<String>::new(), "the last name takes the entry along");
}

/// With `off` the index is neither read nor written.
#[test]
fn off() {
    needs!(mount, loop_device, kernel_overlay);
    let stack = Stack::new();
    let m = stack.ours("index=off");
    m.owner("d/link2", 1, 1).mode("b", 0o644);
    drop(m);
    assert!(!stack.sub("work").exists("index"));
    stack.kernel().file("a", "kernel");
    let before = stack.index();
    let m = stack.ours("index=off");
    assert_eq!([m.read("a"), m.read("b")], ["kernel", "lower"]);
    drop(m);
    assert_eq!(stack.index(), before);
}

/// A name that goes is counted, and the file has to be copied up for that.
#[test]
fn a_name_that_goes() {
    needs!(mount, loop_device);
    for option in ["index=on", "index=auto"] {
        let stack = Stack::new();
        let mut m = stack.ours(option);
        fs::remove_file(m.path("a")).unwrap();
        assert_eq!(m.stat("b").nlink(), 2, "{option}");
        assert!(stack.sub("work").exists("index"), "{option}");
        m.remount();
        assert_eq!((m.stat("b").nlink(), m.read("d/c").as_str()), (2, "lower"), "{option}");
    }
}

/// A file that stays open while its known names go is written to, and the others show it.
#[test]
fn a_file_whose_names_are_not_known() {
    needs!(mount, loop_device);
    let stack = Stack::new();
    let mut m = stack.ours("index=auto");
    let file = fs::File::options().read(true).write(true).open(m.path("a")).unwrap();
    fs::remove_file(m.path("a")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"LO", 0).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 2);
    assert_eq!(m.read("d/c"), "LOwer");
    drop(file);
    m.remount();
    assert_eq!((m.read("b").as_str(), m.stat("d/c").nlink()), ("LOwer", 2));
}

/// The index goes by the inode: in whichever layers it is, it is one file, as in the kernel.
#[test]
fn one_inode_in_two_layers() {
    needs!(mount, loop_device, kernel_overlay);
    let stack = Stack::new();
    let other = stack.fs.dir().dir("other").sub("other");
    for name in ["x", "y"] {
        fs::hard_link(stack.sub("lower").path("a"), other.path(name)).unwrap();
    }
    let lowers = [stack.sub("lower"), other];
    let paths = lowers.iter().map(|dir| dir.root().to_owned()).collect();
    let names = ["a", "b", "d/c", "x", "y"];
    let all = |m: &Dir| names.map(|name| (m.read(name), m.stat(name).nlink(), m.stat(name).ino()));
    let mut m = stack.setup("index=on").lowers(paths).mount();
    let before = all(&m);
    assert!(before.iter().all(|seen| *seen == before[0] && seen.1 == 5), "{before:?}");
    m.file("b", "changed");
    for _ in 0..2 {
        assert!(all(&m).iter().all(|(content, ..)| content == "changed"), "{:?}", all(&m));
        assert_eq!(
            all(&m).map(|(_, count, number)| (count, number)),
            before.clone().map(|seen| (seen.1, seen.2))
        );
        m.remount();
    }
    m.file("y", "once more");
    fs::remove_file(m.path("x")).unwrap();
    drop(m);
    let [upper, work] = ["upper", "work"].map(|name| stack.sub(name));
    let k = Kernel::overlay(&lowers, Some((&upper, &work)), &stack.scratch.mnt, KERNEL);
    for name in ["a", "b", "d/c", "y"] {
        assert_eq!((k.read(name).as_str(), k.stat(name).nlink()), ("once more", 4), "{name}");
    }
}

#[test]
fn in_the_user_namespace_of_attributes() {
    needs!(mount, loop_device);
    let stack = Stack::new();
    let mut m = stack.setup("userxattr").option("index=on").mount();
    m.file("a", "new").owner("d/link", 1, 1);
    m.remount();
    assert_eq!([m.read("b"), m.read("d/c")], ["new", "new"]);
    assert_eq!(m.stat("b").nlink(), 3);
    assert!(xattr::get(stack.entry(), "user.overlay.nlink").unwrap().is_some());
}

// What nobody should find there -----------------------------------------------------------------

/// Entries of no form, unfinished ones, and ones that stand for nothing: the mount goes on.
#[test]
fn rubbish_in_the_index() {
    needs!(mount, loop_device);
    let stack = Stack::new();
    stack.ours("index=on").file("a", "new");
    let index = stack.sub("work/index");
    let long = "f".repeat(255);
    index.file("#1", "").dir("#2/deep").file("rubbish", "").file("00fb", "").file(&long, "");
    // Of the form of a handle, and of nothing.
    let handle = format!("00fb170001{}", "0".repeat(32));
    index.file(format!("{handle}aabb"), "no names").dir(format!("{handle}aabc"));
    let mut m = stack.ours("index=on");
    assert_eq!([m.read("b"), m.read("d/c")], ["new", "new"]);
    m.remount();
    let left = stack.entries();
    assert!(["rubbish", "00fb", long.as_str()].iter().all(|name| left.contains(&(*name).into())));
    assert!(!left.iter().any(|name| name.ends_with("aabb")), "{left:?}");
    assert!(!index.exists("#1") && !index.exists("#2"));
}

/// The object of an entry that cannot be its own is EIO, as in the kernel, and nothing else is.
#[test]
fn an_entry_of_another_kind() {
    needs!(mount, loop_device, kernel_overlay);
    let stack = Stack::new();
    stack.ours("index=on").file("a", "new");
    let entry = stack.entry();
    fs::remove_file(&entry).unwrap();
    let name = entry.file_name().unwrap().to_owned();
    for whiteout in [false, true] {
        match whiteout {
            true => stack.sub("work/index").whiteout(&name),
            false => stack.sub("work/index").dir(&name),
        };
        let m = stack.ours("index=on");
        assert_errno(fs::symlink_metadata(m.path("b")), libc::EIO);
        assert_eq!((m.read("a").as_str(), m.read("single").as_str()), ("new", ""));
        drop(m);
        assert_errno(fs::symlink_metadata(stack.kernel().path("b")), libc::EIO);
        if whiteout { fs::remove_file(&entry) } else { fs::remove_dir(&entry) }.unwrap();
    }
}

/// Counts that cannot be, and none at all.
#[test]
fn counts_that_make_no_sense() {
    needs!(mount, loop_device);
    for value in ["", "U", "U-9", "U+99999999999", "X+1", "L-3", "U+2147483647"] {
        let stack = Stack::new();
        stack.ours("index=on").file("a", "new");
        xattr::set(stack.entry(), "trusted.overlay.nlink", value.as_bytes()).unwrap();
        let m = stack.ours("index=on");
        assert_eq!([m.read("a"), m.read("b")], ["new", "new"], "{value}");
        m.file("d/c", "once more").hard_link("new", "b");
        for name in ["a", "d/c", "new"] {
            assert!(m.stat(name).nlink() > 0);
            fs::remove_file(m.path(name)).unwrap();
        }
        drop(m);
        assert!(!stack.ours("index=on").exists("new"), "{value}");
    }
}

/// An index goes with one upper: of a copy of the upper it says nothing.
#[test]
fn an_index_of_another_upper() {
    needs!(mount, loop_device);
    let stack = Stack::new();
    stack.ours("index=on").file("a", "new");
    xattr::set(stack.sub("work/index").root(), "trusted.overlay.upper", b"another").unwrap();
    let refused = stack.setup("index=on").attempt();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("another upperdir"), "{said}");
    let m = stack.ours("index=auto");
    assert_eq!([m.read("a"), m.read("b")], ["new", "lower"]);
    drop(m);
    assert_eq!(stack.entries().len(), 1, "left alone");
}

/// An upper with an index goes with the lower that it was written over, whoever wrote it.
#[test]
fn an_index_over_another_lower() {
    needs!(mount, loop_device, kernel_overlay);
    for by_kernel in [false, true] {
        let stack = Stack::new();
        match by_kernel {
            true => drop(stack.kernel()),
            false => drop(stack.ours("index=on")),
        }
        fs::rename(stack.sub("lower").root(), stack.fs.path().join("first")).unwrap();
        three_names(stack.fs.dir().dir("lower").sub("lower").dir(""));
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| stack.sub(name));
        let at = &stack.scratch.mnt;
        let refused = Kernel::try_overlay(&[lower], Some((&upper, &work)), at, KERNEL);
        assert_errno(refused.map(drop).map_err(std::io::Error::from), libc::ESTALE);
        let refused = stack.setup("index=on").attempt();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("another lowerdir"), "{said}");
        for option in ["index=auto", "index=off"] {
            stack.ours(option).file("a", option);
        }
        fs::remove_dir_all(stack.sub("lower").root()).unwrap();
        fs::rename(stack.fs.path().join("first"), stack.sub("lower").root()).unwrap();
        drop(stack.ours("index=on"));
        drop(stack.kernel());
    }
}
