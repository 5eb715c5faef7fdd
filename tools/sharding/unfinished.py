"""The hidden folder beside the shards that remembers, while a run is not done, which shards are."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mixloader.atomic import write_atomically
from mixloader.errors import MixloaderError, ShardError
from mixloader.shards.index import INDEX, MANIFEST, UNFINISHED, Rows, Shard, Skipped, read_json, write_rows


@dataclass(frozen=True)
class Part:
    """One finished shard: its manifest entry (None where every image was left out), its rows, what was left out."""

    shard: Shard | None
    rows: Rows
    skipped: tuple[Skipped, ...]


class Unfinished:
    """The finished parts of a run into `dest`, which is made from what the digest `made_from` stands for.

    It is this process's alone until it is removed or let go: two runs at once would write the same files.

    Raises:
        MixloaderError: `dest` holds an unfinished run of another source or with other options, or one that goes on.
    """

    def __init__(self, dest: Path, made_from: str) -> None:
        """Goes on with what is there, or starts anew. OSError when `dest` cannot be written to."""
        self.dest = dest
        self.folder = dest / UNFINISHED
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.folder / "lock", dest)
        try:
            _sweep(dest)
            self._claim(made_from)
        except BaseException:
            self.close()
            raise

    def _claim(self, made_from: str) -> None:
        run = self.folder / "run.json"
        earlier = read_json(run)
        if earlier is None:
            write_atomically(run, json.dumps({"made_from": made_from}).encode())
        elif earlier.get("made_from") != made_from:
            raise MixloaderError(
                f"{self.dest} holds an unfinished run of another source, or with other options: run that command "
                "again, name another folder, or delete this one"
            )

    def part(self, name: str) -> Part | None:
        """The part called `name`; None when it is not finished, or its shard has not the size it was left with."""
        folder = self.folder / name
        try:
            fields = read_json(folder / "part.json")
            if fields is None:
                return None
            shard = Shard(**fields["shard"]) if fields["shard"] else None
            if shard is not None and (self.dest / shard.name).stat().st_size != shard.bytes:
                return None
            rows = np.load(folder / "index.npy", allow_pickle=False)
        except (OSError, EOFError, ValueError, KeyError, TypeError, ShardError):
            return None  # whatever is damaged is written again
        return Part(shard, rows, tuple(Skipped(**skipped) for skipped in fields["skipped"]))

    def finish(self, name: str, part: Part) -> None:
        """Remembers a part whose shard stands in its place. OSError when the disk is full."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        write_rows(folder, part.rows)
        fields = {
            "shard": None if part.shard is None else asdict(part.shard),
            "skipped": [asdict(skipped) for skipped in part.skipped],
        }
        write_atomically(folder / "part.json", json.dumps(fields).encode())

    def remove(self) -> None:
        """Forgets the run, which is done."""
        shutil.rmtree(self.folder)

    def close(self) -> None:
        """Lets another process go on. A process that ends, however, does so too."""
        os.close(self._lock)


def _locked(path: Path, dest: Path) -> int:
    """An open descriptor that holds the lock until it is closed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            os.close(descriptor)
            raise MixloaderError(f"another run is writing to {dest}: wait for it, or stop it") from None
        # Some network drives know no locks: there it is left to the user.
    return descriptor


def _sweep(dest: Path) -> None:
    """Takes away what `write_atomically` leaves beside the shards where the process is killed within it."""
    for name in (INDEX, MANIFEST):
        for path in dest.glob(f".{name}.*"):
            path.unlink(missing_ok=True)
