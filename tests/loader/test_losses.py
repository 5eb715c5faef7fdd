"""The losses of a run arrive in its ledger, and in no other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.images import cls_members, write_tar
from helpers.loaders import (
    Painter,
    network,
    train_epoch,
)
from helpers.runs import PAIRS, relaxed, seeds
from helpers.runs import POLICIES as RUN_POLICIES
from hypothesis import given, settings
from hypothesis import strategies as st

from mixloader.errors import MixloaderError
from mixloader.loader import MixLoader
from mixloader.policies import InfoBatch, MixTrain, Naive, Policy, Run, Whole
from mixloader.shards import ShardSet
from mixloader.split import SplitTarget

POLICIES = [Whole(), Naive(), Naive("blend"), PAIRS, MixTrain(speedup=1.3), InfoBatch()]


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_the_ledger_holds_the_losses_of_those_that_were_drawn(make: Callable[..., MixLoader], policy: Policy) -> None:
    loader, model = make(policy=policy, stride=16, batch_size=8), network()
    last: dict[int, tuple[float, int]] = {}
    for epoch in range(3):
        by_hand = train_epoch(loader, model)
        assert set(by_hand) == set(loader.plan.sample.tolist())
        last |= {sample: (loss, epoch) for sample, loss in by_hand.items()}
        got = loader.ledger.snapshot()
        assert got.seen.tolist() == [last[i][1] for i in range(24)]
        assert got.loss.tolist() == pytest.approx([last[i][0] for i in range(24)], rel=1e-4)
    if isinstance(policy, InfoBatch):
        assert len(set(got.seen)) > 1


def test_two_loaders_keep_their_losses_apart(make: Callable[..., MixLoader]) -> None:
    loaders = make(seed=1), make(seed=2)
    expected: tuple[dict[int, float], dict[int, float]] = {}, {}
    for both in zip(*loaders, strict=True):
        for (images, target), losses in zip(both, expected, strict=True):
            logits = torch.randn(len(images), 4, 3, requires_grad=True)
            each = F.cross_entropy(logits, target, reduction="none").detach()
            losses |= {int(i): float(loss) for i, loss in zip(target["ids"][:, 0], each[:, 0], strict=True) if i >= 0}
    for loader, losses in zip(loaders, expected, strict=True):
        assert loader.ledger.snapshot().loss.tolist() == pytest.approx([losses[i] for i in range(24)])
    one, other = (loader.ledger.snapshot().loss for loader in loaders)
    assert (one != other).all()


def test_an_unbound_target_records_nowhere(make: Callable[..., MixLoader]) -> None:
    loader = make()
    for images, target in loader:
        F.cross_entropy(torch.randn(len(images), 4, 3, requires_grad=True), SplitTarget({**target}))
    assert not loader.ledger.snapshot().known.any()


def test_handing_out_a_batch_stamps_and_nothing_else_does(make: Callable[..., MixLoader]) -> None:
    loader = make()
    loader.set_epoch(3)
    assert len(loader.plan) == 24
    batches = iter(loader)
    assert int(loader.ledger.now) == 0
    next(batches)
    assert int(loader.ledger.now) == 3
    list(batches)
    assert len(loader.plan) == 24
    assert int(loader.ledger.now) == 3
    next(iter(loader))
    assert int(loader.ledger.now) == 4


def test_validation_records_nothing(make: Callable[..., MixLoader]) -> None:
    loader, model = make(), network()
    with torch.no_grad():
        for images, target in loader:
            F.cross_entropy(model(images), target)
    assert not loader.ledger.snapshot().known.any()


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> list[ShardSet]:
    """Sets of 1, 9 and 30 samples."""
    folder = tmp_path_factory.mktemp("sets")
    for samples in (1, 9, 30):
        write_tar(folder / str(samples) / "a.tar", cls_members([i % 3 for i in range(samples)]))
    return [ShardSet(folder / str(samples)) for samples in (1, 9, 30)]


@settings(relaxed, max_examples=60)
@given(data=st.data(), seed=seeds)
def test_exactly_those_that_were_drawn_are_seen(sets: list[ShardSet], data: st.DataObject, seed: int) -> None:
    shards = data.draw(st.sampled_from(sets))
    batch_size, policy = data.draw(st.integers(1, 12)), data.draw(st.sampled_from(RUN_POLICIES))
    options: dict[str, Any] = {
        "stride": 4,
        "drop_last": data.draw(st.booleans()) and len(shards) >= batch_size,
        "shuffle": data.draw(st.booleans()),
        "epochs": data.draw(st.integers(2, 9)),
        "seed": seed,
        "pipeline": Painter(data.draw(st.integers(1, 3))),
        "prefetch": data.draw(st.integers(1, 4)),
    }
    torch.manual_seed(seed)
    image_size = 4 * data.draw(st.integers(2, 4))
    run = Run(len(shards), batch_size, image_size, 4, options["epochs"], options["drop_last"])
    with suppress(MixloaderError):  # MixTrain in batches or canvases too small for its speed-up: then Whole
        policy.budget(run, 0)
        options["policy"] = policy
    with MixLoader(shards, batch_size, image_size, **options) as loader:
        expected = np.full(len(shards), -1)
        for epoch in range(options["epochs"]):
            handed_out: list[int] = []
            for images, target in loader:
                F.cross_entropy(2 * torch.randn(len(images), 4, 3, requires_grad=True), target)
                handed_out += target["ids"][target["ids"] >= 0].tolist()
            assert sorted(handed_out) == sorted(loader.plan.sample.tolist())
            assert len(set(handed_out)) == len(handed_out)
            expected[handed_out] = epoch
            assert loader.ledger.snapshot().seen.tolist() == expected.tolist()
