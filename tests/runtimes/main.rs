//! The program beneath container runtimes: podman, buildah and skopeo as Debian has them, with
//! images that are made here, as root and as an ordinary user.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unreachable,
    missing_docs,
    unsafe_code
)]

#[path = "../support/mod.rs"]
mod support;

mod builds;
mod containers;
#[allow(dead_code)] // the other test that has it uses more of it
#[path = "../rootfs/image.rs"]
mod image;
mod imports;
#[allow(dead_code)] // the other test that has it uses more of it
#[path = "../tools/layer.rs"]
mod layer;
mod layers;
mod nested;
mod space;
mod store;
mod stores;
mod userns;
