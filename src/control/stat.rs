//! Statistics and layers of a mount.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{LONGEST, options};
use crate::config::{Config, NamespaceChoice, WhiteoutChoice};
use crate::error::Result;
use crate::format::overlay::Namespace;
use crate::format::override_stat::Spelling;
use crate::format::text::printable;
use crate::layer::upper::{Forms, OpaqueForm, WhiteoutForm};
use crate::layer::{Counters, OwnerStorage};
use crate::sys::file::FsKind;
use crate::sys::process::Usage;
use crate::sys::uuid::Uuid;
use crate::vfs::Vfs;
use crate::vfs::statistics::{Caches, Features, LayerFacts, Role};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Facts that only the connection to the kernel knows.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// Time since the mount became usable.
    pub up: Duration,
    /// Major and minor version of the FUSE protocol.
    pub protocol: (u32, u32),
    /// Capabilities that the kernel granted, by their names in linux/fuse.h.
    pub capabilities: Vec<&'static str>,
    /// Largest data of one WRITE, in bytes.
    pub max_write: u32,
    /// Largest readahead of the kernel, in bytes.
    pub max_readahead: u32,
    /// Limit of background requests.
    pub max_background: u16,
    /// Whether the kernel sends OPEN for files, as the server cannot open each of them by itself.
    pub told_of_open: bool,
    /// Whether the kernel itself reads and writes files of the upper.
    pub passthrough: bool,
    /// Threads that read requests.
    pub readers: Readers,
    /// Requests that have waited for longer than a moment.
    pub held_up: Vec<HeldUp>,
    /// Numbers of requests, by the name of the operation.
    pub requests: Vec<(String, u64)>,
    /// Numbers of error answers, by errno.
    pub errors: Vec<(String, u64)>,
}

/// Numbers of threads that read requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readers {
    /// Number of readers while none is held up.
    pub wanted: u32,
    /// Current number of readers.
    pub now: u32,
    /// Largest number of readers.
    pub most: u32,
}

/// A request that waits for something.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeldUp {
    /// Name of the operation in linux/fuse.h.
    pub request: String,
    /// Thread id of the caller; 0 if it is in a PID namespace that the mount does not see.
    pub program: u32,
    /// Number of the node.
    pub node: u64,
    /// Time that the request has waited, in seconds.
    pub seconds: f64,
    /// Layer that the request waits for, if it waits for one.
    pub layer: Option<u16>,
    /// Path of the object in that layer, or of its directory.
    pub path: Option<String>,
}

impl fmt::Display for HeldUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { request, program, seconds, .. } = self;
        write!(f, "{request} of process {program} has waited for {seconds:.0} s")?;
        match (self.layer, &self.path) {
            (Some(layer), Some(path)) => write!(f, ", for layer {layer} at /{path}"),
            _ => Ok(()),
        }
    }
}

/// Returns all facts except the layers, of which there may be more than fit into an answer.
#[must_use]
pub fn summary(vfs: &Vfs, config: &Config, connection: &Connection) -> Value {
    let usage = Usage::of_this_process();
    let caches = vfs.caches();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "mountpoint": path(&config.mountpoint),
        "up_seconds": connection.up.as_secs_f64(),
        "options": options::in_force(config),
        "forms": vfs.forms().map(|forms| of_forms(&forms, config)),
        "features": of_features(&vfs.features(), connection),
        "kernel": of_kernel(connection),
        "requests": counts(&connection.requests),
        "errors": counts(&connection.errors),
        "upper": vfs.counters().map(of_tally),
        "read_ahead": of_read_ahead(vfs.files_read_ahead()),
        "caches": of_caches(&caches),
        "memory": { "resident_bytes": usage.resident, "cached_bytes": caches.bytes },
        "descriptors": {
            "open": usage.descriptors,
            "cached": caches.descriptors,
            "cached_limit": caches.descriptors_limit,
        },
        "threads": {
            "all": usage.threads,
            "readers": connection.readers.wanted,
            "readers_now": connection.readers.now,
            "readers_limit": connection.readers.most,
        },
        "held_up": as_many_as_fit(&connection.held_up),
        "held_up_count": connection.held_up.len(),
        "layer_count": vfs.layers().len(),
    })
}

/// Returns the layers from a position on, as many as fit into an answer; at least one.
///
/// # Errors
/// Those of [`Vfs::layer`].
pub fn layers(vfs: &Vfs, config: &Config, from: usize) -> Result<Vec<Value>> {
    let mut room = LONGEST - "[]".len();
    let mut found = Vec::new();
    for number in vfs.layers().into_iter().skip(from) {
        let layer = of_layer(&vfs.layer(number)?, config);
        let size = layer.to_string().len() + ",".len();
        if size > room && !found.is_empty() {
            break;
        }
        room = room.saturating_sub(size);
        found.push(layer);
    }
    Ok(found)
}

/// Returns all facts and all layers.
///
/// # Errors
/// Those of [`Vfs::layer`].
pub fn whole(vfs: &Vfs, config: &Config, connection: &Connection) -> Result<Value> {
    let numbers = vfs.layers();
    let layers = numbers.into_iter().map(|number| Ok(of_layer(&vfs.layer(number)?, config)));
    let layers = layers.collect::<Result<Vec<_>>>()?;
    let mut all = summary(vfs, config, connection);
    if let Some(fields) = all.as_object_mut() {
        fields.insert("layers".to_owned(), layers.into());
    }
    Ok(all)
}

fn counts(list: &[(String, u64)]) -> Value {
    Value::Object(list.iter().map(|(name, count)| (name.clone(), json!(count))).collect())
}

fn path(path: &Path) -> String {
    printable(path.as_os_str().as_bytes())
}

fn of_forms(forms: &Forms, config: &Config) -> Value {
    let from = |asked: bool| if asked { "asked" } else { "probed" };
    let of_namespace = |namespace| match namespace {
        Namespace::Trusted => "trusted",
        Namespace::User => "user",
    };
    json!({
        "whiteout": {
            "form": match forms.whiteout {
                WhiteoutForm::Device => "char",
                WhiteoutForm::Xattr => "xattr",
                WhiteoutForm::Aufs => "aufs",
            },
            "from": from(config.whiteout != WhiteoutChoice::Auto),
        },
        "opaque": {
            "form": match forms.opaque {
                OpaqueForm::Xattr(_) => "xattr",
                OpaqueForm::Aufs => "aufs",
            },
            "from": from(config.whiteout == WhiteoutChoice::Aufs),
        },
        "xattr": {
            "form": forms.namespace.map(of_namespace),
            "from": from(config.namespace != NamespaceChoice::Auto),
        },
    })
}

fn of_features(features: &Features, connection: &Connection) -> Value {
    let Features {
        metacopy,
        index,
        follows_redirects,
        writes_redirects,
        rename_lower: _,
        delegation,
        volatile,
    } = features;
    json!({
        "metacopy": metacopy,
        "index": index,
        "redirects_followed": follows_redirects,
        "redirects_written": writes_redirects,
        "dirmeta_delegate": delegation,
        "volatile": volatile,
        "told_of_open": connection.told_of_open,
        "passthrough": connection.passthrough,
    })
}

fn of_kernel(connection: &Connection) -> Value {
    let (major, minor) = connection.protocol;
    json!({
        "protocol": format!("{major}.{minor}"),
        "capabilities": connection.capabilities,
        "max_write": connection.max_write,
        "max_readahead": connection.max_readahead,
        "max_background": connection.max_background,
    })
}

fn of_tally(counters: &Counters) -> Value {
    let Counters { copy_ups, copied_dirs, copied_bytes, reflinks, whiteouts, syncs } = counters;
    json!({
        "copy_ups": copy_ups.get(),
        "copied_directories": copied_dirs.get(),
        "copied_bytes": copied_bytes.get(),
        "reflinks": reflinks.get(),
        "whiteouts": whiteouts.get(),
        "fsyncs": syncs.get(),
    })
}

/// Returns the requests that wait, oldest first, up to half the size of an answer. The other half
/// is enough for the rest of the answer.
fn as_many_as_fit(held_up: &[HeldUp]) -> Vec<Value> {
    let mut by_age: Vec<_> = held_up.iter().collect();
    by_age.sort_by(|one, other| other.seconds.total_cmp(&one.seconds));
    let mut room = LONGEST / 2;
    let mut found = Vec::new();
    for one in by_age.into_iter().map(of_held_up) {
        let size = one.to_string().len() + ",".len();
        if size > room {
            break;
        }
        room -= size;
        found.push(one);
    }
    found
}

fn of_held_up(held_up: &HeldUp) -> Value {
    let HeldUp { request, program, node, seconds, layer, path } = held_up;
    json!({
        "request": request,
        "process": program,
        "node": node,
        "seconds": seconds,
        "layer": layer,
        "path": path.as_ref().map(|path| format!("/{path}")),
    })
}

fn of_read_ahead((files, wanted): (u64, u64)) -> Value {
    json!({ "files": files, "wanted": wanted })
}

fn of_caches(caches: &Caches) -> Value {
    json!({ "nodes": caches.nodes, "directories": caches.indexes, "names": caches.names })
}

fn of_layer(layer: &LayerFacts, config: &Config) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    let role = match layer.role {
        Role::Upper => "upper",
        Role::Lower => "lower",
        Role::DataOnly => "data",
    };
    put("layer", layer.number.into());
    put("role", role.into());
    match (usize::from(layer.number).checked_sub(1), &config.upper) {
        (None, Some(dirs)) => {
            put("path", path(&dirs.upper).into());
            put("work", path(&dirs.work).into());
        }
        (Some(at), _) => {
            let found = config.lowers.iter().chain(&config.data_only).nth(at);
            put("path", found.map(|found| path(found)).into());
        }
        (None, None) => {}
    }
    let kind = layer.file_system;
    put("filesystem", file_system(kind.magic).into());
    put("device", format!("{}:{}", libc::major(layer.dev), libc::minor(layer.dev)).into());
    put("uuid", layer.uuid.map(|uuid| uuid_text(&Uuid::bytes(Some(uuid)))).into());
    put("read_only", kind.read_only.into());
    let owners = match layer.owner_storage {
        OwnerStorage::Inode => "inode",
        OwnerStorage::Xattr(Spelling::Security) => "security.fuseoverlayfs.override_stat",
        OwnerStorage::Xattr(Spelling::Containers) => "user.containers.override_stat",
        OwnerStorage::Xattr(Spelling::FuseOverlayfs) => "user.fuseoverlayfs.override_stat",
    };
    put("owners", owners.into());
    Value::Object(fields)
}

/// Formats a UUID like uuid_unparse(3).
fn uuid_text(uuid: &[u8]) -> String {
    let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| hex.get(part).unwrap_or_default());
    parts.join("-")
}

/// Returns the name of a file system type by its magic number (linux/magic.h and the source of
/// each), or the number if it is unknown.
fn file_system(magic: u32) -> String {
    let known = match magic {
        FsKind::EXT4 => "ext4",
        FsKind::XFS => "xfs",
        FsKind::BTRFS => "btrfs",
        FsKind::TMPFS => "tmpfs",
        0x794C_7630 => "overlay",
        0x6573_5546 => "fuse",
        0x7371_7368 => "squashfs",
        0xE0F5_E1E2 => "erofs",
        0x6969 => "nfs",
        0xF2F5_2010 => "f2fs",
        0x2FC1_2FC1 => "zfs",
        0xCA45_1A4E => "bcachefs",
        0x0102_1997 => "9p",
        0xFF53_4D42 => "cifs",
        0xFE53_4D42 => "smb2",
        0x4D44 => "vfat",
        0x9660 => "iso9660",
        FsKind::RAMFS => "ramfs",
        0x00C3_6400 => "ceph",
        0x0BD0_0BD0 => "lustre",
        0x4750_4653 => "gpfs",
        _ => return format!("{magic:#x}"),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_fits_into_an_answer() {
        let one = |seconds| HeldUp {
            request: "LOOKUP".into(),
            program: 1,
            node: 2,
            seconds: f64::from(seconds),
            layer: Some(1),
            path: Some("d".repeat(4000)),
        };
        let told = as_many_as_fit(&(1..100).map(one).collect::<Vec<_>>());
        assert!(told.len() > 1 && told.len() < 10, "{}", told.len());
        assert!(told.iter().map(|one| one.to_string().len() + 1).sum::<usize>() <= LONGEST / 2);
        assert_eq!(told[0]["seconds"], 99.0, "the longest first");
    }

    #[test]
    fn file_systems_and_uuids_have_their_usual_names() {
        assert_eq!(file_system(0xEF53), "ext4");
        assert_eq!(file_system(0x1234), "0x1234");
        let uuid: Vec<u8> = (0..16).collect();
        assert_eq!(uuid_text(&uuid), "00010203-0405-0607-0809-0a0b0c0d0e0f");
    }
}
