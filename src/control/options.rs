//! Options in force, named as on the command line.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{
    Access, Config, CopyUpBy, Durability, IdView, IndexChoice, Io, MountOptions, NamespaceChoice,
    Numbers, Permissions, RenameLower, WhiteoutChoice, Xattrs,
};

/// Returns all options except those that name layers.
#[must_use]
pub fn in_force(config: &Config) -> Value {
    // All fields are listed, so that a new option is not forgotten here.
    let Config {
        lowers: _,
        data_only: _,
        upper: _,
        frozen: _,
        strict: _,
        mountpoint: _,
        device: _,
        mount,
        timeout,
        namespace,
        whiteout,
        durability,
        dirmeta_delegate,
        follow_redirects,
        metacopy,
        owners,
        numbers,
        permissions,
        xattrs,
        write_redirects,
        rename_lower,
        index,
        io,
        copy_up,
        nfs_export,
        writeback,
        max_write,
        threads,
        spin,
    } = config;
    json!({
        // `null` stands for ever.
        "timeout": (*timeout < Config::FOREVER).then_some(timeout.as_secs_f64()),
        "xattr": of_namespace(*namespace),
        "whiteout": of_whiteout(*whiteout),
        "fsync": of_durability(*durability),
        "dirmeta_delegate": on(*dirmeta_delegate),
        "redirect_dir": match (follow_redirects, write_redirects) {
            (_, true) => "on",
            (true, false) => "follow",
            (false, false) => "nofollow",
        },
        "metacopy": on(*metacopy),
        "uidmapping": ids(&owners.uids),
        "gidmapping": ids(&owners.gids),
        "xino": of_numbers(*numbers),
        "xattr_permissions": of_permissions(*permissions),
        "noacl": *xattrs != Xattrs::All,
        "noxattrs": *xattrs == Xattrs::None,
        "rename_lower": match rename_lower {
            RenameLower::Off => json!("off"),
            RenameLower::Copy(limit) => json!({ "entries": limit.entries, "bytes": limit.bytes }),
        },
        "index": of_index(*index),
        "io": of_io(*io),
        "copy_up": of_copy_up(*copy_up),
        "nfs_export": on(*nfs_export),
        "writeback": *writeback,
        "max_write": max_write,
        "threads": threads,
        "spin": micros(*spin),
        "mount": of_mount(mount),
    })
}

fn of_durability(durability: Durability) -> &'static str {
    match durability {
        Durability::Normal => "auto",
        Durability::Strict => "strict",
        Durability::Volatile => "volatile",
    }
}

fn of_namespace(choice: NamespaceChoice) -> &'static str {
    match choice {
        NamespaceChoice::Auto => "auto",
        NamespaceChoice::Trusted => "trusted",
        NamespaceChoice::User => "user",
    }
}

fn of_index(choice: IndexChoice) -> &'static str {
    match choice {
        IndexChoice::Auto => "auto",
        IndexChoice::On => "on",
        IndexChoice::Off => "off",
    }
}

fn of_numbers(numbers: Numbers) -> &'static str {
    match numbers {
        Numbers::Tagged => "on",
        Numbers::Plain => "off",
        Numbers::Short => "ino32_t",
    }
}

fn of_io(io: Io) -> &'static str {
    match io {
        Io::Auto => "auto",
        Io::Cached => "cached",
        Io::Passthrough => "passthrough",
    }
}

fn of_copy_up(copy_up: CopyUpBy) -> &'static str {
    match copy_up {
        CopyUpBy::Write => "write",
        CopyUpBy::Open => "open",
    }
}

fn of_permissions(permissions: Permissions) -> u32 {
    match permissions {
        Permissions::Inode => 0,
        Permissions::SecurityXattr => 1,
        Permissions::UserXattr => 2,
    }
}

fn of_whiteout(choice: WhiteoutChoice) -> &'static str {
    match choice {
        WhiteoutChoice::Auto => "auto",
        WhiteoutChoice::Device => "char",
        WhiteoutChoice::Xattr => "xattr",
        WhiteoutChoice::Aufs => "aufs",
    }
}

fn of_mount(mount: &MountOptions) -> Value {
    let MountOptions {
        read_only,
        suid,
        dev,
        exec,
        atime,
        diratime,
        sync,
        dirsync,
        access,
        default_permissions,
        fsname,
        subtype,
        labels,
        max_read,
        auto_unmount,
    } = mount;
    json!({
        "ro": read_only,
        "suid": suid,
        "dev": dev.unwrap_or(false),
        "exec": exec,
        "atime": atime,
        "diratime": diratime,
        "sync": sync,
        "dirsync": dirsync,
        "access": access.map(|access| match access {
            Access::Owner => "owner",
            Access::OwnerAndRoot => "allow_root",
            Access::Everybody => "allow_other",
        }),
        "default_permissions": default_permissions,
        "fsname": fsname,
        "subtype": subtype,
        "labels": labels.iter().map(|(name, label)| format!("{name}={label}")).collect::<Vec<_>>(),
        "max_read": max_read,
        "auto_unmount": auto_unmount,
    })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn on(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// Returns `null` for no mapping, a number if all ids appear as one, else the ranges.
fn ids(view: &IdView) -> Value {
    match view {
        IdView::Same => Value::Null,
        IdView::All(id) => json!(id.number()),
        IdView::Mapped(ranges) => ranges
            .iter()
            .map(
                |range| json!({ "stored": range.stored, "shown": range.shown, "count": range.len }),
            )
            .collect(),
    }
}
