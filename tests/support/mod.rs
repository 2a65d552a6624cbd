//! What the tests that mount something have in common.
//!
//! Four environment variables steer it:
//!
//! * `OVLMERGE_NO_SKIP=1`: a test that cannot run here fails instead of saying `SKIPPED`.
//! * `OVLMERGE_BIN=PROGRAM`: test another program with the same command line.
//! * `OVLMERGE_TEST_ENGINE=kernel`: mount the kernel's overlayfs instead, to see whether what a
//!   test expects is what the oracle does.
//! * `OVLMERGE_TEST_OPTIONS=io=passthrough`: mount everything with these options too, to test
//!   another mode of operation.

#![allow(dead_code, unused_imports)] // each test target uses its part

pub mod fusefs;
pub mod kernel;
pub mod loopfs;
pub mod mount;
pub mod need;
pub mod process;
pub mod raw;
pub mod release;
pub mod scratch;
pub mod slowfs;
pub mod tree;
pub mod user;

use std::path::PathBuf;

pub use fusefs::FuseFs;
pub use kernel::Kernel;
pub use loopfs::{Frozen, LoopFs};
pub use mount::{Mount, Setup};
pub use scratch::{Dir, Scratch};
pub use slowfs::SlowFs;

/// The program under test.
pub fn binary() -> PathBuf {
    match std::env::var_os("OVLMERGE_BIN") {
        Some(path) => path.into(),
        None => env!("CARGO_BIN_EXE_ovlmerge").into(),
    }
}

/// Whether everything is mounted with `io=passthrough`, which excludes `writeback=1`.
pub fn passthrough_everywhere() -> bool {
    std::env::var("OVLMERGE_TEST_OPTIONS").is_ok_and(|options| options.contains("io=passthrough"))
}

/// What is mounted by [`Setup::mount`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// [`binary`].
    Program,
    /// The overlayfs of the running kernel.
    Kernel,
}

impl Engine {
    pub fn current() -> Self {
        match std::env::var("OVLMERGE_TEST_ENGINE").as_deref() {
            Ok("kernel") => Self::Kernel,
            Ok("") | Ok("program") | Err(_) => Self::Program,
            Ok(other) => panic!("OVLMERGE_TEST_ENGINE={other}: write kernel or program"),
        }
    }
}

/// Fails unless `result` is the error `errno`.
#[track_caller]
pub fn assert_errno<T: std::fmt::Debug, E: Into<std::io::Error>>(result: Result<T, E>, errno: i32) {
    let wanted = std::io::Error::from_raw_os_error(errno);
    match result.map_err(Into::into) {
        Ok(value) => panic!("{value:?} instead of an error: {wanted}"),
        Err(err) => assert_eq!(err.raw_os_error(), Some(errno), "{err} instead of: {wanted}"),
    }
}
