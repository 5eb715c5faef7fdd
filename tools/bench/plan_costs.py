"""What planning an epoch costs in time and memory, measured in this process: give every size a fresh one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mixloader.errors import MixloaderError
from mixloader.ledger import Losses, LossLedger
from mixloader.planning import EpochPlan, epoch_rng, plan_epoch
from mixloader.policies import InfoBatch, Ladder, MixTrain, Naive, Policy, Run, Whole

POLICIES: dict[str, Policy] = {
    "mixtrain": MixTrain(),
    "pairs": MixTrain(speedup=1.306, selection=1, ladder=Ladder(drop=0, half=1)),  # as many shares as sharers
    "infobatch": InfoBatch(),
    "naive": Naive(),
    "whole": Whole(),
}

_EPOCHS, _EPOCH = 16, 7  # one in the middle of a run, with losses to go by
_CLASSES = 1000
_BLOCKS = 24  # that rows are made of, spread over the epoch


@dataclass(frozen=True)
class Question:
    """What is measured.

    Attributes:
        samples: N.
        batch_size: samples of a step, of all ranks together.
        policy: one of `POLICIES`.
        ranks: numbers of ranks that share the drawing, each measured.
        rounds: measurements, in turns.
    """

    samples: int
    batch_size: int
    policy: str
    ranks: tuple[int, ...]
    rounds: int

    @property
    def run(self) -> Run:
        """ImageNet's sizes, a short run."""
        return Run(self.samples, self.batch_size, image_size=224, stride=32, epochs=_EPOCHS)

    def check(self) -> None:
        """Refuse what cannot be measured, before the work begins.

        Raises:
            MixloaderError: no such policy, or ranks that do not divide its canvases.
        """
        if self.policy not in POLICIES:
            raise MixloaderError(f"--policy={self.policy}: it is one of {', '.join(POLICIES)}")
        budget = POLICIES[self.policy].budget(self.run, _EPOCH)
        for ranks in self.ranks:
            if ranks > 1 and (budget is None or budget.canvases % ranks):
                canvases = "a number not known before" if budget is None else budget.canvases
                raise MixloaderError(
                    f"--ranks: {ranks} cannot share the canvases of a batch evenly ({canvases}): change --ranks, "
                    "--batch-size or --policy"
                )


@dataclass(frozen=True)
class _Set:
    """A set of samples that nobody has: what planning reads of one."""

    ledger: LossLedger
    sizes: np.ndarray[Any, np.dtype[np.int32]]
    label: np.ndarray[Any, np.dtype[np.int64]]


def measure(question: Question) -> dict[str, Any]:
    """Answer a question.

    Returns:
        `seconds` of each step, a list of one a round; `ratios` to sorting; `pid` of this process; and bytes: `before`
        (imports alone), `peak` (with one plan), `peak_next` (the next epoch is planned while the last plan is held).
        `plan_again` is allocating and dealing once more at once, in the memory that the first time has just freed.
    """
    before = _peak_bytes()
    made_up = _make_up(question.samples)
    seconds: dict[str, list[float]] = {"argsort": [], "allocate": [], "deal": []}
    again: list[float] = []
    draw: dict[int, list[float]] = {ranks: [] for ranks in question.ranks}
    canvases = 0
    for number in range(question.rounds):
        floats = np.random.default_rng(number).random(question.samples)
        seconds["argsort"].append(_seconds(lambda floats=floats: np.argsort(floats)))  # type: ignore[misc]
        del floats
        steps = _plan(question, made_up, number).seconds  # the plan itself is let go
        for step, took in zip(("allocate", "deal"), steps, strict=True):
            seconds[step].append(took)
        planned = _plan(question, made_up, number)
        again.append(sum(planned.seconds))
        for ranks in question.ranks:
            draw[ranks].append(_draw(planned.plan, ranks))
        canvases = planned.plan.canvases_per_batch
        del planned
    peak = _peak_bytes()
    last = _plan(question, made_up, 0).plan
    _plan(question, made_up, 1)  # as a loader does: it still holds the last plan
    del last
    rounds = zip(*seconds.values(), strict=True)
    return {
        "samples": question.samples,
        "canvases_per_batch": canvases,
        "seconds": {
            **seconds,
            "plan_again": again,
            "draw_an_epoch_extrapolated": {str(ranks): times for ranks, times in draw.items()},
        },
        "ratios": [(allocate + deal) / argsort for argsort, allocate, deal in rounds],
        "pid": os.getpid(),
        "before": before,
        "peak": peak,
        "peak_next": _peak_bytes(),
    }


def _make_up(samples: int) -> _Set:
    """Losses of an epoch before, classes and sizes."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, _CLASSES, samples)
    ledger = LossLedger(samples, label=label)
    for column in (ledger.loss, ledger.previous):
        column[:-1] = torch.from_numpy(rng.standard_exponential(samples, np.float32))
    for column in (ledger.seen, ledger.whole):
        column[:-1] = torch.from_numpy(rng.integers(0, _EPOCH, samples, np.int32))
    return _Set(ledger, rng.integers(100, 1000, (samples, 2), np.int32), label)


@dataclass(frozen=True)
class _Planned:
    """What a loader holds during an epoch; the seconds of allocating, with the ledger's snapshot, and of dealing."""

    losses: Losses
    plan: EpochPlan
    seconds: tuple[float, float]


def _plan(question: Question, made_up: _Set, seed: int) -> _Planned:
    """Plan as the controller does."""
    policy, run = POLICIES[question.policy], question.run
    start = time.perf_counter()
    losses = made_up.ledger.snapshot()
    allocation = policy.allocate(run, _EPOCH, losses, epoch_rng(seed, _EPOCH, 0))
    middle = time.perf_counter()
    budget, label = policy.budget(run, _EPOCH), losses.label
    plan = plan_epoch(allocation, run, made_up.sizes, seed=seed, epoch=_EPOCH, label=label, budget=budget)
    return _Planned(losses, plan, (middle - start, time.perf_counter() - middle))


def _draw(plan: EpochPlan, ranks: int) -> float:
    """The seconds that one rank needs for an epoch's rows, extrapolated from blocks spread over it."""
    size = plan.batches_per_block
    blocks = -(-plan.batches // size)
    chosen = np.unique(np.linspace(0, blocks - 1, _BLOCKS).astype(int)).tolist()
    batches = [b for block in chosen for b in range(block * size, min((block + 1) * size, plan.batches))]

    def draw() -> None:
        for b in batches:
            plan.batch(b, rank=0, ranks=ranks)

    return _seconds(draw) * plan.batches / len(batches)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _peak_bytes() -> int:
    """The most memory that this process had; not `getrusage`, which begins with its parent's."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])
