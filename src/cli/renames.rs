//! How directories of lower layers are renamed, from the words of the command line.

use super::request::Request;
use crate::config::{CopyLimit, RenameLower};

/// `redirect_dir`.
pub fn set_redirects(request: &mut Request, follow: bool, write: bool) {
    request.config.follow_redirects = follow;
    request.config.write_redirects = write;
}

/// `rename_lower`; `None` for what makes no sense.
pub fn set_rename_lower(request: &mut Request, text: &str) -> Option<()> {
    let limit = |text: &str| {
        let (entries, bytes) = text.split_once(':')?;
        Some(CopyLimit { entries: entries.parse().ok()?, bytes: bytes.parse().ok()? })
    };
    request.config.rename_lower = match text.split_once(':') {
        None if text == "off" => RenameLower::Off,
        None if text == "copy" => RenameLower::Copy(CopyLimit::DEFAULT),
        Some(("copy", numbers)) => RenameLower::Copy(limit(numbers)?),
        _ => return None,
    };
    Some(())
}
