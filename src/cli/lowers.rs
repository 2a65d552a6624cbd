//! The lower layers of a command line: those that merge, and data-only ones.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::escape::split_paths;
use super::request::UsageError;

/// The lower layers named so far, topmost first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lowers {
    /// Layers whose names show.
    pub merged: Vec<PathBuf>,
    /// Data-only layers (Documentation/filesystems/overlayfs.rst, "Data-only lower layers").
    pub data_only: Vec<PathBuf>,
    /// All layers were given at once, by `lowerdir`.
    pub at_once: bool,
}

impl Lowers {
    /// Reads `DIR[:DIR...][::DATADIR...]`, escaped as all values are.
    ///
    /// # Errors
    /// A text that says what to give instead.
    pub fn parse(value: &[u8]) -> Result<Self, &'static str> {
        let mut lowers = Self { at_once: true, ..Self::default() };
        // An empty path stands for the second colon of a `::`.
        let mut double = false;
        for path in split_paths(value) {
            // Two slashes name a plugin. Taken for a directory, it would merge the wrong layer.
            if path.as_os_str().as_bytes().starts_with(b"//") {
                return Err(NO_PLUGIN);
            }
            let data_only = std::mem::replace(&mut double, path.as_os_str().is_empty());
            match (double, data_only) {
                (true, false) if !lowers.merged.is_empty() => {}
                (true, _) => return Err(NO_EMPTY_PATH),
                (false, true) => lowers.data_only.push(path),
                (false, false) if lowers.data_only.is_empty() => lowers.merged.push(path),
                (false, false) => return Err(NO_LAYER_AFTER_DATA),
            }
        }
        if double { Err(NO_EMPTY_PATH) } else { Ok(lowers) }
    }

    /// Adds a layer that merges, below those so far.
    ///
    /// # Errors
    /// If there is a data-only layer or a `lowerdir` already, as in the kernel.
    pub fn add_merged(&mut self, path: PathBuf) -> Result<(), UsageError> {
        self.check_one_by_one("lowerdir+", &path)?;
        if !self.data_only.is_empty() {
            return Err(UsageError::new(format!(
                "option `lowerdir+` names {} after a data-only layer: put all datadir+ options \
                 behind it",
                path.display()
            )));
        }
        self.merged.push(path);
        Ok(())
    }

    /// Adds a data-only layer, below those so far.
    ///
    /// # Errors
    /// If there is no layer above it, or a `lowerdir` already, as in the kernel.
    pub fn add_data_only(&mut self, path: PathBuf) -> Result<(), UsageError> {
        self.check_one_by_one("datadir+", &path)?;
        if self.merged.is_empty() {
            return Err(UsageError::new(format!(
                "option `datadir+` names {}, and there is no layer above it: put lowerdir+ in \
                 front",
                path.display()
            )));
        }
        self.data_only.push(path);
        Ok(())
    }

    /// Refuses a layer after `lowerdir`, as `ovl_parse_layer` does (fs/overlayfs/params.c).
    fn check_one_by_one(&self, option: &str, path: &Path) -> Result<(), UsageError> {
        if !self.at_once {
            return Ok(());
        }
        Err(UsageError::new(format!(
            "option `{option}` names {} after a lowerdir, which names all layers: give all of them \
             by lowerdir, or each by lowerdir+ or datadir+",
            path.display()
        )))
    }
}

const NO_EMPTY_PATH: &str = "no empty path: remove the superfluous colon, and write \\: for a \
                             colon in a name";
const NO_PLUGIN: &str = "a path with one slash in front: two stand for a plugin of \
                         fuse-overlayfs, and plugins are not supported";
const NO_LAYER_AFTER_DATA: &str = "all layers that merge first: behind a :: only data-only layers \
                                   may follow, with a :: before each";

#[cfg(test)]
mod tests {
    use super::*;

    fn lowers(merged: &[&str], data_only: &[&str]) -> Lowers {
        let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect();
        let (merged, data_only) = (paths(merged), paths(data_only));
        Lowers { merged, data_only, at_once: false }
    }

    #[test]
    fn two_colons_begin_a_data_only_layer() {
        let parse = |text: &str| Lowers::parse(text.as_bytes());
        let read = |text| Lowers { at_once: false, ..parse(text).unwrap() };
        assert_eq!(read("a"), lowers(&["a"], &[]));
        assert_eq!(read("a:b::d1::d2"), lowers(&["a", "b"], &["d1", "d2"]));
        assert_eq!(read(r"a\:\:b::d\:1"), lowers(&["a::b"], &["d:1"]));
        for bad in ["", ":a", "a:", "::d", "a::", "a:::d", "a::d:", "a::d::", "a::::d"] {
            assert_eq!(parse(bad).unwrap_err(), NO_EMPTY_PATH, "{bad}");
        }
        assert_eq!(parse("a::d:b").unwrap_err(), NO_LAYER_AFTER_DATA);
    }

    #[test]
    fn one_by_one() {
        let mut all = Lowers::default();
        let early = all.add_data_only("d".into()).unwrap_err();
        assert!(early.to_string().contains("`datadir+`"), "{early}");
        all.add_merged("a".into()).unwrap();
        all.add_data_only("d".into()).unwrap();
        let late = all.add_merged("b".into()).unwrap_err();
        assert!(late.to_string().contains("`lowerdir+`"), "{late}");
        assert_eq!(all, lowers(&["a"], &["d"]));
    }

    #[test]
    fn not_both_ways() {
        let mut all = Lowers::parse(b"a:b").unwrap();
        for add in [Lowers::add_merged, Lowers::add_data_only] {
            let refused = add(&mut all, "c".into()).unwrap_err();
            assert!(refused.to_string().contains("after a lowerdir"), "{refused}");
        }
    }
}
