#!/usr/bin/env python3
"""SQLite work on one database file, in the modes that the data gate combines.

build DB MEGABYTES                  make a database in WAL mode, checkpointed and closed
write DB LEDGER SEED COUNT ENDING   commit COUNT transactions, each noted in LEDGER once it is committed
read DB                             keep checking random pages until stdin ends
verify DB LEDGER...                 integrity_check, every checksum, every noted commit

A row of `page` carries the CRC of its body and a version that grows by one with each update, so a
lost, a torn and a misdirected page are all seen, whichever writer came last.
"""

import os
import pathlib
import random
import select
import sqlite3
import sys
import zlib

BODY = 3600
MMAP = 512 << 20


def connect(path, write=True):
    """A reader opens the file read-only, so that it has the lower layer's when the writers come."""
    uri = pathlib.Path(path).as_uri() + ("?mode=rwc" if write else "?mode=ro")
    db = sqlite3.connect(uri, uri=True, timeout=60, isolation_level=None)
    if db.execute(f"PRAGMA mmap_size={MMAP}").fetchone()[0] == 0:
        sys.exit("this SQLite was built without mmap")
    if write and db.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
        sys.exit("the database does not go into WAL mode")
    return db


def body(rng):
    """Neither compressible to nothing nor slow to make: a random stretch, repeated."""
    stretch = rng.randbytes(180)
    return (stretch * (BODY // len(stretch) + 1))[:BODY]


def build(path, megabytes):
    rng = random.Random(1)
    db = connect(path)
    db.execute("CREATE TABLE page(id INTEGER PRIMARY KEY, version INTEGER, crc INTEGER, body BLOB)")
    db.execute("CREATE TABLE note(writer INTEGER, seq INTEGER, crc INTEGER, PRIMARY KEY(writer, seq))")
    db.execute("CREATE INDEX page_crc ON page(crc)")
    db.execute("BEGIN")
    for key in range(megabytes * (1 << 20) // 4096):
        blob = body(rng)
        db.execute("INSERT INTO page VALUES(?, 0, ?, ?)", (key, zlib.crc32(blob), blob))
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def write(path, ledger, seed, count, ending):
    rng = random.Random(seed)
    db = connect(path)
    db.execute(f"PRAGMA synchronous={rng.choice(['NORMAL', 'FULL'])}")
    db.execute(f"PRAGMA wal_autocheckpoint={rng.choice([0, 50, 1000])}")
    pages = db.execute("SELECT max(id) FROM page").fetchone()[0] + 1
    with open(ledger, "a", buffering=1, encoding="ascii") as noted:
        for seq in range(count):
            db.execute("BEGIN IMMEDIATE")
            lines = [f"note {seed} {seq} {zlib.crc32(f'{seed}/{seq}'.encode())}"]
            db.execute("INSERT INTO note VALUES(?, ?, ?)", tuple(map(int, lines[0].split()[1:])))
            for _ in range(rng.randint(1, 6)):
                key, blob = rng.randrange(pages), body(rng)
                crc = zlib.crc32(blob)
                db.execute("UPDATE page SET version = version + 1, crc = ?, body = ? WHERE id = ?", (crc, blob, key))
                version = db.execute("SELECT version FROM page WHERE id = ?", (key,)).fetchone()[0]
                lines.append(f"page {key} {version} {crc}")
            db.execute("COMMIT")
            noted.write("\n".join(lines) + "\n")
            if rng.random() < 0.02:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)")
    if ending == "abandon":
        # No close: the WAL and its index stay behind for the next round to recover.
        os._exit(0)
    db.close()


def read(path):
    """Opens before the writers do, so that it has mapped the file from before copy-up."""
    rng = random.Random(7)
    db = connect(path, write=False)
    pages = db.execute("SELECT max(id) FROM page").fetchone()[0] + 1
    print("ready", flush=True)
    while not select.select([0], [], [], 0.01)[0]:
        for _ in range(20):
            key = rng.randrange(pages)
            crc, blob = db.execute("SELECT crc, body FROM page WHERE id = ?", (key,)).fetchone()
            if zlib.crc32(blob) != crc:
                sys.exit(f"the reader got a torn page {key}")


def verify(path, ledgers):
    db = connect(path, write=False)
    complaints = [row[0] for row in db.execute("PRAGMA integrity_check")]
    if complaints != ["ok"]:
        sys.exit("integrity_check: " + "; ".join(complaints[:10]))
    pages = {}
    for key, version, crc, blob in db.execute("SELECT id, version, crc, body FROM page"):
        if zlib.crc32(blob) != crc:
            sys.exit(f"page {key}: its body does not have its checksum")
        pages[key] = (version, crc)
    notes = {(writer, seq): crc for writer, seq, crc in db.execute("SELECT writer, seq, crc FROM note")}
    commits = 0
    for line in (line for ledger in ledgers for line in open(ledger, encoding="ascii")):
        kind, first, second, crc = line.split()
        first, second, crc = int(first), int(second), int(crc)
        if kind == "note":
            commits += 1
            if notes.get((first, second)) != crc:
                sys.exit(f"commit {second} of writer {first} is lost")
        elif pages[first][0] < second or (pages[first][0] == second and pages[first][1] != crc):
            sys.exit(f"page {first}: has version {pages[first]}, but {second} ({crc}) was committed")
    print(f"{len(pages)} pages, {len(notes)} notes, {commits} commits in the ledgers")


def main(mode, path, *rest):
    if mode == "build":
        build(path, int(rest[0]))
    elif mode == "write":
        write(path, rest[0], int(rest[1]), int(rest[2]), rest[3])
    elif mode == "read":
        read(path)
    elif mode == "verify":
        verify(path, rest)
    else:
        sys.exit(__doc__)


main(*sys.argv[1:])
