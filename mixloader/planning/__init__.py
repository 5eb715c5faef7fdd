"""Planning: an allocation becomes a plan. Every random choice comes from (seed, epoch), on the CPU, vectorised.

In two stages: who is drawn in which batch is dealt once an epoch, for all samples; where, and which part of each
image, is drawn for a block of batches when they are wanted.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mixloader.errors import MixloaderError
from mixloader.order import gather
from mixloader.planning.block import Decided
from mixloader.planning.chance import epoch_rng
from mixloader.planning.deal import Deal, deal
from mixloader.planning.epoch import EpochPlan
from mixloader.planning.layout import check_cells
from mixloader.planning.windows import Augment
from mixloader.policies.policy import LARGEST_COMPOSITE, Allocation, Budget, Run

__all__ = ["Augment", "EpochPlan", "epoch_rng", "plan_epoch"]

_SMALL = 0.3  # of a canvas: smaller shares sit in fours


def plan_epoch(
    allocation: Allocation,
    run: Run,
    sizes: npt.NDArray[np.int32],
    *,
    seed: int,
    epoch: int,
    label: npt.NDArray[np.int64] | None = None,
    budget: Budget | None = None,
    augment: Augment | None = Augment(),
    shuffle: bool = True,
) -> EpochPlan:
    """Turn an epoch's allocation into drawing instructions.

    Args:
        allocation: who gets what.
        run: the fixed facts of the run.
        sizes: int32 [N, 2], width and height of every upright image, pixels; 0 where unknown.
        seed: the run's.
        epoch: counted from 0.
        label: int64 [N], the samples' classes, for pairing by class; None where nobody asks for them.
        budget: what each batch is made of; None takes it from the sum of the shares.
        augment: crop and flip; None shows the largest centred window.
        shuffle: False keeps the samples in the order of their ids, as far as equal shares let it.

    Raises:
        MixloaderError: the allocation cannot be drawn.
    """
    allocation.check(run)
    # A policy may work in other types; what is planned is float32.
    share, weight = (np.asarray(column, np.float32) for column in (allocation.share, allocation.weight))
    allocation = replace(allocation, share=share, weight=weight)
    small = _SMALL * run.area(allocation.canvas_size)
    dealt = deal(epoch_rng(seed, epoch, 1), allocation.share, run, small=small, shuffle=shuffle)
    budget = _asked_for(allocation, run, dealt) if budget is None else budget
    _check_budget(budget, allocation, run)
    _check_room(dealt, budget, allocation, run)
    return EpochPlan(Decided(allocation, run, dealt, budget.canvases, sizes, label, augment, seed, epoch))


def _asked_for(allocation: Allocation, run: Run, dealt: Deal) -> Budget:
    """As many canvases as the shares add up to: of those dealt, as drop_last may leave out more small ones."""
    asked = float(gather(allocation.share, dealt.sample).sum(dtype=np.float64)) / run.area(allocation.canvas_size)
    mean = asked / min(run.samples, run.steps * run.batch_size)
    return Budget(allocation.canvas_size, math.ceil(run.batch_size * (mean - 1e-6)))


def _check_budget(budget: Budget, allocation: Allocation, run: Run) -> None:
    if budget.canvas_size != allocation.canvas_size:
        raise MixloaderError(
            f"the policy promised canvases of {budget.canvas_size} pixels and allocated {allocation.canvas_size}: its "
            "budget() and allocate() must agree"
        )
    if not 0 <= budget.canvases <= run.batch_size:
        raise MixloaderError(
            f"the policy wants {budget.canvases} canvases for a batch of {run.batch_size} samples: there can be at "
            "most as many as samples"
        )


def _check_room(dealt: Deal, budget: Budget, allocation: Allocation, run: Run) -> None:
    """Refuse now what could not be drawn in the middle of the epoch."""
    most = int(np.diff(dealt.start).max())
    if most > LARGEST_COMPOSITE * budget.canvases:
        raise MixloaderError(
            f"{most} samples of a batch cannot be drawn on {budget.canvases} canvases: a canvas holds "
            f"{LARGEST_COMPOSITE} at most; give larger shares, or let more samples sit out"
        )
    if most > budget.canvases and allocation.mixing == "spatial":
        check_cells(allocation.canvas_size // run.stride)
