//! Owners as they are on the layers, and as users of the mount see them.
//!
//! There are two kinds of ids, *stored* and *shown*, and this is the one place where one becomes
//! the other. All of the engine works with stored ids; [`crate::vfs`] shows what it gives out and
//! stores what it is given. What is copied up keeps its stored ids.

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

/// How owners appear.
#[derive(Debug)]
pub enum Owners {
    /// As they are on the layers.
    Plain,
    /// Otherwise.
    Changed(Box<Views>),
}

/// Users and groups have views of their own.
#[derive(Debug)]
pub struct Views {
    uid: View,
    gid: View,
    /// Who we are: where owners are not told apart, new objects are ours.
    ours: Owner,
}

#[derive(Debug)]
enum View {
    Same,
    Map(IdMap),
    /// All are this one.
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

    /// The id in the mount of a number that a file system says.
    fn shown_number(&self, number: u32) -> u32 {
        Id::or_none(Id::new(number).and_then(|id| self.shown(id)))
    }

    /// Ids in an ACL, where they tell people apart whose files look the same; also the root that
    /// file capabilities are for.
    fn shown_in_acl(&self, id: Id) -> Option<Id> {
        match self {
            Self::Map(map) => map.shown(id),
            Self::Same | Self::All(_) => Some(id),
        }
    }

    /// The opposite of [`Self::shown_in_acl`].
    fn stored_in_acl(&self, id: Id) -> Option<Id> {
        match self {
            Self::Map(map) => map.stored(id),
            Self::Same | Self::All(_) => Some(id),
        }
    }

    /// Whose an object is that somebody makes. Root, where the map lacks it, acts as root of the
    /// layers: a runtime prepares the tree of a container as itself.
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

    /// # Errors
    /// EOVERFLOW for an id that the map lacks (`fsuidgid_has_mapping`, linux/fs.h, and
    /// notify_change in fs/attr.c say so of an id-mapped mount).
    fn stored(&self, id: Id, ours: Id) -> Result<Id> {
        match self {
            Self::Same => Ok(id),
            Self::Map(map) => map.stored(id).ok_or_else(|| {
                Error::new(Errno::EOVERFLOW, format!("no id of the layers is mapped to {id}"))
            }),
            Self::All(_) => Ok(ours),
        }
    }

    /// An id that an object is to be given; none where it would not be seen.
    fn given(&self, id: Option<Id>) -> Result<Option<Id>> {
        match (self, id) {
            (Self::All(_), _) | (_, None) => Ok(None),
            (_, Some(id)) => self.stored(id, id).map(Some),
        }
    }
}

impl Owners {
    /// What the options ask for.
    #[must_use]
    pub fn new(owners: &config::Owners) -> Self {
        if *owners == config::Owners::default() {
            return Self::Plain;
        }
        let (uid, gid) = (View::new(&owners.uids), View::new(&owners.gids));
        Self::Changed(Box::new(Views { uid, gid, ours: creds::effective() }))
    }

    /// Attributes as users see them. An owner that the map lacks becomes the number that is
    /// nobody's, which the kernel shows as the overflow id; nobody may change such an object.
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

    /// Whether users, and groups, can be told apart.
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

    /// A request by somebody of the mount, as it concerns the layers.
    ///
    /// # Errors
    /// EOVERFLOW if the caller has no id on the layers.
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

    /// A change as it concerns the layers. Where all owners look the same, changing one changes
    /// nothing.
    ///
    /// # Errors
    /// EOVERFLOW for an owner that has no id on the layers.
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

    /// An attribute as users see it: ids in ACLs and in file capabilities are shown ones.
    ///
    /// # Errors
    /// EIO for an ACL that is none; EOVERFLOW for capabilities of a user whom the map lacks
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

    /// An attribute as it goes to the layers.
    ///
    /// # Errors
    /// EINVAL for an ACL with an id that the map lacks; EOVERFLOW for capabilities of a user whom
    /// it lacks.
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

    /// An ACL as it goes to the layers. Where all owners look the same, its ids stay as they are.
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
