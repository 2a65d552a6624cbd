//! The reference: a tree of objects, and how layers merge into one. Written from the semantics, not
//! from the engine: no index, no laziness, no markers.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ovlmerge::sys::FileType;

use crate::disk::{content_of, holds, link_target, target_of, upper_of};
use crate::spec::{DIR_MODES, Dir, FILE_MODES, Item, Layers, Meta, NAMES, OWNERS, XATTRS};

pub type Id = usize;
pub const ROOT: Id = 0;

/// What is known of a modification time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mtime {
    /// It was set, or came with a layer.
    Set(i64),
    /// Some moment of this test.
    Now,
}

#[derive(Clone, Debug)]
pub enum Body {
    File(Vec<u8>),
    Dir(BTreeMap<Vec<u8>, Id>),
    Symlink(Vec<u8>),
    /// A device, FIFO or socket: type, device number.
    Node(FileType, u64),
}

#[derive(Clone, Debug)]
pub struct Object {
    pub body: Body,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Mtime,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Of a directory: a lower shows through, so that renaming it takes more than a rename. Of
    /// anything else: it came with a layer, so that its link count is the layer's.
    pub from_layer: bool,
}

impl Object {
    pub fn kind(&self) -> FileType {
        match &self.body {
            Body::File(_) => FileType::Regular,
            Body::Dir(_) => FileType::Directory,
            Body::Symlink(_) => FileType::Symlink,
            Body::Node(kind, _) => *kind,
        }
    }

    pub fn is_dir(&self) -> bool {
        matches!(self.body, Body::Dir(_))
    }

    /// Whether attributes of users may be set (xattr(7)).
    pub fn takes_user_xattrs(&self) -> bool {
        matches!(self.body, Body::Dir(_) | Body::File(_))
    }

    pub fn touch(&mut self) {
        self.mtime = Mtime::Now;
    }
}

/// A merged tree. Objects stay here when their last name goes, but nothing refers to them.
#[derive(Clone, Debug)]
pub struct Tree {
    pub objects: Vec<Object>,
}

impl Tree {
    pub fn merge(layers: &Layers) -> Self {
        let upper = upper_of(layers);
        let all: Vec<&Dir> = std::iter::once(&upper).chain(&layers.lowers).collect();
        let files = all.iter().map(|dir| Files::of(dir)).collect();
        let mut merging = Merging { objects: Vec::new(), files, ids: HashMap::new() };
        merging.dir(cut_at_opaque(all.into_iter().enumerate().collect()));
        Self { objects: merging.objects }
    }

    pub fn entries(&self, dir: Id) -> Option<&BTreeMap<Vec<u8>, Id>> {
        match &self.objects[dir].body {
            Body::Dir(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn entries_mut(&mut self, dir: Id) -> &mut BTreeMap<Vec<u8>, Id> {
        match &mut self.objects[dir].body {
            Body::Dir(entries) => entries,
            other => panic!("{other:?} is not a directory"),
        }
    }

    pub fn child(&self, dir: Id, name: &[u8]) -> Option<Id> {
        self.entries(dir)?.get(name).copied()
    }

    /// Every path with its object, parents first.
    pub fn paths(&self) -> Vec<(Vec<u8>, Id)> {
        let mut all = vec![(Vec::new(), ROOT)];
        let mut next = 0;
        while let Some((path, id)) = all.get(next).cloned() {
            for (name, child) in self.entries(id).into_iter().flatten() {
                let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
                all.push(([&path, separator, name].concat(), *child));
            }
            next += 1;
        }
        all
    }

    pub fn is_within(&self, id: Id, above: Id) -> bool {
        id == above
            || self
                .entries(above)
                .into_iter()
                .flatten()
                .any(|(_, child)| self.objects[*child].is_dir() && self.is_within(id, *child))
    }
}

/// The directories down to the first opaque one.
fn cut_at_opaque(stack: Vec<(usize, &Dir)>) -> Vec<(usize, &Dir)> {
    let opaque = stack.iter().position(|(_, dir)| dir.opaque.is_some());
    let count = opaque.map_or(stack.len(), |position| position + 1);
    stack.into_iter().take(count).collect()
}

/// Which names of a layer are one file: links by address of the item.
struct Files<'a> {
    metas: Vec<(u8, Meta)>,
    by_item: HashMap<*const Item, usize>,
    layer: std::marker::PhantomData<&'a Dir>,
}

impl<'a> Files<'a> {
    fn of(dir: &'a Dir) -> Self {
        let mut files =
            Self { metas: Vec::new(), by_item: HashMap::new(), layer: std::marker::PhantomData };
        files.add(dir);
        files
    }

    fn add(&mut self, dir: &'a Dir) {
        for (_, item) in dir.entries() {
            let number = match item {
                Item::Dir(dir) => {
                    self.add(dir);
                    continue;
                }
                Item::File(content, meta) => self.new_file(*content, meta.clone()),
                Item::Link(back) => match link_target(*back, self.metas.len()) {
                    Some(number) => number,
                    None => self.new_file(*back, Meta::PLAIN),
                },
                _ => continue,
            };
            self.by_item.insert(item, number);
        }
    }

    fn new_file(&mut self, content: u8, meta: Meta) -> usize {
        self.metas.push((content, meta));
        self.metas.len() - 1
    }
}

struct Merging<'a> {
    objects: Vec<Object>,
    files: Vec<Files<'a>>,
    ids: HashMap<(usize, usize), Id>,
}

impl<'a> Merging<'a> {
    fn new_object(&mut self, body: Body, meta: &Meta, from_layer: bool) -> Id {
        let (uid, gid) = OWNERS[usize::from(meta.owner)];
        let mode = match &body {
            Body::Dir(_) => DIR_MODES[usize::from(meta.mode)],
            Body::Symlink(_) => 0o777,
            _ => FILE_MODES[usize::from(meta.mode)],
        };
        let user = matches!(body, Body::Dir(_) | Body::File(_));
        let mut xattrs = BTreeMap::new();
        if let Some((name, value)) = meta.xattr {
            let (stored, seen) = XATTRS[usize::from(name)];
            if holds(user, stored) {
                xattrs.insert(seen.as_bytes().to_vec(), vec![b'0' + value]);
            }
        }
        let mtime = Mtime::Set(1000 + i64::from(meta.mtime));
        self.objects.push(Object { body, mode, uid, gid, mtime, xattrs, from_layer });
        self.objects.len() - 1
    }

    /// Merges the directories of one name, already cut at the first opaque one.
    fn dir(&mut self, stack: Vec<(usize, &'a Dir)>) -> Id {
        let lending = stack.iter().find(|(_, dir)| dir.delegate.is_none()).unwrap_or(&stack[0]).1;
        let merged = stack.iter().any(|(layer, _)| *layer > 0);
        let id = self.new_object(Body::Dir(BTreeMap::new()), &lending.meta, merged);
        let names: BTreeSet<u8> =
            stack.iter().flat_map(|(_, dir)| dir.entries().map(|(name, _)| name)).collect();
        for name in names {
            if let Some(child) = self.name(&stack, name) {
                let name = NAMES[usize::from(name)].to_vec();
                if let Body::Dir(entries) = &mut self.objects[id].body {
                    entries.insert(name, child);
                }
            }
        }
        id
    }

    fn name(&mut self, stack: &[(usize, &'a Dir)], name: u8) -> Option<Id> {
        let mut dirs = Vec::new();
        for (layer, dir) in stack {
            match dir.get(name) {
                None => {}
                Some(Item::Dir(inner)) => dirs.push((*layer, inner)),
                Some(Item::Whiteout) => break,
                Some(item) if dirs.is_empty() => return Some(self.leaf(*layer, item)),
                Some(_) => break,
            }
            // Hides what is below, not what is beside it.
            if dir.hidden.contains(&name) {
                break;
            }
        }
        (!dirs.is_empty()).then(|| self.dir(cut_at_opaque(dirs)))
    }

    fn leaf(&mut self, layer: usize, item: &Item) -> Id {
        match item {
            Item::Symlink(target, meta) => {
                self.new_object(Body::Symlink(target_of(*target)), meta, true)
            }
            Item::Fifo(meta) => self.new_object(Body::Node(FileType::Fifo, 0), meta, true),
            _ => {
                let number = self.files[layer].by_item[&std::ptr::from_ref(item)];
                if let Some(known) = self.ids.get(&(layer, number)) {
                    return *known;
                }
                let (content, meta) = self.files[layer].metas[number].clone();
                let id = self.new_object(Body::File(content_of(content)), &meta, true);
                self.ids.insert((layer, number), id);
                id
            }
        }
    }
}
