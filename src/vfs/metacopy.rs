//! Files of the upper that have their data in a lower.

use std::sync::Arc;

use super::Vfs;
use super::nodes::node::Node;
use super::nodes::place::{Place, Real};
use crate::config::Config;
use crate::error::{Errno, Result};
use crate::layer::{Fd, Stack, Upper};
use crate::merge::copyup::{self, Data};
use crate::merge::found::{Contents, Source};
use crate::sys::Name;

/// Whether changes of metadata leave the data below. If the kernel's overlayfs would not follow the
/// marks, this only logs a warning: container runtimes set the option without checking.
pub(super) fn is_wanted(config: &Config, stack: &Stack) -> bool {
    let Some(upper) = stack.upper.as_ref().filter(|_| config.metacopy) else { return false };
    // Metadata of one version of a file would stand over the data of another.
    let change =
        config.lowers_settle().map(|_| "timeout= says that the lowers may change".to_owned());
    match change.or_else(|| upper.why_no_metacopy()) {
        Some(why) => {
            tracing::warn!("metacopy=on has no effect: {why}");
            false
        }
        None => true,
    }
}

/// Where the data is that a file of the upper lacks; EIO if it is missing.
fn pending(place: &Place) -> Result<Option<&Source>> {
    match place.data() {
        Contents::Own => Ok(None),
        _ if place.real.upper_key().is_none() => Ok(None),
        Contents::Missing => Err(Errno::EIO.into()),
        Contents::Elsewhere(source) => Ok(Some(source)),
    }
}

impl Vfs {
    /// How much of a file a change of its metadata copies up.
    pub(super) fn for_metadata(&self) -> Data {
        if self.metacopy { Data::Below } else { Data::All }
    }

    /// Copies the data of a file of the upper that has it elsewhere (metacopy). Any other file
    /// stays as it is.
    ///
    /// The file's own data is not read until its mark is removed, so that one step publishes all of
    /// it.
    ///
    /// # Errors
    /// EIO if the data is nowhere; errors of [`copyup::complete`].
    pub(super) fn complete(&self, node: &Arc<Node>) -> Result<()> {
        let Ok(leaf) = node.as_leaf() else { return Ok(()) };
        if pending(&leaf.place.read())?.is_none() {
            return Ok(());
        }
        let _gate = node.gate.lock();
        let upper = self.upper()?;
        let (source, file) = {
            let place = leaf.place.read();
            let Some(source) = pending(&place)? else { return Ok(()) };
            let file = match place.real.orphaned() {
                Some(fd) => Arc::clone(fd),
                None => {
                    let (dir, name) = self.upper_path(&place)?;
                    Arc::new(Fd::from(upper.open_to_write(&dir, Name::new(name)?)?))
                }
            };
            (source.clone(), file)
        };
        self.will_wait();
        copyup::complete(upper, file.writable()?, &source)?;
        let mut place = leaf.place.write();
        place.set_data(Contents::Own);
        leaf.io.take();
        Ok(())
    }

    /// Forces the metadata of a file with its data elsewhere to the disk; `None` for other files.
    pub(super) fn sync_without_data(&self, node: &Node, upper: &Upper) -> Option<Result<()>> {
        let leaf = node.as_leaf().ok()?;
        let link = {
            let place = leaf.place.read();
            pending(&place).ok()??;
            let named = matches!(place.real, Real::Upper { .. });
            place.upper_link().filter(|_| named).cloned()
        };
        let Some(link) = link else { return Some(Ok(())) };
        Some(link.parent.dir().and_then(|parent| {
            let dir = parent.stack.read().upper.clone().ok_or(Errno::ESTALE)?;
            upper.sync_entry(&dir, Name::new(link.name())?)
        }))
    }
}
