//! From the words of a command line to a [`Config`].
//!
//! A [`Request`] takes the options one by one, in any order. [`Request::finish`] checks them as a
//! whole (an upper needs a work directory) and makes the paths absolute, because the daemon leaves
//! the working directory. Symbolic links stay: they are followed once, when the layers are opened.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::escape::{name_and_value, split_options, split_paths, unescape};
use super::lowers::Lowers;
use super::options::{self, Found};
use super::owners::{self, Ids};
use super::suggest::nearest;
use crate::config::{Config, Frozen, Io, UpperDirs, Xattrs};

/// An error in a command line, in one sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageError(String);

impl UsageError {
    /// An error that reads `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// The mount options read so far. Where one is given twice, the last counts.
#[derive(Debug)]
pub struct Request {
    /// `lowerdir`, `lowerdir+` and `datadir+`.
    pub lowers: Lowers,
    /// `upperdir`.
    pub upper: Option<PathBuf>,
    /// `workdir`.
    pub work: Option<PathBuf>,
    /// The options about users.
    pub uids: Ids,
    /// The options about groups.
    pub gids: Ids,
    /// `squash_to_root`.
    pub squash_to_root: bool,
    /// All other options. [`Request::finish`] fills in layers and mountpoint.
    pub config: Config,
    /// `remount`.
    pub remount: bool,
    /// `debug`.
    pub debug: bool,
    /// Refuse unknown options, and uppers in use, instead of a warning.
    pub strict: bool,
    /// Warnings for the user. The mount can go on in spite of them.
    pub warnings: Vec<String>,
    /// The known options as they were written, with the names of their rows in the table.
    pub given: Vec<(&'static str, String)>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            lowers: Lowers::default(),
            upper: None,
            work: None,
            uids: Ids::default(),
            gids: Ids::default(),
            squash_to_root: false,
            config: Config::new(Vec::new(), None, PathBuf::new()),
            remount: false,
            debug: false,
            strict: false,
            warnings: Vec::new(),
            given: Vec::new(),
        }
    }
}

impl Request {
    /// Takes the options of one `-o` argument.
    ///
    /// # Errors
    /// If the value of a known option is missing or wrong. With `strict`, if an option is unknown.
    pub fn add(&mut self, text: &[u8]) -> Result<(), UsageError> {
        let mut before = &b""[..];
        for option in split_options(text) {
            let (name, value) = name_and_value(option);
            let name = String::from_utf8_lossy(name);
            match options::find(&name) {
                Found::Known(known) => {
                    known.apply(&name, value, self)?;
                    self.given.push((known.name, String::from_utf8_lossy(option).into_owned()));
                }
                Found::Ignored => {}
                Found::Unknown => self.unknown(&name, cut_name(before, option))?,
            }
            before = option;
        }
        Ok(())
    }

    /// Reports an unknown option. `cut` is an existing path with a comma, of which it is the end.
    fn unknown(&mut self, name: &str, cut: Option<PathBuf>) -> Result<(), UsageError> {
        let hint = match (cut, nearest(name, options::words())) {
            (Some(path), _) => {
                format!("; is {} meant? write `\\,` for a comma in a name", path.display())
            }
            (None, Some(known)) => format!("; did you mean `{known}`?"),
            (None, None) => String::new(),
        };
        self.object(&format!("option `{name}` is not known"), &hint)
    }

    /// Reports that an option has no effect, as a warning or as an error.
    ///
    /// # Errors
    /// With `strict`.
    pub fn object(&mut self, what: &str, hint: &str) -> Result<(), UsageError> {
        if self.strict {
            return Err(UsageError::new(format!("{what}{hint}")));
        }
        self.warnings.push(format!("{what} and has no effect{hint}"));
        Ok(())
    }

    /// Sets a security label.
    pub fn set_label(&mut self, name: &'static str, label: String) {
        let labels = &mut self.config.mount.labels;
        labels.retain(|(known, _)| *known != name);
        labels.push((name, label));
    }

    /// Restricts the attributes of the mount. `All` takes back [`Xattrs::None`] alone.
    pub fn restrict_xattrs(&mut self, wanted: Xattrs) {
        let xattrs = &mut self.config.xattrs;
        *xattrs = match (*xattrs, wanted) {
            (Xattrs::WithoutAcls, Xattrs::All) => Xattrs::WithoutAcls,
            (Xattrs::None, Xattrs::WithoutAcls) => Xattrs::None,
            (_, wanted) => wanted,
        };
    }

    /// The verified configuration of a mount on `mountpoint`.
    ///
    /// # Errors
    /// If layers are missing, paths are wrong, or options exclude each other.
    pub fn finish(self, mountpoint: &Path) -> Result<Config, UsageError> {
        if self.lowers.merged.is_empty() {
            return Err(UsageError::new(
                "option `lowerdir` is missing: name at least one read-only layer, \
                 as in -o lowerdir=/path/to/layer",
            ));
        }
        let lowers = self.lowers.merged.iter().map(|path| absolute("lowerdir", path));
        let mut lowers = lowers.collect::<Result<Vec<_>, _>>()?;
        let data_only = self.lowers.data_only.iter().map(|path| absolute("datadir+", path));
        let data_only = data_only.collect::<Result<_, _>>()?;
        let upper = self.upper.map(|path| absolute("upperdir", &path)).transpose()?;
        let work = self.work.map(|path| absolute("workdir", &path)).transpose()?;
        let mut config = self.config;
        let upper = match (upper, work) {
            (None, None) => None,
            (Some(upper), work) if config.mount.read_only => {
                lowers.insert(0, upper);
                config.frozen = Some(Frozen { work });
                if config.timeout == Config::FOREVER {
                    config.timeout = Config::OF_FROZEN;
                }
                None
            }
            (Some(upper), Some(work)) => Some(UpperDirs { upper, work }),
            (Some(_), None) => {
                return Err(UsageError::new(
                    "option `upperdir` needs `workdir`: add workdir=DIR, a directory of its own \
                     on the same file system as upperdir",
                ));
            }
            (None, Some(_)) => {
                return Err(UsageError::new(
                    "option `workdir` needs `upperdir`: add upperdir=DIR, \
                     or leave both out for a read-only mount",
                ));
            }
        };
        let device = passed_device(mountpoint)?;
        check_metacopy(&config)?;
        check_io(&config)?;
        let mountpoint = absolute_mountpoint(mountpoint)?;
        let owners = owners::verified(self.uids, self.gids, self.squash_to_root)?;
        let strict = self.strict;
        Ok(Config { lowers, data_only, upper, strict, mountpoint, device, owners, ..config })
    }
}

/// The existing path that an option and the one after it make, with a comma in its name.
fn cut_name(before: &[u8], option: &[u8]) -> Option<PathBuf> {
    let (name, value) = name_and_value(before);
    let whole = [value?, b",", option].concat();
    let path = match name {
        // One of the paths has the comma.
        b"lowerdir" => split_paths(&whole).into_iter().find(|path| has_comma(path))?,
        b"upperdir" | b"workdir" | b"lowerdir+" | b"datadir+" => unescape(&whole).into(),
        _ => return None,
    };
    path.exists().then_some(path)
}

fn has_comma(path: &Path) -> bool {
    path.as_os_str().as_bytes().contains(&b',')
}

/// The last of the standard descriptors, which a server gives up (stdio(3)).
const STDERR: i32 = 2;

/// The descriptor in a mountpoint `/dev/fd/N`. In this form a caller tells libfuse that it has
/// opened /dev/fuse and mounted it already (mount.fuse3 with drop_privileges, apptainer).
fn passed_device(mountpoint: &Path) -> Result<Option<i32>, UsageError> {
    let Ok(number) = mountpoint.strip_prefix("/dev/fd") else {
        return Ok(None);
    };
    let number = number.to_str().and_then(|number| number.parse().ok());
    let number = number.filter(|fd| *fd > STDERR);
    number.map(Some).ok_or_else(|| {
        UsageError::new(format!(
            "the mountpoint {} is not /dev/fd/N with the number, 3 or more, of a descriptor of \
             /dev/fuse that is mounted already",
            mountpoint.display()
        ))
    })
}

/// Refuses metacopy without redirects, as the kernel does (fs/overlayfs/params.c).
fn check_metacopy(config: &Config) -> Result<(), UsageError> {
    if config.metacopy && !config.follow_redirects {
        return Err(UsageError::new(
            "option `metacopy=on` needs redirects: leave out redirect_dir=nofollow, or give \
             metacopy=off",
        ));
    }
    Ok(())
}

/// Refuses passthrough with writeback, as the kernel does (`process_init_reply`, fs/fuse/inode.c).
fn check_io(config: &Config) -> Result<(), UsageError> {
    if config.io == Io::Passthrough && config.writeback {
        return Err(UsageError::new(
            "options `io=passthrough` and `writeback=1` exclude one another: leave one of them out",
        ));
    }
    Ok(())
}

fn absolute_mountpoint(mountpoint: &Path) -> Result<PathBuf, UsageError> {
    if mountpoint.as_os_str().is_empty() {
        return Err(UsageError::new(
            "the mountpoint is an empty path: name the directory to mount on",
        ));
    }
    absolute("the mountpoint", mountpoint)
}

fn absolute(what: &str, path: &Path) -> Result<PathBuf, UsageError> {
    std::path::absolute(path).map_err(|err| {
        UsageError::new(format!(
            "{what} {} cannot be made absolute: {err}; give it with a leading slash",
            path.display()
        ))
    })
}
