"""The clock: where the seconds of a batch go."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter


class Clock:
    """Stops the time that one thread spends in each stage of its work.

    Args:
        seconds: what was spent before, by stage.

    Attributes:
        seconds: by stage, in the order in which the stages were first met.
    """

    def __init__(self, seconds: Mapping[str, float] | None = None) -> None:
        self.seconds: dict[str, float] = dict(seconds or {})
        self._since = perf_counter()

    def lap(self, stage: str) -> None:
        """Count everything since the last call, or the start, as time of this stage."""
        now = perf_counter()
        self._add(stage, now - self._since)
        self._since = now

    def take(self, seconds: Mapping[str, float]) -> None:
        """Count everything since the last call, or the start, as another clock divided it among stages."""
        for stage, spent in seconds.items():
            self._add(stage, spent)
        self._since = perf_counter()

    def _add(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
