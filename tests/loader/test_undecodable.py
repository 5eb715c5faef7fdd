"""Images that cannot be decoded, and shards that go away, in the middle of a run."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch.nn.functional as F
from helpers.images import cls_members, write_tar
from helpers.loaders import (
    PLAIN,
    ids_of,
    network,
    train_epoch,
    write_damaged,
)

from mixloader.errors import FailureBudgetError, MixloaderWarning
from mixloader.loader import MixLoader
from mixloader.policies import Naive
from mixloader.shards import ShardSet


def test_an_undecodable_image_is_an_empty_slot_and_one_warning(
    make: Callable[..., MixLoader], pipeline: str, tmp_path: Path
) -> None:
    loader = make(write_damaged(tmp_path), pipeline=pipeline, policy=Naive(), **PLAIN)
    with pytest.warns(MixloaderWarning) as caught:
        batches = [(images.clone(), target) for images, target in loader]
    messages = sorted(str(warning.message) for warning in caught)
    assert len(messages) == 2
    for message, sample in zip(messages, (5, 7), strict=True):
        assert message.startswith(f"sample {sample} (web.tar: member '000{sample}'")
        assert "cannot be drawn" in message
        assert "\n" not in message
    assert set(loader.failed) == {5, 7}
    drawn = sorted(i for _, target in batches for i in target["ids"].flatten().tolist() if i >= 0)
    assert drawn == [i for i in range(24) if i not in (5, 7)]
    plan = loader.plan
    for sample in (5, 7):
        row = int(np.flatnonzero(plan.sample == sample)[0])
        images, target = batches[plan.canvas[row] // 4]
        canvas, slot = plan.canvas[row] % 4, plan.slot[row]
        x0, y0, x1, y1 = plan.region[row]
        assert not images[canvas, :3, y0:y1, x0:x1].any()
        assert (images[canvas, 3, y0:y1, x0:x1] == slot).all()
        assert target["labels"][canvas, slot] == -100
        assert target["weights"][canvas, slot] == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(loader)) == 4  # not again


def test_training_goes_on_over_undecodable_images(make: Callable[..., MixLoader], tmp_path: Path) -> None:
    loader, model = make(write_damaged(tmp_path), stride=16), network()
    with pytest.warns(MixloaderWarning, match="cannot be drawn"):
        losses = train_epoch(loader, model)
    assert np.isfinite(list(losses.values())).all()
    assert np.flatnonzero(~loader.ledger.snapshot().known).tolist() == [5, 7]


def test_a_step_of_nothing_but_undecodable_images_trains_nothing(
    make: Callable[..., MixLoader], pipeline: str, tmp_path: Path
) -> None:
    members = [(name, b"" if name.endswith("jpg") else data) for name, data in cls_members([0, 1, 2])]
    write_tar(tmp_path / "a.tar", members)
    loader, model = make(tmp_path, batch_size=3, stride=16, pipeline=pipeline, failure_budget=3), network()
    with pytest.warns(MixloaderWarning):
        ((images, target),) = list(loader)
    loss = F.cross_entropy(model(images), target)
    loss.backward()
    assert loss == 0
    assert all((p.grad == 0).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.filterwarnings("ignore::mixloader.errors.MixloaderWarning")
def test_a_shard_that_goes_away_during_the_run_stops_it_when_the_budget_is_spent(
    make: Callable[..., MixLoader], pipeline: str, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        write_tar(tmp_path / f"{name}.tar", cls_members([0, 1] * 6, prefix=name))
    assert len(ShardSet(tmp_path).sizes) == 24  # measured now: the next to open the set opens no shard for it
    loader = make(tmp_path, batch_size=2, prefetch=1, pipeline=pipeline, shuffle=False, threads=2)
    batches = iter(loader)
    next(batches)
    (tmp_path / "b.tar").unlink()
    assert ids_of(islice(batches, 3))[-1][0] == 6
    with pytest.raises(FailureBudgetError, match=r"b\.tar cannot be opened") as caught:
        list(batches)
    assert "\n" not in str(caught.value)
    assert sorted(loader.failed) == [12, 13, 14, 15]  # a tenth is 2: those of one more batch
