"""The input of the workloads that are programs in use: sources, modules, packages, a database."""

import sqlite3
import subprocess
import zipfile
from pathlib import Path

INCLUDE_DIRS = 20  # of which the last has the headers
HEADERS = 30
SOURCES = 20
IMPORT_DIRS = 10  # of which the last has the modules
MODULES = 200
PACKAGES = 10
FILES_OF_PACKAGE = 30
ROWS = 5000

MODULE = "".join(f"def function_{nth}(value):\n    return value + {nth}\n\n\n" for nth in range(40))


def build(bottom: Path, removed: int) -> None:
    """All of it in the bottom layer, each part in a directory of its own."""
    _c_project(bottom / "c")
    _python_path(bottom / "py")
    _wheel(bottom / "wheel.zip")
    _packages(bottom / "deb")
    _database(bottom / "db")
    _to_remove(bottom, removed)


def _c_project(root: Path) -> None:
    for nth in range(INCLUDE_DIRS):
        (root / f"i{nth}").mkdir(parents=True)
    for nth in range(HEADERS):
        text = "".join(f"int f{nth}_{i}(int);\n" for i in range(50))
        (root / f"i{INCLUDE_DIRS - 1}/h{nth}.h").write_text(text)
    includes = "".join(f"#include <h{nth}.h>\n" for nth in range(HEADERS))
    for nth in range(SOURCES):
        (root / f"s{nth}.c").write_text(f"{includes}int s{nth}(void) {{ return f0_0({nth}); }}\n")
    flags = " ".join(f"-Ii{nth}" for nth in range(INCLUDE_DIRS))
    (root / "flags").write_text(flags)


def _python_path(root: Path) -> None:
    for nth in range(IMPORT_DIRS):
        (root / f"p{nth}").mkdir(parents=True)
    for nth in range(MODULES):
        (root / f"p{IMPORT_DIRS - 1}/module_{nth}.py").write_text("value = 1\n")
    lines = [f"import sys; sys.path[:0] = ['p%d' % n for n in range({IMPORT_DIRS})]"]
    lines += [f"import module_{nth}" for nth in range(MODULES)]
    lines += ["print(sum('module_' in name for name in sys.modules))"]
    (root / "all.py").write_text("\n".join(lines))


def _wheel(path: Path) -> None:
    """What pip unpacks: modules in packages."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in range(PACKAGES):
            for nth in range(FILES_OF_PACKAGE):
                archive.writestr(f"package_{package}/module_{nth}.py", MODULE)


def _packages(root: Path) -> None:
    """Debian packages, and the directory of dpkg for a system that has none installed."""
    state = root / "var/lib/dpkg"
    for name in ("info", "updates", "triggers"):
        (state / name).mkdir(parents=True)
    (state / "status").write_text("")
    for package in range(PACKAGES):
        tree = root / "build"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(
            f"Package: bench{package}\nVersion: 1\nArchitecture: all\n"
            "Maintainer: nobody <nobody@localhost>\nDescription: files\n"
        )
        data = tree / f"usr/share/bench{package}"
        data.mkdir(parents=True)
        for nth in range(FILES_OF_PACKAGE):
            (data / f"file{nth}").write_text(MODULE)
        command = ["dpkg-deb", "--build", "-Zgzip", "--root-owner-group", tree, root / f"{package}.deb"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["rm", "-r", tree], check=True)


def _database(root: Path) -> None:
    root.mkdir()
    with sqlite3.connect(root / "data.sqlite") as database:
        database.execute("create table t (id integer primary key, text text)")
        rows = ((nth, "x" * 200) for nth in range(ROWS))
        database.executemany("insert into t values (?, ?)", rows)
    database.close()
    (root / "change.py").write_text(
        "import sqlite3\n"
        "d = sqlite3.connect('data.sqlite')\n"
        "for n in range(200):\n"
        "    with d:\n"
        f"        d.execute('update t set text = ? where id = ?', ('y' * 100, n * 7 % {ROWS}))\n"
        "print(d.execute('select count(*) from t').fetchone()[0])\n"
    )


def _to_remove(bottom: Path, removed: int) -> None:
    """Directories with one file each, and files, ten directories of them."""
    for nth in range(removed // 5):
        directory = bottom / f"dirs/d{nth}"
        directory.mkdir(parents=True)
        (directory / "file").write_bytes(b"")
    for part in range(10):
        directory = bottom / f"files/d{part}"
        directory.mkdir(parents=True)
        for nth in range(removed // 10):
            (directory / f"f{nth}").write_bytes(b"")


def repository(bottom: Path, files: int) -> None:
    """A git work tree in the bottom layer. Times and sizes alone are compared, as a copy has other
    inode numbers."""
    root = bottom / "repo"
    for nth in range(files):
        path = root / f"d{nth // 40}/f{nth}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"file {nth}\n" * 20)
    git = ["git", "-C", root, "-c", "user.name=n", "-c", "user.email=e", "-c", "gc.auto=0"]
    for command in (
        ["init", "-q"],
        ["config", "core.checkStat", "minimal"],
        ["config", "core.trustctime", "false"],
        ["add", "."],
        ["commit", "-q", "-m", "all"],
    ):
        subprocess.run([*git, *command], check=True)
    # What was written in the second of the index is read again by every `git status`.
    script = "sleep 1.1; git update-index --refresh -q; touch .git/index"
    subprocess.run(["sh", "-c", script], cwd=root, check=True)
