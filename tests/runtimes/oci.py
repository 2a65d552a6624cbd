"""oci.py DIR: checks the layers of an image in an OCI directory, and prints the paths it amounts to.

What image-spec/layer.md forbids, and what must never leave a machine, ends it with an error.
"""

import io
import json
import os
import subprocess
import sys
import tarfile

PRIVATE = ("trusted.overlay.", "user.overlay.", "user.fuseoverlayfs.", "user.containers.")
XATTR = "SCHILY.xattr."
MARK = ".wh."
ZSTD = b"\x28\xb5\x2f\xfd"


def blob(root, digest):
    return os.path.join(root, "blobs", *digest.split(":"))


def load(root, digest):
    with open(blob(root, digest), encoding="utf-8") as file:
        return json.load(file)


def unpacked(path):
    """A layer, of which tarfile knows all compressions but one."""
    with open(path, "rb") as file:
        if file.read(4) != ZSTD:
            return tarfile.open(path)
    data = subprocess.run(["zstd", "-dcq", path], check=True, stdout=subprocess.PIPE).stdout
    return tarfile.open(fileobj=io.BytesIO(data))


def below(path, tree):
    return {other for other in tree if other == path or other.startswith(f"{path}/")}


def apply(layer, tree):
    """Checks one layer, and returns the paths after it."""
    seen, whiteouts = set(), set()
    for entry in layer:
        path = os.path.normpath(entry.name)
        assert not path.startswith(("..", "/")), f"{entry.name}: leaves the root"
        assert path not in seen, f"{path}: twice in one layer"
        seen.add(path)
        for key in entry.pax_headers:
            name = key.removeprefix(XATTR)
            assert name == key or not name.startswith(PRIVATE), f"{path}: {key}"
        parent, name = os.path.split(path)
        if name.startswith(MARK):
            hidden = os.path.join(parent, name.removeprefix(MARK))
            assert not name.startswith(MARK * 2), f"{path}: AUFS metadata"
            assert entry.isreg() and entry.size == 0, f"{path}: a whiteout with content"
            assert hidden in tree, f"{path}: hides nothing"
            whiteouts.add(hidden)
            continue
        assert not (entry.ischr() and entry.devmajor == entry.devminor == 0), f"{path}: device 0:0"
        if entry.islnk():
            target = os.path.normpath(entry.linkname)
            assert target in seen, f"{path}: a hard link to {target}, which the layer has not"
    both = seen & whiteouts
    assert not both, f"{both}: hidden and there in one layer"
    for path in whiteouts:
        tree = tree - below(path, tree)
    for entry in layer:
        path = os.path.normpath(entry.name)
        if os.path.basename(path).startswith(MARK):
            continue
        if not entry.isdir():
            tree = tree - below(path, tree)
        tree = tree | {path}
    return tree


def main(root):
    with open(os.path.join(root, "index.json"), encoding="utf-8") as file:
        (image,) = json.load(file)["manifests"]
    tree = set()
    for layer in load(root, image["digest"])["layers"]:
        with unpacked(blob(root, layer["digest"])) as tar:
            tree = apply(tar.getmembers(), tree)
    print("\n".join(repr("" if path == "." else path) for path in sorted(tree)))


main(sys.argv[1])
