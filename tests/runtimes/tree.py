"""tree.py DIR: one line for each path below DIR, with what a container can see of it.

Times are shown where they are older than what a test can have written: others are those of the run.
"""

import hashlib
import os
import stat
import sys

RECENT = 1_600_000_000 * 10**9


def describe(path, found):
    kind = stat.S_IFMT(found.st_mode)
    words = [f"{kind >> 12:x}{stat.S_IMODE(found.st_mode):04o}", f"{found.st_uid}:{found.st_gid}"]
    if kind == stat.S_IFREG:
        with open(path, "rb") as file:
            content = file.read()
        assert len(content) == found.st_size, f"{path!r}: {len(content)} of {found.st_size} bytes"
        words.append(hashlib.sha256(content).hexdigest()[:16])
    elif kind == stat.S_IFLNK:
        words.append(f"-> {os.readlink(path)!r}")
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        words.append(f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}")
    if found.st_mtime_ns < RECENT:
        words.append(f"@{found.st_mtime_ns}")
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        if name != "security.selinux":
            value = os.getxattr(path, name, follow_symlinks=False)
            words.append(f"{name}={value.hex()}")
    return " ".join(words)


def walk(root):
    todo = [b""]
    while todo:
        below = todo.pop()
        full = os.path.join(root, below) if below else root
        found = os.lstat(full)
        print(f"{os.fsdecode(below)!a}: {describe(full, found)}")
        if stat.S_ISDIR(found.st_mode):
            names = os.listdir(full)
            assert len(names) == len(set(names)), f"{full!r} lists a name twice"
            todo.extend(os.path.join(below, name) for name in sorted(names, reverse=True))


walk(os.fsencode(sys.argv[1]))
