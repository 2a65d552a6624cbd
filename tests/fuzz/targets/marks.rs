//! Values of attributes and names of files that a layer may have: whatever the bytes are, they are
//! read or refused, and what is written of them is read as the same.

use std::ffi::CStr;

use ovlmerge::error::Result;
use ovlmerge::format::aufs::{self, AufsName};
use ovlmerge::format::dirmark::DirMarks;
use ovlmerge::format::idmap::{self, IdMap};
use ovlmerge::format::metacopy::FileMarks;
use ovlmerge::format::nlink::{self, Count};
use ovlmerge::format::origin::{self, Side};
use ovlmerge::format::overlay::{self, Dialect, Mark, Namespace};
use ovlmerge::format::redirect::Redirect;
use ovlmerge::format::{acl, capability, override_stat, text};
use ovlmerge::id::Id;
use ovlmerge::sys::{FileType, Name, Stat, Time};

/// What must hold of any bytes.
pub fn check(value: &[u8]) {
    redirect(value);
    handle(value);
    count(value);
    owner(value);
    map(value);
    name(value);
    attribute(value);
    binary(value);
    all_marks(value);
}

fn redirect(value: &[u8]) {
    let Ok(redirect) = Redirect::parse(value) else { return };
    let parts = match &redirect {
        Redirect::Sibling(name) => std::slice::from_ref(name),
        Redirect::Absolute(path) => path.as_slice(),
    };
    assert!(!parts.is_empty());
    for part in parts {
        assert!(Name::new(part).is_ok() && !part.contains(&b'/') && **part != *b"..");
    }
    match redirect.encode() {
        Some(written) => assert_eq!(written, value),
        None => assert!(value.len() > 256),
    }
    let path = [&b"a"[..], b"b", b"c"].map(Box::<[u8]>::from);
    for at in 0..4 {
        assert!(redirect.apply(&path, at).len() >= parts.len());
    }
}

fn handle(value: &[u8]) {
    if let Some(known) = origin::decode(value) {
        assert!(origin::is_handle(value));
        let written = origin::encode(Side::Lower, known.uuid, value[4], &value[21..]);
        assert_eq!(origin::decode(&written), Some(known));
    }
    if let Some(name) = nlink::entry_name(value) {
        assert_eq!(nlink::handle_of(&name).as_deref(), Some(value));
    }
    if let Some(handle) = nlink::handle_of(value)
        && let Some(name) = nlink::entry_name(&handle)
    {
        assert!(name.eq_ignore_ascii_case(value));
    }
    assert_eq!(origin::has_short_numbers(1, value), value.len() == 8);
}

fn count(value: &[u8]) {
    let Some(count) = Count::parse(value) else { return };
    assert_eq!(Count::parse(count.to_string().as_bytes()), Some(count));
    for link_count in [0, 1, u32::MAX] {
        assert_ne!(count.resolve(link_count, Some(link_count)), Some(0));
    }
}

fn owner(value: &[u8]) {
    for kind in [libc::S_IFREG, libc::S_IFDIR, libc::S_IFLNK, libc::S_IFCHR] {
        let real = real(kind | 0o600);
        let Some(shown) = override_stat::apply(&real, value) else { continue };
        let is_dir = |stat: &Stat| stat.kind() == FileType::Directory;
        assert_eq!(is_dir(&shown), is_dir(&real), "a directory is one, and nothing else is");
        assert!(!shown.is_whiteout_device(), "nobody can make a whiteout by it");
        assert!(shown.uid != u32::MAX && shown.gid != u32::MAX);
        assert_eq!(
            override_stat::apply(&real, &override_stat::value(&shown).unwrap()),
            Some(shown)
        );
    }
}

fn real(mode: u32) -> Stat {
    let time = Time { sec: 1, nsec: 2 };
    Stat {
        dev: 1,
        ino: 2,
        mode,
        nlink: 1,
        uid: 1000,
        gid: 1000,
        rdev: 0,
        size: 3,
        blocks: 8,
        blksize: 4096,
        atime: time,
        mtime: time,
        ctime: time,
        btime: None,
        protection: ovlmerge::sys::Protection::default(),
    }
}

fn map(value: &[u8]) {
    let Ok(ranges) = idmap::parse(value) else { return };
    let map = IdMap::new(&ranges);
    for range in &ranges {
        for id in [range.stored, range.stored + (range.len - 1)] {
            let id = Id::new(id).unwrap();
            let shown = map.shown(id).unwrap();
            assert_eq!(map.stored(shown), Some(id));
        }
    }
}

fn name(value: &[u8]) {
    match aufs::classify(value) {
        AufsName::Plain => assert!(!aufs::is_reserved(value)),
        AufsName::Whiteout(hidden) => assert_eq!(aufs::whiteout_of(hidden), value),
        AufsName::Opaque => assert_eq!(value, aufs::OPAQUE),
        AufsName::Meta => assert!(aufs::is_reserved(value)),
    }
    let line = text::printable(value);
    assert!(!line.contains(['\n', '\0', '\x1b']));
    if let Ok(name) = Name::new(value) {
        assert_eq!(name.bytes(), value);
        assert!(!value.contains(&b'/') && !value.contains(&0) && value.len() <= 255);
    }
}

/// What a user sets is what the user sees, and never a mark.
fn attribute(name: &[u8]) {
    for dialect in [Dialect::Plain, Dialect::Overridden, Dialect::Containers] {
        if let Some(stored) = overlay::stored(name, dialect) {
            assert_eq!(overlay::shown(&stored, dialect).as_deref(), Some(name));
            assert!(keys().all(|key| key.to_bytes() != &*stored));
        }
        if let Some(shown) = overlay::shown(name, dialect) {
            assert!(keys().all(|key| key.to_bytes() != name), "{shown:?}");
        }
    }
}

fn binary(value: &[u8]) {
    // The last four bytes of a capability may be no id: nobody can have it then.
    match capability::with_root(value.to_vec(), Some) {
        Some(same) => assert_eq!(same, value),
        None => assert!(value.ends_with(&u32::MAX.to_le_bytes())),
    }
    capability::with_root(value.to_vec(), |_| None);
    match acl::len(value) {
        Ok(len) => {
            // Entries go whose id has no number here, and no others.
            let known = acl::of_known_ids(value).unwrap();
            let lacking = value[4..].chunks_exact(8).filter(|entry| lacks_id(entry)).count();
            assert_eq!(acl::len(&known).unwrap(), len - lacking);
            assert!(lacking > 0 || known == value);
            assert_eq!(acl::of_known_ids(&known).unwrap(), known);
            assert!(acl::len(&acl::with_ids(value, |_| None, |_| None).unwrap()).unwrap() <= len);
            let inherited = acl::inherit(value, 0o7777).unwrap();
            assert_eq!(inherited.mode & !0o7777, 0);
            if let Some(access) = inherited.access {
                assert_eq!(acl::len(&access).unwrap(), len);
            }
        }
        Err(_) => assert!(acl::inherit(value, 0o644).is_err()),
    }
}

/// Whether an entry of an ACL is for a user or group (the tags 2 and 8) without a number.
fn lacks_id(entry: &[u8]) -> bool {
    matches!(entry[..2], [2 | 8, 0]) && entry.ends_with(&u32::MAX.to_le_bytes())
}

fn keys() -> impl Iterator<Item = &'static CStr> {
    let marks = [
        Mark::Opaque,
        Mark::DirmetaDelegate,
        Mark::Impure,
        Mark::Whiteout,
        Mark::Redirect,
        Mark::Metacopy,
        Mark::Origin,
        Mark::Nlink,
        Mark::Upper,
    ];
    Namespace::BOTH.into_iter().flat_map(move |ns| marks.map(|mark| ns.key(mark)))
}

/// The value under each mark alone, and under all of them.
fn all_marks(value: &[u8]) {
    let fetch = |_: &CStr| -> Result<Vec<u8>> { Ok(value.to_vec()) };
    for key in keys() {
        let name = || std::iter::once(key.to_bytes());
        if let Ok(marks) = DirMarks::read(name(), fetch) {
            assert!(!(marks.opaque && marks.xattr_whiteouts));
        }
        if let Ok(marks) = FileMarks::read(name(), fetch) {
            assert!(!marks.no_attributes);
            assert!(marks.origin.is_none() || marks.handle == value);
        }
    }
    DirMarks::read(keys().map(CStr::to_bytes), fetch).ok();
    FileMarks::read(keys().map(CStr::to_bytes), fetch).ok();
}
