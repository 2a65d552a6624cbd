"""What is compared: how each engine mounts the layers, and how it is left again."""

import os
import shutil
import subprocess
import time
from pathlib import Path

from layers import Layers

BASELINE = "kernel"
ALL = ("plain", BASELINE, "fuse-overlayfs", "ovlmerge")


def children() -> list[int]:
    """The processes below this one. In a process namespace of our own that is the server, which has
    lost its parent."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [int(pid) for pid in found.split()]


class Mount:
    """A fresh mount with an empty upper; for `plain` a fresh directory, or the merged tree itself."""

    def __init__(self, engine: str, layers: Layers, scratch: Path, rootless: bool, program: str):
        # `ovlmerge:writeback=1` is ovlmerge with one more option.
        self.engine, _, self.option = engine.partition(":")
        self.label = engine
        self.layers = layers
        self.rootless = rootless
        self.program = program
        self.base = scratch / "mount"
        self.root = self.base / "m"
        self.server: int | None = None

    def enter(self, writing: tuple[str, ...] | None) -> Path:
        """Mounts, and returns the root of the tree. `writing`: the parts of the tree that will be
        changed, `None` if it is only read."""
        shutil.rmtree(self.base, ignore_errors=True)
        for name in ("u", "w", "m"):
            (self.base / name).mkdir(parents=True)
        if self.engine == "plain":
            return self._plain(writing)
        # Relative: the kernel takes no more than a page of options, and 128 paths are more.
        stack = ":".join(lower.name for lower in self.layers.lowers)
        options = f"lowerdir={stack},upperdir={self.base}/u,workdir={self.base}/w"
        options += f",{self.option}" if self.option else ""
        if self.engine == BASELINE:
            extra = "userxattr" if self.rootless else "redirect_dir=off"
            extra += ",index=off,metacopy=off,xino=off"
            command = ["mount", "-t", "overlay", "overlay", "-o", f"{extra},{options}", self.root]
        else:
            command = [self.program, "-o", options, self.root]
        with open(self.base / "messages", "w+b") as messages:
            done = subprocess.run(
                command,
                cwd=self.layers.lowers[0].parent,
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=messages,
            )
            if done.returncode:
                messages.seek(0)
                raise SystemExit(f"{self.engine} does not mount: {messages.read().decode()}")
        servers = children()
        self.server = servers[0] if servers else None
        return self.root

    def _plain(self, writing: tuple[str, ...] | None) -> Path:
        if writing is None:
            return self.layers.flat
        for part in writing:
            target = self.root / part
            target.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-a", self.layers.flat / part, target], check=True)
        return self.root

    def cpu_seconds(self) -> float:
        """What the server has used of the processors so far."""
        total = 0
        if self.server:
            for task in Path(f"/proc/{self.server}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def memory(self) -> int:
        """Bytes of its own that the server has in memory now."""
        if not self.server:
            return 0
        status = Path(f"/proc/{self.server}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
        return int(line.split()[1]) << 10

    def leave(self) -> None:
        if self.engine != "plain":
            # A workload's last process may still be closing its files.
            for _ in range(50):
                if subprocess.run(["umount", self.root], stderr=subprocess.DEVNULL).returncode == 0:
                    break
                time.sleep(0.02)
            else:
                raise SystemExit(f"{self.engine}: cannot unmount {self.root}")
        while self.server and self.server in children():
            os.waitpid(self.server, 0)
        self.server = None
        shutil.rmtree(self.base)
