"""Planning: an allocation becomes a plan. Every random choice comes from (seed, epoch), on the CPU, vectorised."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mixloader.errors import MixloaderError
from mixloader.plan import Plan
from mixloader.planning.deal import Seats, deal_batches, seat
from mixloader.planning.epoch import EpochPlan
from mixloader.planning.layout import cut_canvases
from mixloader.planning.windows import Augment, draw_windows
from mixloader.policies.policy import Allocation, Budget, Run

__all__ = ["Augment", "EpochPlan", "build_plan", "epoch_rng"]


def epoch_rng(seed: int, epoch: int, purpose: int) -> np.random.Generator:
    """The chance of an epoch. Each purpose (0 policy, 1 plan) has a stream of its own."""
    return np.random.default_rng((seed, epoch, purpose))


def build_plan(
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
) -> Plan:
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
    rng = epoch_rng(seed, epoch, 1)
    whole = run.area(allocation.canvas_size)
    dealt = deal_batches(rng, allocation.share, run, shuffle=shuffle)
    if budget is None:  # of those that were dealt: drop_last may leave out more small shares than large ones
        mean = float(allocation.share[dealt[0]].mean(dtype=np.float64)) / whole
        budget = Budget(allocation.canvas_size, math.ceil(run.batch_size * (mean - 1e-6)))
    _check_budget(budget, allocation, run)
    seats = seat(
        rng,
        dealt,
        allocation.share,
        np.zeros(run.samples, np.int64) if label is None else label,
        canvases=budget.canvases,
        whole=whole,
        steps=run.steps,
        pairing=allocation.pairing,
    )
    region, opacity = _draw_regions(rng, seats, allocation, run.stride)
    window, flip = draw_windows(rng, sizes[seats.sample], region, run.image_size, allocation.view, augment)
    return Plan(
        image_size=run.image_size,
        canvas_size=allocation.canvas_size,
        batches=run.steps,
        canvases_per_batch=budget.canvases,
        canvas=seats.canvas,
        slot=seats.slot.astype(np.int8),
        sample=seats.sample,
        region=region,
        window=window,
        flip=flip,
        weight=allocation.weight[seats.sample].astype(np.float32),
        opacity=opacity,
    )


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


def _draw_regions(
    rng: np.random.Generator, seats: Seats, allocation: Allocation, stride: int
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float32]]:
    """Region int16 [M, 4] and opacity float32 [M] of every row."""
    cells = allocation.canvas_size // stride
    share = allocation.share[seats.sample].astype(np.float64)
    region = np.empty((len(share), 4), np.int16)
    opacity = np.ones(len(share), np.float32)
    for k in np.unique(seats.together):
        rows = np.flatnonzero(seats.together == k)
        shares = share[rows].reshape(-1, k)
        if allocation.mixing == "blend":
            region[rows] = (0, 0, allocation.canvas_size, allocation.canvas_size)
            opacity[rows] = (shares / shares.sum(axis=1, keepdims=True)).ravel()
        else:
            region[rows] = cut_canvases(rng, shares, cells).reshape(-1, 4) * stride
    return region, opacity
