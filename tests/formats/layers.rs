//! Stacks of layers, changed and shown by the kernel's overlayfs and by ovlmerge.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use crate::support::Kernel;
use crate::support::mount::is_mountpoint;
use crate::support::tree::{Compare, Tree, assert_same_tree, differences, dump};
use crate::support::{Dir, Mount, Scratch, Setup};

/// Every feature that leaves a mark in the upper.
pub const ALL: &str = "redirect_dir=on,metacopy=on,index=on,xino=on";

/// The same without the index, which ties an upper to its lowers for good.
pub const NO_INDEX: &str = "redirect_dir=on,metacopy=on,index=off,xino=on";

/// Layers that grow: each generation is an upper over all before it.
pub struct Layers {
    scratch: Scratch,
    /// Topmost first, each with the work directory that it was written with.
    layers: Vec<(Dir, Dir)>,
    options: &'static str,
}

impl Layers {
    /// One layer, made by `fill`; `options` are those of the kernel in all that follows.
    pub fn new(options: &'static str, fill: impl FnOnce(&Dir)) -> Self {
        let mut layers = Self { scratch: Scratch::new(), layers: Vec::new(), options };
        layers.plain(fill);
        layers
    }

    /// One more layer on top, made by `fill` and by no overlay.
    pub fn plain(&mut self, fill: impl FnOnce(&Dir)) -> &mut Self {
        let number = self.layers.len();
        let pair =
            ["layer", "work"].map(|name| self.scratch.base().sub(format!("{name}-{number}")));
        let [layer, work] = pair;
        fill(layer.dir(""));
        work.dir("");
        self.layers.insert(0, (layer, work));
        self
    }

    /// One more layer on top: what `change` does to the kernel's mount of all so far.
    pub fn generation(&mut self, change: impl FnOnce(&Dir)) -> &mut Self {
        self.plain(|_| ());
        change(&self.kernel());
        self
    }

    /// The topmost layer.
    pub fn top(&self) -> &Dir {
        &self.layers[0].0
    }

    /// Layer `number`; 0 is the one made first.
    pub fn layer(&self, number: usize) -> &Dir {
        &self.layers[self.layers.len() - 1 - number].0
    }

    fn all(&self) -> Vec<Dir> {
        self.layers.iter().map(|(layer, _)| layer.clone()).collect()
    }

    /// The kernel's mount, with the topmost layer as the upper.
    pub fn kernel(&self) -> Kernel {
        let (upper, work) = &self.layers[0];
        Kernel::overlay(&self.all()[1..], Some((upper, work)), &self.scratch.mnt, self.options)
    }

    /// The kernel's mount of all as lowers.
    pub fn kernel_lowers(&self) -> Kernel {
        let options = "redirect_dir=follow,metacopy=on,index=off,xino=on";
        Kernel::overlay(&self.all(), None, &self.scratch.mnt, options)
    }

    fn setup(&self, lowers: &[Dir]) -> Setup {
        let lowers: Vec<PathBuf> = lowers.iter().map(|dir| dir.root().to_owned()).collect();
        Setup::new(lowers, self.scratch.mnt.root())
    }

    /// ovlmerge's mount, with the topmost layer as the upper.
    pub fn ours(&self) -> Mount {
        let (upper, work) = &self.layers[0];
        self.setup(&self.all()[1..]).upper(upper.root()).work(work.root()).mount()
    }

    /// The same with an option.
    pub fn ours_writing(&self, option: &str) -> Mount {
        let (upper, work) = &self.layers[0];
        let setup = self.setup(&self.all()[1..]).upper(upper.root()).work(work.root());
        setup.option(option).mount()
    }

    /// ovlmerge's mount of all as lowers, read-only.
    pub fn ours_lowers(&self) -> Mount {
        self.setup(&self.all()).mount()
    }

    /// The same with an option.
    pub fn ours_with(&self, option: &str) -> Mount {
        self.setup(&self.all()).option(option).mount()
    }

    /// Fails unless both engines show the same, whether the topmost layer is the upper or a lower,
    /// and returns it.
    #[track_caller]
    pub fn assert_alike(&self) -> Tree {
        self.assert_alike_as_upper();
        let oracle = show(&self.kernel_lowers());
        assert_same(&oracle, &show(&self.ours_lowers()), "all layers as lowers");
        oracle
    }

    /// The same for the topmost layer as the upper alone.
    #[track_caller]
    pub fn assert_alike_as_upper(&self) -> Tree {
        let oracle = show(&self.kernel());
        assert_same(&oracle, &show(&self.ours()), "the topmost as upper");
        oracle
    }

    /// Lets `change` work on ovlmerge's mount, and fails unless the kernel then shows what ovlmerge
    /// showed at the end, and ovlmerge does once more.
    #[track_caller]
    pub fn change(&self, change: impl FnOnce(&Mount)) -> Tree {
        let mut m = self.ours();
        change(&m);
        let left = show(&m);
        m.remount();
        assert_same(&left, &show(&m), "after a remount");
        drop(m);
        assert_same(&show(&self.kernel()), &left, "the kernel after ovlmerge");
        left
    }

    /// Does the same changes through ovlmerge and through the kernel, each in an upper of its own
    /// on top, and fails unless both trees are alike in the end, for both engines.
    #[track_caller]
    pub fn change_both(&mut self, change: impl Fn(&Dir)) {
        self.generation(&change);
        let oracle = show(&self.kernel());
        self.layers.remove(0);
        // A name of its own for the second upper.
        let pair = ["layer", "work"].map(|name| self.scratch.base().sub(format!("{name}-ours")));
        let [layer, work] = pair;
        layer.dir("");
        work.dir("");
        self.layers.insert(0, (layer, work));
        let timeless = |left: &Tree, right: &Tree, what: &str| {
            let found = differences(left, right, Compare::TIMELESS);
            assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
        };
        let m = self.ours();
        change(m.place());
        timeless(&oracle, &show(&m), "changed by the kernel (left) and by ovlmerge");
        drop(m);
        timeless(&oracle, &show(&self.kernel()), "ovlmerge's upper shown by the kernel (right)");
        self.assert_alike();
    }
}

/// What a mount shows. Every file is read, and so is the space that its data takes.
pub fn show(mount: &Dir) -> Tree {
    assert!(is_mountpoint(mount.root()));
    dump(mount.root())
}

#[track_caller]
fn assert_same(left: &Tree, right: &Tree, what: &str) {
    println!("{what}: {} entries", left.len());
    assert_same_tree(left, right, Compare::STRICT);
}

/// Blocks that a file is said to take.
pub fn blocks(dir: &Dir, path: &str) -> u64 {
    dir.stat(path).blocks()
}

/// Renames, in a mount.
pub fn rename(dir: &Dir, from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let (from, to) = (dir.path(from), dir.path(to));
    fs::rename(&from, &to)
        .unwrap_or_else(|err| panic!("{} to {}: {err}", from.display(), to.display()));
}
