"""The excerpt of a plan that a contact sheet shows: which canvases, and what there is to say of each constituent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixloader.ledger import Losses
from mixloader.plan import Plan
from mixloader.shards import ShardSet

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Constituent:
    """What is said of one row of a plan.

    Attributes:
        name: of its class.
        key: of its sample.
        share: of a whole canvas, in words.
        facts: the sample's loss, and the row's weight where it is not 1, in words.
        slot: its place in the composite.
        region: x0, y0, x1, y1 in canvas pixels.
        broken: whether it could not be decoded.
    """

    name: str
    key: str
    share: str
    facts: str
    slot: int
    region: Box
    broken: bool


def choose_canvases(plan: Plan, count: int) -> npt.NDArray[np.int64]:
    """Up to `count` canvases, int64 ascending by the number of their constituents, most first; no empty ones.

    Every kind (alone, in pairs, threes, fours) is shown, those that share twice as often as whole ones, and each
    kind is picked from all over the epoch.
    """
    canvas, members = np.unique(plan.canvas, return_counts=True)
    kinds = {int(k): canvas[members == k] for k in np.unique(members)[::-1]}
    turns = [*kinds, *(k for k in kinds if k > 1)]
    quota = dict.fromkeys(kinds, 0)
    while (left := count - sum(quota.values())) > 0 and any(quota[k] < len(kinds[k]) for k in kinds):
        for k in [k for k in turns if quota[k] < len(kinds[k])][:left]:
            quota[k] += quota[k] < len(kinds[k])
    picked = [kinds[k][((np.arange(n) + 0.5) * len(kinds[k]) / n).astype(np.int64)] for k, n in quota.items() if n]
    return np.concatenate(picked)


def describe(shards: ShardSet, plan: Plan, losses: Losses | None, failed: set[int]) -> list[list[Constituent]]:
    """The constituents of every canvas of `plan`, of which the samples `failed` could not be decoded."""
    composites: list[list[Constituent]] = [[] for _ in range(plan.canvases)]
    for row, (number, share) in enumerate(zip(plan.sample.tolist(), plan.shares.tolist(), strict=True)):
        sample = shards[number]
        facts = [] if losses is None else [f"loss {format_loss(float(losses.loss[number]))}"]
        if plan.weight[row] != 1:
            facts.append(f"weight {plan.weight[row]:.3g}")
        x0, y0, x1, y1 = plan.region[row].tolist()
        constituent = Constituent(
            name=shards.classes[sample.label],
            key=sample.key,
            share=f"{100 * share:.0f} %",
            facts=" · ".join(facts),
            slot=int(plan.slot[row]),
            region=(x0, y0, x1, y1),
            broken=number in failed,
        )
        composites[int(plan.canvas[row])].append(constituent)
    return composites


def format_loss(loss: float) -> str:
    """Two significant digits, with no exponent: easy samples differ in the third decimal. "-" for what is no number."""
    if not math.isfinite(loss):
        return "-"
    if abs(loss) < 0.001:
        return "<0.001"
    return f"{loss:#.2g}" if abs(loss) < 9.95 else f"{loss:.0f}"
