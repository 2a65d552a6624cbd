"""The scene that every file system has to play: fill, change and list a tree.

    tree.py fill|change|list plain|xattr DIR

`plain` leaves extended attributes out. The listing is text, the same on all file systems: what was
not changed since `fill` is `old`, all else is `now`.
"""

import mmap
import os
import shutil
import stat
import sys

OLD = 1_000_000


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def fill(xattrs):
    os.umask(0o022)
    for path in ["d/sub", "again/old", "empty", "quiet"]:
        os.makedirs(path)
    for path in ["f", "g", "gone", "h", "r", "d/a", "d/b", "d/c", "d/sub/x", "again/old/o", "quiet/q"]:
        write(path, path)
    write("map", "m" * 10_000)
    os.symlink("f", "l")
    os.mkfifo("p")
    os.chmod("h", 0o755)
    os.chmod("quiet", 0o750)
    if xattrs:
        os.setxattr("f", "user.below", b"1")
        os.setxattr("quiet", "user.dir", b"2")
    for path, dirs, files in os.walk(".", topdown=False):
        for name in dirs + files + ["."]:
            os.utime(os.path.join(path, name), (OLD, OLD), follow_symlinks=False)


def change(xattrs):
    os.umask(0o022)
    write("new", "new")
    with open("f", "a") as file:
        file.write(" and more")
    os.chmod("g", 0o600)
    os.remove("gone")
    os.remove("d/a")
    os.rename("d/b", "d/moved")
    os.rename("r", "renamed")
    os.link("h", "linked")
    shutil.rmtree("d/sub")
    os.rmdir("empty")
    shutil.rmtree("again")
    os.mkdir("again")
    write("again/n", "n")
    os.makedirs("made/in")
    os.rename("made", "made2")
    os.symlink("nowhere", "dl")
    write("d/target", "target")
    os.rename("d/target", "d/c")
    if xattrs:
        os.setxattr("f", "user.above", b"3")
        os.removexattr("f", "user.below")
    with open("map", "r+b") as file:
        with mmap.mmap(file.fileno(), 0) as mapped:
            mapped[5000:5003] = b"MAP"
            mapped.flush()


def line(path):
    seen = os.lstat(path)
    kind = stat.filemode(seen.st_mode)
    if stat.S_ISDIR(seen.st_mode):
        what = ""
    elif stat.S_ISLNK(seen.st_mode):
        return f"{path} link {os.readlink(path)}"
    elif stat.S_ISREG(seen.st_mode):
        with open(path) as file:
            text = file.read()
        assert len(text) == seen.st_size, path
        what = f" {seen.st_nlink} {text.replace('m' * 5000, '5000m').replace('m' * 4997, '4997m')}"
    else:
        what = ""
    age = "old" if seen.st_mtime == OLD else "now"
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        names = []
    names = sorted(name for name in names if not name.startswith("security."))
    values = "".join(f" {name}={os.getxattr(path, name).decode()}" for name in names)
    return f"{path} {kind} {age}{what}{values}"


def show(_):
    lines = []
    for path, dirs, files in os.walk("."):
        lines += [line(os.path.relpath(os.path.join(path, name))) for name in dirs + files]
    print("\n".join(sorted(lines)))


do, how, place = sys.argv[1:]
os.chdir(place)
{"fill": fill, "change": change, "list": show}[do](how == "xattr")
