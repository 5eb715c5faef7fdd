"""Meetings: what the ranks of a run tell each other, before an epoch and after it, and at no other time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from mixloader.ledger import Losses, LossLedger
from mixloader.ranks import Group, Ranks, digest_of


class Meetings:
    """Keeps the ledgers of the ranks one.

    Each rank records the losses of what it draws itself. When they meet, what they recorded since they last did is
    brought together, so that all of them plan the same epoch next.

    Args:
        ledger: this rank's.
        group: whose ranks meet; see `Ranks.of`.
    """

    def __init__(self, ledger: LossLedger, group: Group | Literal["world"] | None) -> None:
        self._ledger, self._group = ledger, group
        self._common: Losses | None = None  # what all of them knew when they last met

    def before(self, facts: Mapping[str, str], started: Losses | None) -> Ranks:
        """Meet before an epoch, or before the rest of one. Every rank has to come.

        Args:
            facts: what this rank is about to do; the others have to be about to do the same.
            started: of an epoch that is gone on with: what it was planned from.

        Raises:
            MixloaderError: on every rank: they are not about to do the same.
        """
        ranks = Ranks.of(self._group)
        if ranks.count > 1:
            common = self._common or started or self._ledger.snapshot()
            ranks.agree({**facts, "what the losses were": digest_of(common)})
            if started is None:
                ranks.merge(self._ledger, common)
            self._common = started or self._ledger.snapshot()
        return ranks

    def after(self) -> None:
        """Meet after an epoch, or in the middle of one: from here on each rank's ledger is the whole one."""
        if self._common is not None:
            Ranks.of(self._group).merge(self._ledger, self._common)

    def forget(self) -> None:
        """Another state was loaded: on all ranks, if on this one."""
        self._common = None
