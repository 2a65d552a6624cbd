"""What is measured."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from layers import Layers

# Seconds, and how much was seen: lines, bytes or objects.
Result = tuple[float, int]


class Tools:
    """How a workload runs something in a mounted tree."""

    def __init__(self, layers: Layers, loops: Path):
        self.layers = layers
        self.loops = loops

    def loop(self, root: Path, name: str, path: str | Path, count: int = 0) -> Result:
        command = [self.loops, name, path, str(count)]
        done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
        nanoseconds, seen = done.stdout.split()
        return int(nanoseconds) / 1e9, int(seen)

    def shell(self, root: Path, script: str) -> Result:
        """A pipeline whose last command prints a number, or nothing."""
        start = time.perf_counter()
        done = subprocess.run(["sh", "-c", script], cwd=root, capture_output=True)
        seconds = time.perf_counter() - start
        if done.returncode or done.stderr:
            raise SystemExit(f"{script}: {done.stderr.decode()[:500]}")
        return seconds, int(done.stdout or 0)


@dataclass(frozen=True)
class Workload:
    name: str
    run: Callable[[Tools, Path], Result]
    # The parts of the tree that it changes; None: it only reads, so that it can be repeated warm.
    writes: tuple[str, ...] | None = None
    # Done after the mount and before the clock starts.
    prepare: Callable[[Tools, Path], Result] | None = None
    # What the project aims at, as ratio to kernel overlayfs: rootless, 8 layers, on a disk, cold.
    first: float | None = None
    warm: float | None = None

    def goal(self, phase: str) -> float | None:
        return {"first": self.first, "warm": self.warm}[phase]


def shell(script: str) -> Callable[[Tools, Path], Result]:
    return lambda tools, root: tools.shell(root, script)


def loop(name: str, path: str, count: Callable[[Tools], int] = lambda tools: 0):
    return lambda tools, root: tools.loop(root, name, path, count(tools))


def mib(tools: Tools) -> int:
    return tools.layers.size.big_mib


def pages(tools: Tools) -> int:
    return tools.layers.size.pages


def append(tools: Tools) -> int:
    return min(3000, tools.layers.size.files)


def created(tools: Tools) -> int:
    return tools.layers.size.created


def make_files(tools: Tools, root: Path) -> Result:
    tools.shell(root, "mkdir n")
    return tools.loop(root, "create", "n", created(tools))


NOTHING: tuple[str, ...] = ()
COMPILE = "cd c && mkdir ../n && for s in s*.c; do cc $(cat flags) -c $s -o ../n/$s.o; done"
INSTALL = "python3 -m zipfile -e wheel.zip n && python3 -m compileall -q n && find n -name '*.pyc' | wc -l"
# dpkg writes progress, and complains of a log that it cannot write.
DPKG = "dpkg --root=deb --force-not-root --install deb/*.deb >/dev/null 2>&1; ls deb/usr/share | wc -l"

ALL = (
    Workload("find", shell("find t | wc -l"), first=1.6, warm=0.8),
    Workload("ls -lR", shell("ls -lR t | wc -l"), warm=2.0),
    Workload("stat every file", lambda t, root: t.loop(root, "stat", t.layers.names), warm=1.0),
    Workload("absent names", lambda t, root: t.loop(root, "absent", t.layers.absent), warm=1.0),
    Workload("open, read, close", lambda t, root: t.loop(root, "read", t.layers.names), warm=1.1),
    Workload("tar to a pipe", shell("tar -cf - t | wc -c"), first=1.7),
    Workload("grep -r", shell("grep -r 'replaced in an upper' t | wc -l"), warm=1.1),
    Workload("git status", shell("GIT_OPTIONAL_LOCKS=0 git -C repo status --porcelain | wc -l")),
    Workload("include paths", shell("cd c && cc $(cat flags) -M *.c | wc -c")),
    Workload("python imports", shell("cd py && python3 -S -B all.py")),
    Workload(
        "four readers at a time",
        lambda t, root: t.shell(root, f"xargs -P 4 -n 500 cat <{t.layers.names} | wc -c"),
    ),
    Workload("commit walk", loop("commit-walk", "t"), first=2.5),
    Workload("list many names", loop("list", "many"), warm=1.0),
    Workload("ls -l many names", shell("ls -lU many | wc -l")),
    Workload("read 1 MiB blocks", loop("read-blocks", "big", mib), first=1.8),
    Workload("random 4 KiB reads", loop("random-reads", "big", pages), warm=0.8),
    Workload("read a mapping", loop("map", "big")),
    Workload(
        "untar",
        lambda t, root: t.shell(root, f"mkdir n && tar -C n -xf {t.layers.archive}"),
        NOTHING,
        first=1.3,
    ),
    Workload(
        "create files",
        loop("create", "n", created),
        NOTHING,
        shell("mkdir n"),
        first=5.0,
    ),
    Workload("rename files", loop("rename", "n", created), NOTHING, make_files),
    Workload("rm -rf new files", shell("rm -rf n"), NOTHING, make_files),
    Workload("cp -a", shell("cp -a t/p1 n"), ("t/p1",)),
    Workload("compile a C project", shell(COMPILE), ("c",)),
    Workload("install Python packages", shell(INSTALL), ("wheel.zip",), shell("mkdir n")),
    Workload("dpkg --install", shell(DPKG), ("deb",)),
    Workload("SQLite", shell("cd db && python3 -S change.py"), ("db",)),
    Workload("rm -rf a lower tree", shell("rm -rf t/p0"), ("t/p0",), first=3.0),
    Workload("chmod -R a lower tree", shell("chmod -R go-w,u+x t/p0"), ("t/p0",), first=0.3),
    Workload("chown -R a lower tree", shell("chown -R 0:0 t/p0"), ("t/p0",)),
    Workload("rm -rf lower directories", shell("rm -rf dirs"), ("dirs",), first=4.0),
    Workload("rm -rf lower files", shell("rm -rf files"), ("files",)),
    Workload(
        "append to lower files",
        lambda t, root: t.loop(root, "append", t.layers.names, append(t)),
        ("t",),
    ),
    Workload("change one byte of a big file", loop("touch", "big"), ("big",)),
    Workload("write 1 MiB blocks", loop("write-blocks", "new", mib), NOTHING, first=2.0),
    Workload("write 4 KiB pages", loop("write-pages", "new", pages), NOTHING, first=1.5),
    Workload(
        "random 4 KiB writes",
        loop("random-writes", "new", pages),
        NOTHING,
        loop("write-blocks", "new", mib),
    ),
    Workload("write and fsync", loop("fsync", "new", lambda tools: 500), NOTHING),
)
