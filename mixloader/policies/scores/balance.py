"""The loss within the class: every class gives up the same part of its canvas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixloader.ledger import Losses
from mixloader.order import ascending
from mixloader.policies.scores.score import Needs


@dataclass(frozen=True)
class ByClass:
    """The percentile of a sample's last loss among those of its own class.

    By the loss alone, an easy class would be drawn small or not at all, and a hard one whole. Here the lowest
    losses of each class come first.
    """

    def needs(self, losses: Losses, epoch: int, rng: np.random.Generator) -> Needs:
        """As `Score` says."""
        order = ascending(np.where(losses.known, losses.loss, np.float32(np.nan)), rng)
        order = order[np.argsort(losses.label[order], kind="stable")]
        size = np.bincount(losses.label)
        first = np.cumsum(size) - size
        label = losses.label[order]
        needs = np.empty(len(losses), np.float64)
        needs[order] = (np.arange(len(order)) - first[label] + 0.5) / size[label]
        return needs
