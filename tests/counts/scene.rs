//! The client: layers, a mount for each operation, and the operation itself.
//!
//! It is a Python program in a user and a mount namespace of its own, where this process, which has
//! many threads, cannot go.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::support::binary;
use crate::table::{Costs, Row};
use crate::trace::Trace;

/// The running client. Dropping it ends it, its mount and its server.
#[derive(Debug)]
pub struct Scene {
    client: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    operations: Vec<String>,
}

impl Scene {
    /// Builds the layers in `dir`.
    pub fn build(dir: &Path) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/counts/scene.py");
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"]);
        command.args(["python3", "-I", "-S", script]).arg(binary()).arg(dir);
        let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, from) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
        let mut scene = Self { client, to, from: BufReader::new(from), operations: Vec::new() };
        loop {
            let line = scene.hear();
            if line.is_empty() {
                return scene;
            }
            scene.operations.push(line);
        }
    }

    /// What it can do.
    pub fn operations(&self) -> Vec<String> {
        self.operations.clone()
    }

    /// Does it on a fresh mount with an empty upper, and returns the costs for each object.
    pub fn measure(&mut self, operation: &str) -> Row {
        self.say(operation);
        let objects: f64 = self.hear().parse().unwrap();
        let server = server_below(self.client.id());
        let trace = Trace::attach(server);
        self.say("go");
        assert_eq!(self.hear(), "done");
        let seen = trace.finish();
        self.say("end");
        Row {
            operation: operation.to_owned(),
            requests: Costs::per(&seen.requests, objects),
            calls: Costs::per(&seen.calls, objects),
        }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.to, "{line}").unwrap();
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the client ended: {line}");
        line.trim_end().to_owned()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // With the first process of its namespace all others go, and the mount with them.
        self.client.kill().unwrap();
        self.client.wait().unwrap();
    }
}

/// The process of ovlmerge among those below `pid`.
fn server_below(pid: u32) -> u32 {
    let program = binary();
    let program = program.file_name().unwrap().to_string_lossy();
    let mut pids = vec![pid];
    while let Some(pid) = pids.pop() {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        // The kernel keeps 15 bytes of it.
        if !name.is_empty() && program.starts_with(name.trim_end()) {
            return pid;
        }
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        pids.extend(children.unwrap().split(' ').filter_map(|pid| pid.parse::<u32>().ok()));
    }
    panic!("no server runs");
}
