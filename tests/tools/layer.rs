//! A layer as text: one line for each entry, in their order.
//!
//! `TYPE MODE UID:GID PATH`, then what the type has: ` -> TARGET`, ` = CONTENT`, ` MAJOR,MINOR`,
//! then attributes as ` {NAME=VALUE}`. Times are left out; [`Layer::mtime`] tells them.

use std::io::Read;

use tar::EntryType;

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    pub path: Vec<u8>,
    pub line: String,
    pub mtime: String,
    pub content: Vec<u8>,
}

/// An archive that was read.
#[derive(Clone, Debug)]
pub struct Layer(pub Vec<Entry>);

impl Layer {
    pub fn read(archive: &[u8]) -> Self {
        let mut archive = tar::Archive::new(archive);
        Self(archive.entries().unwrap().map(|entry| Entry::read(&mut entry.unwrap())).collect())
    }

    pub fn lines(&self) -> Vec<&str> {
        self.0.iter().map(|entry| entry.line.as_str()).collect()
    }

    pub fn paths(&self) -> Vec<String> {
        self.0.iter().map(|entry| entry.path.escape_ascii().to_string()).collect()
    }

    #[track_caller]
    pub fn entry(&self, path: impl AsRef<[u8]>) -> &Entry {
        let path = path.as_ref();
        let found = self.0.iter().find(|entry| entry.path == path);
        found.unwrap_or_else(|| panic!("no {} in {:#?}", path.escape_ascii(), self.lines()))
    }

    pub fn mtime(&self, path: &str) -> &str {
        &self.entry(path).mtime
    }
}

impl Entry {
    fn read(entry: &mut tar::Entry<'_, &[u8]>) -> Self {
        let path = entry.path_bytes().into_owned();
        let mut ids = [entry.header().uid().unwrap(), entry.header().gid().unwrap()];
        let mut mtime = entry.header().mtime().unwrap().to_string();
        let mut attributes = String::new();
        for record in entry.pax_extensions().unwrap().into_iter().flatten() {
            let record = record.unwrap();
            let value = record.value_bytes();
            match record.key().unwrap() {
                "uid" => ids[0] = record.value().unwrap().parse().unwrap(),
                "gid" => ids[1] = record.value().unwrap().parse().unwrap(),
                "mtime" => mtime = record.value().unwrap().to_owned(),
                "path" | "linkpath" | "size" | "hdrcharset" => {}
                key => {
                    let key = key.strip_prefix("SCHILY.xattr.").unwrap();
                    attributes += &format!(" {{{key}={}}}", value.escape_ascii());
                }
            }
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header();
        let link = || entry.link_name_bytes().unwrap().escape_ascii().to_string();
        let numbers = || (header.device_major().unwrap(), header.device_minor().unwrap());
        let (letter, tail) = match header.entry_type() {
            EntryType::Regular if content.is_empty() => ('f', String::new()),
            EntryType::Regular => ('f', format!(" = {}", content.escape_ascii())),
            EntryType::Directory => ('d', String::new()),
            EntryType::Symlink => ('l', format!(" -> {}", link())),
            EntryType::Link => ('h', format!(" -> {}", link())),
            EntryType::Char => ('c', format!(" {},{}", numbers().0.unwrap(), numbers().1.unwrap())),
            EntryType::Block => {
                ('b', format!(" {},{}", numbers().0.unwrap(), numbers().1.unwrap()))
            }
            EntryType::Fifo => ('p', String::new()),
            other => panic!("an entry of type {other:?}"),
        };
        // Some write the type there as well.
        let (mode, [uid, gid]) = (header.mode().unwrap() & 0o7777, ids);
        let shown = path.escape_ascii();
        let line = format!("{letter} {mode:04o} {uid}:{gid} {shown}{tail}{attributes}");
        Self { path, line, mtime, content }
    }
}
