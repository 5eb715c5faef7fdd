"""InfoBatch drops a random half of the easy ones and lets the other half count twice."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.runs import losses_of, random_losses, relaxed, seeds, unseen
from hypothesis import given
from hypothesis import strategies as st

from mixloader.policies import Budget, InfoBatch, Run

RUN = Run(2000, 50, 64, 32, 16)


@relaxed
@given(seed=seeds, prune=st.floats(0, 0.9), epoch=st.integers(1, 13))
def test_only_easy_samples_are_dropped_and_the_kept_ones_make_up_for_them(seed: int, prune: float, epoch: int) -> None:
    losses = random_losses(seed, RUN.samples)
    allocation = InfoBatch(prune=prune).allocate(RUN, epoch, losses, np.random.default_rng(seed))
    mean = losses.loss[losses.known].mean(dtype=np.float64)
    easy = losses.known & (np.nan_to_num(losses.loss, nan=np.inf) < mean)
    assert set(np.unique(allocation.share)) <= {0, 1}
    assert (allocation.share[~easy] == 1).all()
    assert (allocation.weight[~easy] == 1).all()
    assert np.allclose(allocation.weight[easy], 1 / (1 - prune))
    dropped = (allocation.share[easy] == 0).mean()
    assert dropped == pytest.approx(prune, abs=6 * (prune * (1 - prune) / easy.sum()) ** 0.5 + 1e-9)


@relaxed
@given(seed=seeds)
def test_other_chance_drops_others(seed: int) -> None:
    losses = random_losses(seed, RUN.samples)
    shares = [InfoBatch().allocate(RUN, 3, losses, np.random.default_rng((seed, i))).share for i in (0, 1)]
    assert not np.array_equal(*shares)


def test_half_of_equal_numbers_of_easy_and_hard_ones_by_hand() -> None:
    losses = losses_of(np.tile([0, 1], 1000))
    allocation = InfoBatch().allocate(RUN, 1, losses, np.random.default_rng(0))
    assert (allocation.share[1::2] == 1).all()
    assert 400 < (allocation.share[::2] == 0).sum() < 600
    assert (allocation.weight[::2] == 2).all()


@pytest.mark.parametrize("epoch", [0, 14, 15])
def test_the_first_epoch_and_the_last_eighth_train_on_everything(epoch: int) -> None:
    """Also when an earlier run's losses are there from the start: the promised batches are full."""
    allocation = InfoBatch().allocate(RUN, epoch, random_losses(0, RUN.samples), np.random.default_rng(0))
    assert (allocation.share == 1).all()
    assert (allocation.weight == 1).all()
    assert InfoBatch().budget(RUN, epoch) == Budget(64, 50)


def test_in_between_the_cost_is_not_known() -> None:
    assert {InfoBatch().budget(RUN, epoch) for epoch in range(1, 14)} == {None}


def test_nothing_is_dropped_while_no_loss_is_known() -> None:
    allocation = InfoBatch().allocate(RUN, 5, unseen(RUN.samples), np.random.default_rng(0))
    assert (allocation.share == 1).all()
