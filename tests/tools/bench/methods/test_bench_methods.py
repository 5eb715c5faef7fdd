"""`mixloader bench methods`, end to end on a made-up data set, and how it goes on after a stop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.command import call
from helpers.images import write_idx
from PIL import Image

from mixloader.planning import Augment
from mixloader.policies import Run
from mixloader.tools.bench.methods import setups, trial, workers
from mixloader.tools.datasets import DataSet
from mixloader.tools.sharding.idx import IdxSource
from mixloader.tools.sharding.subset import SubsetSource

pytest.importorskip("matplotlib")

TRAIN, TEST = 150, 40  # two batches of 64, and some that are dropped


def sources(folder: Path) -> Mapping[str, Any]:
    """Four classes of stripes, written as IDX files where they are not there yet."""
    rng, lines = np.random.default_rng(0), 180 * (np.arange(28) // np.array([[2], [3], [5], [8]]) % 2)
    for prefix, count in (("train", TRAIN + TEST), ("t10k", TEST)):
        labels = np.arange(count) % 4
        images = lines[labels][:, None] + rng.integers(0, 60, (count, 28, 28))
        if not (folder / f"{prefix}-labels-idx1-ubyte").exists():
            write_idx(folder, images, labels, prefix)
    classes = ("a", "b", "c", "d")
    images = IdxSource(folder, "train", classes)
    return {
        "train": SubsetSource(images, range(TRAIN)),
        "validation": SubsetSource(images, range(TRAIN, TRAIN + TEST)),
        "test": IdxSource(folder, "test", classes),
    }


STRIPES = DataSet("stripes", "Stripes", 28, (0.4,) * 3, (0.3,) * 3, Augment(scale=(1, 1), ratio=(1, 1)), sources)


@dataclass
class Bench:
    """The command on the stripes; it counts the runs that it really makes."""

    data: Path
    out: Path
    made: list[str] = field(default_factory=list)

    def run(self, *more: object, seeds: str = "0") -> int:
        arguments = ["bench", "methods", "--only", "selective", "--costs", 0.52, "--seeds", seeds, "--epochs", 2]
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(setups._DATA, "fashion-mnist", (STRIPES, *setups._DATA["fashion-mnist"][1:]))
            patch.setattr("os.sched_getaffinity", lambda process: {0})
            patch.setattr(workers, "run_trial", self._count)
            return call(patch, *arguments, "--folder", self.data, "--out", self.out, *more)

    def _count(self, wanted: trial.Trial, *rest: Any) -> dict[str, Any]:
        self.made.append(f"{wanted.entry.name} {wanted.seed}")
        return trial.run_trial(wanted, *rest)

    def lines(self) -> list[dict[str, Any]]:
        text = (self.out / "runs.jsonl").read_text()
        return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]  # not with NaN, say


@pytest.fixture(scope="module", autouse=True)
def torch_threads() -> Iterator[None]:
    """A run sets the threads of its process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One seed of plain training, plain with fewer epochs and selective backprop. Shared: copy it to go on."""
    folder = tmp_path_factory.mktemp("methods")
    bench = Bench(folder / "data", folder / "out")
    assert bench.run() == 0
    return bench


@pytest.fixture
def bench(finished: Bench, tmp_path: Path) -> Bench:
    """A copy of what was finished."""
    shutil.copytree(finished.out, tmp_path / "out")
    return Bench(finished.data, tmp_path / "out")


def test_every_run_is_a_line_with_what_it_was_and_what_came_out(finished: Bench) -> None:
    plain, fewer, selective = finished.lines()
    assert finished.made == ["plain 0", "plain, fewer epochs 0", "selective backprop 0"]
    assert [run["name"] for run in (plain, fewer, selective)] == [made[:-2] for made in finished.made]
    assert [run["epochs"] for run in (plain, fewer, selective)] == [2, 1, 2]
    assert plain["cost"] == 1
    assert plain["passes"] == 2 * 2 * 64
    assert fewer["cost"] == 0.5
    assert selective["cost"] == (64 + 2) / 128  # all of the first epoch, and 2.56 samples a batch of the second
    for run in (plain, fewer, selective):
        assert 0 <= run["accuracy"] <= 100
        assert run["seconds"] > 0
        assert np.isfinite(run["loss"])
        assert (run["data"], run["network"], run["tested_on"], run["seed"]) == (
            "fashion-mnist",
            "resnet",
            "validation",
            0,
        )


def test_the_table_and_the_plot_show_every_entry(finished: Bench) -> None:
    table = (finished.out / "rivals.md").read_text()
    assert table.startswith("Stripes, resnet, 2 epochs, validation accuracy\n\n| entry |")
    for run in finished.lines():
        assert f"| {run['name']} | {run['cost']:.3f} | {run['accuracy']:.2f} ± 0.00 (1) |" in table
    with Image.open(finished.out / "rivals.png") as picture:
        assert picture.format == "PNG"


def test_what_is_finished_is_not_run_again_and_comes_out_the_same(bench: Bench) -> None:
    before = {path.name: path.read_bytes() for path in bench.out.iterdir()}
    assert bench.run() == 0
    assert bench.made == []
    after = {path.name: path.read_bytes() for path in bench.out.iterdir()}
    assert {name for name in before if after[name] != before[name]} <= {"rivals.png"}


def test_a_killed_one_goes_on_with_the_run_that_it_was_writing(bench: Bench, finished: Bench) -> None:
    path = bench.out / "runs.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    assert bench.run() == 0
    assert bench.made == ["selective backprop 0"]
    again, first = bench.lines(), finished.lines()
    assert len(again) == 3
    for name in set(first[2]) - {"seconds"}:  # trained anew, from the same seed
        assert again[2][name] == first[2][name]


def test_another_seed_adds_to_what_is_there(bench: Bench, finished: Bench) -> None:
    assert bench.run(seeds="0,3") == 0
    assert bench.made == ["plain 3", "plain, fewer epochs 3", "selective backprop 3"]
    assert bench.lines()[:3] == finished.lines()
    assert (bench.out / "rivals.md").read_text().count("(2) |") == 3


def test_plain_training_with_cutmix_is_a_run_whose_images_have_no_losses(bench: Bench) -> None:
    assert bench.run("--only", "CutMix") == 0
    assert bench.made == ["plain with CutMix 0"]
    (mixed,) = [run for run in bench.lines() if run["name"] == "plain with CutMix"]
    assert (mixed["cost"], mixed["loss"]) == (1, None)


def test_the_test_pictures_are_another_run(bench: Bench) -> None:
    assert bench.run("--split", "test", "--only", "plain") == 0
    assert bench.made == ["plain 0", "plain with CutMix 0", "plain, fewer epochs 0"]
    assert "test accuracy" in (bench.out / "rivals.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--contest", "best"), "--contest best: there are rivals"),
        (("--data", "cifar"), "--data cifar: there are fashion-mnist"),
        (("--network", "res-net"), "--network res-net: "),
        (("--network", "nosuchnet"), "--network nosuchnet: "),
        (("--split", "train"), "--split train: it is validation or test"),
        (("--costs", "0.5,x"), "--costs 0.5,x: give numbers"),
        (("--costs", "1.5"), "--costs 1.5: give numbers above 0, up to 1"),
        (("--costs", "0"), "--costs 0: give numbers above 0, up to 1"),
        (("--seeds", "1,1"), "--seeds 1,1: give different numbers"),
        (("--seeds", "-1"), "--seeds -1: give different numbers of at least 0"),
        (("--seeds", "0.5"), "--seeds 0.5: give numbers"),
    ],
    ids=str,
)
def test_what_cannot_be_run_is_one_line_before_anything_is_fetched(
    arguments: tuple[object, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path / "data", tmp_path / "out")
    assert bench.run(*arguments) == 2
    line = capsys.readouterr().err
    assert line.startswith(message)
    assert line.count("\n") == 1
    assert not bench.data.exists()
    assert bench.made == []


def test_a_cost_that_an_entry_cannot_meet_is_one_line_before_anything_is_trained(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.run("--costs", 0.4, seeds="7") == 2
    line = capsys.readouterr().err
    assert line.startswith("SelectiveBackprop: speedup=2.5 is impossible with 2 epochs")
    assert line.count("\n") == 1
    assert bench.made == []


@pytest.mark.parametrize(
    ("network", "only", "message"),
    [
        ("resnet", "packed, isolated", "packed, isolated: resnet has no attention to isolate: "),
        ("vit", "small canvases", "small canvases: vit takes canvases of 28 pixels only: "),
    ],
)
def test_an_entry_that_is_not_for_the_network_is_one_line_before_anything_is_trained(
    bench: Bench, network: str, only: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.run("--network", network, "--contest", "interference", "--only", only, "--costs", 0.8, seeds="7") == 2
    line = capsys.readouterr().err
    assert line.startswith(message)
    assert line.count("\n") == 1
    assert bench.made == []


@pytest.mark.parametrize("data", ["fashion-mnist", "wesnoth"])
def test_a_transformer_gets_a_mixtrain_whose_canvases_are_whole(data: str) -> None:
    setup = setups.open_setup(data, "vit", 16)
    run = Run(640, 64, setup.image_size, setup.network.stride, 16)
    budgets = [setup.mixtrain.budget(run, epoch) for epoch in range(16)]
    assert {budget.canvas_size for budget in budgets} == {setup.image_size}


def test_a_journal_that_is_none_is_one_line_and_stays(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    path = bench.out / "runs.jsonl"
    path.write_text("notes\n")
    assert bench.run() == 2
    assert capsys.readouterr().err == f"{path}, line 1, is no run of a benchmark: mend or remove it\n"
    assert path.read_text() == "notes\n"
