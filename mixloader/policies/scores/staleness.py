"""How long ago a sample was seen whole: who waited longest needs most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixloader.ledger import Losses
from mixloader.policies.scores.score import Needs, percentile


@dataclass(frozen=True)
class ByStaleness:
    """The percentile of the epochs since a sample had a whole canvas; who never had one counts as the longest."""

    def needs(self, losses: Losses, epoch: int, rng: np.random.Generator) -> Needs:
        """As `Score` says."""
        return percentile(epoch - losses.whole, rng)
