"""Chance: every random choice of an epoch comes from one of these generators, on the CPU."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Chances = npt.NDArray[np.float64]
"""Random numbers within 0 and 1, so many a row: drawn for all rows of a block, also where only some are wanted."""


def epoch_rng(seed: int, epoch: int, purpose: int, *part: int) -> np.random.Generator:
    """The chance of an epoch, or of a part of it. Each purpose has a stream of its own.

    Purposes: 0 the policy, 1 who is drawn in which batch, 2 the rows of a block of batches.
    """
    return np.random.default_rng((seed, epoch, purpose, *part))
