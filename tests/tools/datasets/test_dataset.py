from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.images import write_idx, write_image_folder

from mixloader.errors import MixloaderError
from mixloader.shards import ShardSet
from mixloader.tools.datasets import DATASETS, Splits, registry
from mixloader.tools.datasets import wesnoth as wesnoth_module
from mixloader.tools.datasets.registry import fashion_mnist


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_VALIDATION", 40)


def write_fashion(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 90), ("t10k", 30)):
        write_idx(folder, rng.integers(0, 256, (count, 4, 4)), np.arange(count) % 10, prefix)


def sizes(splits: Splits) -> list[int]:
    return [len(ShardSet(folder)) for folder in (splits.train, splits.validation, splits.test)]


def test_fashion_mnist_trains_on_the_first_and_validates_on_the_last(tmp_path: Path) -> None:
    write_fashion(tmp_path)
    splits = fashion_mnist(samples=20).prepare(tmp_path)
    assert splits.train == tmp_path / "shards" / "fashion-mnist" / "train-20"
    assert sizes(splits) == [20, 40, 30]
    assert ShardSet(splits.train)[0].key == "00000000"
    assert ShardSet(splits.validation)[0].key == "00000050"
    assert len(ShardSet(splits.train).classes) == 10
    assert sizes(fashion_mnist(samples=30).prepare(tmp_path)) == [30, 40, 30]


@pytest.mark.parametrize("samples", [0, 51])
def test_training_and_validation_may_not_overlap(tmp_path: Path, samples: int) -> None:
    write_fashion(tmp_path)
    with pytest.raises(MixloaderError, match=f"samples={samples} .* 1 to 50"):
        fashion_mnist(samples=samples).prepare(tmp_path)


def test_what_is_prepared_is_not_prepared_again(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        write_image_folder(tmp_path / "wesnoth" / split, per_class=2)
    splits = DATASETS["wesnoth"].prepare(tmp_path)
    before = [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*.tar"))]
    assert DATASETS["wesnoth"].prepare(tmp_path) == splits
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*.tar"))] == before
    assert sizes(splits) == [6, 6, 6]


def test_a_data_set_goes_by_its_name() -> None:
    for name, data_set in DATASETS.items():
        assert data_set.name == name
    assert DATASETS["wesnoth"].image_size == wesnoth_module.SIDE
