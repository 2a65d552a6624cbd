//! Owners as the layers store them, and as users of the mount see them.
//!
//! There are *stored* ids and *shown* ids, and only this module turns one kind into the other. All
//! of the engine works with stored ids. [`crate::vfs`] turns the ids of requests into stored ones,
//! and the ids of answers into shown ones. A copy-up keeps the stored ids.

use crate::config;
use crate::error::{Errno, Error, Result};
use crate::format::acl;
use crate::format::capability;
use crate::format::idmap::IdMap;
use crate::format::overlay::is_acl;
use crate::id::Id;
use crate::merge::attr::Change;
use crate::merge::create::Request;
use crate::sys::Stat;
use crate::sys::creds::{self, Owner};
use crate::sys::overflow::Each;

/// The way in which owners appear.
#[derive(Debug)]
pub enum Owners {
    /// As they are on the layers.
    Plain,
    /// Changed by a view of users and a view of groups.
    Changed(Box<Views>),
}

/// The view of users and the view of groups.
#[derive(Debug)]
pub struct Views {
    uid: View,
    gid: View,
    /// Our own ids: new objects get them where owners are not told apart.
    ours: Owner,
}

#[derive(Debug)]
enum View {
    Same,
    Map(IdMap),
    /// All objects show this one.
    All(Id),
}

impl View {
    fn new(view: &config::IdView) -> Self {
        match view {
            config::IdView::Same => Self::Same,
            config::IdView::Mapped(ranges) => Self::Map(IdMap::new(ranges)),
            config::IdView::All(id) => Self::All(*id),
        }
    }

    fn shown(&self, id: Id) -> Option<Id> {
        match self {
            Self::Same => Some(id),
            Self::Map(map) => map.shown(id),
            Self::All(all) => Some(*all),
        }
    }

    /// The shown id for a number that a file system gives.
    fn shown_number(&self, number: u32) -> u32 {
        Id::or_none(Id::new(number).and_then(|id| self.shown(id)))
    }

    /// The shown id in an ACL, or of the root of a file capability. It is changed only by a map:
    /// ACLs still tell people apart if all files show one owner.
    fn shown_in_acl(&self, id: Id) -> Option<Id> {
        match self {
            Self::Map(map) => map.shown(id),
            Self::Same | Self::All(_) => Some(id),
        }
    }

    /// The stored id for a shown one, as the opposite of [`Self::shown_in_acl`].
    fn stored_in_acl(&self, id: Id) -> Option<Id> {
        match self {
            Self::Map(map) => map.stored(id),
            Self::Same | Self::All(_) => Some(id),
        }
    }

    /// The stored id for the maker of an object. If the map lacks root, root acts as root of the
    /// layers: a runtime prepares the tree of a container as root.
    ///
    /// # Errors
    /// As [`Self::stored`].
    fn maker(&self, id: Id, ours: Id) -> Result<Id> {
        match self {
            Self::Map(map)
                if id == Id::ROOT && map.stored(id).is_none() && map.shown(Id::ROOT).is_some() =>
            {
                Ok(Id::ROOT)
            }
            _ => self.stored(id, ours),
        }
    }

    /// The stored id for a shown one.
    ///
    /// # Errors
    /// EOVERFLOW for an id that the map lacks (`fsuidgid_has_mapping`, linux/fs.h, and
    /// notify_change, fs/attr.c, give it for an id-mapped mount).
    fn stored(&self, id: Id, ours: Id) -> Result<Id> {
        match self {
            Self::Same => Ok(id),
            Self::Map(map) => map.stored(id).ok_or_else(|| {
                Error::new(Errno::EOVERFLOW, format!("no id of the layers is mapped to {id}"))
            }),
            Self::All(_) => Ok(ours),
        }
    }

    /// The stored id that an object is to get; `None` if the mount would not show it.
    fn given(&self, id: Option<Id>) -> Result<Option<Id>> {
        match (self, id) {
            (Self::All(_), _) | (_, None) => Ok(None),
            (_, Some(id)) => self.stored(id, id).map(Some),
        }
    }
}

impl Owners {
    /// The owners that the options ask for.
    #[must_use]
    pub fn new(owners: &config::Owners) -> Self {
        if *owners == config::Owners::default() {
            return Self::Plain;
        }
        let (uid, gid) = (View::new(&owners.uids), View::new(&owners.gids));
        Self::Changed(Box::new(Views { uid, gid, ours: creds::effective() }))
    }

    /// Attributes as users see them. An owner that the map lacks gets the number that is no id. The
    /// kernel shows that as the overflow id, and lets nobody change such an object.
    #[must_use]
    pub fn shown(&self, stat: Stat) -> Stat {
        match self {
            Self::Plain => stat,
            Self::Changed(views) => Stat {
                uid: views.uid.shown_number(stat.uid),
                gid: views.gid.shown_number(stat.gid),
                ..stat
            },
        }
    }

    /// Whether the mount tells users apart, and groups.
    #[must_use]
    pub fn shows_each(&self) -> Each {
        match self {
            Self::Plain => Each { uid: true, gid: true },
            Self::Changed(views) => {
                let apart = |view: &View| !matches!(view, View::All(_));
                Each { uid: apart(&views.uid), gid: apart(&views.gid) }
            }
        }
    }

    /// A request with the stored ids of the caller.
    ///
    /// # Errors
    /// EOVERFLOW if the caller has no id in the layers.
    pub fn stored_request(&self, request: &Request) -> Result<Request> {
        match self {
            Self::Plain => Ok(*request),
            Self::Changed(views) => Ok(Request {
                uid: views.uid.maker(request.uid, views.ours.uid)?,
                gid: views.gid.maker(request.gid, views.ours.gid)?,
                ..*request
            }),
        }
    }

    /// A change with stored ids. If all owners look the same, the owner does not change.
    ///
    /// # Errors
    /// EOVERFLOW for an owner that has no id in the layers.
    pub fn stored_change(&self, change: &Change) -> Result<Change> {
        match self {
            Self::Plain => Ok(*change),
            Self::Changed(views) => Ok(Change {
                uid: views.uid.given(change.uid)?,
                gid: views.gid.given(change.gid)?,
                ..*change
            }),
        }
    }

    /// An attribute as users see it, with shown ids in an ACL or a file capability.
    ///
    /// # Errors
    /// EIO for a malformed ACL; EOVERFLOW for capabilities of a user whom the map lacks
    /// (`cap_inode_getsecurity`, security/commoncap.c).
    pub fn shown_xattr(&self, name: &[u8], stored: Vec<u8>) -> Result<Vec<u8>> {
        match self {
            Self::Changed(_) if is_acl(name) => self.shown_acl(stored),
            Self::Changed(views) if name == capability::NAME => {
                let shown = capability::with_root(stored, |id| views.uid.shown_in_acl(id));
                shown.ok_or_else(|| Errno::EOVERFLOW.into())
            }
            _ => Ok(stored),
        }
    }

    /// An attribute as the layers store it.
    ///
    /// # Errors
    /// EINVAL for an ACL, EOVERFLOW for a file capability, with an id that the map lacks.
    pub fn stored_xattr(&self, name: &[u8], shown: Vec<u8>) -> Result<Vec<u8>> {
        match self {
            Self::Changed(_) if is_acl(name) => self.stored_acl(shown),
            Self::Changed(views) if name == capability::NAME => {
                let stored = capability::with_root(shown, |id| views.uid.stored_in_acl(id));
                stored.ok_or_else(|| Errno::EOVERFLOW.into())
            }
            _ => Ok(shown),
        }
    }

    /// An ACL as users see it, without entries for ids that the map lacks: they mean nobody here.
    ///
    /// # Errors
    /// EIO for bytes that are not an ACL.
    pub fn shown_acl(&self, stored: Vec<u8>) -> Result<Vec<u8>> {
        match self {
            Self::Plain => Ok(stored),
            Self::Changed(views) => acl::with_ids(
                &stored,
                |id| views.uid.shown_in_acl(id),
                |id| views.gid.shown_in_acl(id),
            ),
        }
    }

    /// An ACL as the layers store it. If all owners look the same, the ids stay as they are.
    ///
    /// # Errors
    /// EINVAL for an id that the map lacks (`posix_acl_valid`, fs/posix_acl.c).
    pub fn stored_acl(&self, shown: Vec<u8>) -> Result<Vec<u8>> {
        let Self::Changed(views) = self else { return Ok(shown) };
        let stored = acl::with_ids(
            &shown,
            |id| views.uid.stored_in_acl(id),
            |id| views.gid.stored_in_acl(id),
        )?;
        if acl::len(&stored)? < acl::len(&shown)? {
            return Err(Error::new(Errno::EINVAL, "an ACL with an id that the map lacks"));
        }
        Ok(stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{IdRange, IdView};

    fn owners(uids: IdView, gids: IdView) -> Owners {
        Owners::new(&config::Owners { uids, gids })
    }

    fn to_5000() -> IdView {
        IdView::Mapped(vec![IdRange { stored: 0, shown: 5000, len: 1000 }])
    }

    const fn id(number: u32) -> Id {
        Id::new(number).unwrap()
    }

    const REQUEST: Request = Request { uid: id(5007), gid: id(7), mode: 0o644, umask: 0 };

    #[test]
    fn users_and_groups_have_views_of_their_own() {
        let owners = owners(to_5000(), IdView::Same);
        let stored = owners.stored_request(&REQUEST).unwrap();
        assert_eq!((stored.uid, stored.gid, stored.mode), (id(7), id(7), 0o644));
        let change = Change { uid: Some(id(5001)), gid: Some(id(5001)), ..Change::NONE };
        let stored = owners.stored_change(&change).unwrap();
        assert_eq!((stored.uid, stored.gid), (Some(id(1)), Some(id(5001))));
    }

    #[test]
    fn who_is_not_in_the_map_can_make_and_get_nothing() {
        let owners = owners(to_5000(), to_5000());
        let err = owners.stored_request(&REQUEST).unwrap_err();
        assert_eq!(err.errno(), Errno::EOVERFLOW, "its group is 7");
        let change = Change { uid: Some(id(6000)), ..Change::NONE };
        assert_eq!(owners.stored_change(&change).unwrap_err().errno(), Errno::EOVERFLOW);
        let change = Change { uid: Some(id(0)), ..Change::NONE };
        assert_eq!(owners.stored_change(&change).unwrap_err().errno(), Errno::EOVERFLOW);
        let change = Change { mode: Some(0o600), ..Change::NONE };
        assert_eq!(owners.stored_change(&change).unwrap(), change);
        let root =
            owners.stored_request(&Request { uid: Id::ROOT, gid: Id::ROOT, ..REQUEST }).unwrap();
        assert_eq!((root.uid, root.gid), (Id::ROOT, Id::ROOT));
    }

    #[test]
    fn where_all_look_the_same_nobody_gets_anything() {
        let owners = owners(IdView::All(id(7)), IdView::Same);
        let change = Change { uid: Some(id(1)), gid: Some(id(2)), ..Change::NONE };
        let stored = owners.stored_change(&change).unwrap();
        assert_eq!((stored.uid, stored.gid), (None, Some(id(2))));
        let stored = owners.stored_request(&REQUEST).unwrap();
        assert_eq!((stored.uid, stored.gid), (creds::effective().uid, id(7)));
    }
}
