//! Files of the upper that have their data below.

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

/// Whether changes of metadata leave the data below. Where the kernel's overlayfs would not follow
/// the marks the option is passed over with a warning: container runtimes give it without looking.
pub(super) fn is_wanted(config: &Config, stack: &Stack) -> bool {
    let Some(upper) = stack.upper.as_ref().filter(|_| config.metacopy) else { return false };
    match upper.why_no_metacopy() {
        Some(why) => {
            tracing::warn!("metacopy=on has no effect: {why}");
            false
        }
        None => true,
    }
}

/// Where the data is that a file of the upper has to get.
fn pending(place: &Place) -> Result<Option<&Source>> {
    match place.data() {
        Contents::Own => Ok(None),
        _ if place.real.upper_key().is_none() => Ok(None),
        Contents::Missing => Err(Errno::EIO.into()),
        Contents::Elsewhere(source) => Ok(Some(source)),
    }
}

impl Vfs {
    /// How much of a file is copied up for a change of its metadata.
    pub(super) fn for_metadata(&self) -> Data {
        if self.metacopy { Data::Below } else { Data::All }
    }

    /// Gives a file of the upper that has its data elsewhere (metacopy) the data. Others, and what
    /// is in a lower, stay as they are.
    ///
    /// Until the mark goes the upper's own data is not looked at, so that removing it is the step
    /// that publishes them.
    ///
    /// # Errors
    /// EIO if the data is nowhere; what [`copyup::complete`] says.
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

    /// Forces the metadata of a file to the disk that has its data elsewhere; `None` for others.
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
