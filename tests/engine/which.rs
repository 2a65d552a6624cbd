//! What is said about where a path comes from, for every mark.

use ovlmerge::error::Errno;
use ovlmerge::merge::signs::Opaque;
use ovlmerge::merge::which::{Part, Shown, Which, Whiteout, Why};
use ovlmerge::sys::FileType;
use ovlmerge::vfs::{Body, NodeId, RenameMode};

use crate::client::{Client, assert_errno};
use crate::layers::Layers;
use crate::{MODE, needs_root};

fn ask(client: &Client, path: &str) -> Which {
    let names: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
    client.vfs.which(NodeId::ROOT, &names).unwrap().0
}

#[track_caller]
fn shown(client: &Client, path: &str) -> Shown {
    ask(client, path).shown().unwrap().unwrap()
}

/// One line for each object of a layer: layer, path, what it is for the path, what hides it.
fn told(client: &Client, path: &str) -> Vec<String> {
    let which = ask(client, path);
    let lines = which.levels.iter().map(|level| {
        let part = match &level.part {
            Part::Shown => "shown".to_owned(),
            Part::Merged => "merged".to_owned(),
            Part::Data => "data".to_owned(),
            Part::Whiteout(form) => format!("whiteout {form:?}"),
            Part::Hidden(cause) => {
                let why = match cause.why {
                    Why::Whiteout(form) => format!("whiteout {form:?}"),
                    why => format!("{why:?}"),
                };
                format!("hidden by {} {} {why}", cause.layer, cause.path.escape_ascii())
            }
        };
        format!("{} {} {part}", level.layer, level.path.escape_ascii())
    });
    lines.collect()
}

#[test]
fn files_over_files() {
    needs_root!();
    let layers = Layers::new(2);
    layers.file("lower0/f", "new").file("lower1/f", "old").file("lower1/only", "");
    let client = layers.open();
    assert_eq!(told(&client, "f"), ["1 /f shown", "2 /f hidden by 1 /f Object"]);
    assert_eq!(told(&client, "only"), ["2 /only shown"]);
    let lower = shown(&client, "f");
    assert_eq!((lower.layer, lower.copied_up, lower.data), (1, Some(false), Some(1)));
    client.change(client.walk(b"f").unwrap(), MODE).unwrap();
    assert_eq!(told(&client, "f")[0], "0 /f shown");
    let upper = shown(&client, "f");
    assert_eq!((upper.layer, upper.copied_up, upper.origin.ino), (0, Some(true), lower.origin.ino));
    client.make(NodeId::ROOT, b"fresh", Body::File).unwrap();
    assert_eq!(shown(&client, "fresh").copied_up, Some(false));
    assert_eq!(told(&client, "none"), [""; 0]);
}

#[test]
fn removed_in_each_form() {
    needs_root!();
    let layers = Layers::new(2);
    for name in ["device", "attribute", "name", "ours"] {
        layers.file(&format!("lower1/{name}"), "");
    }
    layers.whiteout("lower0/device").file("lower0/.wh.name", "").file("lower0/attribute", "");
    layers.set("lower0/attribute", "user.overlay.whiteout", "y");
    layers.set("lower0", "user.overlay.opaque", "x");
    let client = layers.open();
    client.walk(b"ours").unwrap();
    client.vfs.unlink(NodeId::ROOT, b"ours").unwrap();
    for (name, layer, form) in [
        ("device", 1, Whiteout::Device),
        ("attribute", 1, Whiteout::Xattr),
        ("name", 1, Whiteout::File),
        ("ours", 0, Whiteout::Device),
    ] {
        let expected = [
            format!("{layer} /{name} whiteout {form:?}"),
            format!("2 /{name} hidden by {layer} /{name} whiteout {form:?}"),
        ];
        assert_eq!(told(&client, name), expected);
        assert_eq!(ask(&client, name).shown().unwrap(), None);
    }
}

/// A file `.wh.NAME` beside what it is called after hides what is below both.
#[test]
fn a_whiteout_beside_a_file() {
    needs_root!();
    let layers = Layers::new(3);
    layers.file("lower0/d/a", "").file("lower1/d/b", "").file("lower1/.wh.d", "");
    layers.file("lower2/d/c", "");
    let client = layers.open();
    let expected =
        ["1 /d shown", "2 /d merged", "2 /d whiteout File", "3 /d hidden by 2 /d whiteout File"];
    assert_eq!(told(&client, "d"), expected);
    assert_eq!(told(&client, "d/c"), ["3 /d/c hidden by 2 /d whiteout File"]);
}

#[test]
fn opaque_directories_in_each_form() {
    needs_root!();
    type Mark = fn(&Layers);
    let forms: [(&str, Mark); 4] = [
        ("trusted", |l| drop(l.set("lower1/d", "trusted.overlay.opaque", "y").names("work"))),
        ("user", |l| drop(l.set("lower1/d", "user.overlay.opaque", "y").names("work"))),
        ("peer", |l| drop(l.set("lower1/d", "user.fuseoverlayfs.opaque", "y").names("work"))),
        ("aufs", |l| drop(l.file("lower1/d/.wh..wh..opq", "").names("work"))),
    ];
    for (form, mark) in forms {
        let layers = Layers::new(3);
        layers.file("lower0/d/a", "").file("lower1/d/b", "").file("lower2/d/c/deep", "");
        mark(&layers);
        let client = layers.open();
        let expected = ["1 /d shown", "2 /d merged", "3 /d hidden by 2 /d Opaque"];
        assert_eq!(told(&client, "d"), expected, "{form}");
        let opaque = if form == "aufs" { Opaque::File } else { Opaque::Xattr };
        assert_eq!(ask(&client, "d").levels[1].signs.opaque, Some(opaque), "{form}");
        assert_eq!(told(&client, "d/c/deep"), ["3 /d/c/deep hidden by 2 /d Opaque"], "{form}");
        assert_eq!(told(&client, "d/a"), ["1 /d/a shown"], "{form}");
    }
}

#[test]
fn an_opaque_root() {
    needs_root!();
    let layers = Layers::new(2);
    layers.file("lower0/a", "").file("lower1/b", "").set("lower0", "user.overlay.opaque", "y");
    let client = layers.open();
    let (root, number) = client.vfs.which(NodeId::ROOT, &[]).unwrap();
    assert_eq!((root.path.as_slice(), number), (&b"/"[..], Some(1)));
    let parts: Vec<_> = root.levels.iter().map(|level| &level.part).collect();
    assert!(matches!(parts[..], [Part::Shown, Part::Merged, Part::Hidden(_)]), "{parts:?}");
    assert_eq!(root.shown().unwrap().unwrap().copied_up, Some(false));
    assert_eq!(told(&client, "b"), ["2 /b hidden by 1 / Opaque"]);
}

#[test]
fn files_and_directories_cut_each_other_off() {
    needs_root!();
    let layers = Layers::new(3);
    layers.file("lower2/x/bottom", "").file("lower1/x", "file").file("lower0/x/top", "");
    layers.file("lower1/y", "").file("lower2/y/below", "");
    let client = layers.open();
    let expected = ["1 /x shown", "2 /x hidden by 1 /x Object", "3 /x hidden by 1 /x Object"];
    assert_eq!(told(&client, "x"), expected);
    assert_eq!(told(&client, "x/bottom"), ["3 /x/bottom hidden by 1 /x Object"]);
    assert_eq!(told(&client, "y"), ["2 /y shown", "3 /y hidden by 2 /y Object"]);
    assert_eq!(told(&client, "y/below"), ["3 /y/below hidden by 2 /y Object"]);
}

#[test]
fn redirects() {
    needs_root!();
    let layers = Layers::new(3);
    layers.dir("lower0/new").set("lower0/new", "trusted.overlay.redirect", "/a/old");
    layers.file("lower1/new/own", "").file("lower1/a/old/one", "");
    layers.file("lower2/a/old/two", "").whiteout("lower1/a/old/two");
    let client = layers.open();
    let expected =
        ["1 /new shown", "2 /new hidden by 1 /new Redirect", "2 /a/old merged", "3 /a/old merged"];
    assert_eq!(told(&client, "new"), expected);
    assert_eq!(told(&client, "new/one"), ["2 /a/old/one shown"]);
    assert_eq!(told(&client, "new/own"), ["2 /new/own hidden by 1 /new Redirect"]);
    let expected =
        ["2 /a/old/two whiteout Device", "3 /a/old/two hidden by 2 /a/old/two whiteout Device"];
    assert_eq!(told(&client, "new/two"), expected);
}

/// A directory that was renamed in this mount has no name below.
#[test]
fn what_was_renamed() {
    needs_root!();
    let layers = Layers::new(1);
    layers.file("lower0/d/f", "").file("lower0/g", "");
    let client = layers.open();
    for (from, to) in [(&b"d"[..], &b"e"[..]), (b"g", b"h")] {
        client.walk(from).unwrap();
        client.vfs.rename(NodeId::ROOT, from, NodeId::ROOT, to, RenameMode::Replace).unwrap();
    }
    assert_eq!(told(&client, "e"), ["0 /e shown"]);
    assert_eq!(told(&client, "e/f"), ["0 /e/f shown"]);
    assert_eq!(told(&client, "h"), ["0 /h shown"]);
    assert_eq!(shown(&client, "h").copied_up, Some(true), "the mark of its origin says so");
    let gone = ["0 /d whiteout Device", "1 /d hidden by 0 /d whiteout Device"];
    assert_eq!(told(&client, "d"), gone);
    assert_eq!(told(&client, "d/f"), ["1 /d/f hidden by 0 /d whiteout Device"]);
}

#[test]
fn metadata_alone() {
    needs_root!();
    let layers = Layers::new(2);
    layers.file("lower1/f", "data").file("lower0/f", "");
    std::fs::File::options().write(true).open(layers.path("lower0/f")).unwrap().set_len(4).unwrap();
    layers.set("lower0/f", "trusted.overlay.metacopy", "");
    layers.file("lower0/lost", "").set("lower0/lost", "trusted.overlay.metacopy", "");
    std::fs::File::options()
        .write(true)
        .open(layers.path("lower0/lost"))
        .unwrap()
        .set_len(4)
        .unwrap();
    let client = layers.open();
    assert_eq!(told(&client, "f"), ["1 /f shown", "2 /f data"]);
    let found = shown(&client, "f");
    assert_eq!((found.layer, found.data, found.copied_up), (1, Some(2), Some(false)));
    assert!(ask(&client, "f").levels[0].signs.metacopy);
    assert_eq!(shown(&client, "lost").data, None);
    assert_eq!(told(&client, "lost"), ["1 /lost shown"]);
}

#[test]
fn data_in_a_layer_of_its_own() {
    needs_root!();
    let layers = Layers::new(2);
    layers.file("lower1/objects/ab", "data").file("lower0/f", "");
    std::fs::File::options().write(true).open(layers.path("lower0/f")).unwrap().set_len(4).unwrap();
    layers.set("lower0/f", "trusted.overlay.metacopy", "");
    layers.set("lower0/f", "trusted.overlay.redirect", "/objects/ab");
    let mut config = layers.config();
    config.data_only = vec![config.lowers.pop().unwrap()];
    let client = Client::with(&config).unwrap();
    assert_eq!(told(&client, "f"), ["1 /f shown", "2 /objects/ab data"]);
    assert_eq!(told(&client, "objects"), [""; 0]);
}

#[test]
fn delegated_metadata() {
    needs_root!();
    let layers = Layers::new(3);
    layers.dir("lower0/d").dir("lower1/d").dir("lower2/d");
    layers.set("lower0/d", "user.overlay.dirmeta_delegate", "y");
    layers.set("lower1/d", "trusted.overlay.dirmeta_delegate", "y");
    let client = layers.open();
    assert_eq!(shown(&client, "d").metadata, 3);
    let delegates: Vec<_> =
        ask(&client, "d").levels.iter().map(|level| level.signs.delegates).collect();
    assert_eq!(delegates, [true, true, false]);
}

#[test]
fn hard_links_and_the_index() {
    needs_root!();
    let layers = Layers::new(1);
    layers.file("lower0/a", "x").link("lower0/a", "lower0/b").link("lower0/a", "lower0/c");
    // Without an index each name is a file of its own.
    let client = layers.open();
    for name in [b"a", b"b"] {
        client.walk(name).unwrap();
    }
    assert_eq!((shown(&client, "a").links, shown(&client, "a").indexed), (3, false));
    client.change(client.walk(b"a").unwrap(), MODE).unwrap();
    assert_eq!((shown(&client, "a").links, told(&client, "a")[0].as_str()), (1, "0 /a shown"));
    for name in ["b", "c"] {
        let other = shown(&client, name);
        assert_eq!((other.layer, other.copied_up, other.links), (1, Some(false), 3), "{name}");
        assert_eq!(told(&client, name), [format!("1 /{name} shown")]);
    }
    drop(client);

    let layers = Layers::new(1);
    layers.file("lower0/a", "x").link("lower0/a", "lower0/b");
    let mut config = layers.config();
    config.index = ovlmerge::config::IndexChoice::On;
    let client = Client::with(&config).unwrap();
    client.change(client.walk(b"a").unwrap(), MODE).unwrap();
    let b = shown(&client, "b");
    assert_eq!((b.layer, b.indexed, b.links, b.copied_up), (0, true, 2, Some(true)));
}

#[test]
fn marks_that_make_no_sense() {
    needs_root!();
    let layers = Layers::new(2);
    layers.dir("lower0/d").dir("lower1/d").set("lower0/d", "trusted.overlay.redirect", "../x");
    let client = layers.open();
    let which = ask(&client, "d");
    assert_errno(which.shown(), Errno::EINVAL);
    let error = which.levels[0].signs.error.as_ref().unwrap();
    assert_eq!(error.errno(), Errno::EINVAL);
    assert_eq!(which.levels.len(), 2);
}

#[test]
fn by_node_and_below_it() {
    needs_root!();
    let layers = Layers::new(1);
    layers.file("lower0/d/e/f", "").file("lower0/.wh.x", "");
    let client = layers.open();
    let (dir, file) = (client.walk(b"d").unwrap(), client.walk(b"d/e/f").unwrap());
    let (which, number) = client.vfs.which(file, &[]).unwrap();
    assert_eq!((which.path.as_slice(), number), (&b"/d/e/f"[..], Some(file.0)));
    let (which, _) = client.vfs.which(dir, &[b"e", b"f"]).unwrap();
    assert_eq!(which.path, b"/d/e/f");
    assert_eq!(which.shown().unwrap().unwrap().kind, FileType::Regular);
    assert_eq!(told(&client, ".wh.x"), [""; 0], "a mark is no name");
    client.vfs.unlink(client.walk(b"d/e").unwrap(), b"f").unwrap();
    assert_errno(client.vfs.which(file, &[]), Errno::ENOENT);
    assert_errno(client.vfs.which(dir, &[b".."]), Errno::EINVAL);
    assert_errno(client.vfs.which(NodeId(12345), &[]), Errno::ESTALE);
}

/// The way down is as deep as the tree, and each layer is looked at.
#[test]
fn deep_trees() {
    needs_root!();
    let layers = Layers::new(2);
    let path = "d/".repeat(300) + "f";
    layers.file(&format!("lower1/{path}"), "").file("lower0/d/d/x", "");
    let client = layers.open();
    assert_eq!(told(&client, &path), [format!("2 /{path} shown")]);
}
