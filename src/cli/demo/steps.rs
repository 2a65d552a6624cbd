//! The steps of the demo: each acts on the mount, checks the result and shows it.

use std::fmt::Debug;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::listing::{attribute, names};
use super::scene::Scene;
use super::{Doing, Stop};

/// One step: acts, checks the result, and returns a text about it.
pub type Step = fn(&Scene) -> Result<String, Stop>;

/// All steps, in order.
pub const ALL: [Step; 5] = [merging, copy_up, whiteout, opaque, delegated];

const OVERLAY: [&str; 2] = ["trusted.overlay.", "user.overlay."];

fn expect<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Result<(), Stop> {
    if found == expected {
        return Ok(());
    }
    Err(Stop::new(format_args!("{what}: expected {expected:?}, found {found:?}")))
}

fn read(path: &Path) -> Result<String, Stop> {
    fs::read_to_string(path).doing(format_args!("cannot read {}", path.display()))
}

fn mode(path: &Path) -> Result<u32, Stop> {
    let metadata = fs::symlink_metadata(path);
    Ok(metadata.doing(format_args!("cannot stat {}", path.display()))?.mode() & 0o7777)
}

fn merging(scene: &Scene) -> Result<String, Stop> {
    let etc = names(&scene.merged.join("etc"))?;
    expect("names in merged/etc", etc.join(" "), "app.conf hosts motd".into())?;
    let motd = read(&scene.merged.join("etc/motd"))?;
    expect("merged/etc/motd", motd.as_str(), "hello from app\n")?;
    Ok(format!(
        "1. Merging: a directory of several layers has the names of all; for one name the topmost \
         counts\n  $ ls merged/etc\n  {}\n  $ cat merged/etc/motd\n  {motd}",
        etc.join("  ")
    ))
}

fn copy_up(scene: &Scene) -> Result<String, Stop> {
    let path = scene.merged.join("etc/hosts");
    let file = OpenOptions::new().append(true).open(&path);
    let mut file = file.doing(format_args!("cannot open {} to append", path.display()))?;
    file.write_all(b"10.0.0.7 db\n").doing("cannot append to merged/etc/hosts")?;
    drop(file);

    let before = "127.0.0.1 localhost\n";
    let after = format!("{before}10.0.0.7 db\n");
    expect("merged/etc/hosts", read(&path)?, after.clone())?;
    expect("upper/etc/hosts", read(&scene.upper.join("etc/hosts"))?, after)?;
    expect("base/etc/hosts", read(&scene.base.join("etc/hosts"))?, before.into())?;
    Ok("2. Copy-up: the first write copies a file to the upper; the layer below keeps its own\n  \
        $ echo 10.0.0.7 db >> merged/etc/hosts\n  $ wc -l upper/etc/hosts base/etc/hosts\n  \
        2 upper/etc/hosts\n  1 base/etc/hosts\n"
        .into())
}

fn whiteout(scene: &Scene) -> Result<String, Stop> {
    let path = scene.merged.join("etc/motd");
    fs::remove_file(&path).doing("cannot remove merged/etc/motd")?;

    let etc = names(&scene.merged.join("etc"))?;
    expect("names in merged/etc", etc.join(" "), "app.conf hosts".into())?;
    let gone = fs::symlink_metadata(&path).err().map(|err| err.kind());
    expect("stat of merged/etc/motd", gone, Some(std::io::ErrorKind::NotFound))?;
    expect("app/etc/motd", read(&scene.app.join("etc/motd"))?.as_str(), "hello from app\n")?;
    let form = whiteout_form(&scene.upper.join("etc"), "motd")?;
    Ok(format!(
        "3. Whiteout: what a lower layer has is removed by a mark in the upper\n  \
         $ rm merged/etc/motd\n  $ ls merged/etc\n  {}\n  upper/etc/motd is {form}\n",
        etc.join("  ")
    ))
}

/// The form of the whiteout of a removed name, in words: a device, or where the file system takes
/// none, another form.
fn whiteout_form(dir: &Path, name: &str) -> Result<&'static str, Stop> {
    if let Ok(metadata) = fs::symlink_metadata(dir.join(format!(".wh.{name}")))
        && metadata.is_file()
    {
        return Ok(
            "missing, and .wh.motd stands beside it, as this file system takes no device 0:0",
        );
    }
    let path = dir.join(name);
    let metadata = fs::symlink_metadata(&path).doing("upper/etc/motd, the expected whiteout")?;
    if metadata.file_type().is_char_device() && metadata.rdev() == 0 {
        return Ok("a character device 0:0");
    }
    if metadata.is_file() && metadata.len() == 0 {
        for prefix in OVERLAY {
            if attribute(&path, &format!("{prefix}whiteout"))?.is_some() {
                return Ok("an empty file marked as a whiteout");
            }
        }
    }
    Err(Stop::new("upper/etc/motd: expected a whiteout, found something else"))
}

/// The mark of an opaque directory of the upper, in words. There must be exactly one.
fn opaque_form(dir: &Path) -> Result<String, Stop> {
    let mut marks = Vec::new();
    for prefix in OVERLAY {
        let name = format!("{prefix}opaque");
        if let Some(value) = attribute(dir, &name)? {
            expect("value of the opaque mark on upper/cache", value.as_slice(), b"y")?;
            marks.push(format!("{name}=y"));
        }
    }
    let file = ".wh..wh..opq";
    if dir.join(file).exists() {
        marks.push(format!("the file {file}"));
    }
    expect("number of opaque marks on upper/cache", marks.len(), 1)?;
    Ok(marks.concat())
}

fn opaque(scene: &Scene) -> Result<String, Stop> {
    let cache = scene.merged.join("cache");
    expect("names in merged/cache", names(&cache)?.join(" "), "old-1 old-2".into())?;
    fs::remove_dir_all(&cache).doing("cannot remove merged/cache")?;
    expect("merged/cache exists", fs::symlink_metadata(&cache).is_ok(), false)?;
    fs::create_dir(&cache).doing("cannot make merged/cache")?;
    fs::write(cache.join("new"), "3\n").doing("cannot write merged/cache/new")?;

    expect("names in merged/cache", names(&cache)?.join(" "), "new".into())?;
    expect(
        "names in base/cache",
        names(&scene.base.join("cache"))?.join(" "),
        "old-1 old-2".into(),
    )?;
    let upper = scene.upper.join("cache");
    expect("upper/cache/new", read(&upper.join("new"))?.as_str(), "3\n")?;
    let mark = opaque_form(&upper)?;
    Ok(format!(
        "4. Opaque directory: a new directory in the place of an old one hides all below\n  \
         $ rm -r merged/cache; mkdir merged/cache; echo 3 > merged/cache/new\n  \
         $ ls merged/cache\n  new\n  upper/cache has {mark}\n"
    ))
}

fn delegated(scene: &Scene) -> Result<String, Stop> {
    let tmp = scene.merged.join("tmp");
    let found = names(&tmp)?;
    expect("names in merged/tmp", found.join(" "), "app.lock session".into())?;
    let mode_of = |path: &Path| mode(path).map(|mode| format!("{mode:o}"));
    let app = mode_of(&scene.app.join("tmp"))?;
    let base = mode_of(&scene.base.join("tmp"))?;
    let merged = mode_of(&tmp)?;
    expect(
        "modes of app/tmp, base/tmp, merged/tmp",
        [app.as_str(), &base, &merged],
        ["755", "1777", "1777"],
    )?;
    Ok(format!(
        "5. Delegated directory: app/tmp was invented by an unpacker and is marked \
         dirmeta_delegate;\n   it adds its names, but mode, owner and times come from below\n  \
         $ stat -c '%a %n' app/tmp base/tmp merged/tmp\n  {app} app/tmp\n  {base} base/tmp\n  \
         {merged} merged/tmp\n  $ ls merged/tmp\n  {}\n",
        found.join("  ")
    ))
}

/// Checks the mountpoint after the mount is gone.
pub fn after_unmount(scene: &Scene) -> Result<(), Stop> {
    expect("names in the mountpoint after unmounting", names(&scene.merged)?.len(), 0)
}
