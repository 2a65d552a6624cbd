//! Layers of OCI images as tar(1) leaves them: with the whiteouts of the archives as plain files.
//! The oracle is umoci, which applies the layers one upon the other.

use std::path::PathBuf;
use std::process::Command;

use crate::support::process::{self, shell};
use crate::support::tree::{Compare, assert_same_tree, dump};
use crate::support::{Scratch, assert_errno};
use crate::{needs, not_the_kernels};

/// Makes an image of three layers that umoci writes and two more that it does not (opaque marks,
/// names that AUFS keeps for itself), unpacks it as one tree to `oracle`, and each layer to
/// `layerN`.
const IMAGE: &str = r#"
    umoci init --layout image
    umoci new --image image:x
    umoci unpack --image image:x bundle
    cd bundle/rootfs
    mkdir -p etc/network/if-up.d usr/share/doc var/empty tmp
    echo zone >etc/localtime; echo root >etc/passwd; echo lo >etc/network/interfaces
    echo x >etc/network/if-up.d/x; echo one >usr/share/doc/one; echo two >usr/share/doc/two
    ln etc/passwd etc/passwd-; ln -s passwd etc/link; chmod 1777 tmp; chown 7:8 usr/share/doc/one
    chmod 4755 usr/share/doc/two; mkfifo var/fifo
    cd ../..
    umoci repack --image image:x bundle; rm -r bundle; umoci unpack --image image:x bundle
    cd bundle/rootfs
    rm etc/localtime; rm -r var/empty; echo h >etc/hostname; echo more >>usr/share/doc/one
    rm -r etc/network/if-up.d; echo file >etc/network/if-up.d
    rm etc/link; mkdir etc/link; echo in >etc/link/in
    cd ../..
    umoci repack --image image:x bundle; rm -r bundle; umoci unpack --image image:x bundle
    cd bundle/rootfs
    rm etc/network/if-up.d; mkdir etc/network/if-up.d; echo y >etc/network/if-up.d/y
    rm -r usr/share/doc; echo back >etc/localtime; chmod 700 etc/link
    cd ../..
    umoci repack --image image:x bundle

    mkdir -p 4/etc/network 4/etc/.wh..wh.plnk 4/usr
    touch 4/.wh..wh.aufs 4/etc/.wh..wh.plnk/1.2 4/etc/.wh.localtime 4/etc/network/.wh..wh..opq
    echo own >4/etc/network/own; echo u >4/usr/.wh.share
    mkdir -p 5/etc/network 5/usr/share
    touch 5/etc/network/.wh.own 5/etc/.wh.hostname; echo again >5/usr/share/again
    echo again >5/etc/network/interfaces
    # With the directories that stand in the layers below as these have them.
    for layer in 4 5; do
        tar -C $layer --sort=name --no-recursion --mtime=@1000 -cf $layer.tar \
            $(cd $layer && find . -mindepth 1 | sort)
        umoci raw add-layer --image image:x $layer.tar
    done
    umoci raw unpack --image image:x oracle

    python3 - >layers <<'END'
import json
def blob(digest):
    return "image/blobs/" + digest.replace(":", "/")
index = json.load(open("image/index.json"))
manifest = json.load(open(blob(index["manifests"][0]["digest"])))
print("\n".join(blob(layer["digest"]) for layer in manifest["layers"]))
END
    number=0
    while read -r layer; do
        mkdir layer$number
        # umoci writes whiteouts below what is a file now; they mean nothing.
        tar -xpf $layer --xattrs -C layer$number 2>log || grep 'x: Cannot open: Not a dir' log
        number=$((number + 1))
    done <layers
    echo $number
"#;

#[test]
fn layers_that_tar_unpacked() {
    needs!(mount);
    not_the_kernels!("it does not read these forms");
    for program in ["umoci", "tar", "python3"] {
        if !crate::support::need::program(crate::test_name!(), program) {
            return;
        }
    }
    let s = Scratch::with_lowers(0);
    let count = shell(s.base().root(), IMAGE);
    assert_eq!(count.lines().last(), Some("5"));
    let lowers: Vec<PathBuf> =
        (0..5).rev().map(|number| s.base().path(format!("layer{number}"))).collect();
    assert!(s.base().exists("layer3/etc/.wh.localtime"), "the archives are unpacked as they are");
    let mut oracle = dump(&s.base().path("oracle"));
    // What AUFS keeps for itself is no part of the tree; umoci does not know it.
    oracle.retain(|path, _| !path.starts_with("etc/.wh..wh.plnk"));
    let mut m = s.setup().lowers(lowers).mount();
    let shown = dump(m.root());
    assert!(oracle.len() > 10 && !shown.keys().any(|path| path.to_string_lossy().contains(".wh.")));
    assert_same_tree(&oracle, &shown, Compare::TIMELESS);
    // Changes stand in the kernel's form above it.
    std::fs::remove_file(m.path("etc/passwd")).unwrap();
    m.file("etc/localtime", "new").file("etc/network/own", "new");
    std::fs::remove_dir_all(m.path("usr/share")).unwrap();
    m.file("usr/share/f", "");
    for _ in 0..2 {
        assert_eq!(
            (m.read("etc/localtime"), m.read("etc/network/own")),
            ("new".into(), "new".into())
        );
        assert!(!m.exists("etc/passwd") && m.exists("etc/passwd-"));
        assert_eq!(m.names("usr/share"), ["f"]);
        m.remount();
    }
    assert!(s.upper.is_whiteout("etc/passwd"));
    let left = dump(s.upper.root());
    assert!(!left.keys().any(|path| path.to_string_lossy().contains(".wh.")));
}

/// Nobody can look one up, list one, make one, or turn something into one.
#[test]
fn no_such_name_is_visible_or_can_be_made() {
    needs!(mount);
    not_the_kernels!("these names mean nothing to it");
    let s = Scratch::with_lowers(2);
    s.lower(1).file("a", "").file("d/b", "").file("f", "");
    s.lower(0).file(".wh.a", "").file("d/.wh..wh..opq", "").dir(".wh..wh.plnk").file(".wh.", "");
    s.lower(0).symlink(".wh.link", "f").dir(".wh.dir/inner").file(".wh..wh.aufs", "");
    let m = s.mount();
    assert_eq!(m.names(""), ["d", "f"]);
    assert!(m.names("d").is_empty());
    for name in [".wh.a", ".wh.", ".wh.new", ".wh..wh..opq", ".wh..wh.plnk", ".wh.link", ".wh.dir"]
    {
        let path = m.path(name);
        assert!(!m.exists(name), "{name}");
        assert_errno(std::fs::File::create(&path), libc::EINVAL);
        assert_errno(std::fs::create_dir(&path), libc::EINVAL);
        assert_errno(std::os::unix::fs::symlink("f", &path), libc::EINVAL);
        assert_errno(std::fs::hard_link(m.path("f"), &path), libc::EINVAL);
        assert_errno(std::fs::rename(m.path("f"), &path), libc::EINVAL);
        assert_errno(std::fs::rename(m.path("d"), &path), libc::EINVAL);
        assert_errno(std::fs::remove_file(&path), libc::ENOENT);
        assert_errno(std::fs::rename(&path, m.path("g")), libc::ENOENT);
    }
    assert_eq!(m.names(""), ["d", "f"]);
    let list = process::output(Command::new("ls").arg("-la").arg(m.root()));
    assert!(!process::text(&list.stdout).contains(".wh."));
}
