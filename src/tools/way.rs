//! Path of the current directory of a tool, in one buffer. One for each open directory would take
//! gigabytes in a tree that is 10,000 levels deep.

/// Appends the name of an entry to the path of its directory.
pub(super) fn push(path: &mut Vec<u8>, name: &[u8]) {
    path.extend_from_slice(if path.is_empty() { b"" } else { b"/" });
    path.extend_from_slice(name);
}
