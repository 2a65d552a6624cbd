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


def shell(script: str) -> Callable[[Tools, Path], Result]:
    return lambda tools, root: tools.shell(root, script)


def loop(name: str, path: str, count: Callable[[Tools], int] = lambda tools: 0):
    return lambda tools, root: tools.loop(root, name, path, count(tools))


def mib(tools: Tools) -> int:
    return tools.layers.size.big_mib


def pages(tools: Tools) -> int:
    return tools.layers.size.pages


NOTHING: tuple[str, ...] = ()

ALL = (
    Workload("find", shell("find t | wc -l")),
    Workload("ls -lR", shell("ls -lR t | wc -l")),
    Workload("stat every file", lambda t, root: t.loop(root, "stat", t.layers.names)),
    Workload("absent names", lambda t, root: t.loop(root, "absent", t.layers.absent)),
    Workload("open, read, close", lambda t, root: t.loop(root, "read", t.layers.names)),
    Workload("tar to a pipe", shell("tar -cf - t | wc -c")),
    Workload("grep -r", shell("grep -r 'replaced in an upper' t | wc -l")),
    Workload("commit walk", loop("commit-walk", "t")),
    Workload("list many names", loop("list", "many")),
    Workload("read 1 MiB blocks", loop("read-blocks", "big", mib)),
    Workload("random 4 KiB reads", loop("random-reads", "big", pages)),
    Workload(
        "untar", lambda t, root: t.shell(root, f"mkdir n && tar -C n -xf {t.layers.archive}"), NOTHING
    ),
    Workload(
        "create files",
        loop("create", "n", lambda tools: tools.layers.size.created),
        NOTHING,
        shell("mkdir n"),
    ),
    Workload("rm -rf a lower tree", shell("rm -rf t/p0"), ("t/p0",)),
    Workload("chmod -R a lower tree", shell("chmod -R go-w,u+x t/p0"), ("t/p0",)),
    Workload("change one byte of a big file", loop("touch", "big"), ("big",)),
    Workload("write 1 MiB blocks", loop("write-blocks", "new", mib), NOTHING),
    Workload("write 4 KiB pages", loop("write-pages", "new", pages), NOTHING),
    Workload(
        "random 4 KiB writes",
        loop("random-writes", "new", pages),
        NOTHING,
        loop("write-blocks", "new", mib),
    ),
)
