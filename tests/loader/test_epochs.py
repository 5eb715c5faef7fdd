"""Which epoch an iteration is, and what its plan is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers.loaders import (
    Painter,
    drawing_threads,
    ids_of,
)
from helpers.runs import columns_of

from mixloader.errors import MixloaderError
from mixloader.loader import MixLoader
from mixloader.policies import Naive
from mixloader.shards import ShardSet


def test_peeking_does_not_use_up_an_epoch(make: Callable[..., MixLoader]) -> None:
    loader, fresh = make(), make()
    first = ids_of([next(iter(loader))])
    assert ids_of([next(iter(loader))]) == first
    assert ids_of(loader) == ids_of(fresh)
    assert ids_of(loader) == ids_of(fresh)


def test_leaving_an_epoch_after_its_second_batch_uses_it_up(make: Callable[..., MixLoader]) -> None:
    loader, fresh = make(), make()
    for step, _ in enumerate(loader):
        if step == 1:
            break
    ids_of(fresh)
    assert ids_of(loader) == ids_of(fresh)


def test_an_epoch_of_one_batch_counts(make: Callable[..., MixLoader]) -> None:
    loader = make(batch_size=24, epochs=2)
    assert ids_of(loader) != ids_of(loader)
    with pytest.raises(MixloaderError, match="epoch 2 is outside the run"):
        iter(loader)


def test_running_on_beyond_the_run_is_an_error_that_says_so(make: Callable[..., MixLoader]) -> None:
    loader = make(epochs=2)
    for _ in range(2):
        for _ in loader:
            pass
    with pytest.raises(MixloaderError, match="epoch 2 is outside the run: it was planned for epochs=2") as caught:
        for _ in loader:
            pass
    assert "\n" not in str(caught.value)
    loader.set_epoch(1)
    assert len(list(loader)) == 4


def test_an_open_run_goes_on_and_on(make: Callable[..., MixLoader]) -> None:
    loader = make(epochs=None, batch_size=24)
    orders = [ids_of(loader)[0] for _ in range(4)]
    assert len({tuple(order) for order in orders}) == 4


def test_set_epoch_replays_an_epoch(make: Callable[..., MixLoader]) -> None:
    loader = make()
    first, second = ids_of(loader), ids_of(loader)
    loader.set_epoch(0)
    assert ids_of(loader) == first
    assert ids_of(loader) == second
    with pytest.raises(MixloaderError, match="epoch 8 is outside"):
        loader.set_epoch(8)


def test_another_seed_gives_another_order(make: Callable[..., MixLoader]) -> None:
    assert ids_of(make(seed=1)) != ids_of(make(seed=2))


def test_the_plan_can_be_read_before_the_epoch(make: Callable[..., MixLoader]) -> None:
    loader = make(policy=Naive())
    before = loader.plan
    assert [sorted(i for i in ids if i >= 0) for ids in ids_of(loader)] == [
        sorted(before.batch(b).sample.tolist()) for b in range(4)
    ]
    assert loader.cost(0) == before.cost == 16
    assert loader.total_cost == 128


def test_a_shard_set_can_be_shared(make: Callable[..., MixLoader], shards: Path) -> None:
    opened = ShardSet(shards)
    one, other = make(opened), make(opened)
    assert ids_of(one) == ids_of(other)
    assert one.shards is other.shards is opened


def test_the_plan_is_that_of_the_epoch_that_handed_out_a_batch_last(make: Callable[..., MixLoader]) -> None:
    loader, fresh = make(), make()
    plans = []
    for epoch in range(2):
        fresh.set_epoch(epoch)
        plans.append(columns_of(fresh.plan))
    assert plans[0] != plans[1]
    assert columns_of(loader.plan) == plans[0]
    first = iter(loader)
    for _ in range(4):
        next(first)
        assert columns_of(loader.plan) == plans[0]
    assert next(first, None) is None
    assert columns_of(loader.plan) == plans[0]  # until the next epoch hands something out
    next(iter(loader))
    assert columns_of(loader.plan) == plans[1]


def test_a_peek_within_an_epoch_leaves_it_as_it_was(make: Callable[..., MixLoader]) -> None:
    fresh, loader = make(), make()
    expected = ids_of(fresh)
    following, got = ids_of(fresh), []
    for images, target in loader:
        F.cross_entropy(torch.randn(len(images), 4, 3, requires_grad=True), target)
        got.append(target["ids"].flatten().tolist())
        ((_, peeked),) = [next(iter(loader))]
        assert peeked["ids"].flatten().tolist() in (expected[0], following[0])
    assert got == expected
    assert set(loader.ledger.snapshot().seen.tolist()) == {0}  # the peeks stamped nothing
    assert ids_of(loader) == following


def test_a_peek_before_the_loss_is_taken_does_not_stamp_it(make: Callable[..., MixLoader]) -> None:
    loader = make()
    for images, target in loader:
        next(iter(loader))
        F.cross_entropy(torch.randn(len(images), 4, 3, requires_grad=True), target)
    assert set(loader.ledger.snapshot().seen.tolist()) == {0}


def test_a_with_block_closes_the_loader(shards: Path, pipeline: str) -> None:
    before = len(drawing_threads())
    with MixLoader(shards, 7, 64, pipeline=pipeline, threads=2) as loader:  # type: ignore[arg-type]
        assert isinstance(loader, MixLoader)
        assert len(list(loader)) == 4
    with pytest.raises(MixloaderError, match="closed"):
        next(iter(loader))
    assert len(drawing_threads()) <= before  # one of an earlier test may just have ended
    mine = Painter()
    with pytest.raises(ZeroDivisionError), MixLoader(shards, 7, 64, pipeline=mine):
        raise ZeroDivisionError
    assert mine.closed
