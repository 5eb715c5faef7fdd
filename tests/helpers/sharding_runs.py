"""Runs of `mixloader shard` in processes of their own, and on disks of their own, which end badly."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mixloader.tools import cli
from mixloader.tools.sharding import writer
from mixloader.tools.sharding.encode import encode
from mixloader.tools.sharding.folder import FolderSource
from mixloader.tools.sharding.writer import ShardOptions, write_shards

CHANGES = ("fsync", "replace", "unlink", "rmdir", "mkdir", "open")
"""The functions of `os` that a run changes the disk with, but for the writing itself."""

MANY = 1 << 20
"""More changes than any run makes."""


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shard_and_die(source: Path, dest: Path, at: int) -> None:
    """Write shards; be killed right before change number `at` of the disk."""
    changes = itertools.count()

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(changes) == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    opened = FolderSource(source)
    for name in CHANGES:
        setattr(os, name, counted(getattr(os, name)))
    write_shards(opened, dest, options=ShardOptions(shard_size=5, workers=1))


def command(*arguments: str) -> int:
    """The command in this process; its exit status."""
    sys.argv = ["mixloader", "shard", *arguments]
    try:
        cli.main()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def slow(source: str, dest: str, seed: str) -> None:
    """The command, taking its time with every image; it says on standard output when it begins."""
    chance = random.Random(seed)

    def slowly(*arguments: Any, **options: Any) -> Any:
        time.sleep(chance.uniform(0, 0.02))
        return encode(*arguments, **options)

    vars(writer)["encode"] = slowly
    print("begun", flush=True)
    sys.exit(command(source, dest, "--shard-size", "5", "--workers", "2"))


def fill_up(source: str, disk: str, expected: str) -> None:
    """On a small disk of its own, which is made larger page by page: the command, until there is room for its shards.

    A line of JSON: how often it failed, and whether what is there in the end is what `expected` has.
    """
    page, rooms, failed = os.sysconf("SC_PAGE_SIZE"), itertools.count(2), 0
    whole = contents(Path(expected))
    dest = Path(disk) / "out"
    mount = ["mount", "-t", "tmpfs", "tmpfs", disk]
    subprocess.run([*mount, "-o", f"size={2 * page}"], check=True)
    while True:
        room = next(rooms)
        subprocess.run(["mount", "-o", f"remount,size={room * page}", disk], check=True)
        status = command(source, str(dest), "--shard-size", "5", "--workers", "1")
        if status == 0:
            break
        failed += 1
        if (dest / "manifest.json").exists() or list(dest.rglob("*.part")) or room > 1000:
            break
    print(json.dumps({"failed": failed, "status": status, "same": contents(dest) == whole}))


if __name__ == "__main__":
    {"slow": slow, "fill_up": fill_up}[sys.argv[1]](*sys.argv[2:])
