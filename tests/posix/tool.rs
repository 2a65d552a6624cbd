//! The suites of others: where they are, and what their absence means.

use std::env;
use std::path::{Path, PathBuf};

use crate::support::need;

/// Finds a program in `$PATH` or among those that CI builds below the target directory. Where there
/// is none, says that `test` is skipped.
pub fn find(test: &str, name: &str) -> Option<PathBuf> {
    // target/<profile>/ovlmerge
    let target = Path::new(env!("CARGO_BIN_EXE_ovlmerge")).ancestors().nth(2)?;
    let built = target.join("tools/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .chain([built])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file());
    if found.is_none() {
        need::lacks(test, &format!("needs {name}: cargo install {name}"));
    }
    found
}
