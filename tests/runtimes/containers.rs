//! The life of containers.

use rstest::rstest;

use crate::needs_runtimes;
use crate::space::{Space, Who, succeed};
use crate::store::{BASE, Driver, Store, assert_same};

/// One less than podman allows.
const LAYERS: &str = "127";

/// Runs until it is told to stop.
const WAIT: &str = "trap exit TERM; while :; do sleep 0.1; done";

#[rstest]
fn run_exec_copy_diff_commit(#[values(Who::Root, Who::User)] who: Who) {
    needs_runtimes!();
    let space = Space::new(who);
    let store = Store::new(&space, "store", Driver::Program);
    let script = format!("rm -rf /opt/old; mkdir -p /opt/old/new; echo a > /etc/a; {WAIT}");
    store.podman(&["run", "--detach", "--name=one", BASE, "sh", "-euc", &script]);
    assert_eq!(store.podman(&["exec", "one", "sh", "-c", "echo b > /etc/b; cat /etc/a"]), "a\n");

    // Into the container and out of it again.
    store.home().file("in", "from outside\n");
    store.podman(&["cp", "store/in", "one:/opt/old/new/in"]);
    store.podman(&["cp", "one:/opt", "store/out"]);
    assert_eq!(store.home().read("out/old/new/in"), "from outside\n");
    assert_eq!(store.home().names("out/old"), ["new"]);

    let expected = [
        "A /etc/a",
        "A /etc/b",
        "A /opt/old/new",
        "A /opt/old/new/in",
        "C /etc",
        "C /opt",
        "C /opt/old",
        "D /opt/old/deep",
        "D /opt/old/fifo",
        "D /opt/old/file",
        "D /opt/old/link",
        "D /opt/old/twin",
    ];
    assert_eq!(store.diff("one"), expected, "while it runs");
    store.podman(&["stop", "one"]);
    assert_eq!(store.diff("one"), expected, "when it is stopped");
    store.podman(&["commit", "--quiet", "one", "localhost/committed"]);
    assert_eq!(store.diff("localhost/committed"), expected, "as an image");
    store.podman(&["start", "one"]);
    assert_eq!(store.podman(&["exec", "one", "cat", "/etc/b"]), "b\n", "started again");
    store.podman(&["rm", "--force", "--time=1", "one"]);

    let script = "cat /etc/a /etc/b /opt/old/new/in; ls /opt/old";
    assert_eq!(store.in_new("localhost/committed", script), "a\nb\nfrom outside\nnew\n");
    assert_eq!(store.in_new(BASE, "ls /etc/a 2>/dev/null || cat /opt/old/file"), "first\n");
    space.expect_nothing_mounted();
}

/// The mount of the container that has stopped lives on, and the container starts beside it.
#[rstest]
fn stop_and_start_while_somebody_sits_in_its_files(#[values(Who::Root, Who::User)] who: Who) {
    needs_runtimes!();
    let space = Space::new(who);
    let store = Store::new(&space, "store", Driver::Program);
    let script = format!("echo a >> /etc/a; {WAIT}");
    store.podman(&["run", "--detach", "--name=one", BASE, "sh", "-euc", &script]);
    let sit = r#"
        dir=$(podman mount one)
        (cd "$dir/etc"; exec sleep 1000) &
        trap "kill $!" EXIT
        podman umount one >/dev/null
        podman stop one >/dev/null
        podman start one >/dev/null
        for try in $(seq 100); do
            [ "$(podman exec one cat /etc/a)" != "$(printf 'a\na')" ] || break
            sleep 0.1
        done
        podman exec one cat /etc/a
        head -n1 "/proc/$!/cwd/a"
    "#;
    assert_eq!(store.inside(sit, &[]), "a\na\na\n", "the new one, the first line of the old one");
    store.podman(&["rm", "--force", "--time=1", "one"]);
    space.expect_nothing_mounted();
}

#[rstest]
fn volumes(#[values(Who::Root, Who::User)] who: Who) {
    needs_runtimes!();
    let space = Space::new(who);
    let store = Store::new(&space, "store", Driver::Program);
    let plain = space.own_dir("plain");
    plain.file("kept", "kept\n");
    let plain = plain.root().to_str().unwrap();
    let script = "echo new > /volume/new; rm /over/kept; echo over > /over/over; ls /over; \
                  echo named > /named/file; cat /image/opt/old/file; echo i > /image/opt/old/file";
    let out = store.podman(&[
        "run",
        "--rm",
        &format!("--volume={plain}:/volume"),
        &format!("--volume={plain}:/over:O"),
        "--volume=named:/named",
        &format!("--mount=type=image,source={BASE},destination=/image,rw=true"),
        BASE,
        "sh",
        "-euc",
        script,
    ]);
    assert_eq!(out, "new\nover\nfirst\n", "of the overlay and the image");
    assert_eq!(space.home().names("plain"), ["kept", "new"]);
    let again = store.podman(&["run", "--rm", "--volume=named:/named", BASE, "cat", "/named/file"]);
    assert_eq!(again, "named\n");
    space.expect_nothing_mounted();
}

#[rstest]
fn ten_containers_at_once_on_one_image(#[values(Who::Root, Who::User)] who: Who) {
    needs_runtimes!();
    let space = Space::new(who);
    let store = Store::new(&space, "store", Driver::Program);
    let names: Vec<_> = (0..10).map(|number| format!("c{number}")).collect();
    let script = "echo $0 > /opt/old/file; rm /opt/old/link; echo more >> /bin/busybox.copy; ";
    let script = format!("cp /bin/busybox /bin/busybox.copy; {script}{WAIT}");
    std::thread::scope(|scope| {
        for name in &names {
            let args = ["run", "--detach", "--name", name, BASE, "sh", "-euc", &script, name];
            let store = &store;
            scope.spawn(move || store.podman(&args));
        }
    });
    for name in &names {
        let read = "until tail -n1 /bin/busybox.copy | grep -q more; do sleep 0.05; done; \
                    cat /opt/old/file; ls /opt/old";
        let out = store.podman(&["exec", name, "sh", "-euc", read]);
        assert_eq!(out, format!("{name}\ndeep\nfifo\nfile\ntwin\n"));
    }
    store.podman(&["rm", "--force", "--time=0", "--all"]);
    assert_eq!(store.in_new(BASE, "cat /opt/old/link"), "first\n");
    space.expect_nothing_mounted();
}

/// With opaque directories in both forms of the specification, names that change what they are,
/// and directories that only some layers give other owners.
#[rstest]
fn an_image_of_127_layers(#[values(Who::Root, Who::User)] who: Who) {
    needs_runtimes!();
    let space = Space::new(who);
    let base = space.base_image();
    let many = space.own_dir("many");
    succeed(space.command(&[], &["python3", "many.py", base.to_str().unwrap(), "many", LAYERS]));
    assert!(many.exists("index.json"));
    let trees = [("ours", Driver::Program), ("kernels", Driver::Kernel)].map(|(name, driver)| {
        let store = Store::empty(&space, name, driver);
        store.run(&["skopeo", "copy", "-q", "oci:many", "containers-storage:localhost/many"]);
        let out =
            store.in_new("localhost/many", "cat /many/last; echo n > /many/last; ls /many/opaque");
        assert_eq!(out, "layer 126\n126\n");
        store.tree("localhost/many")
    });
    assert_same(&trees[0], &trees[1]);
    space.expect_nothing_mounted();
}
