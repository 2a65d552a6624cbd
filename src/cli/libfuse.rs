//! Options of libfuse, which callers of fuse-overlayfs may pass: fuse(8), `fuse_session_new`,
//! `fuse_parse_cmdline`.

use super::options::{Group, MountOption, Takes};
use crate::fuse;

/// The option `max_threads`.
pub const MAX_THREADS: MountOption = MountOption {
    name: "max_threads",
    metavar: "N",
    group: Group::Compatibility,
    takes: Takes::Number {
        min: 1,
        max: 1024,
        set: |request, most| {
            request.config.threads = Some(most.min(fuse::default_threads()));
        },
    },
    help: "No more threads than that. Default: by the number of processors",
    doc: "",
};

/// The option `debug`.
pub const DEBUG: MountOption = MountOption {
    name: "debug",
    metavar: "",
    group: Group::Compatibility,
    takes: Takes::Words(&[("debug", |request| request.debug = true)]),
    help: "The flag -d as an option",
    doc: "",
};

/// Words that ask for what ovlmerge does in any case.
pub const LIBFUSE: MountOption = MountOption {
    name: "kernel_cache",
    metavar: "",
    group: Group::Compatibility,
    takes: Takes::Nothing(&[
        "kernel_cache",
        "use_ino",
        "readdir_ino",
        "hard_remove",
        "intr",
        "big_writes",
        "large_read",
        "async_read",
        "atomic_o_trunc",
        "clone_fd",
        "splice_read",
        "no_splice_read",
        "splice_write",
        "no_splice_write",
        "splice_move",
        "no_splice_move",
    ]),
    help: "No effect: so in any case, or how libfuse moves bytes",
    doc: "",
};

/// Words that ask for what is not supported, with advice.
pub const LIBFUSE_WARNED: MountOption = MountOption {
    name: "max_idle_threads",
    metavar: "",
    group: Group::Compatibility,
    takes: Takes::Instead(&[
        ("max_idle_threads", "; threads=N sets how many threads there are"),
        ("auto_cache", "; timeout=SECONDS says how long the kernel may cache"),
        ("noauto_cache", "; timeout=SECONDS says how long the kernel may cache"),
        ("noforget", "; nfs_export=on keeps what handles need"),
        ("sync_read", "; leave it out"),
        ("max_background", "; leave it out"),
        ("congestion_threshold", "; leave it out"),
        ("max_readahead", "; leave it out, or set read_ahead_kb in /sys/class/bdi"),
        ("blksize", "; leave it out"),
    ]),
    help: "No effect, and a warning: libfuse's alone",
    doc: "With `--strict` they are refused, as unknown options are.",
};
