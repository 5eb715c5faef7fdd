"""Random runs, allocations and losses for the planning tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import settings
from hypothesis import strategies as st

from mixloader.ledger import Losses
from mixloader.plan import Plan
from mixloader.planning import plan_epoch
from mixloader.policies import (
    Allocation,
    InfoBatch,
    Ladder,
    MixTrain,
    Naive,
    Policy,
    Progressive,
    Run,
    SelectiveBackprop,
    Whole,
)

relaxed = settings(deadline=None, max_examples=80)

PAIRS = MixTrain(speedup=1.3, selection=1, ladder=Ladder(drop=0, half=1))
"""The easier ones of every epoch but the first in pairs."""

POLICIES: list[Policy] = [
    Whole(),
    Naive(),
    Naive(view="scale"),
    Naive(mixing="blend"),
    Progressive(),
    Progressive(packed=True),
    Progressive(growth="ramp", view="crop", speedup=1.3),
    Progressive(packed=True, speedup=1.2),
    InfoBatch(),
    InfoBatch(speedup=1.3),
    SelectiveBackprop(speedup=1.3),
    SelectiveBackprop(speedup=1.2, beta=3, full=0.2),
    MixTrain(speedup=1.25),
    MixTrain(speedup=1.3, selection=0),
    PAIRS,
]

seeds = st.integers(0, 2**31)


@st.composite
def runs(draw: st.DrawFn, *, epochs: int | None = 16, cells: tuple[int, int] = (2, 8), least_batch: int = 1) -> Run:
    """A run that can be."""
    samples = draw(st.integers(1, 400))
    batch_size = draw(st.integers(least_batch, 33))
    stride = draw(st.sampled_from([1, 4, 7, 32]))
    drop_last = draw(st.booleans()) and samples >= batch_size
    return Run(samples, batch_size, stride * draw(st.integers(*cells)), stride, epochs, drop_last)


@st.composite
def allocations(draw: st.DrawFn, run: Run) -> Allocation:
    """An allocation made by hand: any mix of shares of at least a quarter, some samples sitting out."""
    rng = np.random.default_rng(draw(seeds))
    cells = run.image_size // run.stride
    canvas_size = run.stride * draw(st.integers(min(2, cells), cells))
    shares = draw(st.lists(st.sampled_from([0, 0.25, 0.28, 1 / 3, 0.5, 0.6, 1]), min_size=1, max_size=7))
    share = rng.choice(np.array(shares), run.samples)
    if draw(st.booleans()):
        share = np.where(share > 0, rng.uniform(0.25, 1, run.samples), 0)
    if cells == 1:
        share = np.ceil(share)
    return Allocation(
        canvas_size,
        (share * run.area(canvas_size)).astype(np.float32),
        rng.uniform(0, 3, run.samples).astype(np.float32),
        mixing=draw(st.sampled_from(["spatial", "blend"])),
        view=draw(st.sampled_from(["crop", "scale"])),
        pairing=draw(st.sampled_from(["opposite", "random", "classes"])),
    )


def random_losses(seed: int, samples: int, unknown: float = 0.1) -> Losses:
    """Losses as after some epochs: most known, some not, some NaN or infinite."""
    rng = np.random.default_rng(seed)
    loss, previous = rng.gamma(1.0, 1.0, (2, samples)).astype(np.float32)
    seen = rng.integers(0, 3, samples)
    whole = rng.integers(-1, seen + 1)
    never = rng.random(samples) < unknown
    loss[never], previous[never], seen[never], whole[never] = np.nan, np.nan, -1, -1
    previous[rng.random(samples) < unknown] = np.nan
    loss[rng.random(samples) < unknown / 2] = np.nan
    loss[rng.random(samples) < unknown / 2] = np.inf
    return Losses(loss, previous, seen, whole, label=rng.integers(0, 5, samples))


def unseen(samples: int) -> Losses:
    """Before the first step, all of one class."""
    return Losses.none(np.zeros(samples, np.int64))


def losses_of(loss: npt.ArrayLike, epoch: int = 0) -> Losses:
    """These losses, all recorded in `epoch` on whole canvases, of one class."""
    values = np.asarray(loss, np.float32)
    return replace(
        unseen(len(values)),
        loss=values,
        seen=np.full(len(values), epoch),
        whole=np.full(len(values), epoch),
    )


def random_sizes(seed: int, samples: int) -> npt.NDArray[np.int32]:
    """Sizes of images, 1 to 3000 pixels, some unknown."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.uniform(0, 8, (samples, 2))).astype(np.int32)
    sizes[rng.random(samples) < 0.05] = 0
    return sizes


def saved_bytes(plan: Plan, folder: Path) -> bytes:
    """The plan's file."""
    path = folder / "plan.npz"
    plan.save(path)
    return path.read_bytes()


def columns_of(plan: Plan) -> dict[str, bytes]:
    """The bytes of every column."""
    names = ("canvas", "slot", "sample", "region", "window", "flip", "weight", "opacity")
    return {name: getattr(plan, name).tobytes() for name in names}


def build_plan(*arguments: Any, **options: Any) -> Plan:
    """All rows of an epoch, for an allocation made by hand; the arguments are those of `plan_epoch`."""
    return plan_epoch(*arguments, **options).whole()
