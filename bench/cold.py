"""Cold caches, for a bench that runs in a user namespace, where nobody may drop them."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Descriptors of the pipes to and from the process that may, for the one that may not.
ENVIRONMENT = "OVLMERGE_BENCH_COLD"


@contextmanager
def dropper() -> Iterator[tuple[int, int]]:
    """Drops the page, entry and inode caches whenever a child asks; yields what it must inherit."""
    asked, ask = os.pipe()
    done, say = os.pipe()
    os.environ[ENVIRONMENT] = f"{ask},{done}"

    def serve() -> None:
        while os.read(asked, 1):
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text("3")
            os.write(say, b"d")

    server = threading.Thread(target=serve)
    server.start()
    try:
        yield ask, done
    finally:
        os.close(ask)
        server.join()
        for end in (asked, done, say):
            os.close(end)


def ask() -> None:
    """In the child: returns when the caches are empty."""
    ask_fd, done_fd = map(int, os.environ[ENVIRONMENT].split(","))
    os.write(ask_fd, b"a")
    os.read(done_fd, 1)
