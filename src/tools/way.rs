//! The path of where a tool is, in one buffer: one for each open directory would take gigabytes in
//! a tree that is 10,000 levels deep.

/// Makes the path of a directory that of an entry in it.
pub(super) fn push(path: &mut Vec<u8>, name: &[u8]) {
    path.extend_from_slice(if path.is_empty() { b"" } else { b"/" });
    path.extend_from_slice(name);
}
