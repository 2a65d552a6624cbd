"""The input of the benchmark: a stack of layers, the same in every run."""

import os
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

import programs

PARTS = 4  # top-level directories; some workloads change only the first


@dataclass(frozen=True)
class Size:
    """How large the input is."""

    layers: int
    files: int
    many: int  # names in the one large directory
    big_mib: int  # size of the large file
    created: int  # files that the creating workload makes
    pages: int  # 4 KiB transfers of the small-write and random workloads
    removed: int  # files that are removed, and five times the directories
    repository: int  # files of the git repository


class Layers:
    """The layers on disk, and lists of what their merged tree holds."""

    def __init__(self, root: Path, size: Size):
        self.size = size
        self.lowers = [root / f"layer{nth}" for nth in range(size.layers)]  # topmost first
        self.flat = root / "flat"
        self.archive = root / "part1.tar"
        self.names = root / "names"
        self.absent = root / "absent"

    def build(self) -> None:
        for lower in self.lowers:
            lower.mkdir(parents=True)
        self._build_tree()
        self._build_special()
        self._merge()
        self._list()

    def _build_tree(self) -> None:
        """About `files` files in directories of about 20; most directories stand in few layers,
        some in all; upper layers replace a few files and white out a few."""
        chance = random.Random(8)
        text = b"The quick brown fox jumps over the lazy dog, 0123456789 times.\n" * 1200
        directories = max(self.size.files // 20, PARTS)
        for number in range(directories):
            inner = f"d{number // 40 % 10}/e{number % 40}-{number}"
            path = f"t/p{number % PARTS}/{inner}"
            spread = min(chance.choice((1, 1, 1, 2, 2, 3, 8)), len(self.lowers))
            holders = sorted(chance.sample(range(len(self.lowers)), spread))
            for holder in holders:
                (self.lowers[holder] / path).mkdir(parents=True, exist_ok=True)
            for nth in range(20):
                holder = chance.choice(holders)
                length = chance.choice((0, 100, 400, 1500, 1500, 4000, 4000, 9000, 30000))
                name = f"{path}/file-{nth:02}.{chance.choice(('c', 'so', 'txt', 'py'))}"
                (self.lowers[holder] / name).write_bytes(text[nth : nth + length])
                if chance.random() < 0.03 and holder != holders[-1]:
                    (self.lowers[holders[-1]] / name).write_bytes(b"replaced in an upper layer\n")
            if spread > 1 and chance.random() < 0.2:
                (self.lowers[holders[-1]] / path / "gone").write_bytes(b"hidden\n")
                os.mknod(self.lowers[holders[0]] / path / "gone", 0o20000, os.makedev(0, 0))

    def _build_special(self) -> None:
        bottom = self.lowers[-1]
        (bottom / "many").mkdir()
        programs.build(bottom, self.size.removed)
        programs.repository(bottom, self.size.repository)
        for nth in range(self.size.many):
            os.close(os.open(bottom / "many" / f"name-{nth:06}", os.O_CREAT | os.O_WRONLY, 0o644))
        with open(bottom / "big", "wb") as big:
            block = random.Random(1).randbytes(1 << 20)
            for _ in range(self.size.big_mib):
                big.write(block)

    def _merge(self) -> None:
        """The same tree without an overlay, for the plain directory. Bottom first."""
        self.flat.mkdir()
        for lower in reversed(self.lowers):
            subprocess.run(["cp", "-a", f"{lower}/.", self.flat], check=True)
        for path in (self.flat / "t").rglob("gone"):
            path.unlink()
        subprocess.run(["tar", "-C", self.flat / "t", "-cf", self.archive, "p1"], check=True)

    def _list(self) -> None:
        files = [
            os.path.relpath(os.path.join(where, name), self.flat)
            for where, _, names in os.walk(self.flat / "t")
            for name in names
        ]
        # In no particular order, as programs ask.
        random.Random(2).shuffle(files)
        self.names.write_text("".join(f"{name}\n" for name in files))
        self.absent.write_text("".join(f"{name}.absent\n" for name in files))
