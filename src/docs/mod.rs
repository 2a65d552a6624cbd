//! The documents of the project, as they lie in `src/docs`.
//!
//! * [`manual`]: how a mount is made and used, all options, all limits.
//! * [`architecture`]: where to begin reading, what is where, what must stay true.
//! * [`semantics`]: what the mount does, operation by operation.
//! * [`format`](mod@format): what layers contain, what is read and what is written.
//! * [`tools`]: what the subcommands do with layers and with running mounts.
//! * [`performance`]: what is cached, and what an operation costs.

pub mod manual {
    #![doc = include_str!("manual.md")]
}

pub mod architecture {
    #![doc = include_str!("architecture.md")]
}

pub mod semantics {
    #![doc = include_str!("semantics.md")]
}

pub mod format {
    #![doc = include_str!("format.md")]
}

pub mod performance {
    #![doc = include_str!("performance.md")]
}

pub mod tools {
    #![doc = include_str!("tools.md")]
}
