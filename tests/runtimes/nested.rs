//! A container that runs containers, with the program beneath both.
//!
//! The inner store can stand on a volume, or on the overlay of the outer container. There a layer
//! with whiteouts cannot be unpacked: podman writes these as files called `.wh.NAME`, which no
//! overlay can hold as such. So what is committed here goes to a volume.

use rstest::rstest;

use crate::needs_runtimes;
use crate::space::{Space, Who};
use crate::store::{BASE, Driver, Store};

/// An image with nothing in it: what the machine has installed is mounted into it.
const SKELETON: &str = r#"
    mkdir skeleton
    cd skeleton
    mkdir dev etc overlay proc root run sys tmp usr var var/tmp volume
    chmod 1777 tmp var/tmp
    for name in bin lib lib32 lib64 libx32 sbin; do
        if [ -L "/$name" ]; then ln -s "usr/$name" "$name"; fi
    done
    tar -c . | podman import --quiet - localhost/nest >/dev/null
"#;

/// What is done in the outer container: HOME of the test, directory for the store.
const INNER: &str = r#"
    export CONTAINERS_STORAGE_CONF=$2/storage.conf HOME=/root
    cat >$2/storage.conf <<END
[storage]
driver = "overlay"
graphroot = "$2/store"
runroot = "$2/run"
[storage.options.overlay]
mount_program = "$1/ovlmerge"
END
    podman import --quiet "$1/base.tar" localhost/base >/dev/null
    change='rm -r /opt/old; mkdir /opt/old; echo in > /opt/old/in; chown 9:9 /opt/old/in;
            rm /etc/group; ls -n /opt/old; cat /opt/old/in; head -n1 /proc/mounts'
    podman run --name=in localhost/base sh -euc "$change" | tr -s ' ' | cut -d' ' -f1-4
    podman diff in | sort
"#;

/// Goes on after [`INNER`].
const COMMIT: &str = r#"
    podman commit --quiet in localhost/changed >/dev/null
    podman run --rm localhost/changed sh -c 'ls /opt/old /etc/passwd /etc/group 2>/dev/null || true'
"#;

const OUTPUT: &str = "total 4
-rw-r--r-- 1 9 9
in
ovlmerge / fuse.ovlmerge rw,noatime,user_id=0,group_id=0,default_permissions,allow_other
A /opt/old/in
C /etc
C /opt
C /opt/old
D /etc/group
D /opt/old/deep
D /opt/old/fifo
D /opt/old/file
D /opt/old/link
D /opt/old/twin
";

/// Runs a script in a privileged container.
fn nested(store: &Store, space: &Space, script: &str, inner: &str) -> String {
    let home = space.home().root().to_str().unwrap();
    let volume = format!("--volume={home}:{home}:ro");
    store.podman(&[
        "run",
        "--rm",
        "--privileged",
        "--device=/dev/fuse",
        "--volume=/volume",
        "--volume=/usr:/usr:ro",
        "--volume=/etc:/etc:ro",
        &volume,
        "localhost/nest",
        "sh",
        "-euc",
        script,
        "sh",
        home,
        inner,
    ])
}

#[rstest]
fn podman_in_podman(#[values(Who::Root, Who::User)] who: Who) {
    needs_runtimes!();
    let space = Space::new(who);
    let store = Store::new(&space, "store", Driver::Program);
    store.run(&["sh", "-euc", &format!("cd store\n{SKELETON}")]);
    let on_a_volume = nested(&store, &space, &format!("{INNER}{COMMIT}"), "/volume");
    assert_eq!(on_a_volume, format!("{OUTPUT}/etc/passwd\n\n/opt/old:\nin\n"));
    assert_eq!(nested(&store, &space, INNER, "/overlay"), OUTPUT);
    assert_eq!(store.in_new(BASE, "cat /opt/old/file"), "first\n");
    space.expect_nothing_mounted();
}
