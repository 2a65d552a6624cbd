//! Options that contradict each other, or that have no effect beside others.
//!
//! If an option is given twice (`ro,rw`), the last one counts, as for mount(8). Two options that no
//! caller adds by itself (`xattr=trusted,userxattr`) are an error. Others are a warning: container
//! runtimes add words (`volatile`) to the options of a user, and their mounts must not fail.

use super::request::{Request, UsageError};
use crate::config::{Durability, IndexChoice};

impl Request {
    /// Checks the options of a mount against each other. With `has_source` the command line has the
    /// form that mount(8) gives it.
    ///
    /// # Errors
    /// If two options exclude each other.
    pub fn check_together(&mut self, has_source: bool) -> Result<(), UsageError> {
        self.check_contradictions()?;
        self.check_without_upper(has_source);
        Ok(())
    }

    /// Checks for options that contradict each other.
    ///
    /// # Errors
    /// If two options exclude each other.
    pub fn check_contradictions(&mut self) -> Result<(), UsageError> {
        if self.last("xattr") == Some("xattr=trusted") && self.last("userxattr").is_some() {
            return Err(exclude("xattr=trusted", "userxattr"));
        }
        if self.has("allow_other") && self.has("allow_root") {
            // Both are in one row of the table, so this is the one given last.
            let counts = self.last("allow_other").unwrap_or_default();
            self.warnings.push(contrary("allow_other", "allow_root", counts));
        }
        // In the other order it is an error, as in the kernel (`ovl_parse_layer`).
        for word in ["lowerdir+", "datadir+"] {
            if self.lowers.at_once && self.last(word).is_some() {
                let text = format!(
                    "option `{word}` has no effect with `lowerdir` behind it, which names all \
                     layers; leave one out"
                );
                self.warnings.push(text);
            }
        }
        self.warn_of_two("volatile", "fsync", |_, fsync| {
            ["fsync=auto", "fsync=strict", "fsync=1"].contains(&fsync)
        });
        self.warn_of_two("ino32_t", "xino", |_, xino| ["xino=on", "xino=off"].contains(&xino));
        self.warn_of_two("threaded", "threads", |threaded, threads| {
            let one = ["threaded=0", "threaded=off", "threaded=no", "threaded=false"];
            one.contains(&threaded) && threads != "threads=1"
        });
        if self.config.mount.sync && self.config.durability == Durability::Volatile {
            let durability = if self.has("volatile") { "volatile" } else { "fsync=volatile" };
            self.warnings.push(format!("option `sync` has no effect with `{durability}`"));
        }
        Ok(())
    }

    /// Warns of options that have no effect without an upper, as the kernel's overlayfs does
    /// (`ovl_fs_params_verify`, fs/overlayfs/params.c).
    fn check_without_upper(&mut self, has_source: bool) {
        if self.upper.is_some() {
            return;
        }
        // mount(8) writes `rw` by itself.
        let asked_for_changes = self.last("ro") == Some("rw") && !has_source;
        let has_index = self.config.index == IndexChoice::On;
        let none = "has no effect without `upperdir`";
        for (given, word, what) in [
            (asked_for_changes, "rw", ": the mount is read-only"),
            (self.last("volatile").is_some(), "volatile", ""),
            (has_index, "index=on", ""),
        ] {
            if given {
                self.warnings.push(format!("option `{word}` {none}{what}"));
            }
        }
    }

    /// Warns of two options, named by their rows of the table, if they contradict each other as
    /// given. The last one counts.
    fn warn_of_two(&mut self, one: &str, other: &str, are_contrary: fn(&str, &str) -> bool) {
        let (Some(first), Some(second)) = (self.last(one), self.last(other)) else { return };
        if !are_contrary(first, second) {
            return;
        }
        let place = |name: &str| self.given.iter().rposition(|(known, _)| *known == name);
        let counts = if place(one) > place(other) { first } else { second };
        self.warnings.push(contrary(first, second, counts));
    }

    /// The text of an option when it was last given, by the name of its row in the table.
    fn last(&self, name: &str) -> Option<&str> {
        let mut given = self.given.iter().rev();
        given.find(|(known, _)| *known == name).map(|(_, text)| text.as_str())
    }

    /// Whether an option was given in these words.
    fn has(&self, text: &str) -> bool {
        self.given.iter().any(|(_, written)| written == text)
    }
}

fn contrary(one: &str, other: &str, counts: &str) -> String {
    format!(
        "options `{one}` and `{other}` contradict each other: `{counts}` counts, as it stands last; \
         leave one out"
    )
}

fn exclude(one: &str, other: &str) -> UsageError {
    UsageError::new(format!("options `{one}` and `{other}` exclude each other: leave one out"))
}
