from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.command import call
from PIL import Image

from mixloader.plan import Plan
from mixloader.tools.bench.photographs import HEIGHT, WIDTH, write_photographs
from mixloader.tools.bench.race import MIX, RIVAL, Race
from mixloader.tools.sharding.folder import FolderSource
from mixloader.tools.sharding.writer import ShardOptions, write_shards

pytest.importorskip("nvidia.dali")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 made-up photographs in shards: two batches of 7 do not fit, one of 14 does."""
    folder, dest = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("photographs")
    write_photographs(folder, 14)
    write_shards(FolderSource(folder), dest, options=ShardOptions(workers=1))
    return dest


def bench(photographs: Path, *more: object) -> tuple[object, ...]:
    return ("bench", "loader", photographs, "--threads", 1, "--rounds", 1, "--seconds", 0.05, "--image-size", 64, *more)


def test_the_command_measures_both_loaders(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "result.json"
    assert call(monkeypatch, *bench(photographs, "--out", out)) == 0
    result = json.loads(out.read_text())
    assert set(result["versions"]) == {"python", "torch", "dali", "pillow", "numpy"}
    assert result["command"].startswith("mixloader bench loader ")
    assert result["processor"]
    (race,) = result["results"]
    assert race["threads"] == 1
    assert race["images_per_canvas"] == 1.75
    assert race["difference"] < 1 / 255
    assert set(race["rounds"]) == {"MixLoader", "DataLoader"}
    assert all(len(rates) == 1 and rates[0] > 0 for rates in race["rounds"].values())
    assert race["ratio"]["min"] == race["ratio"]["median"] == race["ratio"]["max"] > 0
    printed = capsys.readouterr()
    assert "composites/s" in printed.out
    assert "round 1 of 1" in printed.err


def test_loaders_that_differ_are_not_measured(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mixloader.tools.bench import race

    def open_mirrored(shards: object, plan: Plan, *rest: object, **options: object) -> object:
        np.logical_not(plan.flip, out=plan.flip)
        return opened(shards, plan, *rest, **options)

    opened = race.open_rival
    monkeypatch.setattr(race, "open_rival", open_mirrored)
    other = property(lambda self: self._controller.plan(1, self.ledger.snapshot()).whole())
    monkeypatch.setattr(race.MixLoader, "plan", other)
    out = tmp_path / "result.json"
    assert call(monkeypatch, *bench(photographs, "--out", out)) == 2
    assert "do not deliver the same batch" in capsys.readouterr().err
    assert not out.exists()


def test_an_interrupt_while_the_workers_start_is_one_line(photographs: Path) -> None:
    arguments = map(str, bench(photographs))
    program = "from mixloader.tools import cli; cli.main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not has_workers(process.pid) or ignores_interrupts(process.pid):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "stopped\n")


def has_workers(process: int) -> bool:
    """Whether the process has begun to start workers: they are its main thread's children."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return any("spawn_main" in Path(f"/proc/{child}/cmdline").read_text() for child in children)
    except OSError:  # one of them has just ended
        return False


def ignores_interrupts(process: int) -> bool:
    """As it does for the moment in which it starts them."""
    status = Path(f"/proc/{process}/status").read_text()
    return bool(int(status.partition("SigIgn:")[2].split()[0], 16) >> (signal.SIGINT - 1) & 1)


def test_wrong_thread_counts_are_refused(
    photographs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for threads in ("0", "two", "1,100000", ""):
        assert call(monkeypatch, "bench", "loader", photographs, "--threads", threads) == 2
        assert capsys.readouterr().err.startswith(f"--threads={threads}: give numbers from 1 to ")


@pytest.mark.parametrize(("cores", "counts"), [({5}, [1]), ({0, 1}, [1, 2]), ({0, 1, 2, 7}, [1, 2])])
def test_by_default_it_takes_the_cores_that_are_there(
    cores: set[int], counts: list[int], photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def run_race(shards: object, threads: int, *_: object) -> Race:
        measured.append(threads)
        return Race(threads, 8, 1.75, 0.0, {MIX: [2.0], RIVAL: [1.0]})

    monkeypatch.setattr("mixloader.tools.bench.race.run_race", run_race)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: cores)
    assert call(monkeypatch, "bench", "loader", photographs) == 0
    assert measured == counts


def test_made_up_photographs_are_like_photographs(tmp_path: Path) -> None:
    write_photographs(tmp_path, 2)
    paths = sorted(tmp_path.rglob("*.jpg"))
    assert len(paths) == 2
    for path in paths:
        with Image.open(path) as image:
            assert image.size == (WIDTH, HEIGHT)
            assert 60e3 < path.stat().st_size < 200e3
            pixels = np.asarray(image, np.float32)
        assert 20 < pixels.std() < 80
        assert np.corrcoef(pixels[:, :-1].ravel(), pixels[:, 1:].ravel())[0, 1] > 0.8
