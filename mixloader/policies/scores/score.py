"""What every score shares: from what is known of the samples to how much canvas each one needs."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from mixloader.ledger import Losses

Needs = npt.NDArray[np.float64]


@runtime_checkable
class Score(Protocol):
    """How much each sample needs its canvas. Implementations are frozen dataclasses of their parameters."""

    def needs(self, losses: Losses, epoch: int, rng: np.random.Generator) -> Needs:
        """Float64 [N] within 0 and 1: the samples with the lowest give up canvas first.

        Args:
            losses: the ledger, before the epoch.
            epoch: the one that is planned.
            rng: the epoch's chance.
        """


def percentile(values: npt.NDArray[np.floating] | npt.NDArray[np.integer], rng: np.random.Generator) -> Needs:
    """The rank of every value among all, scaled to 0 to 1, float64 [N]; ties in random order, NaN last.

    A sample of which nothing is known (NaN) gets the highest: nobody knows yet that it is easy.
    """
    order = ascending(values, rng)
    rank = np.empty(len(order), np.float64)
    rank[order] = np.arange(len(order)) / max(len(order) - 1, 1)
    return rank


def ascending(
    values: npt.NDArray[np.floating] | npt.NDArray[np.integer], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """The ids from the lowest value to the highest, int64 [N]; ties in random order, NaN last."""
    shuffled = rng.permutation(len(values))
    return shuffled[np.argsort(values[shuffled], kind="stable")]
