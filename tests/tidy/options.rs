//! Every word of the table of mount options has a test that fails if the word does nothing, or
//! stands among those that do nothing, with the reason.

use std::collections::BTreeSet;

use ovlmerge::cli::table::OPTIONS;

use crate::checks::Violation;
use crate::named::file_of;
use crate::source::Source;

/// Tests, and the words that they show to matter: given and left out, or given with several values,
/// something else happens.
const EFFECTS: &[(&str, &[&str])] = &[
    ("mount::lookup::the_topmost_layer_wins", &["lowerdir"]),
    ("formats::data_only::the_same_as_the_kernels", &["lowerdir+", "datadir+"]),
    ("mount::readonly::without_an_upper_nothing_changes", &["upperdir"]),
    ("mount::upper::the_work_directory_is_swept_at_mount", &["workdir"]),
    ("mount::dirmeta::the_option_switches_it_off", &["dirmeta_delegate"]),
    ("mount::rename_dir::a_redirect_moves_a_directory_alone", &["redirect_dir"]),
    ("formats::redirect::redirects_are_not_followed_if_not_wanted", &["redirect_dir"]),
    ("mount::rename_dir::it_is_exdev_where_it_is_not_wanted_or_too_much", &["rename_lower"]),
    ("formats::number::without_the_upper_bits", &["xino"]),
    ("formats::number::of_32_bits", &["ino32_t"]),
    ("formats::links::written_as_the_kernel_does", &["index"]),
    ("formats::links::off", &["index"]),
    ("mount::handles::what_the_kernel_has_forgotten_is_found_again", &["nfs_export"]),
    ("mount::handles::without_the_option_nothing_is_remembered", &["nfs_export"]),
    ("formats::forms::both_namespaces_on_one_directory", &["xattr", "userxattr"]),
    ("formats::forms::whiteout_char_is_the_kernels_form", &["whiteout"]),
    ("formats::forms::whiteout_xattr_is_written_where_it_is_asked_for", &["whiteout"]),
    ("formats::forms::whiteout_aufs_is_the_form_of_images", &["whiteout"]),
    ("formats::metacopy_write::changes_of_metadata_copy_no_data", &["metacopy"]),
    ("formats::metacopy_write::off_by_default", &["metacopy"]),
    ("cli::traffic::volatile_forces_out_nothing", &["volatile", "fsync"]),
    ("engine::opening::each_durability_forces_out_what_it_says", &["fsync"]),
    ("cli::traffic::sync_forces_out_each_write", &["sync", "async"]),
    ("cli::effects::words_of_the_mount", &["dirsync"]),
    ("mount::owners::a_map_shows_ids_of_the_layers_as_others", &["uidmapping", "gidmapping"]),
    (
        "mount::owners::all_objects_have_the_owner_they_are_squashed_to",
        &["squash_to_uid", "squash_to_gid"],
    ),
    ("mount::owners::a_chown_without_effect_takes_set_id_bits", &["squash_to_root"]),
    ("mount::override_stat::each_form_keeps_everything_over_a_remount", &["xattr_permissions"]),
    ("cli::access::who_may_use_the_mount_of_a_user", &["allow_other", "allow_root"]),
    ("cli::access::who_may_use_the_mount_of_root", &["allow_root"]),
    ("cli::effects::attributes_can_be_left_out", &["noacl", "noxattrs"]),
    (
        "cli::effects::words_of_the_mount",
        &[
            "ro",
            "rw",
            "suid",
            "nosuid",
            "dev",
            "nodev",
            "exec",
            "noexec",
            "noatime",
            "atime",
            "relatime",
            "strictatime",
            "diratime",
            "nodiratime",
            "fsname",
            "subtype",
        ],
    ),
    ("mount::readonly::ro_forbids_what_the_upper_would_allow", &["ro"]),
    ("cli::mount8::a_remount_changes_what_it_names", &["remount"]),
    (
        "cli::labels::each_label_is_passed_to_mount",
        &["context", "fscontext", "defcontext", "rootcontext"],
    ),
    ("cli::effects::a_killed_server_is_unmounted_where_that_is_asked_for", &["auto_unmount"]),
    ("cli::traffic::timeout_says_how_long_the_kernel_remembers", &["timeout"]),
    ("mount::copy_up_by::by_default_the_first_change_copies_up", &["copy_up"]),
    ("mount::passthrough::files_of_the_upper_are_written_without_the_server", &["io"]),
    ("cli::traffic::writeback_gathers_small_writes", &["writeback"]),
    ("cli::traffic::max_write_is_the_largest_request", &["max_write"]),
    ("cli::traffic::max_read_is_the_largest_request", &["max_read"]),
    ("cli::effects::threads_can_be_one", &["threaded", "threads", "max_threads"]),
    ("cli::effects::a_server_can_be_kept_from_spinning", &["spin"]),
    ("cli::tests::debug_stays_in_front", &["debug"]),
    // These have no other effect than to be refused.
    ("cli::tests::errors_name_the_option", &["verity", "plugins"]),
];

/// Words that change nothing, as the table says of them, and why they are there.
const WITHOUT_EFFECT: &[(&str, &[&str])] = &[
    ("on in any case: without it nobody would check modes", &["default_permissions"]),
    ("the kernel keeps no times for FUSE", &["lazytime", "nolazytime"]),
    ("so in any case", &["static_nlink", "fast_ino", "nonempty", "kernel_cache", "use_ino"]),
    ("so in any case", &["readdir_ino", "hard_remove", "intr", "big_writes", "large_read"]),
    ("so in any case", &["async_read", "atomic_o_trunc"]),
    ("how libfuse talks to the kernel, which nobody can tell", &["clone_fd"]),
    ("how libfuse moves bytes, which nobody can tell", &["splice_read", "no_splice_read"]),
    ("how libfuse moves bytes, which nobody can tell", &["splice_write", "no_splice_write"]),
    ("how libfuse moves bytes, which nobody can tell", &["splice_move", "no_splice_move"]),
    ("a warning, or an error with --strict", &["max_idle_threads", "auto_cache", "noauto_cache"]),
    ("a warning, or an error with --strict", &["noforget", "sync_read", "max_background"]),
    ("a warning, or an error with --strict", &["congestion_threshold", "max_readahead", "blksize"]),
];

fn all(lists: &[(&str, &[&'static str])]) -> BTreeSet<&'static str> {
    lists.iter().flat_map(|(_, words)| words.iter().copied()).collect()
}

fn violation(what: String) -> Violation {
    Violation { path: "tests/tidy/options.rs".to_owned(), line: 1, what }
}

/// Words without an entry, entries without a word, and words that have both.
pub fn unlisted() -> Vec<Violation> {
    let table: BTreeSet<_> = OPTIONS.iter().flat_map(|option| option.words()).collect();
    let inert: BTreeSet<_> = OPTIONS
        .iter()
        .filter(|option| option.is_without_effect())
        .flat_map(|option| option.words())
        .collect();
    let (shown, without) = (all(EFFECTS), all(WITHOUT_EFFECT));
    let known = &shown | &without;
    let mut found = Vec::new();
    let mut add = |words: BTreeSet<&str>, what: &str| {
        found.extend(words.iter().map(|word| violation(format!("{word}: {what}"))));
    };
    add(&table - &known, "no test shows what it does");
    add(&known - &table, "no option is called so");
    add(&shown & &without, "it has an effect, or it has none");
    add(&inert - &without, "the table says that it has no effect");
    found
}

/// Tests that are not there, or whose file never names the word that they are said to show.
pub fn unproved(sources: &[Source]) -> Vec<Violation> {
    let pairs = EFFECTS.iter().flat_map(|(test, words)| words.iter().map(move |word| (test, word)));
    pairs
        .filter_map(|(test, word)| match file_of(test, sources) {
            None => Some(violation(format!("{word}: there is no test {test}"))),
            Some(file) if BY_THE_SETUP.contains(word) || file.text.contains(word) => None,
            Some(file) => Some(violation(format!("{word}: {} does not name it", file.path))),
        })
        .collect()
}

/// What every mount of a test has, by its `Setup`.
const BY_THE_SETUP: &[&str] = &["lowerdir", "upperdir", "workdir"];
