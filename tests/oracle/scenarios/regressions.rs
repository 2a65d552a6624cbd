//! What random sequences have found, shrunk, under a name that says what was wrong.

use crate::case::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a change through the descriptor of a removed directory reached the lower",
        lowers: &["mkdir a 755"],
        ops: "
            open 1 a -
            open 2 a -
            open 3 a -
            rmdir a
            fchmod 1 644
            fchown 2 5 6
            fsetxattr 3 user.one one
        ",
    },
    Scenario {
        name: "rmdir of a full directory copied its parent up",
        lowers: &["
                mkdir a 755
                mkdir a/a 755
                mkdir a/a/a 755
            "],
        ops: "rmdir a/a",
    },
];
