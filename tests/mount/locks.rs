//! Advisory locks.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::needs;
use crate::support::process::wait_for;
use crate::support::{Mount, Scratch, need};

fn open(m: &Mount, name: &str) -> File {
    OpenOptions::new().read(true).write(true).open(m.path(name)).unwrap()
}

#[test]
fn flock_excludes_over_a_copy_up() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    let m = s.mount();
    let reader = File::open(m.path("f")).unwrap();
    reader.lock_shared().unwrap();
    let writer = open(&m, "f");
    assert!(matches!(writer.try_lock(), Err(TryLockError::WouldBlock)));
    fs::write(m.path("f"), "copied up").unwrap();
    assert!(matches!(writer.try_lock(), Err(TryLockError::WouldBlock)));
    reader.unlock().unwrap();
    writer.try_lock().unwrap();
    assert!(matches!(reader.try_lock_shared(), Err(TryLockError::WouldBlock)));
    drop(writer);
    // A program that another test starts has a copy of the descriptor for a moment.
    assert!(wait_for(Duration::from_secs(20), || reader.try_lock_shared().is_ok()));
}

/// Record locks belong to processes, so it takes a second one: the shell's flock(1) has none, but
/// sqlite and many daemons use them.
#[test]
fn record_locks_exclude_another_process() {
    needs!(mount);
    if !need::program(crate::test_name!(), "python3") {
        return;
    }
    let s = Scratch::new();
    s.lower(0).file("f", "0123456789");
    let m = s.mount();
    let holder = "import fcntl,sys;f=open(sys.argv[1],'r+b')
fcntl.lockf(f,fcntl.LOCK_EX,4,0);print('locked',flush=True);sys.stdin.read()";
    let mut child = Command::new("python3")
        .args(["-c", holder])
        .arg(m.path("f"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 7];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
    let tester = "import fcntl,sys;f=open(sys.argv[1],'r+b')
def free(at):
    try: fcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB,2,at); return True
    except BlockingIOError: return False
print(free(0),free(3),free(4),free(8))";
    let run = || {
        let path = m.path("f");
        crate::support::process::run("python3", &["-c", tester, path.to_str().unwrap()])
    };
    let held = run();
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(held.trim(), "False False True True");
    assert_eq!(run().trim(), "True True True True");
}
