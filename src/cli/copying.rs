//! The option that sets when files are copied up.

use super::options::{Group, MountOption, Takes};
use crate::config::CopyUpBy;

/// The option `copy_up`.
pub const COPY_UP: MountOption = MountOption {
    name: "copy_up",
    metavar: "write|open",
    group: Group::Storage,
    takes: Takes::Choice(&[
        ("write", |request| request.config.copy_up = CopyUpBy::Write),
        ("open", |request| request.config.copy_up = CopyUpBy::Open),
    ]),
    help: "What copies a file of a lower layer up to be written. Default: write",
    doc: "`write`: the first change. What a program stores through a mapping reaches the file when the \
          kernel writes it back, so that a full upper is reported by msync(2), fsync(2) or close(2). \
          `open`: opening it to write, as in the kernel's overlayfs; a full upper is reported by \
          open(2). Each open and close of any file is a request then.",
};
