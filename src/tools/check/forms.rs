//! In which form the marks of an upper are, as far as it tells.
//!
//! A mark of another form than the rest is one that the kernel, or whoever reads the rest, passes
//! over. Where all are of one form there is nothing wrong with it: an upper of a user namespace has
//! its marks in `user.overlay.`, and one with `whiteout=aufs` has files `.wh..wh..opq`.

use std::os::fd::AsFd;
use std::sync::Arc;

use crate::config::{NamespaceChoice, WhiteoutChoice};
use crate::error::Result;
use crate::format::overlay::{Mark, Namespace};
use crate::layer::LayerDir;
use crate::sys::{Target, xattr};

/// The forms that the command line names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub namespace: NamespaceChoice,
    pub whiteout: WhiteoutChoice,
}

/// What was met.
#[derive(Debug)]
pub(super) struct Forms {
    namespace: Namespace,
    /// A directory has marks in the namespace of the upper.
    own_marks: bool,
    /// A whiteout or an opaque mark is in a form that the kernel reads.
    pub kernel_names: bool,
    /// Directories that are opaque by the other namespace alone.
    pub of_namespace: Vec<Vec<u8>>,
    /// Directories that are opaque by a file alone.
    pub of_aufs: Vec<Vec<u8>>,
}

impl Forms {
    pub fn new(namespace: Namespace) -> Self {
        let (of_namespace, of_aufs) = (Vec::new(), Vec::new());
        Self { namespace, own_marks: false, kernel_names: false, of_namespace, of_aufs }
    }

    /// Takes in what the attributes of a directory tell.
    ///
    /// # Errors
    /// Those of listxattr(2).
    pub fn look_at(&mut self, dir: &Arc<LayerDir>) -> Result<()> {
        let fd = dir.fd()?;
        let list = xattr::list(Target::Fd(fd.as_ref().as_fd()))?;
        let opaque = Namespace::BOTH.map(|namespace| namespace.key(Mark::Opaque).to_bytes());
        for name in xattr::names(&list) {
            self.own_marks |= name.starts_with(self.namespace.prefix());
            self.kernel_names |= opaque.contains(&name);
        }
        Ok(())
    }

    /// The directories whose opaque mark is in a form that the others are not in.
    pub fn foreign(&mut self, asked: Asked) -> impl Iterator<Item = Vec<u8>> {
        let by_namespace = self.own_marks || asked.namespace != NamespaceChoice::Auto;
        let by_file = match asked.whiteout {
            WhiteoutChoice::Auto => self.kernel_names,
            WhiteoutChoice::Aufs => false,
            WhiteoutChoice::Device | WhiteoutChoice::Xattr => true,
        };
        let take = |wanted: bool, list: &mut Vec<Vec<u8>>| match wanted {
            true => std::mem::take(list),
            false => Vec::new(),
        };
        let first = take(by_namespace, &mut self.of_namespace);
        first.into_iter().chain(take(by_file, &mut self.of_aufs))
    }
}
