//! What the tools make, given to podman and skopeo.

use std::collections::BTreeSet;
use std::path::Path;

use rstest::rstest;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::layers::{stack, tool};
use crate::needs_runtimes;
use crate::space::{Space, Who, succeed};
use crate::store::{Driver, Store, assert_same};
use crate::support::process::{run, shell};
use crate::support::{Dir, need};

/// The architecture of the machine by the name that images have it by (GOARCH).
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn digest(bytes: &[u8]) -> String {
    let digits = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("sha256:{digits}")
}

/// Puts bytes into an OCI directory; what others refer to them by.
fn blob(oci: &Dir, bytes: &[u8], media_type: &str) -> Value {
    let digest = digest(bytes);
    oci.file(format!("blobs/{}", digest.replace(':', "/")), bytes);
    json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
}

/// Makes a layer that everybody may read; what `ovlmerge diff --json` tells of it.
fn packed(dir: &Dir, options: &str, file: &str, compress: &str) -> Value {
    let words = ["diff", "-o", options, "-f", file, "--compress", compress, "--json"];
    let told = serde_json::from_slice(&tool(dir, &words)).unwrap();
    dir.mode(file, 0o644);
    told
}

/// An image of layers that `ovlmerge diff --json` told this of: by what it told, not by what they
/// are.
fn image(oci: &Dir, layers: &[(&Path, Value)], name: &str) {
    let diff_ids: Vec<_> = layers.iter().map(|(_, told)| &told["diff_id"]).collect();
    let config = json!({
        "architecture": architecture(), "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let media = |what: &str| format!("application/vnd.oci.image.{what}+json");
    let config = blob(oci, config.to_string().as_bytes(), &media("config.v1"));
    let layers = layers.iter().map(|(path, told)| {
        let hash = told["digest"].as_str().unwrap().replace(':', "/");
        oci.file(format!("blobs/{hash}"), std::fs::read(path).unwrap());
        json!({
            "mediaType": told["media_type"], "digest": told["digest"], "size": told["size"],
        })
    });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media("manifest.v1"), "config": config,
        "layers": layers.collect::<Vec<_>>(),
    });
    let mut manifest = blob(oci, manifest.to_string().as_bytes(), &media("manifest.v1"));
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    oci.file("index.json", json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string());
    oci.file("oci-layout", json!({ "imageLayoutVersion": "1.0.0" }).to_string());
}

/// What a step of a build may do, without what only root may make.
const CHANGE: &str = r#"
    echo changed >> opt/old/file; rm opt/old/link; rm -r opt/old/deep; mkdir opt/old/deep
    echo new > opt/old/deep/new; rm usr/bin/setuid; mkdir usr/bin/setuid; echo x > usr/bin/setuid/x
    rm -r var; echo file > var; ln opt/old/deep/new opt/again; ln -s ../var opt/link; mkfifo opt/pipe
    mkdir -p opt/$(printf %0150d 1); echo long > opt/$(printf %0150d 1)/$(printf %0150d 2)
    cp bin/busybox opt/program; chown 3:4 opt/program; chmod 4750 opt/program
    setcap cap_chown+ep usr/bin/capable;
    setfattr -n user.new -v value opt/again
    find . -newermt 2020-01-01 -exec touch -h -d '2001-02-03 04:05:06.789' {} +
"#;

/// All but the line of the root, to which podman gives attributes of its own.
fn without_root(tree: BTreeSet<String>) -> BTreeSet<String> {
    tree.into_iter().filter(|line| !line.starts_with("'': ")).collect()
}

/// The lines of [`tree.py`](../tree.py) for a mount of directories of the space.
fn shown(home: &Dir, layers: &[&str]) -> BTreeSet<String> {
    let mount = stack(home, layers).mount();
    let script = home.path("tree.py");
    let lines = run("python3", &[script.to_str().unwrap(), mount.root().to_str().unwrap()]);
    without_root(lines.lines().map(str::to_owned).collect())
}

/// An archive of one layer, and an OCI archive of two, are the same trees to podman and to skopeo
/// as to a mount, whatever they are compressed by.
#[rstest]
fn what_diff_makes(
    #[values(Who::Root, Who::User)] who: Who,
    #[values("none", "gzip", "zstd")] compress: &str,
) {
    needs_runtimes!();
    let space = Space::new(who);
    let store = Store::empty(&space, "store", Driver::Program);
    let home = space.home();
    tool(home, &["apply", "base.tar", "lower"]);
    home.dir("nothing").dir("upper").dir("work");
    let writable = stack(home, &["lower"]).upper(&home.path("upper")).work(&home.path("work"));
    {
        let mount = writable.mount();
        shell(mount.root(), CHANGE);
    }
    let first = packed(home, "lowerdir=nothing,upperdir=lower", "1.tar", compress);
    let second = packed(home, "lowerdir=lower,upperdir=upper", "2.tar", compress);

    store.podman(&["import", "--quiet", "1.tar", "localhost/imported"]);
    let below = shown(home, &["lower"]);
    assert_same(&below, &without_root(store.tree("localhost/imported")));

    let oci = home.dir("oci").sub("oci");
    let [one, two] = ["1.tar", "2.tar"].map(|name| home.path(name));
    image(&oci, &[(&one, first), (&two, second)], "localhost/ours:latest");
    let tree = shown(home, &["upper", "lower"]);
    assert!(tree.len() > below.len() / 2 && tree != below);
    // No layer breaks a rule, and all paths are there.
    let listed =
        run("python3", &[home.path("oci.py").to_str().unwrap(), oci.root().to_str().unwrap()]);
    let paths = tree.iter().map(|line| line.split_once(": ").unwrap().0.to_owned());
    let listed = listed.lines().filter(|path| *path != "''").map(str::to_owned).collect();
    assert_same(&paths.collect(), &listed);

    shell(home.root(), "tar -C oci -cf image.tar .; chmod 644 image.tar");
    store.podman(&["load", "--quiet", "--input", "image.tar"]);
    assert_same(&tree, &without_root(store.tree("localhost/ours")));
    let copied = "containers-storage:localhost/copied";
    store.run(&["skopeo", "copy", "-q", "oci-archive:image.tar", copied]);
    assert_same(&tree, &without_root(store.tree("localhost/copied")));
    assert_eq!(store.in_new("localhost/ours", "cat /opt/again; cat /var"), "new\nfile\n");
    space.expect_nothing_mounted();
}

/// What singularity packs: an upper of the fuse-overlayfs that Debian has, which says things twice.
const SINGULARITY: &str = r#"
    cd "$1"
    fuse-overlayfs -o lowerdir=lower,upperdir=upper,workdir=work mnt 2>/dev/null
    rm -r mnt/opt/old; mkdir mnt/opt/old; echo new >mnt/opt/old/new; rm mnt/etc/group
    python3 ../tree.py mnt
    umount mnt
"#;

/// What is left of the markers, and archives of that in two forms.
const SEAL: &str = r#"
    cd "$1"
    find upper -name '.wh.*' | LC_ALL=C sort
    "$2" convert --seal --to "$3" upper >&2
    find upper -name '.wh.*' | wc -l
    getfattr -h -d -m 'overlay|fuseoverlayfs' upper/opt/old upper/opt upper | grep = || true
    tar --xattrs --xattrs-include='*' -C upper -cf sealed.tar .
    "$2" convert --to aufs upper >&2
    find upper -name '.wh.*' | LC_ALL=C sort
    tar -C upper -cf layer.tar .
"#;

/// The same lines without times.
fn timeless(lines: BTreeSet<String>) -> BTreeSet<String> {
    let is_time = |word: &&str| word.starts_with('@');
    let line =
        |line: String| line.split(' ').filter(|it| !is_time(it)).collect::<Vec<_>>().join(" ");
    without_root(lines).into_iter().map(line).collect()
}

/// The layer goes over the one below, and podman shows what fuse-overlayfs showed. Its times are
/// left out: fuse-overlayfs shows those of its cache.
#[rstest]
fn an_upper_of_fuse_overlayfs_is_sealed(#[values(Who::Root, Who::User)] who: Who) {
    needs_runtimes!();
    if !need::program(crate::test_name!(), "fuse-overlayfs") {
        return;
    }
    let space = Space::new(who);
    let store = Store::empty(&space, "store", Driver::Program);
    let own = space.own_dir("own");
    let form = if who == Who::Root { "kernel" } else { "kernel-user" };
    let inside = |script: &str, more: &[&str]| -> Vec<String> {
        let unshare = ["unshare", "--map-root-user", "--mount"];
        let unshare = if who == Who::User { &unshare[..] } else { &[] };
        let words = [unshare, &["sh", "-euc", script, "sh", "own"], more].concat();
        succeed(space.command(&[], &words)).lines().map(str::to_owned).collect()
    };
    let make =
        r#"cd "$1"; mkdir upper work mnt lower; tar -C lower --no-same-owner -xf ../base.tar"#;
    inside(make, &[]);
    let expected = timeless(inside(SINGULARITY, &[]).into_iter().collect());
    let program = space.program();
    let said = inside(SEAL, &[program.to_str().unwrap(), form]);
    let mark = if form == "kernel" { "trusted.overlay" } else { "user.overlay" };
    assert_eq!(
        said,
        [
            "upper/opt/old/.wh..opq",
            "upper/opt/old/.wh..wh..opq",
            "0",
            &format!("{mark}.opaque=\"y\""),
            "upper/etc/.wh.group",
            "upper/opt/old/.wh..wh..opq",
        ]
    );
    store.podman(&[
        "import",
        "--quiet",
        own.path("sealed.tar").to_str().unwrap(),
        "localhost/alone",
    ]);

    own.dir("nothing");
    let below = packed(&own, "lowerdir=nothing,upperdir=lower,squash_to_root", "1.tar", "none");
    let bytes = std::fs::read(own.path("layer.tar")).unwrap();
    let above = json!({
        "digest": digest(&bytes), "diff_id": digest(&bytes), "size": bytes.len(),
        "media_type": "application/vnd.oci.image.layer.v1.tar",
    });
    let oci = own.dir("oci").sub("oci");
    let layer = own.path("layer.tar");
    image(&oci, &[(&own.path("1.tar"), below), (&layer, above)], "localhost/sealed:latest");
    store.run(&["skopeo", "copy", "-q", "oci:own/oci", "containers-storage:localhost/sealed"]);
    assert_same(&expected, &timeless(store.tree("localhost/sealed")));
    space.expect_nothing_mounted();
}
