//! Rounds of writing, checking, unmounting, mounting and checking again. Every few rounds the upper
//! becomes the topmost lower, as when an image is committed, so the database is copied up again and
//! again while processes work on it, sometimes with a write-ahead log beside it in the lower layer.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::needs;
use crate::support::{Mount, Scratch, Setup, need, process};

/// Unless `OVLMERGE_SQLITE_ROUNDS` says otherwise.
const ROUNDS: u64 = 50;
const ROUNDS_IN_ONE_UPPER: u64 = 5;
const WRITERS: u64 = 4;
const TRANSACTIONS: u64 = 60;
const MEGABYTES: &str = "100";
/// The layers that are kept; the database in the topmost hides all others.
const MOST_LOWERS: usize = 4;

#[test]
fn sqlite_keeps_every_committed_row() {
    needs!(mount);
    if !python_has_sqlite(crate::test_name!()) {
        return;
    }
    let started = Instant::now();
    let rounds = std::env::var("OVLMERGE_SQLITE_ROUNDS");
    let rounds: u64 = rounds.map_or(ROUNDS, |text| text.parse().expect("a number"));
    let mut gate = Gate::new();
    let original = fs::read(gate.lowers[0].join("var/db")).unwrap();
    let mut mount = gate.mount();
    for round in 0..rounds {
        gate.write(&mount, round);
        gate.verify(&mount.path("var/db"), &format!("round {round}"));
        mount.unmount();
        if round % ROUNDS_IN_ONE_UPPER == ROUNDS_IN_ONE_UPPER - 1 {
            gate.commit_upper(round);
        }
        mount = gate.mount();
        gate.verify(&mount.path("var/db"), &format!("round {round}, after a new mount"));
    }
    gate.take_out(&mount);
    mount.unmount();
    let base = gate.lowers.last().unwrap().join("var/db");
    assert!(fs::read(base).unwrap() == original, "the database in the lowest layer was written");
    println!("{rounds} rounds in {:?}", started.elapsed());
}

struct Gate {
    scratch: Scratch,
    /// Topmost first.
    lowers: Vec<PathBuf>,
    ledgers: Vec<PathBuf>,
}

impl Gate {
    fn new() -> Self {
        let scratch = Scratch::new();
        scratch.base().file("sqlite.py", include_str!("sqlite.py"));
        scratch.lower(0).dir("var");
        let lowers = vec![scratch.lower(0).root().to_owned()];
        let gate = Self { scratch, lowers, ledgers: Vec::new() };
        let mut build = gate.script("build", &gate.lowers[0].join("var/db"));
        finish("build", build.arg(MEGABYTES).spawn().unwrap());
        gate
    }

    fn mount(&self) -> Mount {
        let setup = Setup::new(self.lowers.clone(), self.scratch.mnt.root());
        setup.upper(self.scratch.upper.root()).work(self.scratch.work.root()).mount()
    }

    fn script(&self, mode: &str, database: &Path) -> Command {
        let mut command = Command::new("python3");
        command.arg(self.scratch.base().path("sqlite.py")).arg(mode).arg(database);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null());
        command
    }

    /// One round: a reader that was there first, and the writers. The odd rounds end without
    /// closing the database, and in every third a writer is killed on the way.
    fn write(&mut self, mount: &Mount, round: u64) {
        let database = mount.path("var/db");
        let mut reader = self.script("read", &database).stdin(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(reader.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let ending = if round % 2 == 1 { "abandon" } else { "close" };
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let seed = round * WRITERS + writer;
            let ledger = self.scratch.base().path(format!("ledger.{seed}"));
            let mut command = self.script("write", &database);
            command.arg(&ledger).args([&seed.to_string(), &TRANSACTIONS.to_string(), ending]);
            writers.push(command.spawn().unwrap());
            self.ledgers.push(ledger);
        }
        if round % 3 == 2 {
            thread::sleep(Duration::from_millis(150 + 20 * (round % 7)));
            let mut victim = writers.pop().unwrap();
            victim.kill().unwrap();
            victim.wait().unwrap();
        }
        for writer in writers {
            finish(&format!("round {round}: a writer"), writer);
        }
        drop(reader.stdin.take());
        finish(&format!("round {round}: the reader (\"{}\")", ready.trim()), reader);
    }

    fn verify(&self, database: &Path, when: &str) {
        let ledgers = self.ledgers.iter().filter(|ledger| ledger.exists());
        finish(when, self.script("verify", database).args(ledgers).spawn().unwrap());
    }

    fn commit_upper(&mut self, round: u64) {
        let committed = self.scratch.base().path(format!("committed.{round}"));
        fs::rename(self.scratch.upper.root(), &committed).unwrap();
        self.lowers.insert(0, committed);
        fs::remove_dir_all(self.scratch.work.root()).unwrap();
        self.scratch.upper.dir("");
        self.scratch.work.dir("");
        if self.lowers.len() > MOST_LOWERS {
            fs::remove_dir_all(self.lowers.remove(MOST_LOWERS - 1)).unwrap();
        }
    }

    /// The database must be whole without the mount as well.
    fn take_out(&self, mount: &Mount) {
        let out = self.scratch.base().sub("out");
        out.dir("");
        for name in mount.names("var") {
            fs::copy(mount.path("var").join(&name), out.path(&name)).unwrap();
        }
        self.verify(&out.path("db"), "outside of the mount");
    }
}

fn finish(what: &str, child: Child) {
    let output = child.wait_with_output().unwrap();
    let complaint = process::text(&output.stderr);
    assert!(output.status.success(), "{what}: {}: {complaint}", output.status);
}

fn python_has_sqlite(test: &str) -> bool {
    let python = Command::new("python3").args(["-c", "import sqlite3"]).output();
    let has = python.is_ok_and(|output| output.status.success());
    has || need::lacks(test, "needs python3 with its sqlite3 module")
}
