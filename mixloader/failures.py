"""Failures: the samples that could not be drawn, and how many of them a run puts up with."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Literal

from mixloader.errors import FailureBudgetError, MixloaderError, MixloaderWarning, ShardError, UndecodableError
from mixloader.shards import ShardSet

OnError = Literal["skip", "raise"]

_LOG = logging.getLogger("mixloader")
_SHOWN = 10  # samples that are warned of one by one
_NAMED = 5  # samples in a summary


class Failures:
    """Counts samples that could not be drawn. Their slots stay empty: no label without its picture.

    Args:
        shards: where they are.
        on_error: `skip` leaves them out as long as the budget lasts; `raise` stops at the first.
        budget: how many samples of the set may fail: a count, or a fraction of all where it is a float.

    Raises:
        MixloaderError: an argument that cannot be used.
    """

    def __init__(self, shards: ShardSet, on_error: OnError, budget: int | float) -> None:
        if on_error not in ("skip", "raise"):
            raise MixloaderError(f"on_error={on_error!r} is unknown: take 'skip' or 'raise'")
        is_count = isinstance(budget, int) and not isinstance(budget, bool) and budget >= 0
        if not is_count and not (isinstance(budget, float) and 0 <= budget <= 1):
            raise MixloaderError(
                f"failure_budget={budget!r} is neither a count of samples (0 or more) nor a fraction (0.0 to 1.0)"
            )
        self._shards, self._on_error, self._budget = shards, on_error, budget
        self._most = int(budget) if is_count else int(budget * len(shards))
        self.reasons: dict[int, str] = {}

    def add(self, found: Mapping[int, str]) -> None:
        """Take note of samples that failed, and why; each is warned of once.

        Raises:
            UndecodableError: with `on_error="raise"`.
            FailureBudgetError: they are too many.
        """
        new = {sample: reason for sample, reason in sorted(found.items()) if sample not in self.reasons}
        for sample, reason in new.items():
            if self._on_error == "raise":
                raise UndecodableError(
                    f"{self._name(sample)} cannot be drawn ({reason}): mend or remove it and shard again, or take "
                    "on_error='skip'"
                )
            self.reasons[sample] = reason
            self._warn(sample, reason)
        self._check()

    def merge(self, found: Mapping[int, str]) -> None:
        """Take note of what other ranks found, and warned of.

        Raises:
            FailureBudgetError: they are too many.
        """
        self.reasons.update(found)
        self._check()

    def _check(self) -> None:
        if len(self.reasons) > self._most:
            raise FailureBudgetError(
                f"{len(self.reasons):,} of {len(self._shards):,} samples cannot be drawn, "
                f"failure_budget={self._budget} allows {self._most:,}: {self._some()}; mend the data, or raise the "
                "budget"
            )

    def tell(self, epoch: int, found: Mapping[int, str]) -> None:
        """Log what an epoch left out: how many, and the first of them."""
        if found:
            _LOG.warning(
                "epoch %d: %s of %s samples were left out, they cannot be drawn: %s",
                epoch, f"{len(found):,}", f"{len(self._shards):,}", self._some(found),
            )  # fmt: skip

    def _warn(self, sample: int, reason: str) -> None:
        if len(self.reasons) <= _SHOWN:
            more = "; of further ones only loader.failed tells" if len(self.reasons) == _SHOWN else ""
            warnings.warn(
                f"{self._name(sample)} cannot be drawn ({reason}); its slot stays empty: mend or remove it and shard "
                f"again{more}",
                MixloaderWarning,
                stacklevel=2,
            )

    def _some(self, found: Mapping[int, str] | None = None) -> str:
        found = self.reasons if found is None else found
        first = [f"{self._name(sample)}: {found[sample]}" for sample in sorted(found)[:_NAMED]]
        return "; ".join([*first, *(["... (loader.failed has all)"] if len(found) > _NAMED else [])])

    def _name(self, sample: int) -> str:
        try:
            return f"sample {sample} ({self._shards.where(sample)})"
        except ShardError as error:  # the index lies about this one
            return f"sample {sample} ({error})"
