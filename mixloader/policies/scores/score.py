"""What every score shares: from what is known of the samples to how much canvas each one needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from mixloader.ledger import Losses
from mixloader.order import Ids, ascending

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


class Ranked(ABC):
    """A score that is the rank of one value: who only asks for the order need not rank twice."""

    @abstractmethod
    def values(self, losses: Losses, epoch: int) -> npt.NDArray[np.float32]:
        """Float32 [N]: the higher, the more canvas a sample needs; NaN, where nothing is known, needs most."""

    def needs(self, losses: Losses, epoch: int, rng: np.random.Generator) -> Needs:
        """The percentile of every value; see `Score`."""
        return percentile(self.values(losses, epoch), rng)


def by_need(score: Score, losses: Losses, epoch: int, rng: np.random.Generator) -> Ids:
    """The ids from who needs least to who needs most, uint32 [N]; ties in random order."""
    if isinstance(score, Ranked):
        return ascending(score.values(losses, epoch), rng)
    return ascending(score.needs(losses, epoch, rng), rng)


def percentile(values: npt.NDArray[np.floating] | npt.NDArray[np.integer], rng: np.random.Generator) -> Needs:
    """The rank of every value among all, scaled to 0 to 1, float64 [N]; ties in random order, NaN last.

    A sample of which nothing is known (NaN) gets the highest: nobody knows yet that it is easy.
    """
    order = ascending(values, rng)
    rank = np.empty(len(order), np.float64)
    rank[order] = np.arange(len(order)) / max(len(order) - 1, 1)
    return rank
