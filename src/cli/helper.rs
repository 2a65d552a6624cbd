//! The command line of a mount helper, as mount(8) calls it:
//! `mount.TYPE SOURCE TARGET [-sfnv] [-N namespace] [-o options] [-t type]`.
//!
//! It is rewritten as the command line of an ordinary mount. `-f` has another meaning for a helper
//! (do everything but mount), so a helper is recognized by its name.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::called::of_type;
use super::request::UsageError;

/// The request of mount(8).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HelperCall {
    /// The command line of an ordinary mount, without the name of the program.
    pub args: Vec<OsString>,
    /// `-f`: check, and mount nothing.
    pub fake: bool,
    /// `-t`: the name of the file system, if given.
    pub file_system: Option<String>,
}

/// Reads the arguments of a helper, without the program's name.
///
/// # Errors
/// If a flag is not one of a mount helper, is not supported, or lacks its value.
pub fn read(args: &[OsString]) -> Result<HelperCall, UsageError> {
    let mut call = HelperCall::default();
    let mut paths = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let bytes = arg.as_bytes();
        match bytes.strip_prefix(b"-") {
            Some(b"-help" | b"-version" | b"h" | b"V") => call.args.push(arg.clone()),
            Some(flags) if !flags.is_empty() => call.flags(flags, &mut rest)?,
            _ => paths.push(arg.clone()),
        }
    }
    call.args.push("--".into());
    call.args.append(&mut paths);
    Ok(call)
}

impl HelperCall {
    /// Reads the letters after one dash. One with a value takes the rest, or the next argument.
    fn flags<'a>(
        &mut self,
        flags: &[u8],
        rest: &mut impl Iterator<Item = &'a OsString>,
    ) -> Result<(), UsageError> {
        for (at, &letter) in flags.iter().enumerate() {
            // No mtab is written (-n), unknown options are no error (-s), nothing is told (-v).
            if b"nsv".contains(&letter) {
                continue;
            }
            if letter == b'f' {
                self.fake = true;
                continue;
            }
            let glued = flags.get(at + 1..).filter(|value| !value.is_empty());
            let value = match glued {
                Some(value) => Some(OsString::from_vec(value.to_vec())),
                None => rest.next().cloned(),
            };
            return self.flag_with_value(letter, value);
        }
        Ok(())
    }

    fn flag_with_value(&mut self, letter: u8, value: Option<OsString>) -> Result<(), UsageError> {
        let shown = char::from(letter);
        let missing = || UsageError::new(format!("-{shown} needs a value"));
        match letter {
            b'o' => self.args.extend([OsStr::new("-o").to_owned(), value.ok_or_else(missing)?]),
            b't' => {
                let kind = value.ok_or_else(missing)?;
                self.file_system = Some(of_type(&kind.to_string_lossy()).to_owned());
            }
            b'N' => {
                return Err(UsageError::new(
                    "-N: mounting in another namespace is not supported; enter it first \
                     (nsenter --mount=FILE)",
                ));
            }
            _ => {
                return Err(UsageError::new(format!(
                    "-{shown} is no flag of a mount helper: \
                     mount.TYPE SOURCE TARGET [-sfnv] [-o OPTIONS] [-t TYPE]"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn call(args: &str) -> Result<HelperCall, UsageError> {
        read(&args.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[rstest]
    #[case("overlay /m -o rw,lowerdir=/l", "-o rw,lowerdir=/l -- overlay /m", false, None)]
    #[case("-sfnvo a /s /m", "-o a -- /s /m", true, None)]
    #[case("/s /m -n -oa -o b -t fuse.other", "-o a -o b -- /s /m", false, Some("other"))]
    #[case("/s /m -t fuse-overlayfs", "-- /s /m", false, Some("fuse-overlayfs"))]
    #[case("--version", "--version --", false, None)]
    fn calls(
        #[case] args: &str,
        #[case] expected: &str,
        #[case] fake: bool,
        #[case] file_system: Option<&str>,
    ) {
        let args_of = expected.split(' ').map(OsString::from).collect();
        let file_system = file_system.map(str::to_owned);
        assert_eq!(call(args), Ok(HelperCall { args: args_of, fake, file_system }));
    }

    #[rstest]
    #[case("/s /m -o", "-o needs a value")]
    #[case("/s /m -x", "-x is no flag")]
    #[case("-N /proc/1/ns/mnt /s /m", "nsenter")]
    fn errors(#[case] args: &str, #[case] expected: &str) {
        let found = call(args).unwrap_err().to_string();
        assert!(found.contains(expected), "{found}");
    }
}
