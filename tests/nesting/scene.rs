//! One scene for all file systems: a tree, changes to it, and what has to be there afterwards.

use std::path::{Path, PathBuf};

use crate::support::process::run;
use crate::support::{Dir, Mount, Setup};

/// The program that plays it, in any namespace.
pub const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nesting/tree.py");

/// What the file systems at hand can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    Plain,
    Xattr,
}

/// The listing after [`Scene::change`].
const CHANGED: &str = "\
again drwxr-xr-x now
again/n -rw-r--r-- now 1 n
d drwxr-xr-x now
d/c -rw-r--r-- now 1 target
d/moved -rw-r--r-- old 1 d/b
dl link nowhere
f -rw-r--r-- now 1 f and more user.above=3
g -rw------- old 1 g
h -rwxr-xr-x old 2 h
l link f
linked -rwxr-xr-x old 2 h
made2 drwxr-xr-x now
made2/in drwxr-xr-x now
map -rw-r--r-- now 1 5000mMAP4997m
new -rw-r--r-- now 1 new
p prw-r--r-- old
quiet drwxr-x--- old user.dir=2
quiet/q -rw-r--r-- old 1 quiet/q
renamed -rw-r--r-- old 1 r
";

impl Scene {
    fn play(self, what: &str, place: &Path) -> String {
        let how = if self == Self::Xattr { "xattr" } else { "plain" };
        run("python3", &[PROGRAM, what, how, place.to_str().unwrap()])
    }

    /// Makes the tree, in an empty directory.
    pub fn fill(self, dir: &Dir) {
        self.play("fill", dir.root());
    }

    /// Creates, writes, renames, removes, links, maps.
    pub fn change(self, dir: &Dir) {
        self.play("change", dir.root());
    }

    /// All of it as text, the same on all file systems.
    pub fn list(self, dir: &Dir) -> String {
        self.play("list", dir.root())
    }

    /// The listing that changes have to lead to.
    pub fn changed(self) -> String {
        match self {
            Self::Xattr => CHANGED.to_owned(),
            Self::Plain => CHANGED.replace(" user.above=3", "").replace(" user.dir=2", ""),
        }
    }

    #[track_caller]
    pub fn assert_changed(self, dir: &Dir) {
        assert_eq!(self.list(dir), self.changed(), "{}", dir.root().display());
    }

    /// Mounts over the lower `below`, which holds the tree, plays the rest, and leaves it mounted
    /// for the second time. The lower stays as it was.
    #[track_caller]
    pub fn over(self, below: &Dir, setup: Setup) -> Mount {
        let before = self.list(below);
        let mut m = setup.lowers(vec![PathBuf::from(below.root())]).mount();
        assert_eq!(self.list(&m), before);
        self.change(&m);
        self.assert_changed(&m);
        m.remount();
        self.assert_changed(&m);
        assert_eq!(self.list(below), before, "the lower was changed");
        m
    }
}
