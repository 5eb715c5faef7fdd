"""`mixloader demo`: the comparison, on a data set small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.images import write_idx
from helpers.runs import columns_of
from PIL import Image
from typer.testing import CliRunner

from mixloader.controller import Controller
from mixloader.ledger import LossLedger
from mixloader.plan import Plan
from mixloader.planning import Augment
from mixloader.policies import MixTrain, Resolution, Run
from mixloader.shards import ShardSet
from mixloader.tools.cli import app

TRAIN, TEST = 400, 90
EPOCHS, SPEEDUP = 4, 1.6
PERIODS = np.array([2, 3, 4, 6, 8])
LINES = 180 * (np.arange(28) * 2 // PERIODS[:, None] % 2)  # [5, 28]
STRIPES = np.concatenate([np.broadcast_to(LINES[:, None], (5, 28, 28)), np.broadcast_to(LINES[..., None], (5, 28, 28))])
"""One texture a class: any part of a picture shows which."""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that a short run wrote, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    rng = np.random.default_rng(0)
    for prefix, count in (("train", TRAIN), ("t10k", TEST)):
        labels = np.arange(count) % 10
        images = rng.integers(0, 60, (count, 28, 28)) + STRIPES[labels]
        write_idx(folder / "data", images, labels, prefix=prefix)
    arguments = ["demo", "--data", str(folder / "data"), "--out", str(folder / "run"), "--epochs", str(EPOCHS)]
    result = CliRunner().invoke(app, [*arguments, "--speedup", str(SPEEDUP)], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    return folder / "run", result.output


def test_the_result_holds_both_runs_with_their_cost_known_exactly(outcome: tuple[Path, str]) -> None:
    result = json.loads((outcome[0] / "result.json").read_text())
    plain, mixed = result["runs"]
    assert (plain["policy"], mixed["policy"]) == ("Whole", "MixTrain")
    assert plain["cost"] == 1
    assert plain["passes"] == EPOCHS * 128 * -(-TRAIN // 128)
    assert 0.6 < mixed["cost"] <= 1 / SPEEDUP
    for run in (plain, mixed):
        assert run["epochs"] == len(run["history"]) == EPOCHS
        assert run["accuracy"] > 60  # chance is 10
        assert run["seconds"] == pytest.approx(sum(epoch["seconds"] for epoch in run["history"]))
        assert all(sum(epoch["shares"].values()) == TRAIN for epoch in run["history"])


def test_the_table_shows_what_the_result_holds(outcome: tuple[Path, str]) -> None:
    result = json.loads((outcome[0] / "result.json").read_text())
    for run in result["runs"]:
        assert f"{run['accuracy']:.2f}" in outcome[1]
        assert f"{run['passes']:,.0f}" in outcome[1]


def test_pictures_and_the_shared_plan_are_written(outcome: tuple[Path, str]) -> None:
    plan = Plan.load(outcome[0] / "plan.npz")
    assert plan.canvases < plan.batches * 128  # the epoch on show is one in which some sit out
    for name in ("curves.png", "preview.png"):
        with Image.open(outcome[0] / name) as picture:
            assert min(picture.size) > 300
            low, high = picture.convert("L").getextrema()
            assert high - low > 200


def test_the_plan_is_what_policy_and_ledger_make(outcome: tuple[Path, str], tmp_path: Path) -> None:
    plan = Plan.load(outcome[0] / "plan.npz")
    shards = ShardSet(outcome[0].parent / "data" / "shards" / "train")
    ledger = LossLedger(len(shards), fingerprint=shards.fingerprint)
    ledger.load(outcome[0] / "ledger.npz")
    policy, run = MixTrain(SPEEDUP, selection=0.75, resolution=Resolution(side=0.7)), Run(TRAIN, 128, 28, 4, EPOCHS)
    augment = Augment(scale=(1, 1), ratio=(1, 1))
    again = Controller(policy, run, shards.sizes, ledger, augment=augment).plan(1, ledger.snapshot()).whole()
    assert columns_of(again) == columns_of(plan)
    assert ledger.snapshot().seen.max() == 0
    saved = ["--plan", str(outcome[0] / "plan.npz"), "--ledger", str(outcome[0] / "ledger.npz")]
    shown = CliRunner().invoke(app, ["preview", str(shards.path), *saved, "--out", str(tmp_path / "again.png")])
    assert shown.exit_code == 0, shown.output


def test_a_speedup_that_cannot_be_is_refused_before_anything_is_trained(
    tmp_path: Path, outcome: tuple[Path, str]
) -> None:
    data = outcome[0].parent / "data"
    result = CliRunner().invoke(app, ["demo", "--data", str(data), "--out", str(tmp_path), "--speedup", "9"])
    assert result.exit_code == 2
    assert "largest possible" in result.output
    assert not list(tmp_path.iterdir())
