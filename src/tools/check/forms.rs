//! Forms of the opaque marks of an upper.
//!
//! The kernel, or another reader of the upper, ignores a mark of another form than the rest. If all
//! marks have one form, that form is right: an upper of a user namespace has its marks in
//! `user.overlay.`, and one with `whiteout=aufs` has files `.wh..wh..opq`.

use std::os::fd::AsFd;
use std::sync::Arc;

use crate::config::{NamespaceChoice, WhiteoutChoice};
use crate::error::Result;
use crate::format::overlay::{Mark, Namespace};
use crate::layer::LayerDir;
use crate::sys::{Target, xattr};

/// Forms given on the command line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub namespace: NamespaceChoice,
    pub whiteout: WhiteoutChoice,
}

/// Forms found in the upper.
#[derive(Debug)]
pub(super) struct Forms {
    namespace: Namespace,
    /// Some directory has marks in the namespace of the upper.
    own_marks: bool,
    /// Some whiteout or opaque mark has a form that the kernel reads.
    pub kernel_names: bool,
    /// Directories that are opaque only by a mark in the other namespace.
    pub of_namespace: Vec<Vec<u8>>,
    /// Directories that are opaque only by a file.
    pub of_aufs: Vec<Vec<u8>>,
}

impl Forms {
    pub fn new(namespace: Namespace) -> Self {
        let (of_namespace, of_aufs) = (Vec::new(), Vec::new());
        Self { namespace, own_marks: false, kernel_names: false, of_namespace, of_aufs }
    }

    /// Notes the forms of the marks of a directory.
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

    /// Returns the directories whose opaque mark has another form than the rest.
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
