"""many.py BASE.TAR DIR COUNT: an image of COUNT layers in an OCI directory, the lowest BASE.TAR.

Each layer adds, changes and removes; some have opaque directories, some change what a name is.
"""

import hashlib
import io
import json
import os
import sys
import tarfile

TIME = 1_100_000_000


def store(root, data):
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(root, "blobs", "sha256", digest), "wb") as file:
        file.write(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def layer(number):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:

        def add(path, kind=tarfile.REGTYPE, text="", **attributes):
            entry = tarfile.TarInfo(path)
            entry.type, entry.mtime, entry.size = kind, TIME + number, len(text)
            entry.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
            entry.pax_headers = attributes.pop("xattrs", {})
            for name, value in attributes.items():
                setattr(entry, name, value)
            tar.addfile(entry, io.BytesIO(text.encode()))

        def remove(path):
            parent, name = os.path.split(path)
            add(os.path.join(parent, f".wh.{name}"))

        add("many", tarfile.DIRTYPE, mode=0o755 if number % 2 else 0o700, uid=number)
        add(f"many/{number}", text=f"{number}\n", uid=number, gid=1)
        add("many/last", text=f"layer {number}\n", mode=0o600 + number % 8)
        add(f"many/link{number}", tarfile.LNKTYPE, linkname=f"many/{number}")
        if number > 5:
            remove(f"many/{number - 5}")
        # A directory that hides those below, with something in it, by the spec's other form.
        if number % 10 == 5:
            remove("many/opaque")
        else:
            add("many/opaque", tarfile.DIRTYPE)
            if number % 10 == 0:
                add("many/opaque/.wh..wh..opq")
            add(f"many/opaque/{number}", tarfile.SYMTYPE, linkname="../last")
        # A name that is a directory, a file and nothing by turns.
        turn = number % 4
        if turn == 0:
            add("many/turn", tarfile.DIRTYPE)
            add(f"many/turn/{number}", text="below\n", xattrs={"SCHILY.xattr.user.n": str(number)})
        elif turn == 1:
            add("many/turn", text=f"file {number}\n")
        elif turn == 3 and number > 3:
            remove("many/turn")
    return data.getvalue()


def main(base, root, count):
    os.makedirs(os.path.join(root, "blobs", "sha256"))
    with open(base, "rb") as file:
        layers = [file.read()]
    layers += [layer(number) for number in range(1, count)]
    digests = [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": digests},
    }
    kind = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "config": {
            "mediaType": f"{kind}.config.v1+json",
            **store(root, json.dumps(config).encode()),
        },
        "layers": [{"mediaType": f"{kind}.layer.v1.tar", **store(root, data)} for data in layers],
    }
    entry = {
        "mediaType": f"{kind}.manifest.v1+json",
        **store(root, json.dumps(manifest).encode()),
        "annotations": {"org.opencontainers.image.ref.name": "many"},
    }
    for name, content in [
        ("oci-layout", {"imageLayoutVersion": "1.0.0"}),
        ("index.json", {"schemaVersion": 2, "manifests": [entry]}),
    ]:
        with open(os.path.join(root, name), "w", encoding="utf-8") as file:
            json.dump(content, file)


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
