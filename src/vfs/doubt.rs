//! Changes that failed, and of which nobody knows how far they came.
//!
//! A call that names an object, or takes a name away, may have worked although what follows it
//! fails: the machine is out of memory or descriptors, or the disk answers nothing any more. What
//! was remembered of the name may then be wrong, here and in the client, and would stay wrong for
//! as long as the mount lives. So it is forgotten, and the layers are asked anew. All other errors
//! come from the call that would have made the change, or from a look at what there is before it.

use super::{NodeId, Vfs};
use crate::error::Result;

impl Vfs {
    /// Runs a change of these names.
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

    /// Runs a change of the attributes of a node.
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
