//! The layers in the hands of another program.

use crate::call::{done, pack};
use crate::needs;
use crate::support::process::{run, shell};
use crate::support::tree::{self, Compare, assert_same_tree};
use crate::support::{Dir, Scratch, Setup};

/// What umoci unpacks of the layers that diff makes of a lower and an upper is what a mount of them
/// shows.
#[test]
fn umoci_unpacks_what_a_mount_shows() {
    needs!(root, mount, umoci);
    for way in [&[][..], &["--opaque=marker", "--compress=gzip"], &["--compress=zstd"]] {
        let s = Scratch::new();
        s.lower(0).file("d/a", "1").file("d/sub/b", "2").file("gone", "").file("to-dir", "");
        s.lower(0).file("keep/a", "3").hard_link("keep/b", "keep/a").mode("keep", 0o1777);
        s.lower(0).file("dir/x", "").owner("keep/a", 5, 6);
        let mut mnt = s.mount();
        let script = "rm -r d; mkdir d; echo new > d/new; mkdir d/sub; rm gone to-dir; mkdir to-dir;
             echo x > keep/c; chown 70000:3 keep/c; chmod 4755 keep/c; setfattr -n user.k -v v keep/c;
             touch -d '1999-01-01 00:00:00.5' keep/c; ln keep/c keep/d; ln -s c keep/l; mkfifo keep/p;
             mknod keep/null c 1 3; rm -r dir; echo file > dir; echo y >> keep/a";
        shell(mnt.root(), script);
        mnt.unmount();
        let base = s.base().root();
        let empty = s.base().sub("empty");
        empty.dir("");
        let first = |upper: &Dir| {
            let options =
                format!("lowerdir={},upperdir={}", empty.root().display(), upper.root().display());
            done(["diff", "-o", &options]).stdout
        };
        s.base().file("1", first(s.lower(0))).file("2", pack(&s, way));
        let image = "umoci init --layout img; umoci new --image img:t; umoci raw add-layer --image \
             img:t 1; umoci raw add-layer --image img:t 2; umoci unpack --image img:t bundle";
        // Only plain archives: umoci packs them itself.
        let unpack = format!(
            "case {way:?} in *gzip*) mv 2 2.gz; gzip -d 2.gz;; *zstd*) mv 2 2.zst; zstd -qd 2.zst;; esac
             {image}",
            way = way.concat()
        );
        shell(base, &unpack);
        let mount = s.mount();
        let compare = Compare::STRICT;
        assert_same_tree(
            &tree::dump(mount.root()),
            &tree::dump(&s.base().path("bundle/rootfs")),
            compare,
        );
    }
}

/// The layer that umoci packs of a change unpacks to what the change was made to.
#[test]
fn a_layer_of_umoci_is_unpacked() {
    needs!(root, mount, umoci);
    let s = Scratch::new();
    s.lower(0).file("d/a", "1").file("d/b", "2").file("e/c", "3").file("gone", "");
    let base = s.base().root();
    let options = format!("lowerdir={0}/empty,upperdir={0}/lower0", base.display());
    s.base().dir("empty").file("1", done(["diff", "-o", &options]).stdout);
    let script = "umoci init --layout img; umoci new --image img:t;
         umoci raw add-layer --image img:t 1; umoci unpack --image img:t bundle; cd bundle/rootfs;
         rm gone; echo x > d/a; rm d/b; rm -r e; mkdir e; echo y > e/d; ln d/a link; cd ../..;
         umoci repack --image img:t bundle";
    shell(base, script);
    let layer = run(
        "sh",
        &[
            "-c",
            &format!(
                "cd {}; ls -t img/blobs/sha256/* | while read f; do gzip -t $f 2>/dev/null && echo $f && break; done",
                base.display()
            ),
        ],
    );
    let layer = s.base().path(layer.trim());
    done(["apply".as_ref(), layer.as_os_str(), s.base().path("out").as_os_str()]);
    let all = [s.base().path("out"), s.lower(0).root().to_owned()].to_vec();
    let mount = Setup::new(all, s.mnt.root()).mount();
    // It writes whole seconds, and not every directory.
    let compare = Compare::TIMELESS;
    assert_same_tree(
        &tree::dump(&s.base().path("bundle/rootfs")),
        &tree::dump(mount.root()),
        compare,
    );
}
