from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mixloader.plan import Plan
from mixloader.tools import cli
from mixloader.tools.bench.photographs import HEIGHT, WIDTH, write_photographs
from mixloader.tools.sharding.folder import FolderSource
from mixloader.tools.sharding.writer import ShardOptions, write_shards

pytest.importorskip("nvidia.dali")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["mixloader", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


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
    monkeypatch.setattr(race.MixLoader, "plan", property(lambda self: self._controller.plan(0)))
    out = tmp_path / "result.json"
    assert call(monkeypatch, *bench(photographs, "--out", out)) == 2
    assert "do not deliver the same batch" in capsys.readouterr().err
    assert not out.exists()


def test_wrong_thread_counts_are_refused(
    photographs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for threads in ("0", "two", "1,100000", ""):
        assert call(monkeypatch, "bench", "loader", photographs, "--threads", threads) == 2
        assert capsys.readouterr().err.startswith(f"--threads={threads}: give numbers from 1 to ")


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
