from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.command import call

from mixloader.shards import ShardSet
from mixloader.tools.bench.open import _write_set


def test_the_command_opens_sets_of_one_and_of_several_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new"
    options = ("--samples", "20,300", "--per-shard", 50, "--rounds", 3, "--out", out)
    assert call(monkeypatch, "bench", "open", *options) == 0
    result = json.loads((out / "results.json").read_text())
    assert result["command"].startswith("mixloader bench open ")
    assert [race["per_shard"] for race in result["results"]] == [300, 50]
    for race in result["results"]:
        assert [one["samples"] for one in race["sets"]] == [20, 300]
        for one in race["sets"]:
            assert len(one["seconds"]) == len(one["loader_seconds"]) == 3
            assert 0 < min(one["seconds"]) < max(one["loader_seconds"])
    table = (out / "table.md").read_text()
    assert table in capsys.readouterr().out
    shards = [line.split("|")[2].strip() for line in table.splitlines()[4:]]
    assert shards == ["1", "1", "1", "6"]


def test_a_made_up_set_is_one_of_shards(tmp_path: Path) -> None:
    _write_set(tmp_path / "set", 120, 50)
    opened = ShardSet(tmp_path / "set")
    assert len(opened) == 120
    assert len(opened.classes) == 1000
    assert opened.labels.tolist() == list(range(120))
    assert (opened.sizes == [500, 375]).all()
    assert opened._rows["key"].tolist() == [str(i).encode() for i in range(120)]
    assert (opened._rows["size"] == 110_000).all()
    member = 512 + 110_080
    assert [path.stat().st_size // member for path in sorted(opened.path.glob("*.tar"))] == [50, 50, 20]
    assert np.array_equal(opened._rows["shard"], np.repeat([0, 1, 2], [50, 50, 20]))


@pytest.mark.parametrize("samples", ["0", "many", "5,"])
def test_wrong_sizes_are_refused(
    samples: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "bench", "open", "--samples", samples) == 2
    assert capsys.readouterr().err == f"--samples={samples}: give numbers of at least 1 with commas between\n"
