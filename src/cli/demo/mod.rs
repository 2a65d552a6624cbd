//! `ovlmerge demo`: what an overlay does, shown on a few small layers.
//!
//! Every step checks its own result. If a result is wrong, the demo ends with status 1 and says
//! what it had expected.

mod listing;
mod mounted;
mod scene;
mod steps;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};

use super::{Exit, complain};
use mounted::Mounted;
use scene::Scene;

const HELP: &str = "\
Shows merging, copy-up, whiteouts, opaque and delegated directories on a few small layers.

Usage: ovlmerge demo

The layers are made in a temporary folder (TMPDIR, else /tmp), which is removed at the end.
To mount on a directory called demo, write ovlmerge -o lowerdir=... demo
";

/// Why the demo stopped, in a sentence.
#[derive(Debug)]
pub(super) struct Stop(String);

impl Stop {
    fn new(text: impl fmt::Display) -> Self {
        Self(text.to_string())
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Adds what was being done to an error of the system.
trait Doing<T> {
    fn doing(self, what: impl fmt::Display) -> Result<T, Stop>;
}

impl<T, E: fmt::Display> Doing<T> for Result<T, E> {
    fn doing(self, what: impl fmt::Display) -> Result<T, Stop> {
        self.map_err(|err| Stop(format!("{what}: {err}")))
    }
}

/// Runs the demo. `args` are the arguments after its name.
pub(super) fn run(args: Vec<OsString>) -> Exit {
    let mut out = io::stdout().lock();
    match args.first() {
        None => {}
        Some(arg) if arg == "-h" || arg == "--help" => {
            return match out.write_all(HELP.as_bytes()) {
                Ok(()) => Exit::Done,
                Err(_) => Exit::Failed,
            };
        }
        Some(arg) => {
            complain(format_args!(
                "the demo takes no argument, not {}; to mount on a directory called demo, \
                 write ovlmerge -o lowerdir=... demo",
                arg.display()
            ));
            return Exit::Usage;
        }
    }
    match show(&mut out) {
        Ok(()) => Exit::Done,
        Err(stop) => {
            complain(format_args!("demo: {stop}"));
            Exit::Failed
        }
    }
}

fn show(out: &mut dyn Write) -> Result<(), Stop> {
    mounted::check_machine()?;
    let scene = Scene::build()?;
    let tell = |out: &mut dyn Write, text: &str| writeln!(out, "{text}").doing("stdout");

    tell(out, &format!("Layers in {}", scene.root().display()))?;
    tell(out, &scene.describe()?)?;
    tell(out, &format!("$ {}", scene.command_line()))?;
    let mounted = Mounted::start(&scene)?;
    tell(out, "")?;

    for step in steps::ALL {
        let shown = step(&scene)?;
        tell(out, &shown)?;
    }
    tell(out, "What the upper holds now")?;
    tell(out, &listing::raw(&scene.upper)?)?;

    mounted.stop()?;
    steps::after_unmount(&scene)?;
    let root = scene.remove()?;
    tell(out, &format!("Unmounted; {} is removed. All steps did what they said.", root.display()))
}
