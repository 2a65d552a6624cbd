//! Options that say different things of one matter, or that have no effect beside others.
//!
//! Of two words for one option the last counts, as mount(8) has it: `ro,rw`. What no caller writes
//! by itself is an error here. What container runtimes are seen to add to the options of a user
//! (`volatile`) is a warning: their mounts must not fail.

use super::request::{Request, UsageError};
use crate::config::{Durability, IndexChoice};

impl Request {
    /// Looks at the options of a mount that were given together. With `has_source` the command line
    /// has the form that mount(8) gives it.
    ///
    /// # Errors
    /// For two that exclude each other.
    pub fn check_together(&mut self, has_source: bool) -> Result<(), UsageError> {
        self.check_contradictions()?;
        self.check_without_upper(has_source);
        Ok(())
    }

    /// Looks for options that say different things of one matter.
    ///
    /// # Errors
    /// For two that exclude each other.
    pub fn check_contradictions(&mut self) -> Result<(), UsageError> {
        if self.last("xattr") == Some("xattr=trusted") && self.last("userxattr").is_some() {
            return Err(exclude("xattr=trusted", "userxattr"));
        }
        if self.has("allow_other") && self.has("allow_root") {
            // One row of the table: whichever was given last.
            let counts = self.last("allow_other").unwrap_or_default();
            self.warnings.push(contrary("allow_other", "allow_root", counts));
        }
        // The other way round it is an error, in the kernel too (`ovl_parse_layer`).
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

    /// Says what has no effect without an upper, as the kernel's overlayfs does
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

    /// Warns of two options, by the names of their rows, if they are contrary as they were given.
    /// The last counts.
    fn warn_of_two(&mut self, one: &str, other: &str, are_contrary: fn(&str, &str) -> bool) {
        let (Some(first), Some(second)) = (self.last(one), self.last(other)) else { return };
        if !are_contrary(first, second) {
            return;
        }
        let place = |name: &str| self.given.iter().rposition(|(known, _)| *known == name);
        let counts = if place(one) > place(other) { first } else { second };
        self.warnings.push(contrary(first, second, counts));
    }

    /// How an option was given the last time, by the name of its row in the table.
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
