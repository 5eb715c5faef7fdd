"""The plans that are raced: what every contestant must draw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from mixloader.errors import MixloaderError
from mixloader.loader import MixLoader
from mixloader.policies import Ladder, MixTrain, Resolution, Whole
from mixloader.policies.policy import Policy
from mixloader.shards import ShardSet

EPOCH = 1
_EPOCHS, _SPEEDUP = 3, 1.4  # all but the first of three epochs have 4/7 of a canvas a sample, exactly
_SHARED = MixTrain(_SPEEDUP, selection=1, resolution=Resolution(side=1), ladder=Ladder(drop=0, half=1))
_FOURS = replace(_SHARED, ladder=Ladder(drop=0, quarter=1, half=0), view="scale")

PLANS: dict[str, tuple[str, Policy]] = {
    "shared": ("1.75 images a canvas, each a crop at full scale", _SHARED),
    "scaled": ("1.75 images a canvas, each scaled down to its region", replace(_SHARED, view="scale")),
    "fours": ("1.75 images a canvas, alone or in fours, each scaled down to its region", _FOURS),
    "whole": ("plain whole images", Whole()),
}
"""By name: what it is in words, and the policy."""

# Of a step, or fewer: the largest multiple of 7 that the data set has. Where each has a canvas, a batch of floats is
# just below the 32 MiB from which on the C library would map memory anew for every batch of a rival.
_SAMPLES = 49


def open_loader(
    shards: Path,
    plan: str,
    image_size: int,
    threads: int | None = None,
    pipeline: Literal["cpu", "dali"] = "cpu",
) -> MixLoader:
    """The loader whose plan of the epoch `EPOCH` is raced; it is at that epoch.

    Raises:
        MixloaderError: there are too few images, or the size does not fit.
    """
    opened = ShardSet(shards)
    samples = min(_SAMPLES, len(opened) // 7 * 7)
    if not samples:
        raise MixloaderError(f"{shards} has {len(opened)} images: the benchmark needs 7 at least")
    loader = MixLoader(
        opened,
        samples,
        image_size,
        policy=PLANS[plan][1],
        epochs=_EPOCHS,
        drop_last=True,
        pipeline=pipeline,
        threads=threads,
    )
    loader.set_epoch(EPOCH)
    return loader
