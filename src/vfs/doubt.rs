//! Failed changes of which nobody knows how far they came.
//!
//! A call that makes or removes a name may have worked although a later step fails: memory or
//! descriptors are short, or the disk does not answer any more. What the server and the kernel
//! remember of the name may then be wrong, and would stay wrong as long as the mount lives. So both
//! forget it, and the layers are asked again. Any other error comes from the call that would have
//! made the change, or from a look before it.

use super::{NodeId, Vfs};
use crate::error::Result;

impl Vfs {
    /// Runs a change of these names, which are forgotten if it may be half done.
    pub(super) fn changing_names<T>(
        &self,
        names: &[(NodeId, &[u8])],
        act: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        self.with_room(act).inspect_err(|err| {
            if err.errno().may_pass() {
                names.iter().for_each(|(parent, name)| self.forget_name(*parent, name));
            }
        })
    }

    fn forget_name(&self, parent: NodeId, name: &[u8]) {
        if let Some(parent) = self.table.get(parent)
            && let Ok(dir) = parent.dir()
        {
            dir.names.write().index = None;
        }
        if let Some(listener) = self.listener.get() {
            listener.doubted(parent, name);
        }
    }

    /// Runs a change of a node's attributes, which the kernel forgets if it may be half done.
    pub(super) fn changing_attributes<T>(
        &self,
        id: NodeId,
        act: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        act().inspect_err(|err| {
            if err.errno().may_pass() {
                self.tell_changed(id);
            }
        })
    }
}
