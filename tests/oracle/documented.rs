//! The differences from kernel overlayfs that are wanted or do not matter, each with its reason.
//! Everything that is not here must be equal.
//!
//! Kept out of the comparison by what [`crate::tree::describe`] does not tell:
//!
//! * link counts and sizes of directories: the kernel gives 1 only for merged directories and
//!   passes on what the layer has for others;
//! * access and change times, block counts, device numbers of the mount;
//! * exact times of what an operation changed just now.
//!
//! Kept out by the scenarios:
//!
//! * the uppers where an index keeps hard links of a lower together: the kernel makes a name of the
//!   copy of each that was used for a change, and FUSE tells no server which that is.

use super::op::Op;
use super::runner::GHOST;
use super::tree::{Attrs, Tree};

/// Both sides of a comparison of uppers: who wrote it, and what is there.
pub struct Written {
    pub by_kernel: bool,
    pub tree: Tree,
}

/// Markers that the kernel keeps for features which ovlmerge does without, and which change nothing
/// in the merged tree: `impure` (a hint for d_ino), `origin` (inode numbers over remounts),
/// `nlink`, `upper` and `uuid` (with an index).
const BOOKKEEPING: [&str; 5] = ["impure", "origin", "nlink", "upper", "uuid"];

/// Where a directory stands in one layer only, the kernel lists what is in the layer, whiteouts
/// too: such a name appears in the listing and cannot be found. ovlmerge never lists it.
pub fn hide_listed_whiteouts(tree: &mut Tree) {
    tree.0.retain(|_, attrs| attrs.get("lstat").is_none_or(|errno| errno != "ENOENT"));
}

/// The same for the answer to a listing.
pub fn without_listed_whiteouts(names: &str) -> String {
    let names = names.split(' ').filter(|name| !name.ends_with(GHOST));
    names.collect::<Vec<_>>().join(" ")
}

/// A file of a lower that was opened for reading and then lost its name: the kernel cannot copy it
/// up any more, as it has no name to copy it to. ovlmerge goes on with a nameless copy. Says which
/// slot the operation was for.
pub fn lost_by_kernel(op: &Op, kernels: &str) -> Option<usize> {
    match op {
        Op::Fchmod(slot, _) | Op::Fchown(slot, ..) | Op::Fsetxattr(slot, ..) => {
            ["EEXIST", "ENOENT", "ENOTDIR", "ESTALE"].contains(&kernels).then_some(*slot)
        }
        _ => None,
    }
}

/// How many names a file has that had several in one lower: the kernel counts right with an index,
/// fuse-overlayfs tells what the layer says.
pub fn without_link_count(outcome: &str) -> String {
    let words = outcome.split(' ').filter(|word| !word.starts_with("nlink="));
    words.collect::<Vec<_>>().join(" ")
}

/// The same for a tree.
pub fn drop_link_counts(tree: &mut Tree) {
    for attrs in tree.0.values_mut() {
        attrs.remove("nlink");
        attrs.remove("same");
    }
}

/// A rename of one name of a file to another name of the same file does nothing (rename(2)). Where
/// the file came from a lower and was linked just before, the kernel says ESTALE instead. That
/// ovlmerge did nothing either is seen when the trees are compared.
pub fn renames_onto_itself(op: &Op, kernels: &str, ours: &str) -> bool {
    matches!(op, Op::Rename(..)) && kernels == "ESTALE" && ours == "ok"
}

/// A file of a lower that is open and has lost its name: the kernel goes on telling the lower's
/// count of links, ovlmerge tells one less, so that it is 0 as for any other file.
pub fn counting_names(op: &Op, kernels: &str, ours: &str) -> String {
    let count = |outcome: &str| -> Option<u32> {
        outcome.split(' ').find_map(|word| word.strip_prefix("nlink=")?.parse().ok())
    };
    match (op, count(kernels), count(ours)) {
        (Op::Fstat(_), Some(kernels_count), Some(count)) if kernels_count == count + 1 => {
            kernels.replace(&format!("nlink={kernels_count}"), &format!("nlink={count}"))
        }
        _ => kernels.into(),
    }
}

fn is_overlay(key: &str, marker: &str) -> bool {
    ["trusted", "user"].iter().any(|space| key == format!("xattr:{space}.overlay.{marker}"))
}

fn is_opaque(attrs: &Attrs) -> bool {
    attrs.iter().any(|(key, value)| is_overlay(key, "opaque") && value == "y")
}

fn is_kind(attrs: &Attrs, kind: &str) -> bool {
    attrs.get("kind").is_some_and(|found| found == kind)
}

/// Removes from both uppers what may differ.
pub fn reconcile(one: &mut Written, two: &mut Written, lowers: &[Tree]) {
    for side in [&mut *one, &mut *two] {
        plain(&mut side.tree);
    }
    let (first, second) = (one.tree.clone(), two.tree.clone());
    drop_needless(one, &second, lowers);
    drop_needless(two, &first, lowers);
}

fn plain(tree: &mut Tree) {
    for attrs in tree.0.values_mut() {
        attrs.retain(|key, _| !BOOKKEEPING.iter().any(|marker| is_overlay(key, marker)));
        if is_kind(attrs, "whiteout") {
            // The kernel links one inode of mode 0 to all places; nobody sees any of it.
            attrs.retain(|key, _| key == "kind");
        }
    }
}

/// The kernel marks some directories opaque, and leaves some whiteouts, where no lower has anything
/// to hide: it does not look. It may; ovlmerge may only where the kernel does.
fn drop_needless(side: &mut Written, other: &Tree, lowers: &[Tree]) {
    let whole = side.tree.clone();
    side.tree.0.retain(|path, attrs| {
        let below = below(path, &whole, lowers);
        let others = other.0.get(path);
        if is_opaque(attrs) && below.is_none_or(|object| !is_kind(object, "dir")) {
            let excused = side.by_kernel || others.is_none_or(is_opaque);
            if excused {
                attrs.retain(|key, _| !is_overlay(key, "opaque"));
            }
        }
        if !side.by_kernel {
            return true;
        }
        let needless = is_kind(attrs, "whiteout") && below.is_none();
        let same = others.is_none() && below.is_some_and(|object| unchanged(object, attrs));
        !(needless || same)
    });
}

/// The kernel copies a file up when it is opened for writing, with the directories above it, also
/// if nothing is ever written. ovlmerge waits for the first change.
fn unchanged(lower: &Attrs, upper: &Attrs) -> bool {
    let visible = |attrs: &Attrs| {
        let mut attrs = attrs.clone();
        attrs.retain(|key, _| key != "nlink" && key != "same" && !key.contains(".overlay."));
        attrs
    };
    !is_opaque(upper) && visible(upper) == visible(lower)
}

/// What a name of the upper would show if the upper did not have it: the topmost object below,
/// where redirects of the directories above lead.
fn below<'a>(path: &str, upper: &Tree, lowers: &'a [Tree]) -> Option<&'a Attrs> {
    let components: Vec<&str> = path.split('/').filter(|name| *name != ".").collect();
    let mut here = String::from(".");
    let mut lower = Some(Vec::new());
    for (position, name) in components.iter().enumerate() {
        if upper.0.get(&here).is_some_and(is_opaque) {
            lower = None;
        }
        here = if here == "." { (*name).into() } else { format!("{here}/{name}") };
        let redirect = upper.0.get(&here).and_then(redirect);
        match redirect.filter(|_| position + 1 < components.len()) {
            Some(to) if to.starts_with('/') => {
                lower = Some(to.split('/').filter(|name| !name.is_empty()).collect());
            }
            redirect => {
                if let Some(lower) = &mut lower {
                    lower.push(redirect.unwrap_or(name));
                }
            }
        }
    }
    let mut stack: Vec<&Tree> = lowers.iter().collect();
    let mut prefix = String::from(".");
    let mut found = stack.first().and_then(|layer| layer.0.get("."));
    for name in lower? {
        prefix = if prefix == "." { name.into() } else { format!("{prefix}/{name}") };
        (stack, found) = descend(&stack, &prefix);
    }
    found
}

fn redirect(attrs: &Attrs) -> Option<&str> {
    let found = attrs.iter().find(|(key, _)| is_overlay(key, "redirect"));
    found.map(|(_, value)| value.as_str())
}

/// The layers in which `path` goes on as a directory, and what it is.
fn descend<'a>(stack: &[&'a Tree], path: &str) -> (Vec<&'a Tree>, Option<&'a Attrs>) {
    let mut next = Vec::new();
    let mut found = None;
    for layer in stack {
        let Some(attrs) = layer.0.get(path) else { continue };
        if is_kind(attrs, "dir") {
            next.push(*layer);
            found = found.or(Some(attrs));
        } else if found.is_none() && !is_kind(attrs, "whiteout") {
            found = Some(attrs);
        }
        if !is_kind(attrs, "dir") || is_opaque(attrs) {
            break;
        }
    }
    (next, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Tree {
        Tree::parse(&text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>())
    }

    const OPAQUE: &str = "d kind=dir xattr:trusted.overlay.opaque=y";

    fn differ(kernels: &str, ours: &str, lower: &str) -> Vec<String> {
        let mut one = Written { by_kernel: true, tree: tree(kernels) };
        let mut two = Written { by_kernel: false, tree: tree(ours) };
        reconcile(&mut one, &mut two, &[tree(lower)]);
        one.tree.differences(&two.tree)
    }

    #[test]
    fn a_needed_marker_must_be_there() {
        assert_eq!(differ(OPAQUE, "d kind=dir", "d kind=dir").len(), 1);
        assert_eq!(differ("x kind=whiteout", "", "x kind=file").len(), 1);
    }

    #[test]
    fn only_the_kernel_may_write_needless_markers() {
        assert!(differ(OPAQUE, "d kind=dir", "").is_empty());
        assert!(differ(OPAQUE, OPAQUE, "d kind=file").is_empty());
        assert_eq!(differ("d kind=dir", OPAQUE, "").len(), 1);
        assert!(differ("x kind=whiteout", "", "").is_empty());
        assert_eq!(differ("", "x kind=whiteout", "").len(), 1);
    }

    #[test]
    fn what_an_opaque_upper_hides_needs_no_marker() {
        let inside = format!("{OPAQUE}\nd/e kind=dir xattr:trusted.overlay.opaque=y");
        let plain = format!("{OPAQUE}\nd/e kind=dir");
        let lower = "d kind=dir\nd/e kind=dir";
        assert!(differ(&inside, &plain, lower).is_empty());
        assert_eq!(differ(&plain, &inside, lower).len(), 1);
    }

    #[test]
    fn a_lower_whiteout_or_file_ends_the_descent() {
        let lowers = [tree("d kind=whiteout"), tree("d kind=dir")];
        assert_eq!(below("d", &Tree::default(), &lowers), None);
        let lowers = [tree("d kind=dir"), tree("d kind=file"), tree("d kind=dir\nd/x kind=dir")];
        assert_eq!(below("d", &Tree::default(), &lowers), lowers[0].0.get("d"));
        assert_eq!(below("d/x", &Tree::default(), &lowers), None);
    }

    #[test]
    fn a_redirect_says_what_is_below() {
        let kernels = "d kind=dir xattr:trusted.overlay.redirect=/e\nd/x kind=whiteout";
        assert!(
            differ(kernels, "d kind=dir xattr:trusted.overlay.redirect=/e", "d/x kind=file")
                .is_empty()
        );
        let lower = "e kind=dir\ne/x kind=file";
        assert_eq!(differ(kernels, &kernels[..kernels.find('\n').unwrap()], lower).len(), 1);
    }

    #[test]
    fn a_copy_that_changed_nothing_is_excused_and_one_that_did_is_not() {
        assert!(differ("x kind=file mode=644", "", "x kind=file mode=644").is_empty());
        assert_eq!(differ("x kind=file mode=600", "", "x kind=file mode=644").len(), 1);
        assert_eq!(differ("", "x kind=file mode=644", "x kind=file mode=644").len(), 1);
    }
}
