//! Layers as data: what a test puts on the disk, and what the model merges.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// The alphabet of names. Small, so that layers and operations meet; one is not text.
pub const NAMES: [&[u8]; 3] = [b"a", b"b", b"c\xff"];

/// Whose metadata, by index.
pub const OWNERS: [(u32, u32); 3] = [(0, 0), (1000, 1000), (0, 50)];
/// Permission bits of what is not a directory, by index.
pub const FILE_MODES: [u32; 4] = [0o644, 0o600, 0o4755, 0o2775];
/// Permission bits of directories, by index.
pub const DIR_MODES: [u32; 4] = [0o755, 0o700, 0o1777, 0o2775];
/// Attributes that layers carry, by index; the last two are those of an inner overlay as they are
/// stored, and as users see them.
pub const XATTRS: [(&str, &str); 4] = [
    ("user.one", "user.one"),
    ("trusted.two", "trusted.two"),
    ("user.overlay.overlay.opaque", "user.overlay.opaque"),
    ("trusted.overlay.overlay.x", "trusted.overlay.x"),
];

#[derive(Clone, Debug)]
pub struct Meta {
    pub mode: u8,
    pub owner: u8,
    /// Seconds after 1000, so that it is told from the present.
    pub mtime: u16,
    pub xattr: Option<(u8, u8)>,
}

impl Meta {
    pub const PLAIN: Self = Self { mode: 0, owner: 0, mtime: 0, xattr: None };
}

/// How a directory of a layer is marked opaque.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opaque {
    Trusted,
    User,
    FuseOverlayfs,
    Aufs,
}

/// One entry of a directory of a layer.
#[derive(Clone, Debug)]
pub enum Item {
    File(u8, Meta),
    /// One more name of the file that was made in this layer so many files before.
    Link(u8),
    Dir(Dir),
    Symlink(u8, Meta),
    Fifo(Meta),
    Whiteout,
}

#[derive(Clone, Debug)]
pub struct Dir {
    pub meta: Meta,
    pub opaque: Option<Opaque>,
    /// Marked `dirmeta_delegate` in the trusted namespace (true) or in that of users.
    pub delegate: Option<bool>,
    /// By index of the name; of two with one name the first counts.
    pub entries: Vec<(u8, Item)>,
    /// Names that a file `.wh.NAME` hides.
    pub hidden: Vec<u8>,
}

impl Dir {
    /// A directory that is nothing special.
    pub fn plain(entries: Vec<(u8, Item)>) -> Self {
        Self { meta: Meta::PLAIN, opaque: None, delegate: None, entries, hidden: Vec::new() }
    }

    /// The entries that count.
    pub fn entries(&self) -> impl Iterator<Item = (u8, &Item)> {
        let first = |position: &usize| {
            let (name, _) = &self.entries[*position];
            !self.entries[..*position].iter().any(|(other, _)| other == name)
        };
        (0..self.entries.len()).filter(first).map(|position| {
            let (name, item) = &self.entries[position];
            (*name, item)
        })
    }

    pub fn get(&self, name: u8) -> Option<&Item> {
        self.entries.iter().find(|(known, _)| *known == name).map(|(_, item)| item)
    }
}

/// Everything that a case begins with.
#[derive(Clone, Debug)]
pub struct Layers {
    /// The upper, if it is not a new one.
    pub upper: Option<Dir>,
    /// Topmost first.
    pub lowers: Vec<Dir>,
}

fn meta() -> impl Strategy<Value = Meta> {
    (0..4u8, 0..3u8, 0..1000u16, option::weighted(0.3, (0..4u8, 0..3u8)))
        .prop_map(|(mode, owner, mtime, xattr)| Meta { mode, owner, mtime, xattr })
}

fn item(depth: u32, links: bool) -> BoxedStrategy<Item> {
    let leaf = prop_oneof![
        4 => (any::<u8>(), meta()).prop_map(|(content, meta)| Item::File(content, meta)),
        2 => Just(Item::Whiteout),
        1 => (any::<u8>(), meta()).prop_map(|(target, meta)| Item::Symlink(target, meta)),
        1 => meta().prop_map(Item::Fifo),
        if links { 3 } else { 0 } => (0..3u8).prop_map(Item::Link),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    prop_oneof![
        1 => leaf,
        1 => dir(depth - 1, links).prop_map(Item::Dir),
    ]
    .boxed()
}

fn dir(depth: u32, links: bool) -> impl Strategy<Value = Dir> {
    let opaque = prop_oneof![
        Just(Opaque::Trusted),
        Just(Opaque::User),
        Just(Opaque::FuseOverlayfs),
        Just(Opaque::Aufs),
    ];
    (
        meta(),
        option::weighted(0.15, opaque),
        option::weighted(0.2, any::<bool>()),
        vec((0..3u8, item(depth, links)), 0..4),
        prop_oneof![3 => Just(Vec::new()), 1 => vec(0..3u8, 1..3)],
    )
        .prop_map(|(meta, opaque, delegate, entries, hidden)| Dir {
            meta,
            opaque,
            delegate,
            entries,
            hidden,
        })
}

/// One to three lowers, sometimes an upper that something else has written before.
pub fn layers(links: bool) -> impl Strategy<Value = Layers> {
    (option::weighted(0.3, dir(2, links)), vec(dir(2, links), 1..4))
        .prop_map(|(upper, lowers)| Layers { upper, lowers })
}
