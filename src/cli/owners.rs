//! The options about owners, of which some exclude others.

use super::request::UsageError;
use crate::config::{IdRange, IdView, Owners};
use crate::id::Id;

/// The options about users, or those about groups.
#[derive(Debug, Default)]
pub struct Ids {
    /// `uidmapping`, `gidmapping`.
    pub map: Option<Vec<IdRange>>,
    /// `squash_to_uid`, `squash_to_gid`.
    pub all: Option<Id>,
}

impl Ids {
    /// The resulting view. `one` is `u` or `g`, the first letter of the options.
    fn view(self, one: char, squash_to_root: bool) -> Result<IdView, UsageError> {
        let (map, all) = (format!("{one}idmapping"), format!("squash_to_{one}id"));
        let both = |a: &str, b: &str| {
            let text = format!("options `{a}` and `{b}` exclude each other: leave one out");
            Err(UsageError::new(text))
        };
        match (self.map, self.all, squash_to_root) {
            (Some(_), Some(_), _) => both(&map, &all),
            (Some(_), None, true) => both(&map, "squash_to_root"),
            (None, Some(id), true) if id != Id::ROOT => both(&all, "squash_to_root"),
            (Some(ranges), None, false) => Ok(IdView::Mapped(ranges)),
            (None, Some(id), _) => Ok(IdView::All(id)),
            (None, None, true) => Ok(IdView::All(Id::ROOT)),
            (None, None, false) => Ok(IdView::Same),
        }
    }
}

/// Checks all options about owners, and returns the resulting views.
///
/// # Errors
/// If two options exclude each other.
pub fn verified(uids: Ids, gids: Ids, squash_to_root: bool) -> Result<Owners, UsageError> {
    let uids = uids.view('u', squash_to_root)?;
    Ok(Owners { uids, gids: gids.view('g', squash_to_root)? })
}
