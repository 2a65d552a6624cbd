//! Creation of objects in the upper.
//!
//! If nothing stands at the name, and the new object gets the owner that we create with anyway, one
//! call makes it in place. Otherwise it is built in the work directory and moved.

use std::os::fd::AsFd;

use crate::error::{Result, best_effort};
use crate::format::acl;
use crate::format::overlay::{ACL_ACCESS, ACL_DEFAULT};
use crate::id::Id;
use crate::layer::upper::Attributes;
use crate::layer::{Over, OwnerStorage, Staged, Upper, UpperDir};
use crate::sys::xattr::{self, SetMode};
use crate::sys::{Name, OwnedWritable, Stat, Target, Writable, at, stat};

/// The mode bits that we need to mark a directory that is being made. Nobody else can reach it.
const OUR_DIR: u32 = 0o700;

/// The kind of a new object, with the data of that kind.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A device, FIFO or socket.
    Node {
        /// `S_IFCHR`, `S_IFBLK`, `S_IFIFO` or `S_IFSOCK`.
        kind: u32,
        /// The device number.
        rdev: u64,
    },
    /// A symbolic link.
    Symlink {
        /// The path that the link holds.
        target: &'a [u8],
    },
}

/// The caller who makes an object, and the permissions that the object gets.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// File system user of the caller.
    pub uid: Id,
    /// File system group of the caller.
    pub gid: Id,
    /// Permission bits before the umask.
    pub mode: u32,
    /// The caller's umask; a default ACL takes its place.
    pub umask: u32,
}

/// The state of a name that is to be made. It decides how the new object gets there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// A whiteout stands at the name and has to be replaced.
    pub over_whiteout: bool,
    /// A whiteout file `.wh.NAME` stands beside the name and has to be removed.
    pub beside_file: bool,
    /// A lower has something under the name, so that a new directory has to be opaque.
    pub in_lowers: bool,
}

impl Site {
    /// A name that no layer has.
    pub const FREE: Self = Self { over_whiteout: false, beside_file: false, in_lowers: false };
}

/// A new object.
#[derive(Debug)]
pub struct Created {
    /// Its attributes.
    pub stat: Stat,
    /// A descriptor of the object, if it is a regular file.
    pub file: Option<OwnedWritable>,
}

/// The directory of the upper that gets the object.
#[derive(Debug)]
pub struct Parent<'a> {
    /// The directory.
    pub dir: &'a UpperDir,
    /// The attributes that new objects inherit from the directory.
    pub inherit: Inherit,
}

/// The attributes that new objects inherit from their directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inherit {
    /// The group, if the directory has the setgid bit.
    pub group: Option<Id>,
    /// Whether it has a default ACL.
    pub default_acl: bool,
}

impl Inherit {
    /// The attributes that a new directory passes on; `self` are those of its parent.
    #[must_use]
    pub fn passed_on(self, made: &Stat) -> Self {
        let group = if made.mode & libc::S_ISGID != 0 { Id::new(made.gid) } else { None };
        Self { group, default_acl: self.default_acl }
    }

    /// Reads the attributes that a directory of the upper passes on.
    pub fn of(dir: &UpperDir) -> Result<Self> {
        let stat = dir.dir().stat()?;
        // Where modes are not those of inodes, an ACL means nothing.
        let acls = dir.dir().owner_storage() == OwnerStorage::Inode;
        let default_acl = acls && dir.dir().marks()?.default_acl;
        Ok(Self { group: None, default_acl }.passed_on(&stat))
    }
}

/// Makes an object.
///
/// # Errors
/// EEXIST if the name is taken after all; those of mkdirat(2), mknodat(2), symlinkat(2), openat(2),
/// renameat2(2).
pub fn create(
    upper: &Upper,
    parent: &Parent<'_>,
    name: Name<'_>,
    body: Body<'_>,
    request: &Request,
    site: Site,
) -> Result<Created> {
    let plan = Plan::new(upper, parent, body, request)?;
    let is_dir = matches!(body, Body::Dir);
    let opaque = is_dir && site.in_lowers;
    let created = if plan.in_place && !site.over_whiteout && !opaque {
        make_in_place(upper, parent.dir, name, body, &plan)?
    } else {
        let over = match (site.over_whiteout, is_dir) {
            (false, _) => Over::Nothing,
            (true, false) => Over::SameKind,
            (true, true) => Over::NoDirectory,
        };
        make_staged(upper, parent.dir, name, body, &plan, opaque, over)?
    };
    if site.beside_file {
        // A failure does no harm: the whiteout file hides only what is below the object.
        best_effort("a whiteout stays", upper.remove_whiteout_file(parent.dir, name));
    }
    Ok(created)
}

/// Makes a file without a name (open(2), `O_TMPFILE`), which inherits from `parent` as any other.
///
/// # Errors
/// EOPNOTSUPP if the upper has no such files; those of chown(2).
pub fn unnamed(upper: &Upper, parent: &Parent<'_>, request: &Request) -> Result<Created> {
    let plan = Plan::new(upper, parent, Body::File, request)?;
    let file = upper.linkable_file(plan.mode)?;
    finish(upper, file.writable().object(), Body::File, &plan)?;
    let stat = upper.owner_storage().stat(Target::Fd(file.as_fd()))?;
    Ok(Created { stat, file: Some(file) })
}

/// Owner, mode and ACLs of an object that is to be made.
struct Plan {
    uid: Id,
    gid: Id,
    mode: u32,
    access: Option<Vec<u8>>,
    default: Option<Vec<u8>>,
    /// The file system gives an object made in place the same owner, mode and ACLs.
    in_place: bool,
}

impl Plan {
    fn new(upper: &Upper, parent: &Parent<'_>, body: Body<'_>, request: &Request) -> Result<Self> {
        let gid = parent.inherit.group.unwrap_or(request.gid);
        let owner = upper.owner();
        let ours = request.uid == owner.uid && request.gid == owner.gid;
        let in_place = ours && upper.owner_storage() == OwnerStorage::Inode;
        let is_link = matches!(body, Body::Symlink { .. });
        let mut plan = Self {
            uid: request.uid,
            gid,
            mode: request.mode & 0o7777,
            access: None,
            default: None,
            in_place,
        };
        if is_link {
            return Ok(plan);
        }
        if parent.inherit.default_acl {
            plan.apply_default_acl(upper, parent.dir, body)?;
        } else {
            plan.mode &= !request.umask;
        }
        if parent.inherit.group.is_some() && matches!(body, Body::Dir) {
            plan.mode |= libc::S_ISGID;
        }
        Ok(plan)
    }

    fn attributes(&self, body: Body<'_>) -> Attributes {
        let (kind, rdev) = match body {
            Body::File => (libc::S_IFREG, 0),
            Body::Dir => (libc::S_IFDIR, 0),
            Body::Node { kind, rdev } => (kind, rdev),
            Body::Symlink { .. } => (libc::S_IFLNK, 0),
        };
        Attributes { uid: self.uid, gid: self.gid, mode: kind | self.mode, rdev }
    }

    /// Applies the default ACL of a directory, as the file system would for an object made there.
    fn apply_default_acl(&mut self, upper: &Upper, dir: &UpperDir, body: Body<'_>) -> Result<()> {
        let bytes = upper.with_dir(dir, |dir| xattr::get_if_set(dir.target(), ACL_DEFAULT))?;
        let Some(bytes) = bytes else { return Ok(()) };
        let bytes = acl::of_known_ids(&bytes)?;
        let inherited = acl::inherit(&bytes, self.mode)?;
        self.in_place = false;
        self.mode = inherited.mode;
        self.access = inherited.access;
        self.default = matches!(body, Body::Dir).then_some(bytes);
        Ok(())
    }
}

fn make_in_place(
    upper: &Upper,
    dir: &UpperDir,
    name: Name<'_>,
    body: Body<'_>,
    plan: &Plan,
) -> Result<Created> {
    let file = match body {
        Body::File => Some(upper.create(dir, name, plan.mode)?),
        Body::Dir => {
            upper.mkdir(dir, name, plan.mode)?;
            None
        }
        Body::Node { kind, rdev } => {
            upper.mknod(dir, name, kind | plan.mode, rdev)?;
            None
        }
        Body::Symlink { target } => {
            upper.symlink(dir, name, target)?;
            None
        }
    };
    let stat = match &file {
        Some(file) => stat::fstat(file.as_fd()),
        None => upper.with_entry(dir, name, |made| stat::stat(made.target())),
    };
    // Nobody has seen it yet, as the directory is locked.
    let stat = stat.inspect_err(|_| {
        let undone = match body {
            Body::Dir => upper.rmdir(dir, name),
            _ => upper.unlink(dir, name),
        };
        best_effort("what was made stays, although making it failed", undone);
    })?;
    Ok(Created { stat, file })
}

fn make_staged(
    upper: &Upper,
    dir: &UpperDir,
    name: Name<'_>,
    body: Body<'_>,
    plan: &Plan,
    opaque: bool,
    over: Over,
) -> Result<Created> {
    let (staged, file) = stage(upper, body, plan)?;
    if opaque {
        upper.set_opaque(staged.object()?)?;
    }
    finish(upper, staged.object()?, body, plan)?;
    let stat = upper.owner_storage().stat(staged.object()?.target())?;
    staged.publish(dir, name, over)?;
    Ok(Created { stat, file })
}

fn stage(upper: &Upper, body: Body<'_>, plan: &Plan) -> Result<(Staged, Option<OwnedWritable>)> {
    Ok(match body {
        Body::File => {
            let (staged, file) = upper.stage_file(plan.mode)?;
            (staged, Some(file))
        }
        Body::Dir => (upper.stage_dir(plan.mode | OUR_DIR)?, None),
        Body::Node { kind, rdev } => (upper.stage_node(kind | plan.mode, rdev)?, None),
        Body::Symlink { target } => (upper.stage_symlink(target)?, None),
    })
}

fn finish(upper: &Upper, object: Writable<'_>, body: Body<'_>, plan: &Plan) -> Result<()> {
    if upper.owner_storage() != OwnerStorage::Inode {
        return upper.set_new(object, &plan.attributes(body));
    }
    let owner = upper.owner();
    let given_away = plan.uid != owner.uid || plan.gid != owner.gid;
    if given_away {
        at::chown(object, Some(plan.uid), Some(plan.gid))?;
    }
    if matches!(body, Body::Symlink { .. }) {
        return Ok(());
    }
    set_acls(object, plan)?;
    // chown(2) and mkdir(2) clear set-id bits.
    let is_ours_so_far = matches!(body, Body::Dir) && plan.mode & OUR_DIR != OUR_DIR;
    if plan.mode & 0o6000 != 0 || plan.access.is_some() || is_ours_so_far {
        at::chmod(object, plan.mode)?;
    }
    Ok(())
}

fn set_acls(object: Writable<'_>, plan: &Plan) -> Result<()> {
    if let Some(access) = &plan.access {
        xattr::set(object, ACL_ACCESS, access, SetMode::Any)?;
    }
    if let Some(default) = &plan.default {
        xattr::set(object, ACL_DEFAULT, default, SetMode::Any)?;
    }
    Ok(())
}
