"""`mixloader demo`: the comparison, on a data set small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.images import write_idx
from PIL import Image
from typer.testing import CliRunner

from mixloader import Plan
from mixloader.tools.cli import app

TRAIN, TEST = 400, 90


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that a short run wrote, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    rng = np.random.default_rng(0)
    for prefix, count in (("train", TRAIN), ("t10k", TEST)):
        labels = np.arange(count) % 10
        images = rng.integers(0, 60, (count, 28, 28)) + 18 * labels[:, None, None]
        write_idx(folder / "data", images, labels, prefix=prefix)
    arguments = ["demo", "--data", str(folder / "data"), "--out", str(folder / "run"), "--epochs", "4"]
    result = CliRunner().invoke(app, [*arguments, "--speedup", "1.6"], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    return folder / "run", result.output


def test_the_result_holds_both_runs_with_their_cost_known_exactly(outcome: tuple[Path, str]) -> None:
    result = json.loads((outcome[0] / "result.json").read_text())
    plain, mixed = result["runs"]
    assert (plain["policy"], mixed["policy"]) == ("Whole", "MixTrain")
    assert plain["cost"] == 1
    assert plain["passes"] == 4 * 128 * -(-TRAIN // 128)
    assert 0.55 < mixed["cost"] <= 1 / 1.6
    for run in (plain, mixed):
        assert run["epochs"] == len(run["history"]) == 4
        assert 0 <= run["accuracy"] <= 100
        assert run["seconds"] == pytest.approx(sum(epoch["seconds"] for epoch in run["history"]))
        assert all(sum(epoch["shares"].values()) == TRAIN for epoch in run["history"])


def test_the_table_shows_what_the_result_holds(outcome: tuple[Path, str]) -> None:
    result = json.loads((outcome[0] / "result.json").read_text())
    for run in result["runs"]:
        assert f"{run['accuracy']:.2f}" in outcome[1]
        assert f"{run['passes']:,.0f}" in outcome[1]


def test_pictures_and_the_shared_plan_are_written(outcome: tuple[Path, str]) -> None:
    plan = Plan.load(outcome[0] / "plan.npz")
    assert plan.canvases < plan.batches * 128  # the epoch on show is one that shares
    for name in ("curves.png", "preview.png"):
        with Image.open(outcome[0] / name) as picture:
            assert min(picture.size) > 300
            assert picture.convert("L").getextrema() != (0, 0)


def test_a_speedup_that_cannot_be_is_refused_before_anything_is_trained(
    tmp_path: Path, outcome: tuple[Path, str]
) -> None:
    data = outcome[0].parent / "data"
    result = CliRunner().invoke(app, ["demo", "--data", str(data), "--out", str(tmp_path), "--speedup", "9"])
    assert result.exit_code != 0
    assert "largest possible" in str(result.exception)
    assert not list(tmp_path.iterdir())
