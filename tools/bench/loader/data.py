"""The race's data: one set of JPEGs in the form that each contestant reads. Making it is not timed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import tarfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mixloader.errors import MixloaderError
from mixloader.plan import Plan
from mixloader.shards import ShardSet
from mixloader.split import EMPTY, SLOTS
from mixloader.tools.bench.loader.made_up import write_photographs
from mixloader.tools.bench.loader.photographs import photographs_folder
from mixloader.tools.sharding.folder import FolderSource
from mixloader.tools.sharding.sources import Source, SourceImage
from mixloader.tools.sharding.writer import ShardOptions, write_shards

SHARD_SETS: dict[str, dict[str, object]] = {
    "plain": {},
    "levels": {"levels": 2},
    "markers": {"levels": 2, "recode": True},
}
"""By name: the options of `ShardOptions` beside the defaults."""

_MADE_UP = 512


class Repeated:
    """A source whose images come several times, so that an epoch's end, which only some loaders have, counts for less.

    Args:
        source: the images.
        times: how often each comes.
    """

    def __init__(self, source: Source, times: int) -> None:
        self._source, self._times = source, times
        self.classes = source.classes
        self.fingerprint = hashlib.sha256(f"{source.fingerprint} {times}".encode()).hexdigest()

    def __len__(self) -> int:
        """All images, repetitions included."""
        return len(self._source) * self._times

    def __getitem__(self, i: int) -> SourceImage:
        """Image number `i`, under a key of its own."""
        lap, number = divmod(i, len(self._source))
        image = self._source[number]
        return SourceImage(f"{image.key}-{lap}", image.label, image.name, image.data)


def open_pictures(
    folder: Path | None, data: Path, made_up: Path, report: Callable[[str], object]
) -> tuple[Source, str]:
    """The JPEGs of the race, and what they are in words.

    Args:
        folder: class folders of JPEGs, or None for photographs of a Debian package, or else made-up ones.
        data: where the photographs are, or are put.
        made_up: where made-up ones are put.
        report: is told why there are no real ones.
    """
    if folder is not None:
        source = FolderSource(folder)
        return source, f"{len(source):,} images of {folder.name}"
    try:
        source = FolderSource(photographs_folder(data))
        return source, f"{len(source):,} pictures of Debian's opencv-doc, 500 pixels at most"
    except MixloaderError as error:
        report(f"{error}; made-up photographs instead")
    write_photographs(made_up, _MADE_UP)
    return FolderSource(made_up), f"{_MADE_UP} made-up photographs"


def write_set(name: str, source: Source, dest: Path) -> None:
    """Write one of the sets of shards.

    Raises:
        MixloaderError: this version writes no such shards.
    """
    try:
        options = ShardOptions(**SHARD_SETS[name])  # type: ignore[arg-type]  # by name, so that each may be missing
    except TypeError as error:
        raise MixloaderError(f"shards with {SHARD_SETS[name]} cannot be written: {error}") from None
    write_shards(source, dest, options=options)


def write_jpegs(shards: ShardSet, folder: Path) -> None:
    """Write all encoded images into `jpegs.bin`, and where each begins, its label and size into `index.npz`."""
    folder.mkdir(parents=True)
    offsets = np.zeros(len(shards) + 1, np.int64)
    with (folder / "jpegs.bin").open("wb") as file:
        for i in range(len(shards)):
            offsets[i + 1] = offsets[i] + file.write(shards[i].data)
    np.savez(folder / "index.npz", offsets=offsets, labels=shards.labels, sizes=shards.sizes)


def write_tars(shards: ShardSet, plan: Plan, folder: Path, workers: int) -> None:
    """Write a tar for each worker, with the JPEGs of a canvas beside each other, in the plan's order.

    A sample's key is its canvas number; it has `0.jpg`, `1.jpg`, ... in the order of its rows, and `labels.json`, the
    labels by slot. Worker w reads tar w and every batch comes from one worker, so batches are dealt out in turns.
    """
    folder.mkdir(parents=True)
    first = np.searchsorted(plan.canvas, np.arange(plan.canvases + 1))
    for worker in range(workers):
        with tarfile.open(folder / f"{worker:04d}.tar", "w") as tar:
            for batch in range(worker, plan.batches, workers):
                for canvas in range(batch * plan.canvases_per_batch, (batch + 1) * plan.canvases_per_batch):
                    _add_canvas(tar, shards, plan, canvas, range(first[canvas], first[canvas + 1]))


def _add_canvas(tar: tarfile.TarFile, shards: ShardSet, plan: Plan, canvas: int, rows: range) -> None:
    labels = [EMPTY] * SLOTS
    for place, row in enumerate(rows):
        sample = shards[int(plan.sample[row])]
        labels[int(plan.slot[row])] = sample.label
        _add(tar, f"{canvas:06d}.{place}.jpg", bytes(sample.data))
    _add(tar, f"{canvas:06d}.labels.json", json.dumps(labels).encode())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def write_chunks(python: Path, script: Path, plan: Path, folders: Folders, dest: Path) -> None:
    """Have LitData write its chunks, in the plan's order.

    Raises:
        MixloaderError: it cannot; with the last line that it said.
    """
    command = [str(python), str(script), "prepare", str(plan), str(folders.jpegs), str(dest)]
    # It clears folders called `chunks` and `data` in what it takes for its own temporary folder.
    environment = {**os.environ, "TMPDIR": str(folders.temporary)}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as running:
        try:
            said = running.communicate()[1]
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)  # its workers too: after an interrupt they would go on writing
    if running.returncode:
        raise MixloaderError(f"its chunks cannot be written: {last_line(said)}")


def last_line(said: str) -> str:
    """What a program that failed said last."""
    return next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "no message")


@dataclass(frozen=True)
class Folders:
    """Where everything of a race lies, below one folder."""

    root: Path

    def shards(self, name: str) -> Path:
        """A set of shards."""
        return self.root / "shards" / name

    @property
    def temporary(self) -> Path:
        """Where contestants put what they do not keep; it is there."""
        folder = self.root / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def jpegs(self) -> Path:
        """What random-access rivals read."""
        return self.root / "jpegs"

    def stream(self, plan: str) -> Path:
        """What streaming rivals read."""
        return self.root / "stream" / plan

    def plan(self, name: str) -> Path:
        """The file of a plan."""
        return self.root / f"{name}.npz"
