//! The lower layers of a command line: those that merge, and those that only lend data.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::escape::split_paths;
use super::request::UsageError;

/// The lower layers named so far, topmost first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lowers {
    /// Those whose names show.
    pub merged: Vec<PathBuf>,
    /// Data-only layers (Documentation/filesystems/overlayfs.rst, "Data-only lower layers").
    pub data_only: Vec<PathBuf>,
}

impl Lowers {
    /// Reads `DIR[:DIR...][::DATADIR...]`, escaped as all values are.
    ///
    /// # Errors
    /// What to give instead.
    pub fn parse(value: &[u8]) -> Result<Self, &'static str> {
        let mut lowers = Self::default();
        // A path that is empty stands for the second colon of a `::`.
        let mut double = false;
        for path in split_paths(value) {
            // To take it for a directory would merge another layer than was meant.
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

    /// Takes one more layer that merges, below those so far.
    ///
    /// # Errors
    /// If there are data-only layers already, as in the kernel.
    pub fn add_merged(&mut self, path: PathBuf) -> Result<(), UsageError> {
        if !self.data_only.is_empty() {
            return Err(UsageError::new(format!(
                "option `lowerdir+` names {} after a data-only layer: put all datadir+ options, \
                 and a lowerdir with ::, behind it",
                path.display()
            )));
        }
        self.merged.push(path);
        Ok(())
    }

    /// Takes one more data-only layer, below those so far.
    ///
    /// # Errors
    /// Where no layer is above it that could need its data.
    pub fn add_data_only(&mut self, path: PathBuf) -> Result<(), UsageError> {
        if self.merged.is_empty() {
            return Err(UsageError::new(format!(
                "option `datadir+` names {}, and there is no layer above it: put lowerdir or \
                 lowerdir+ in front",
                path.display()
            )));
        }
        self.data_only.push(path);
        Ok(())
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
        Lowers { merged: paths(merged), data_only: paths(data_only) }
    }

    #[test]
    fn two_colons_begin_a_data_only_layer() {
        let parse = |text: &str| Lowers::parse(text.as_bytes());
        assert_eq!(parse("a").unwrap(), lowers(&["a"], &[]));
        assert_eq!(parse("a:b::d1::d2").unwrap(), lowers(&["a", "b"], &["d1", "d2"]));
        assert_eq!(parse(r"a\:\:b::d\:1").unwrap(), lowers(&["a::b"], &["d:1"]));
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
}
