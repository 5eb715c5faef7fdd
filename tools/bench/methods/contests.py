"""Contests: which entries are held against each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

from mixloader.errors import MixloaderError
from mixloader.policies import InfoBatch, Ladder, MixTrain, Naive, Progressive, Resolution, SelectiveBackprop, Whole
from mixloader.policies.scores import ByChance, ByClass, ByStaleness, ByTrend
from mixloader.tools.bench.methods.borders import Border
from mixloader.tools.bench.methods.scoreboard import FEWER, PLAIN
from mixloader.tools.bench.methods.trial import Entry


def rivals(ours: MixTrain, epochs: int, cost: float) -> list[Entry]:
    """MixTrain and what else costs the same."""
    speedup = ours.speedup
    entries = [
        Entry("MixTrain", ours, epochs, cost),
        Entry("MixTrain in pairs", _in_pairs(ours), epochs, cost),
        Entry("Progressive, step", Progressive(speedup=speedup), epochs, cost),
        Entry("Progressive, ramp", Progressive(speedup=speedup, growth="ramp"), epochs, cost),
        Entry("InfoBatch", InfoBatch(speedup=speedup), epochs, cost),
        Entry("selective backprop", SelectiveBackprop(speedup=speedup), epochs, cost),
    ]
    if cost == 0.5:  # what mixing all, always, in pairs, costs
        entries += [
            Entry("Progressive, step, crop", Progressive(speedup=speedup, view="crop"), epochs, cost),
            Entry("naive, spatial", Naive(), epochs, cost),
            Entry("naive, blend", Naive(mixing="blend"), epochs, cost),
        ]
    return entries


def ablation(ours: MixTrain, epochs: int, cost: float) -> list[Entry]:
    """MixTrain, and MixTrain with one part left out or changed."""
    pairs = _in_pairs(ours)
    small = replace(ours.resolution, growth="ramp")
    variants = {
        "MixTrain": ours,
        "chosen by chance": replace(ours, score=ByChance()),
        "resolution only": replace(ours, selection=0.0),
        "selection only": replace(ours, selection=1.0),
        "both alike": replace(ours, selection=0.5),
        "whole picture on small canvases": replace(ours, view="scale"),
        "canvases grow evenly": replace(ours, resolution=small),
        "full size for the last epoch only": replace(ours, resolution=replace(ours.resolution, end=0.0)),
        "full size for the last quarter": replace(ours, resolution=replace(ours.resolution, end=0.25)),
        "by the trend of the loss": replace(ours, score=ByTrend()),
        "by staleness": replace(ours, score=ByStaleness()),
        "by the loss within the class": replace(ours, score=ByClass()),
        "MixTrain in pairs": pairs,
        "MixTrain in pairs, equal regions": replace(pairs, ladder=replace(pairs.ladder, spread=0.0)),
        "MixTrain in pairs, paired at random": replace(pairs, pairing="random"),
        "MixTrain in pairs, paired by class": replace(pairs, pairing="classes"),
    }
    entries = [Entry(name, policy, epochs, cost) for name, policy in variants.items()]
    entries.append(Entry("MixTrain in pairs, not split", pairs, epochs, cost, split=False))
    kept: dict[str, Entry] = {}
    for entry in entries:  # a variant that changes nothing here is no variant
        kept.setdefault(f"{entry.policy!r} {entry.split}", entry)
    return list(kept.values())


def _in_pairs(ours: MixTrain) -> MixTrain:
    """Selection alone, by sharing: all canvases whole, the easiest tenth sits out, of the others the easier share."""
    return replace(ours, selection=1.0, resolution=Resolution(side=1), ladder=Ladder(drop=0.1, half=0.9))


def interference(ours: MixTrain, epochs: int, cost: float) -> list[Entry]:
    """The same quarters on small canvases, and packed four to a whole one, with borders of several kinds.

    A convolutional network has no attention to isolate, and a vision transformer takes no small canvases and has no
    borders to close: leave those out with `only`.
    """
    small = Progressive(speedup=ours.speedup)
    packed = replace(small, packed=True)
    return [
        Entry("small canvases", small, epochs, cost),
        *(Entry(f"packed, {border}", packed, epochs, cost, border=border) for border in get_args(Border)),
        Entry("packed, isolated", packed, epochs, cost, isolate=True),
    ]


_CONTESTS: dict[str, Callable[[MixTrain, int, float], list[Entry]]] = {
    "rivals": rivals,
    "ablation": ablation,
    "interference": interference,
}


def enter(
    contest: str, costs: list[float], epochs: int, *, ours: MixTrain, only: list[str] | None = None
) -> list[Entry]:
    """The entries of a contest at several costs, plain training first.

    Args:
        contest: its name.
        costs: passes relative to plain training.
        epochs: of plain training.
        ours: MixTrain as it enters; its speedup is set to each cost.
        only: parts of names; entries with none of them are left out, plain training and its shorter runs are not.

    Raises:
        MixloaderError: there is no such contest, a cost that nothing can be held to, or a name that no entry has.
    """
    if contest not in _CONTESTS:
        raise MixloaderError(f"--contest {contest}: there are {', '.join(_CONTESTS)}")
    for cost in costs:
        if not 0 < cost <= 1:
            raise MixloaderError(f"--costs {cost:g}: give numbers above 0, up to 1")
    entries = [Entry(PLAIN, Whole(), epochs, 1.0)]
    if contest == "rivals":
        entries.append(Entry("plain with CutMix", Whole(), epochs, 1.0, cutmix=0.5))
    for cost in costs:
        entries.append(Entry(FEWER, Whole(), max(1, round(epochs * cost)), cost))
        entries += _CONTESTS[contest](replace(ours, speedup=1 / cost), epochs, cost)
    for part in only or []:
        if not any(part in entry.name for entry in entries):
            names = ", ".join(dict.fromkeys(entry.name for entry in entries))
            raise MixloaderError(f"--only {part}: no entry's name holds it; there are {names}")
    return [
        entry
        for entry in entries
        if only is None or entry.name in (PLAIN, FEWER) or any(part in entry.name for part in only)
    ]
