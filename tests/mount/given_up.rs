//! Programs that are killed while a change of theirs waits for a layer that hangs: they end, and
//! what they wanted does not happen afterwards, behind the back of the kernel and of everybody.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use crate::support::process::wait_for;
use crate::support::{Dir, Mount, Scratch, SlowFs, passthrough_everywhere, release};
use crate::{needs, not_the_kernels};

/// How long may take what waits for nobody, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// The kernel that sends the requests of [`CHANGES`].
const REQUESTS_AS_OF: (u32, u32) = (6, 18);

/// A change in a directory of its own that the layer has, with the file `f` of several lines and
/// the empty directory `e`; and the request that it hangs in. Before some changes the kernel looks
/// a name up once more: `tests/crash` gives up each operation.
const CHANGES: [(&str, &str); 14] = [
    ("SETATTR", "exec chmod 600 $D/f"),
    ("SETATTR", "exec chown 1:1 $D/f"),
    ("SETATTR", "exec touch -d 2001-01-01 $D/f"),
    ("SETATTR", "exec truncate -s 3 $D/f"),
    ("WRITE", "echo more >> $D/f"),
    ("SETXATTR", "exec setfattr -n user.new -v value $D/f"),
    ("UNLINK", "exec unlink $D/f"),
    ("RMDIR", "exec rmdir $D/e"),
    ("LOOKUP", "exec mv -T $D/f $D/g"),
    ("LOOKUP", "exec ln $D/f $D/g"),
    ("LOOKUP", "exec ln -s target $D/g"),
    ("LOOKUP", "exec mkdir $D/g"),
    ("LOOKUP", "exec mkfifo $D/g"),
    ("MKNOD", "exec 3> $D/g"),
];

struct Scene {
    s: Scratch,
    // After what uses it.
    slow: SlowFs,
    place: Dir,
}

impl Scene {
    fn new() -> Self {
        let s = Scratch::new();
        let source = s.base().sub("source");
        for dir in 0..CHANGES.len() {
            source.file(format!("{dir}/f"), "one\ntwo\n".repeat(1000));
            source.dir(format!("{dir}/e"));
        }
        let place = s.base().sub("slow-lower");
        place.dir("");
        let slow = SlowFs::mount(source.root(), &place);
        Self { s, slow, place }
    }

    fn mount(&self) -> Mount {
        let lowers = vec![self.s.lower(0).root().to_owned(), self.place.root().to_owned()];
        self.s.setup().lowers(lowers).mount()
    }
}

/// Each name below a directory, with all that the changes could change of it.
fn tree(dir: &Dir) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    for above in dir.names("") {
        for name in dir.names(&above) {
            let path = format!("{above}/{name}");
            let stat = dir.stat(&path);
            let content = if stat.is_file() { dir.read(&path) } else { String::new() };
            let attributes = xattr::list(dir.path(&path)).unwrap();
            let attributes: Vec<_> = attributes.map(|name| name.into_string().unwrap()).collect();
            seen.insert(path, look(&stat, &content, &attributes));
        }
    }
    seen
}

fn look(stat: &std::fs::Metadata, content: &str, attributes: &[String]) -> String {
    use std::os::unix::fs::MetadataExt;
    let (mode, uid, gid, mtime) = (stat.mode(), stat.uid(), stat.gid(), stat.mtime());
    format!("{mode:o} {uid}:{gid} {mtime} {} {attributes:?}", content.len())
}

fn start(dir: &Path, script: &str) -> Child {
    let mut command = Command::new("sh");
    command.args(["-ec", script]).current_dir("/").env("D", dir).spawn().unwrap()
}

/// Has the kernel know all attributes, so that programs ask for nothing but their change. Reading
/// and listing make it forget some.
fn make_known(dir: &Dir) {
    for above in dir.names("") {
        for name in dir.names(&above) {
            dir.stat(format!("{above}/{name}"));
        }
        // So it is not there, which is remembered too.
        assert!(!dir.exists(format!("{above}/g")));
        dir.stat(above);
    }
    dir.stat("");
}

/// The requests that hang, sorted.
fn hanging(m: &Mount) -> Vec<String> {
    let statistics = m.statistics();
    let held_up = statistics["held_up"].as_array().unwrap();
    let mut requests: Vec<_> =
        held_up.iter().map(|one| one["request"].as_str().unwrap().to_owned()).collect();
    requests.sort();
    requests
}

#[test]
fn a_change_that_waits_for_a_hung_layer_is_given_up() {
    needs!(mount);
    not_the_kernels!("it has no threads of its own");
    let scene = Scene::new();
    let mut m = scene.mount();
    let before = tree(&m);
    make_known(&m);
    let frozen = scene.slow.freeze();
    let mut programs: Vec<Child> =
        (0..CHANGES.len()).map(|dir| start(&m.path(dir.to_string()), CHANGES[dir].1)).collect();
    let mut wanted: Vec<_> = CHANGES.iter().map(|(request, _)| *request).collect();
    if passthrough_everywhere() {
        // Then each open is a request, and one that makes a file is another.
        let made = wanted.iter_mut().find(|request| **request == "MKNOD");
        *made.unwrap() = "CREATE";
    }
    wanted.sort_unstable();
    // Older kernels look some of the names up once more.
    let is_older = release::running() < REQUESTS_AS_OF;
    let all_hang = |found: Vec<String>| match is_older {
        true => found.len() == wanted.len(),
        false => found == wanted,
    };
    assert!(wait_for(SOON, || all_hang(hanging(&m))), "{:?}\n{wanted:?}", hanging(&m));
    for program in &mut programs {
        program.kill().unwrap();
    }
    for (program, (_, script)) in programs.iter_mut().zip(CHANGES) {
        let ends = wait_for(SOON, || program.try_wait().unwrap().is_some());
        assert!(ends, "{script}: cannot be killed");
        assert_eq!(program.wait().unwrap().signal(), Some(libc::SIGKILL), "{script}");
    }
    frozen.thaw();
    // The threads are done then.
    assert!(wait_for(SOON, || hanging(&m).is_empty()), "{:?}", hanging(&m));
    assert_eq!(tree(&m), before);
    assert!(scene.s.work.names("work").is_empty(), "{:?}", scene.s.work.names("work"));
    m.unmount();
    let mut m = scene.mount();
    assert_eq!(tree(&m), before, "after a remount");
    // And all of it works now.
    for (dir, (_, script)) in CHANGES.iter().enumerate() {
        let status = start(&m.path(dir.to_string()), script).wait().unwrap();
        assert!(status.success(), "{script}");
    }
    let after = tree(&m);
    let changed = |dir: usize| {
        let part = |tree: &BTreeMap<String, String>| -> Vec<_> {
            let of_dir = |(path, _): &(&String, &String)| path.starts_with(&format!("{dir}/"));
            tree.iter().filter(of_dir).map(|(path, look)| (path.clone(), look.clone())).collect()
        };
        part(&after) != part(&before)
    };
    let unchanged: Vec<_> = (0..CHANGES.len()).filter(|dir| !changed(*dir)).collect();
    assert!(unchanged.is_empty(), "the test sees nothing of {unchanged:?}");
    m.unmount();
}
