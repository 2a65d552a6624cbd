"""Stores of an ordinary user's podman and buildah, each on an engine of its own, in namespaces that
nothing leaks out of."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests" / "runtimes"
USER = 64_242
KERNEL = "kernel"


def arguments(doc: str, rounds: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc)
    help = "rounds over all engines (%(default)s)"
    parser.add_argument("--rounds", type=int, default=rounds, help=help)
    parser.add_argument("--ovlmerge", help="program to measure; built in release mode otherwise")
    parser.add_argument("--fuse-overlayfs", default="/usr/bin/fuse-overlayfs", help="%(default)s")
    parser.add_argument("--json", type=Path, help="also write every sample to this file")
    return parser


def program(given: str | None) -> str:
    if given:
        return str(Path(given).resolve())
    subprocess.run(["cargo", "build", "--release"], cwd=HERE.parent, check=True)
    target = os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target")
    return str(Path(target).resolve() / "release" / "ovlmerge")


class Space:
    """The namespaces of the tests, with their ordinary user: nothing in there outlives this."""

    def __init__(self, home: Path, ovlmerge: str):
        self.home = home
        conf = home / "etc" / "containers"
        conf.mkdir(parents=True)
        for file in (TESTS / "etc").iterdir():
            (conf / file.name).write_text(file.read_text())
        subprocess.run(["sh", TESTS / "image.sh", home], check=True)
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash"]
        self.holder = subprocess.Popen(
            [*command, TESTS / "space.sh", home, ovlmerge, str(USER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.first = self.holder.stdout.readline().decode().strip()
        if not self.first:
            raise SystemExit("the namespaces could not be made")

    def close(self) -> None:
        self.holder.stdin.close()
        self.holder.wait()

    def run(self, environment: list[str], args: list[str]) -> str:
        identity = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups"]
        command = ["nsenter", "--target", self.first, "--mount", "--pid", *identity, "env", "-i"]
        command += [f"--chdir={self.home}", "LC_ALL=C.UTF-8", f"TMPDIR={self.home}/tmp"]
        command += ["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *environment, *args]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{args}: {done.stdout}{done.stderr}")
        return done.stdout


class Store:
    """One engine's images and containers."""

    def __init__(self, space: Space, name: str, mount_program: str | None):
        self.space = space
        home = space.home / f"store-{name}"
        home.mkdir()
        os.chown(home, USER, USER)
        run = f"/run/user/{name}"
        space.run([], ["mkdir", "-m", "700", run])
        lines = ["[storage]", 'driver = "overlay"']
        lines.append(f'graphroot = "{home}/.local/share/containers/storage"')
        lines.append(f'runroot = "{run}/containers"')
        if mount_program:
            lines += ["[storage.options.overlay]", f'mount_program = "{mount_program}"']
        (home / "storage.conf").write_text("\n".join(lines) + "\n")
        self.environment = [
            f"HOME={home}",
            f"XDG_RUNTIME_DIR={run}",
            f"CONTAINERS_STORAGE_CONF={home}/storage.conf",
        ]

    def podman(self, *args: str) -> str:
        return self.space.run(self.environment, ["podman", *args])

    def unshare(self, script: str, *args: str) -> str:
        """A shell script where the ids of the user are those of the images."""
        return self.podman("unshare", "bash", "-euc", script, "bash", *args)

    def timed(self, *args: str) -> float:
        """Seconds that a program takes."""
        start = time.perf_counter()
        self.space.run(self.environment, list(args))
        return time.perf_counter() - start


@contextmanager
def spaces(wanted: argparse.Namespace) -> Iterator[tuple[Space, dict[str, str | None]]]:
    """The namespaces, and the mount program of each engine."""
    if os.geteuid() != 0:
        raise SystemExit("needs root, to make namespaces with a user of their own")
    ovlmerge = program(wanted.ovlmerge)
    with tempfile.TemporaryDirectory(prefix="ovlmerge-bench-") as directory:
        home = Path(directory)
        home.chmod(0o755)
        (home / "tmp").mkdir()
        (home / "tmp").chmod(0o1777)
        space = Space(home, ovlmerge)
        engines = {
            KERNEL: None,
            "ovlmerge": f"{home}/ovlmerge",
            "fuse-overlayfs": wanted.fuse_overlayfs,
        }
        try:
            yield space, engines
        finally:
            space.close()


# By what is compared, and by what was done.
Samples = dict[Any, dict[str, list[float]]]


def rounds(number: int, measures: dict[Any, Callable[[], dict[str, float]]]) -> Samples:
    """What each measures, by turns in a rotating order."""
    samples: Samples = {name: {} for name in measures}
    order = list(measures)
    for nth in range(number):
        print(f"round {nth + 1} of {number}", file=sys.stderr)
        first = nth % len(order)
        for name in order[first:] + order[:first]:
            for what, took in measures[name]().items():
                samples[name].setdefault(what, []).append(took)
    return samples


def medians(samples: Samples, what: str) -> dict[Any, float]:
    return {case: statistics.median(samples[case][what]) for case in samples}


def span(took: list[float], digits: int) -> str:
    """Median, fastest and slowest."""
    middle, least, most = statistics.median(took), min(took), max(took)
    return f"{middle:.{digits}f} s ({least:.{digits}f} to {most:.{digits}f})"
