from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from helpers.command import call

from mixloader.policies import MixTrain
from mixloader.tools.bench import soak_run
from mixloader.tools.bench.soak_run import Epoch, Held, Soak, drifts, growth


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak_run, "_PAUSE", 0.0)


def soak(shards: Path, *more: object) -> tuple[object, ...]:
    return ("bench", "soak", shards, "--batch-size", 7, "--image-size", 64, "--threads", 2, "--epochs", 6, *more)


@pytest.mark.parametrize("pipeline", ["cpu", "dali", "pillow"])
def test_a_run_leaves_nothing_and_its_figures_are_written(
    shards: Path, pipeline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if pipeline == "dali":
        pytest.importorskip("nvidia.dali")
    out = tmp_path / "new"
    assert call(monkeypatch, *soak(shards, "--pipeline", pipeline, "--speedup", 1.3, "--out", out)) == 0
    result = json.loads((out / "results.json").read_text())
    assert result["left"] == {"closed": [], "dropped": []}
    assert result["growth_mb"] < 20
    assert result["passed"] is True
    assert result["policy"].startswith("MixTrain(speedup=1.3")
    assert result["command"].startswith("mixloader bench soak ")
    assert [epoch["epoch"] for epoch in result["epochs"]] == ["warm-up", *map(str, range(1, 7))]
    sides = [epoch["canvas_size"] for epoch in result["epochs"]]
    assert (sides[0], sides[-1], min(sides)) == (64, 64, 32)
    for epoch in result["epochs"]:
        assert epoch["resident"] > 1e7
        assert epoch["threads"] >= 1
        assert epoch["files"] >= 3
    table = (out / "table.md").read_text()
    assert table in capsys.readouterr().out
    assert "| warm-up | " in table
    assert "- left by a loader that was closed: nothing\n" in table
    assert table.endswith("- passed\n")


def test_a_file_that_is_left_is_named_and_ends_with_status_1(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(soak_run, "_PATIENCE", 0.1)
    kept = ExitStack()
    before_every_epoch(monkeypatch, lambda: kept.enter_context((shards / "manifest.json").open()))
    with kept:
        assert call(monkeypatch, *soak(shards, "--out", tmp_path)) == 1
    result = json.loads((tmp_path / "results.json").read_text())
    assert result["growth_mb"] < 20
    printed = capsys.readouterr().out
    assert f"closed: file {shards}/manifest.json, file " in printed
    assert "- missed\n" in printed


def test_memory_that_grows_ends_with_status_1(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept: list[bytes] = []
    before_every_epoch(monkeypatch, lambda: kept.append(b"\1" * 8_000_000))
    assert call(monkeypatch, *soak(shards, "--out", tmp_path)) == 1
    result = json.loads((tmp_path / "results.json").read_text())
    assert result["growth_mb"] >= 20
    assert result["left"] == {"closed": [], "dropped": []}
    assert "- missed\n" in capsys.readouterr().out


def before_every_epoch(monkeypatch: pytest.MonkeyPatch, leak: Callable[[], object]) -> None:
    epoch = Soak._epoch

    def leaking(self: Soak, *arguments: Any) -> Epoch:
        leak()
        return epoch(self, *arguments)

    monkeypatch.setattr(Soak, "_epoch", leaking)


def test_what_a_process_holds_is_told_apart() -> None:
    before, stop = Held.now(), threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    with Path(os.devnull).open() as file:
        held = Held.now()
        assert len(held.threads) == len(before.threads) + 1
        assert [what for what in held.more_than(before) if what.startswith("file")] == [f"file {os.devnull}"]
        assert len(held.more_than(before)) == 2
        assert before.more_than(held) == []
        assert file.readable()
    stop.set()
    thread.join()
    start = Held.now().resident  # not earlier: other tests' memory may be given back meanwhile
    memory = b"\1" * 200_000_000
    grown = Held.now().resident - start
    assert 150e6 < grown < 250e6
    assert memory


def rows(*resident: float, sides: tuple[int, ...] = ()) -> list[Epoch]:
    """Epochs after which so many MB were resident, the warm-up first."""
    return [
        Epoch(str(i), side, 4, 1.0, Held(int(mb * 1e6), (), ()))
        for i, (mb, side) in enumerate(zip(resident, sides or [64] * len(resident), strict=True))
    ]


def test_growth_is_what_came_after_the_second_epoch() -> None:
    assert growth(rows(100, 80, 120, 130, 125)) == pytest.approx(10)
    assert growth(rows(100, 200, 80, 130, 125)) == pytest.approx(-70)
    assert drifts(rows(100, 80, 120, 90, 95, 140, 130, 7, sides=(64, 32, 32, 32, 32, 64, 64, 96))) == {
        32: pytest.approx(5),
        64: pytest.approx(-10),
    }


def test_the_stand_in_for_training_fills_the_ledger(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But not in the warm-up, which is of the last epoch: the plans are those of a real run."""
    seen = []
    epoch = Soak._epoch

    def look(self: Soak, loader: Any, name: str) -> Epoch:
        row = epoch(self, loader, name)
        seen.append(int(loader.ledger.snapshot().known.sum()))
        return row

    monkeypatch.setattr(Soak, "_epoch", look)
    Soak(shards, 7, 64, MixTrain(speedup=1.3), 6, "pillow", 1).run()
    assert seen[:2] == [0, 24]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--pipeline", "gpu"), "--pipeline=gpu: it is one of cpu, dali, pillow"),
        (("--policy", "best"), "--policy=best: it is one of mixtrain, naive, whole"),
        (("--speedup", "0.5"), "MixTrain: speedup"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(
    shards: Path,
    options: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, *soak(shards, *options)) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1
