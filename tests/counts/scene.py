"""The layers, mounts and operations of the counts: run in a user and mount namespace of its own.

    scene.py PROGRAM DIRECTORY

Prints a line with the name of each operation, and an empty one. Then for each name that it reads:
mounts, prints the number of objects, waits for a line, does it, prints "done", waits for a line, unmounts.
"""

import os
import subprocess
import sys
import time

DIRECTORIES, FILES = 20, 25  # half of the directories stand in one layer, half in all three
LAYERS = 3
MANY = 10_000
CREATED = 500
MIB = 1 << 20
PAGE = 4096
BIG_MIB = 64

DIRS = [f"t/d{nth:02}" for nth in range(DIRECTORIES)]
NAMES = [f"{directory}/file-{nth:02}" for directory in DIRS for nth in range(FILES)]
OPERATIONS = {}


def operation(name, objects, prepare=None, option=""):
    """`objects`: what the counts are divided by. `prepare` is done before counting begins."""

    def known(work):
        OPERATIONS[name] = (work, objects, prepare, option)
        return work

    return known


def build():
    """Small files; one in ten has an attribute of a user, as layers of images have few."""
    for nth, directory in enumerate(DIRS):
        holders = range(LAYERS) if nth % 2 else [1]
        for holder in holders:
            os.makedirs(f"layer{holder}/{directory}")
        for file in range(FILES):
            path = f"layer{holders[file % len(holders)]}/{directory}/file-{file:02}"
            write(path, b"x" * 1500)
            if file % 10 == 0:
                os.setxattr(path, "user.note", b"hello")
    bottom = f"layer{LAYERS - 1}"
    os.mkdir(f"{bottom}/many")
    for nth in range(MANY):
        write(f"{bottom}/many/name-{nth:05}", b"")
    write(f"{bottom}/big", b"x" * (BIG_MIB * MIB))
    write(f"{bottom}/t/link-target", b"x")
    os.mkdir(f"{bottom}/links")
    for nth in range(100):
        os.symlink(f"target-{nth}", f"{bottom}/links/{nth}")
    subprocess.run(["tar", "-C", "layer1/t", "-cf", "archive.tar", "d00", "d02"], check=True)


def write(path, data):
    with open(path, "wb", buffering=0) as file:
        file.write(data)


def call(script):
    subprocess.run(["sh", "-c", script], check=True, stdout=subprocess.DEVNULL)


# What only reads, for the first time on a fresh mount and again.


def find():
    call("find t")


def ls():
    call("ls -lR t")


def stat():
    for name in NAMES:
        os.lstat(name)


def absent():
    for name in NAMES:
        assert not os.path.lexists(f"{name}.absent")


def read():
    for name in NAMES:
        fd = os.open(name, os.O_RDONLY)
        while os.read(fd, MIB):
            pass
        os.close(fd)


def tar():
    call("tar -cf - t | cat")


def commit_walk(directory="t"):
    with os.scandir(directory) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        path = f"{directory}/{name}"
        is_dir = os.lstat(path).st_mode & 0o170000 == 0o040000
        try:
            os.getxattr(path, "security.capability", follow_symlinks=False)
        except OSError:
            pass
        for attribute in os.listxattr(path, follow_symlinks=False):
            if attribute.startswith("user."):
                os.getxattr(path, attribute, follow_symlinks=False)
        if is_dir:
            commit_walk(path)


def many():
    assert len(os.listdir("many")) == MANY


def readlinks():
    for nth in range(100):
        os.readlink(f"links/{nth}")


def read_blocks():
    fd = os.open("big", os.O_RDONLY)
    for _ in range(BIG_MIB):
        os.read(fd, MIB)
    os.close(fd)


OBJECTS = len(NAMES) + DIRECTORIES
for name, work, objects in (
    ("find", find, OBJECTS),
    ("ls -lR", ls, OBJECTS),
    ("stat", stat, len(NAMES)),
    ("absent names", absent, len(NAMES)),
    ("open, read, close", read, len(NAMES)),
    ("tar", tar, OBJECTS),
    ("commit walk", commit_walk, OBJECTS),
    ("list 10,000 names, each 100", many, MANY // 100),
    ("readlink", readlinks, 100),
    ("read 1 MiB", read_blocks, BIG_MIB),
):
    operation(f"{name}: first", objects)(work)
    operation(f"{name}: warm", objects, prepare=work)(work)


# What changes files of lower layers. Single files on a volatile mount: on another one copies are made
# ahead, in the order in which the file system lists a directory, which nobody can foretell.


def everything_known():
    """As after an `ls -l`: the kernel knows the names."""
    stat()


@operation("append to a file of a lower, volatile", len(NAMES), everything_known, "volatile")
def append():
    for name in NAMES:
        fd = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.write(fd, b"more")
        os.close(fd)


@operation("overwrite a file of a lower, volatile", len(NAMES), everything_known, "volatile")
def overwrite():
    for name in NAMES:
        fd = os.open(name, os.O_WRONLY | os.O_TRUNC)
        os.write(fd, b"other")
        os.close(fd)


@operation("chmod of a file of a lower, volatile", len(NAMES), everything_known, "volatile")
def chmod():
    for name in NAMES:
        os.chmod(name, 0o600)


@operation("chmod of a file of the upper", len(NAMES), lambda: append())
def chmod_upper():
    chmod()


@operation("rename of a file of a lower, volatile", len(NAMES), everything_known, "volatile")
def rename_lower():
    for name in NAMES:
        os.rename(name, f"{name}.new")


@operation("chmod -R of a lower tree", OBJECTS)
def chmod_tree():
    call("chmod -R go-rx t")


@operation("unlink of a file of a lower", len(NAMES), everything_known)
def unlink():
    for name in NAMES:
        os.unlink(name)


@operation("rmdir of a directory of a lower", DIRECTORIES, unlink)
def rmdir():
    for directory in DIRS:
        os.rmdir(directory)


@operation("rm -rf of a lower tree", OBJECTS)
def remove_tree():
    call("rm -rf t")


# What makes new objects.


def new_directory():
    os.mkdir("new")
    write("new/first", b"")


@operation("create and write a small file", CREATED, new_directory)
def create():
    for nth in range(CREATED):
        fd = os.open(f"new/{nth}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, b"x" * 100)
        os.close(fd)


@operation("mkdir", CREATED, new_directory)
def mkdir():
    for nth in range(CREATED):
        os.mkdir(f"new/{nth}")


@operation("symlink", CREATED, new_directory)
def symlink():
    for nth in range(CREATED):
        os.symlink("target", f"new/{nth}")


def created():
    new_directory()
    create()


@operation("rename of a new file", CREATED, created)
def rename_new():
    for nth in range(CREATED):
        os.rename(f"new/{nth}", f"new/{nth}.new")


@operation("rename over a new file", CREATED, created)
def rename_over():
    for nth in range(CREATED):
        os.rename(f"new/{nth}", "new/first")


@operation("unlink of a new file", CREATED, created)
def unlink_new():
    for nth in range(CREATED):
        os.unlink(f"new/{nth}")


def directories():
    new_directory()
    mkdir()


@operation("rmdir of a new directory", CREATED, directories)
def rmdir_new():
    for nth in range(CREATED):
        os.rmdir(f"new/{nth}")


@operation("fsync of a new file", CREATED, created)
def fsync():
    for nth in range(CREATED):
        fd = os.open(f"new/{nth}", os.O_WRONLY)
        os.fsync(fd)
        os.close(fd)


@operation("untar", 2 * FILES + 2, new_directory)
def untar():
    call("tar -C new -xf ../archive.tar")


def sequential(size, count):
    data = b"x" * size
    fd = os.open("new/data", os.O_WRONLY | os.O_CREAT)
    for _ in range(count):
        os.write(fd, data)
    os.close(fd)


@operation("write 1 MiB", BIG_MIB, new_directory)
def write_blocks():
    sequential(MIB, BIG_MIB)


@operation("write 4 KiB", 1000, new_directory)
def write_pages():
    sequential(PAGE, 1000)


def mount(program, option):
    subprocess.run(["rm", "-rf", "upper", "work"], check=True)
    for name in ("upper", "work", "mnt"):
        os.makedirs(name, exist_ok=True)
    before = os.stat("mnt").st_dev
    lowers = ":".join(f"layer{nth}" for nth in range(LAYERS))
    options = f"lowerdir={lowers},upperdir=upper,workdir=work"
    options += f",{option}" if option else ""
    server = subprocess.Popen([program, "-f", "-o", options, "mnt"], stdin=subprocess.DEVNULL)
    while os.stat("mnt").st_dev == before:
        assert server.poll() is None, "it does not mount"
        time.sleep(0.01)
    return server


def serve(program, name):
    work, objects, prepare, option = OPERATIONS[name]
    server = mount(program, option)
    try:
        os.chdir("mnt")
        if prepare:
            prepare()
        say(f"{objects}")
        sys.stdin.readline()
        work()
        say("done")
        sys.stdin.readline()
    finally:
        os.chdir("..")
        subprocess.run(["umount", "mnt"], check=True)
        server.wait()


def say(line):
    print(line, flush=True)


def main():
    program, directory = sys.argv[1:]
    os.umask(0o022)
    os.chdir(directory)
    build()
    say("\n".join(OPERATIONS) + "\n")
    for line in sys.stdin:
        serve(program, line.rstrip("\n"))


main()
