//! The operations that are cut off, each on layers made for it.

use ovlmerge::error::Result;
use ovlmerge::id::Id;
use ovlmerge::sys::at::SetTime;
use ovlmerge::sys::stat::Time;
use ovlmerge::sys::xattr::SetMode;
use ovlmerge::vfs::{Body, Change, NodeId, Privilege, RenameMode, Request, Write};

use crate::client::Client;
use crate::dirs::Dirs;

/// One operation.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub prepare: fn(&Dirs),
    pub act: fn(&Client) -> Result<()>,
}

const ROOT: NodeId = NodeId::ROOT;
const REQUEST: Request = Request { uid: Id::ROOT, gid: Id::ROOT, mode: 0o755, umask: 0o022 };
/// Not the owner that files are made with, so that more than one call is needed.
const GIVEN_AWAY: Request =
    Request { uid: Id::new(1000).unwrap(), gid: Id::new(1000).unwrap(), ..REQUEST };

fn file_in_lower(dirs: &Dirs) {
    dirs.file("lower/d/f", "old content").set("lower/d/f", "user.x", "1");
}

fn owners_in_attributes(dirs: &Dirs) {
    dirs.set("upper", "user.containers.override_stat", "0:0:0755:dir");
}

fn hard_link(dirs: &Dirs) {
    file_in_lower(dirs);
    dirs.dir("lower/e").link("lower/d/f", "lower/e/g");
}

/// A hard link of which one name was copied up by a mount before.
fn indexed(dirs: &Dirs) {
    hard_link(dirs);
    change(&dirs.opener()().unwrap(), b"d/f", MODE).unwrap();
}

fn whiteout_over_file(dirs: &Dirs) {
    file_in_lower(dirs);
    dirs.dir("upper/d").whiteout("upper/d/f");
}

fn whiteout_over_dir(dirs: &Dirs) {
    dirs.file("lower/d/sub/hidden", "").dir("upper/d").whiteout("upper/d/sub");
}

fn both(dirs: &Dirs) {
    file_in_lower(dirs);
    dirs.file("upper/d/f", "upper content");
}

fn create(client: &Client, path: &[u8], name: &[u8], body: Body<'_>, r: &Request) -> Result<()> {
    let dir = client.walk(path)?;
    client.vfs.create(dir, name, body, r).map(|entry| {
        client.note(entry);
    })
}

fn rename(
    client: &Client,
    from: (&[u8], &[u8]),
    to: (&[u8], &[u8]),
    mode: RenameMode,
) -> Result<()> {
    let (dir, to_dir) = (client.walk(from.0)?, client.walk(to.0)?);
    // A kernel knows the names that it renames.
    client.lookup(dir, from.1)?;
    client.lookup(to_dir, to.1).ok();
    client.vfs.rename(dir, from.1, to_dir, to.1, mode)
}

fn change(client: &Client, path: &[u8], change: Change) -> Result<()> {
    client.vfs.setattr(client.walk(path)?, &change, Privilege::KeepsSetId).map(drop)
}

fn delegated(dirs: &Dirs) {
    dirs.dir("lower/d").mode("lower/d", 0o1777).owner("lower/d", 7, 8);
    dirs.set("lower/d", "user.x", "1").dir("upper/d").mode("upper/d", 0o700);
    dirs.set("upper/d", "trusted.overlay.dirmeta_delegate", "y");
}

fn empty_merged(dirs: &Dirs) {
    dirs.file("lower/d/sub/f", "").dir("upper/d/sub").whiteout("upper/d/sub/f");
}

/// A directory of a lower with something of most kinds, changed in the upper.
fn tree_in_lower(dirs: &Dirs) {
    file_in_lower(dirs);
    dirs.file("lower/d/sub/g", "in sub").link("lower/d/f", "lower/d/sub/same");
    dirs.symlink("lower/d/l", "t").file("lower/d/sub/gone", "").file("upper/d/sub/own", "own");
    dirs.whiteout("upper/d/sub/gone").mode("upper/d/sub", 0o2750);
}

/// The same with a directory in it that merges from elsewhere.
fn redirected_tree(dirs: &Dirs) {
    tree_in_lower(dirs);
    dirs.file("lower/old/deep/h", "from elsewhere").whiteout("upper/old");
    dirs.dir("upper/d/in").set("upper/d/in", "trusted.overlay.redirect", "/old");
    dirs.set("upper/d", "trusted.overlay.impure", "y");
}

/// Two directories that change places.
fn two_trees(dirs: &Dirs) {
    tree_in_lower(dirs);
    dirs.file("lower/e/in/x", "of e");
}

const MODE: Change = Change { mode: Some(0o711), ..Change::NONE };

/// A change that has to copy up, and of which nothing is compared.
const READ_NOW: Change = Change { atime: SetTime::Now, ..Change::NONE };

/// A file that follows others, so that more are copied with it.
pub const AHEAD: Case = Case {
    name: "change of one file after others",
    prepare: |dirs| {
        for name in ["a", "b", "c", "d", "e", "f"] {
            dirs.file(&format!("lower/d/{name}"), name).file(&format!("lower/d/sub/{name}"), name);
        }
    },
    act: |c| {
        for name in [b"d/a", b"d/b", b"d/c"] {
            change(c, name, READ_NOW)?;
        }
        change(c, b"d/sub/f", MODE)
    },
};

pub const CASES: &[Case] = &[
    AHEAD,
    Case {
        name: "create a file",
        prepare: |dirs| {
            dirs.dir("lower/d");
        },
        act: |c| create(c, b"d", b"new", Body::File, &REQUEST),
    },
    Case {
        name: "create a file for another user",
        prepare: |dirs| {
            dirs.dir("lower/d");
        },
        act: |c| create(c, b"d", b"new", Body::File, &GIVEN_AWAY),
    },
    Case {
        name: "create a file with its owner in an attribute",
        prepare: |dirs| {
            owners_in_attributes(dirs.dir("lower/d"));
        },
        act: |c| create(c, b"d", b"new", Body::File, &GIVEN_AWAY),
    },
    Case {
        name: "make a device with its type in an attribute",
        prepare: |dirs| {
            owners_in_attributes(dirs.dir("lower/d"));
        },
        act: |c| {
            let body = Body::Node { kind: libc::S_IFCHR, rdev: libc::makedev(1, 3) };
            create(c, b"d", b"null", body, &GIVEN_AWAY)
        },
    },
    Case {
        name: "chmod of a lower file into an attribute",
        prepare: |dirs| {
            file_in_lower(dirs);
            owners_in_attributes(dirs.owner("lower/d/f", 5, 6));
        },
        act: |c| change(c, b"d/f", MODE),
    },
    Case {
        name: "create over a whiteout",
        prepare: whiteout_over_file,
        act: |c| create(c, b"d", b"f", Body::File, &REQUEST),
    },
    Case {
        name: "symlink over a whiteout",
        prepare: whiteout_over_file,
        act: |c| create(c, b"d", b"f", Body::Symlink { target: b"t" }, &GIVEN_AWAY),
    },
    Case {
        name: "create beside a whiteout by name",
        prepare: |dirs| {
            file_in_lower(dirs);
            dirs.file("upper/d/.wh.f", "");
        },
        act: |c| create(c, b"d", b"f", Body::File, &REQUEST),
    },
    Case {
        name: "mkdir over a whiteout",
        prepare: whiteout_over_dir,
        act: |c| create(c, b"d", b"sub", Body::Dir, &GIVEN_AWAY),
    },
    Case {
        name: "mkdir beside a whiteout by name",
        prepare: |dirs| {
            dirs.file("lower/d/sub/hidden", "").file("upper/d/.wh.sub", "");
        },
        act: |c| create(c, b"d", b"sub", Body::Dir, &REQUEST),
    },
    Case {
        name: "mknod in a lower directory",
        prepare: |dirs| {
            dirs.dir("lower/d/deep");
        },
        act: |c| create(c, b"d/deep", b"p", Body::Node { kind: libc::S_IFIFO, rdev: 0 }, &REQUEST),
    },
    Case {
        name: "chmod of a lower file",
        prepare: file_in_lower,
        act: |c| change(c, b"d/f", MODE),
    },
    Case {
        name: "set times of a lower file",
        prepare: file_in_lower,
        act: |c| {
            let mtime = SetTime::At(Time { sec: 5, nsec: 6 });
            change(c, b"d/f", Change { mtime, ..Change::NONE })
        },
    },
    Case {
        name: "chown of a lower directory",
        prepare: file_in_lower,
        act: |c| change(c, b"d", Change { uid: Id::new(3), ..Change::NONE }),
    },
    Case {
        name: "chmod of a lower file that leaves the data below",
        prepare: |dirs| {
            file_in_lower(dirs.metacopy());
        },
        act: |c| change(c, b"d/f", MODE),
    },
    Case {
        name: "write to a file that has its data below",
        prepare: |dirs| {
            dirs.file("lower/d/stub", "old content");
            let stub = std::fs::File::create(dirs.dir("upper/d").path("upper/d/stub")).unwrap();
            stub.set_len(11).unwrap();
            dirs.set("upper/d/stub", "trusted.overlay.metacopy", "");
        },
        act: |c| {
            let write =
                Write { offset: 0, data: b"NEW", privilege: Privilege::KeepsSetId, whole: false };
            c.vfs.write(c.walk(b"d/stub")?, &write).map(drop)
        },
    },
    Case {
        name: "truncate a lower file",
        prepare: file_in_lower,
        act: |c| change(c, b"d/f", Change { size: Some(3), ..Change::NONE }),
    },
    Case {
        name: "truncate a lower file to nothing",
        prepare: file_in_lower,
        act: |c| change(c, b"d/f", Change { size: Some(0), ..Change::NONE }),
    },
    Case {
        name: "truncate a lower file to more than it has",
        prepare: file_in_lower,
        act: |c| change(c, b"d/f", Change { size: Some(9000), ..Change::NONE }),
    },
    Case {
        name: "mode, owner and times of a lower file",
        prepare: file_in_lower,
        act: |c| {
            let mtime = SetTime::At(Time { sec: 5, nsec: 6 });
            change(c, b"d/f", Change { uid: Id::new(3), mtime, ..MODE })
        },
    },
    Case {
        name: "write to a lower file",
        prepare: file_in_lower,
        act: |c| {
            let write =
                Write { offset: 0, data: b"NEW", privilege: Privilege::KeepsSetId, whole: false };
            c.vfs.write(c.walk(b"d/f")?, &write).map(drop)
        },
    },
    Case {
        name: "setxattr of a lower file",
        prepare: file_in_lower,
        act: |c| c.vfs.setxattr(c.walk(b"d/f")?, b"user.y", b"2", SetMode::Any),
    },
    Case {
        name: "removexattr of a lower symbolic link",
        prepare: |dirs| {
            dirs.dir("lower/d").symlink("lower/d/l", "t").set("lower/d/l", "trusted.x", "1");
        },
        act: |c| c.vfs.removexattr(c.walk(b"d/l")?, b"trusted.x"),
    },
    Case {
        name: "chown of a lower hard link",
        prepare: |dirs| {
            file_in_lower(dirs);
            dirs.dir("lower/e").link("lower/d/f", "lower/e/g");
        },
        act: |c| {
            c.walk(b"e/g")?;
            change(c, b"d/f", Change { gid: Id::new(3), ..Change::NONE })
        },
    },
    Case {
        name: "chown of a lower hard link whose other name nobody has looked up",
        prepare: hard_link,
        act: |c| change(c, b"d/f", Change { gid: Id::new(3), ..Change::NONE }),
    },
    Case {
        name: "chown of a lower hard link that is in the index",
        prepare: indexed,
        act: |c| change(c, b"e/g", Change { gid: Id::new(3), ..Change::NONE }),
    },
    Case {
        name: "unlink of a lower name of a file in the index",
        prepare: indexed,
        act: |c| c.vfs.unlink(c.walk(b"e")?, b"g"),
    },
    Case {
        name: "unlink of an upper name of a file in the index",
        prepare: indexed,
        act: |c| c.vfs.unlink(c.walk(b"d")?, b"f"),
    },
    Case {
        name: "rename over a lower name of a file in the index",
        prepare: |dirs| {
            indexed(dirs);
            dirs.file("upper/new", "new");
        },
        act: |c| rename(c, (b"", b"new"), (b"e", b"g"), RenameMode::Replace),
    },
    Case {
        name: "rename of a lower name of a file in the index",
        prepare: indexed,
        act: |c| rename(c, (b"e", b"g"), (b"", b"h"), RenameMode::Replace),
    },
    Case {
        name: "link of a lower name of a file in the index",
        prepare: indexed,
        act: |c| {
            c.vfs.link(c.walk(b"e/g")?, ROOT, b"h").map(|entry| {
                c.note(entry);
            })
        },
    },
    Case {
        name: "setattr of a delegated upper directory",
        prepare: delegated,
        act: |c| change(c, b"d", MODE),
    },
    Case {
        name: "setxattr of a delegated upper directory",
        prepare: delegated,
        act: |c| c.vfs.setxattr(c.walk(b"d")?, b"user.y", b"2", SetMode::Any),
    },
    Case {
        name: "unlink of a lower file",
        prepare: file_in_lower,
        act: |c| c.vfs.unlink(c.walk(b"d")?, b"f"),
    },
    Case {
        name: "unlink of an upper file over a lower one",
        prepare: both,
        act: |c| c.vfs.unlink(c.walk(b"d")?, b"f"),
    },
    Case {
        name: "rmdir of a merged directory",
        prepare: empty_merged,
        act: |c| c.vfs.rmdir(c.walk(b"d")?, b"sub"),
    },
    Case {
        name: "rmdir of an upper directory that holds whiteouts",
        prepare: |dirs| {
            dirs.dir("lower/d").dir("upper/d/sub").whiteout("upper/d/sub/x");
            dirs.whiteout("upper/d/sub/y");
        },
        act: |c| c.vfs.rmdir(c.walk(b"d")?, b"sub"),
    },
    Case {
        name: "rename of an upper file",
        prepare: |dirs| {
            dirs.dir("lower/d").file("upper/d/f", "1");
        },
        act: |c| rename(c, (b"d", b"f"), (b"", b"g"), RenameMode::Replace),
    },
    Case {
        name: "rename that leaves a whiteout",
        prepare: file_in_lower,
        act: |c| rename(c, (b"d", b"f"), (b"d", b"g"), RenameMode::Replace),
    },
    Case {
        name: "rename that leaves a whiteout, over a file",
        prepare: |dirs| {
            both(dirs);
            dirs.file("lower/g", "target");
        },
        act: |c| rename(c, (b"d", b"f"), (b"", b"g"), RenameMode::Replace),
    },
    Case {
        name: "rename over a whiteout",
        prepare: |dirs| {
            whiteout_over_file(dirs);
            dirs.file("upper/new", "new");
        },
        act: |c| rename(c, (b"", b"new"), (b"d", b"f"), RenameMode::Replace),
    },
    Case {
        name: "rename beside a whiteout by name",
        prepare: |dirs| {
            file_in_lower(dirs);
            dirs.file("upper/d/.wh.f", "").file("upper/new", "new");
        },
        act: |c| rename(c, (b"", b"new"), (b"d", b"f"), RenameMode::Replace),
    },
    Case {
        name: "rename of a directory over a whiteout",
        prepare: |dirs| {
            whiteout_over_dir(dirs);
            dirs.file("upper/new/f", "new");
        },
        act: |c| rename(c, (b"", b"new"), (b"d", b"sub"), RenameMode::Replace),
    },
    Case {
        name: "rename of a directory that covers a lower one, over a whiteout",
        prepare: |dirs| {
            whiteout_over_dir(dirs);
            dirs.file("lower/new/below", "").file("upper/new/f", "new");
            dirs.set("upper/new", "trusted.overlay.opaque", "y");
        },
        act: |c| rename(c, (b"", b"new"), (b"d", b"sub"), RenameMode::Replace),
    },
    Case {
        name: "rename of a directory over an empty merged one",
        prepare: |dirs| {
            empty_merged(dirs);
            dirs.file("upper/new/f", "new");
        },
        act: |c| rename(c, (b"", b"new"), (b"d", b"sub"), RenameMode::Replace),
    },
    Case {
        name: "exchange of lower files",
        prepare: |dirs| {
            file_in_lower(dirs);
            dirs.file("lower/g", "other");
        },
        act: |c| rename(c, (b"d", b"f"), (b"", b"g"), RenameMode::Exchange),
    },
    Case {
        name: "exchange of a directory and a lower file",
        prepare: |dirs| {
            file_in_lower(dirs);
            dirs.file("upper/new/x", "new");
        },
        act: |c| rename(c, (b"d", b"f"), (b"", b"new"), RenameMode::Exchange),
    },
    Case {
        name: "link of a lower file",
        prepare: file_in_lower,
        act: |c| {
            c.vfs.link(c.walk(b"d/f")?, ROOT, b"g").map(|entry| {
                c.note(entry);
            })
        },
    },
    Case {
        name: "link over a whiteout",
        prepare: |dirs| {
            whiteout_over_file(dirs);
            dirs.file("upper/new", "new");
        },
        act: |c| {
            let dir = c.walk(b"d")?;
            c.vfs.link(c.walk(b"new")?, dir, b"f").map(|entry| {
                c.note(entry);
            })
        },
    },
    Case {
        name: "rename of a lower directory, which is copied up",
        prepare: tree_in_lower,
        act: |c| rename(c, (b"", b"d"), (b"", b"new"), RenameMode::Replace),
    },
    Case {
        name: "rename of a lower directory that holds a redirected one, which are copied up",
        prepare: redirected_tree,
        act: |c| rename(c, (b"", b"d"), (b"", b"new"), RenameMode::Replace),
    },
    Case {
        name: "rename of a lower directory over an empty merged one, by copying",
        prepare: |dirs| {
            tree_in_lower(dirs);
            dirs.file("lower/e/empty/f", "").dir("upper/e/empty").whiteout("upper/e/empty/f");
        },
        act: |c| rename(c, (b"d", b"sub"), (b"e", b"empty"), RenameMode::Replace),
    },
    Case {
        name: "exchange of two lower directories, by copying",
        prepare: two_trees,
        act: |c| rename(c, (b"d", b"sub"), (b"e", b"in"), RenameMode::Exchange),
    },
    Case {
        name: "rename of a lower directory by a redirect",
        prepare: |dirs| {
            tree_in_lower(dirs);
            dirs.redirects();
        },
        act: |c| rename(c, (b"", b"d"), (b"", b"new"), RenameMode::Replace),
    },
    Case {
        name: "rename of a redirected directory to another one",
        prepare: |dirs| {
            redirected_tree(dirs);
            dirs.file("lower/e/in/x", "covered").whiteout("upper/e/in").redirects();
        },
        act: |c| rename(c, (b"", b"d"), (b"e", b"in"), RenameMode::Replace),
    },
    Case {
        name: "rename of a directory over an empty one that merges by a redirect",
        prepare: |dirs| {
            dirs.file("lower/old/gone", "").whiteout("upper/old").dir("upper/d/in");
            dirs.whiteout("upper/d/in/gone").set("upper/d/in", "trusted.overlay.redirect", "/old");
            dirs.set("upper/d", "trusted.overlay.impure", "y").file("upper/new/f", "new");
        },
        act: |c| rename(c, (b"", b"new"), (b"d", b"in"), RenameMode::Replace),
    },
    Case {
        name: "exchange of two lower directories by redirects",
        prepare: |dirs| {
            two_trees(dirs);
            dirs.redirects();
        },
        act: |c| rename(c, (b"d", b"sub"), (b"e", b"in"), RenameMode::Exchange),
    },
];

/// Looks at what has marks, so that each call of reading them can fail.
pub const LOOKS: &[Case] = &[
    Case {
        name: "a file whose data is below",
        prepare: |dirs| {
            dirs.file("lower/d/stub", "old content").metacopy();
            let stub = std::fs::File::create(dirs.dir("upper/d").path("upper/d/stub")).unwrap();
            stub.set_len(11).unwrap();
            dirs.set("upper/d/stub", "trusted.overlay.metacopy", "");
            dirs.set("upper/d", "trusted.overlay.impure", "y");
        },
        act: |c| c.walk(b"d/stub").map(drop),
    },
    Case {
        name: "a file whose data is elsewhere below",
        prepare: |dirs| {
            dirs.file("lower/was/here", "old content").metacopy();
            let stub = std::fs::File::create(dirs.dir("upper/d").path("upper/d/stub")).unwrap();
            stub.set_len(11).unwrap();
            dirs.set("upper/d/stub", "trusted.overlay.metacopy", "");
            dirs.set("upper/d/stub", "trusted.overlay.redirect", "/was/here");
        },
        act: |c| c.walk(b"d/stub").map(drop),
    },
    Case { name: "a hard link in the index", prepare: indexed, act: |c| c.walk(b"d/f").map(drop) },
    Case {
        name: "a hard link that the index knows",
        prepare: indexed,
        act: |c| c.walk(b"e/g").map(drop),
    },
    Case {
        name: "a directory whose lowers are elsewhere",
        prepare: redirected_tree,
        act: |c| {
            let dir = c.walk(b"d")?;
            c.list(dir)?;
            c.list_plus(dir)?;
            let inner = c.walk(b"d/in")?;
            c.list_plus(inner)?;
            c.walk(b"d/in/deep/h").map(drop)
        },
    },
];
