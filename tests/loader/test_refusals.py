"""What cannot be used is refused in one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.images import cls_members, write_tar
from helpers.loaders import (
    drawing_threads,
)

from mixloader.errors import MixloaderError
from mixloader.ledger import LossLedger
from mixloader.loader import MixLoader
from mixloader.planning import Augment
from mixloader.policies import MixTrain, Naive, Progressive, Whole

BAD_ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ({"image_size": 100}, "image_size=100 is not a multiple of stride=32.*image_size=96 or 128"),
    ({"stride": 0}, "stride must be at least 1"),
    ({"epochs": 0}, "epochs must be at least 1"),
    ({"batch_size": 25, "drop_last": True}, "24 samples are fewer than batch_size=25"),
    ({"policy": Whole}, "pass an instance"),
    ({"policy": "mixtrain"}, "pass an instance"),
    ({"policy": MixTrain(speedup=9)}, "speedup=9 is impossible here"),
    ({"policy": MixTrain(), "epochs": None}, "tell the loader its length, epochs="),
    ({"seed": -1}, "seed must be at least 0"),
    ({"threads": 0}, "threads must be at least 1"),
    ({"prefetch": 0}, "prefetch must be at least 1"),
    ({"std": (1, 0, 1)}, "std must be above 0"),
    ({"std": (1, -1, 1)}, "std must be above 0"),
    ({"std": (1, float("nan"), 1)}, "std must be above 0"),
    ({"mean": (0, 0)}, "mean needs a value for each of 3 channels"),
    ({"mean": 0.5}, "mean needs a value for each of 3 channels"),
    ({"std": 0.5}, "std needs a value for each of 3 channels"),
    ({"pipeline": "ffmpeg"}, "pipeline='ffmpeg' is unknown: take 'cpu', 'dali' or 'pillow'"),
    ({"pipeline": 3}, "pipeline=3 is unknown"),
    ({"device": "gpu"}, "device='gpu' is no device"),
    ({"device": None}, "device=None is no device"),
    ({"image_size": (224, 224)}, r"image_size must be a whole number, got \(224, 224\)"),
    ({"batch_size": "4"}, "batch_size must be a whole number, got '4'"),
    ({"batch_size": 4.0}, "batch_size must be a whole number, got 4.0"),
    ({"batch_size": True}, "batch_size must be a whole number, got True"),
    ({"stride": None}, "stride must be a whole number, got None"),
    ({"epochs": 2.0}, "epochs must be a whole number, got 2.0"),
    ({"seed": None}, "seed must be a whole number, got None"),
    ({"seed": 1.5}, "seed must be a whole number, got 1.5"),
    ({"threads": "2"}, "threads must be a whole number, got '2'"),
    ({"prefetch": 2.0}, "prefetch must be a whole number, got 2.0"),
    ({"augment": True}, "augment must be an Augment.* or None, got True"),
    ({"augment": Augment}, "augment must be an Augment.* or None, got <class"),
    ({"mean": "imagenet"}, "mean needs a value for each of 3 channels, got 'imagenet'"),
    ({"mean": None}, "mean needs a value for each of 3 channels, got None"),
    ({"std": ("a", "b", "c")}, "std needs a value for each of 3 channels"),
    ({"policy": Naive(), "stride": 64}, "Naive cannot share canvases here: image_size=64 holds one stride of 64"),
    ({"policy": Progressive(packed=True), "stride": 64}, "Progressive cannot share canvases here"),
    ({"pipeline": object()}, "pipeline=<object.* is unknown"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS, ids=lambda value: str(value)[:40])
def test_an_argument_that_cannot_be_used_is_refused_in_one_line(
    make: Callable[..., MixLoader], arguments: dict[str, Any], message: str
) -> None:
    before = drawing_threads()
    with pytest.raises(MixloaderError, match=message) as caught:
        make(**arguments)
    assert "\n" not in str(caught.value)
    assert set(drawing_threads()) <= set(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_gpu_is_an_error_that_says_so(make: Callable[..., MixLoader]) -> None:
    with pytest.raises(MixloaderError, match="finds no CUDA device here; take device='cpu'"):
        make(device="cuda")


def test_shards_that_are_not_there_are_refused_in_one_line(make: Callable[..., MixLoader], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    labelled = tmp_path / "labelled"
    write_tar(labelled / "a.tar", cls_members([0, 5]))
    (labelled / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "file").write_text("")
    for path, message in (
        (tmp_path / "gone", "does not exist"),
        (tmp_path / "empty", "holds no .tar files"),
        (tmp_path / "file", "is a file"),
        (labelled, "5"),
    ):
        with pytest.raises(MixloaderError, match=message) as caught:
            make(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_the_ledger_of_another_data_set_is_refused(
    make: Callable[..., MixLoader], shards: Path, tmp_path: Path
) -> None:
    same = tmp_path / "same"
    shutil.copytree(shards, same)
    write_tar(tmp_path / "other" / "a.tar", cls_members([0, 1, 2] * 8))
    saved = tmp_path / "ledger.npz"
    make().ledger.save(saved)
    make(same).ledger.load(saved)  # wherever it lies
    other: LossLedger = make(tmp_path / "other").ledger
    with pytest.raises(MixloaderError, match="of another data set") as caught:
        other.load(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("epochs", [8, None])
@pytest.mark.parametrize("method", ["set_epoch", "cost"])
def test_an_epoch_that_cannot_be_is_refused_in_one_line(
    make: Callable[..., MixLoader], method: str, epochs: int | None
) -> None:
    loader = make(epochs=epochs)
    with pytest.raises(MixloaderError, match=r"epoch.* -1") as caught:
        getattr(loader, method)(-1)
    assert "\n" not in str(caught.value)
    assert loader.cost(3) == 28
    loader.set_epoch(3)


@pytest.mark.parametrize("epoch", ["1", 1.0, None])
@pytest.mark.parametrize("epochs", [8, None])
def test_an_epoch_that_is_no_number_is_refused_in_one_line(
    make: Callable[..., MixLoader], epoch: Any, epochs: int | None
) -> None:
    loader = make(epochs=epochs)
    for method in (loader.set_epoch, loader.cost):
        with pytest.raises(MixloaderError, match="epoch must be a whole number"):
            method(epoch)
