//! Layers of a real root file system: made by buildah, by umoci and by us, unpacked, mounted,
//! changed, packed, and given to others.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::ffi::OsStr;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::layer::Layer;
use crate::space::{Space, Who};
use crate::store::{Driver, Store};
use crate::support::process::{output, shell, text};
use crate::support::tree::{Compare, assert_same_tree, differences, dump};
use crate::support::{Dir, Setup, binary, need};
use crate::{image, needs_runtimes, test_name};

/// Calls the program on files of the space, and returns its standard output.
#[track_caller]
pub fn tool<A: AsRef<OsStr>>(dir: &Dir, args: &[A]) -> Vec<u8> {
    let output = output(Command::new(binary()).args(args).current_dir(dir.root()));
    assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
    output.stdout
}

/// A mount of directories of the space, the first on top.
pub fn stack(home: &Dir, layers: &[&str]) -> Setup {
    home.dir("mnt");
    let layers = layers.iter().map(|name| home.path(name)).collect();
    Setup::new(layers, &home.path("mnt")).option("suid").option("dev")
}

/// The layers of an image in the OCI directory `img`, the lowest first.
fn blobs(home: &Dir, tag: &str) -> Vec<PathBuf> {
    let read = |digest: &serde_json::Value| -> PathBuf {
        home.path("img/blobs").join(digest["digest"].as_str().unwrap().replace(':', "/"))
    };
    let load = |path: &Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let index = load(&home.path("img/index.json"));
    let name = "org.opencontainers.image.ref.name";
    let manifests = index["manifests"].as_array().unwrap();
    let of_tag = manifests.iter().find(|it| it["annotations"][name] == tag);
    let manifest = load(&read(of_tag.unwrap()));
    manifest["layers"].as_array().unwrap().iter().map(read).collect()
}

/// What a layer says: a line and a time for each path. Times in whole seconds, as umoci and buildah
/// write them; the metadata of whiteouts means nothing.
fn entries(archive: &[u8]) -> BTreeSet<String> {
    let entries = Layer::read(archive).0.into_iter().map(|entry| {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        if path.rsplit('/').next().unwrap().starts_with(".wh.") {
            return format!("whiteout {path}");
        }
        let seconds = entry.mtime.split('.').next().unwrap().to_owned();
        let mut line = entry.line.replace("/ {", " {").trim_end_matches('/').to_owned();
        if !entry.content.is_empty() {
            let mut hasher = DefaultHasher::new();
            entry.content.hash(&mut hasher);
            let content = entry.content.escape_ascii().to_string();
            line = line.replace(&content, &format!("#{:016x}", hasher.finish()));
        }
        // Of a hard link the header means nothing but the two names.
        match line.strip_prefix("h ") {
            Some(rest) => format!("h {}", rest.splitn(3, ' ').nth(2).unwrap()),
            None => format!("{line} @{seconds}"),
        }
    });
    entries.collect()
}

fn unpacked(blob: &Path) -> Vec<u8> {
    let gunzip = output(Command::new("gzip").args(["--decompress", "--stdout"]).arg(blob));
    if gunzip.status.success() { gunzip.stdout } else { std::fs::read(blob).unwrap() }
}

/// What is in one set and not in another.
fn only<'a>(one: &'a BTreeSet<String>, other: &'a BTreeSet<String>) -> Vec<&'a str> {
    one.difference(other).map(String::as_str).collect()
}

/// The root file system without what only makes it large, imported as `localhost/debian`.
fn debian(space: &Space, store: &Store<'_>) -> bool {
    let image = match image::cached() {
        Ok(image) => image,
        Err(reason) => return need::lacks(test_name!(), &reason),
    };
    let home = space.home();
    let script = format!(
        "mkdir root; tar --extract --file '{}' --directory root --numeric-owner --xattrs \
         --xattrs-include='*' --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*'
         tar --create --file debian.tar --directory root --numeric-owner --xattrs \
         --xattrs-include='*' .; rm -r root; chmod 644 debian.tar",
        image.display()
    );
    shell(home.root(), &script);
    store.podman(&["import", "--quiet", home.path("debian.tar").to_str().unwrap(), DEBIAN]);
    true
}

const DEBIAN: &str = "localhost/debian";

/// What buildah and then umoci make of the root file system: `oci:img:2`, of three layers.
const MAKE: &str = r#"
    c=$(buildah from "$1"); dir=$(buildah mount "$c")
    (cd "$dir"; sh "$2/first.sh")
    buildah unmount "$c" >/dev/null; buildah commit --quiet --rm "$c" localhost/first >/dev/null
    skopeo copy -q containers-storage:localhost/first oci:img:1
    umoci unpack --image img:1 bundle
    (cd bundle/rootfs; sh "$2/second.sh")
    umoci repack --image img:2 --refresh-bundle bundle
"#;

/// The third change, by both of them.
const CHANGE: &str = r#"
    umoci unpack --image img:2 bundle3
    (cd bundle3/rootfs; sh "$1/third.sh")
    umoci repack --image img:umoci bundle3
    skopeo copy -q oci:img:2 containers-storage:localhost/second
    c=$(buildah from localhost/second); dir=$(buildah mount "$c")
    (cd "$dir"; sh "$1/third.sh")
    buildah unmount "$c" >/dev/null; buildah commit --quiet --rm "$c" localhost/third >/dev/null
    skopeo copy -q containers-storage:localhost/third oci:img:buildah
"#;

const SCRIPTS: [(&str, &str); 3] = [
    ("first.sh", include_str!("changes/first.sh")),
    ("second.sh", include_str!("changes/second.sh")),
    ("third.sh", include_str!("changes/third.sh")),
];

const LAYERS: [&str; 3] = ["layer3", "layer2", "layer1"];

#[test]
fn a_root_file_system_goes_round() {
    needs_runtimes!();
    let space = Space::new(Who::Root);
    let store = Store::empty(&space, "store", Driver::Kernel);
    if !debian(&space, &store) {
        return;
    }
    let home = space.home();
    for (name, script) in SCRIPTS {
        home.file(name, script);
    }
    let here = home.root().to_str().unwrap();
    store.inside(MAKE, &[DEBIAN, here]);

    // Theirs, unpacked by us and by umoci.
    for (number, blob) in blobs(home, "2").iter().enumerate() {
        tool(home, &["apply".as_ref(), blob.as_os_str(), format!("layer{}", number + 1).as_ref()]);
    }
    let bundle = dump(&home.path("bundle/rootfs"));
    assert!(bundle.len() > 5_000, "{}", bundle.len());
    // It was changed there, and what umoci packed of it has whole seconds.
    let found = differences(&bundle, &dump(stack(home, &LAYERS).mount().root()), Compare::TIMELESS);
    assert_eq!(found, [""; 0]);

    // Ours, and once more. The upper begins as the root that it covers.
    home.dir("upper").dir("work");
    shell(home.root(), "touch -r layer1 upper");
    let writable = |setup: Setup| setup.upper(&home.path("upper")).work(&home.path("work"));
    let mut mount = writable(stack(home, &LAYERS)).mount();
    shell(mount.root(), &format!("sh {here}/third.sh"));
    mount.unmount();
    let changed = dump(writable(stack(home, &LAYERS)).mount().root());
    let options = format!("lowerdir={},upperdir=upper", LAYERS.join(":"));
    let ours = tool(home, &["diff", "-o", &options]);
    home.file("ours.tar", &ours);
    tool(home, &["apply", "ours.tar", "layer4"]);
    let all = [&["layer4"], &LAYERS[..]].concat();
    let again = dump(stack(home, &all).mount().root());
    assert_same_tree(&changed, &again, Compare { nlink: true, ..Compare::STRICT });

    store.inside(CHANGE, &[here]);
    compare_with_umoci(home, &tool(home, &["diff", "-o", &options, "--parents=changed"]));
    compare_with_buildah(home, &tool(home, &["diff", "-o", &options, "--opaque=marker"]));
    // What they packed is the same tree to us.
    for by in ["umoci", "buildah"] {
        let blob = blobs(home, by).pop().unwrap();
        tool(home, &["apply".as_ref(), blob.as_os_str(), by.as_ref()]);
        let mut found = Vec::new();
        let theirs = dump(stack(home, &[&[by], &LAYERS[..]].concat()).mount().root());
        let compare = Compare::TIMELESS;
        found.extend(differences(&changed, &theirs, compare));
        assert_eq!(found, [""; 0], "{by}");
    }
    space.expect_nothing_mounted();
}

/// See the page about tools for each of these.
#[track_caller]
fn compare_with_umoci(home: &Dir, ours: &[u8]) {
    let theirs = entries(&unpacked(blobs(home, "umoci").last().unwrap()));
    let ours = entries(ours);
    assert_eq!(only(&ours, &theirs), [""; 0], "only ours");
    assert_eq!(only(&theirs, &ours), ["whiteout etc/issue/.wh.file"], "only of umoci");
}

#[track_caller]
fn compare_with_buildah(home: &Dir, ours: &[u8]) {
    let theirs = entries(&unpacked(blobs(home, "buildah").last().unwrap()));
    let ours = entries(ours);
    let root = |line: &&str| line.starts_with("d 0755 0:0 . @");
    let only_ours = only(&ours, &theirs);
    assert!(only_ours.iter().all(root) && only_ours.len() == 1, "only ours: {only_ours:?}");
    let markers = ["whiteout media/.wh..wh..opq"];
    assert_eq!(only(&theirs, &ours), markers, "only of buildah");
}
