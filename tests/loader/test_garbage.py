"""What is left behind: nothing, after a loader is closed or let go, and wherever garbage is collected."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from helpers.loaders import drawing_threads, ids_of, wait_until
from torch import Tensor

from mixloader.loader import MixLoader
from mixloader.shards import ShardSet


def open_files(folder: Path) -> list[str]:
    """The files in a folder that this process has open."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the descriptor that the list is read through is gone
            links.append(str(descriptor.readlink()))
    return sorted(link for link in links if link.startswith(f"{folder}/"))


def native_threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


@pytest.fixture
def own_shards(shards: Path, tmp_path: Path) -> Path:
    """A copy: its files are opened by nobody else."""
    for file in shards.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def use(loader: MixLoader) -> None:
    """An epoch, and the beginning of another."""
    assert len(ids_of(loader)) == 4
    batches = iter(loader)
    next(batches), next(batches)


def test_a_closed_loader_has_no_thread_and_no_file(own_shards: Path, pipeline: str) -> None:
    use(MixLoader(own_shards, 7, 64, pipeline=pipeline, threads=3))  # type: ignore[arg-type]  # what libraries start
    gc.collect()
    assert wait_until(lambda: not drawing_threads())
    threads = native_threads()
    loader = MixLoader(own_shards, 7, 64, pipeline=pipeline, threads=3)  # type: ignore[arg-type]
    use(loader)
    assert open_files(own_shards)
    loader.close()
    assert open_files(own_shards) == []
    assert wait_until(lambda: native_threads() <= threads)
    assert loader.plan.batches == 4  # what it knew, it knows
    assert loader.shards[3].key


def test_a_loader_that_is_let_go_in_an_epoch_leaves_nothing(own_shards: Path, pipeline: str) -> None:
    use(MixLoader(own_shards, 7, 64, pipeline=pipeline, threads=3))  # type: ignore[arg-type]
    gc.collect()
    assert wait_until(lambda: not drawing_threads())
    threads = native_threads()
    loader = MixLoader(own_shards, 7, 64, pipeline=pipeline, threads=3)  # type: ignore[arg-type]
    batches = iter(loader)
    next(batches)
    del loader, batches
    gc.collect()
    assert wait_until(lambda: open_files(own_shards) == [])
    assert wait_until(lambda: native_threads() <= threads)


def test_a_set_that_is_shared_stays_open_until_it_is_closed(own_shards: Path) -> None:
    opened = ShardSet(own_shards)
    with MixLoader(opened, 7, 64, pipeline="pillow") as loader:
        use(loader)
    files = open_files(own_shards)
    assert len(files) == 4  # three shards and the index
    view = opened[0].data
    before = bytes(view)
    opened.close()
    assert open_files(own_shards) == []
    assert bytes(view) == before
    assert bytes(opened[0].data) == before
    assert len(opened) == 24


def in_a_cycle(iteration: Any) -> None:
    """Let go of an iteration as an exception does that keeps its own frames: only a collection finds it."""
    cycle = [iteration]
    cycle.append(cycle)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("same", [True, False], ids=["its own thread", "another iteration's"])
def test_an_iteration_may_be_collected_on_a_drawing_thread(make: Callable[..., MixLoader], same: bool) -> None:
    """A lane is held there, which the threads of the iteration that is collected may be waiting for."""
    collect, done = threading.Event(), threading.Event()

    def look(images: Tensor) -> Tensor:
        time.sleep(0.01)  # so that other threads come to wait for the lane
        if collect.is_set() and not done.is_set():
            gc.collect()
            done.set()
        return images

    loader = make(batch_size=1, prefetch=6, transform=look)
    gc.disable()
    try:
        left = iter(loader)
        next(left)
        other = None if same else iter(loader)
        if other is not None:
            next(other)
        in_a_cycle(left)
        del left
        collect.set()
        assert done.wait(10)
        assert wait_until(lambda: len(drawing_threads("mixloader-draw")) <= (other is not None))
        assert other is None or next(other)
    finally:
        gc.enable()
