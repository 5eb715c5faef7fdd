"""Statistics: how long the training loop waited for its batches, and what the drawing threads did meanwhile."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from time import perf_counter

from mixloader.maker import Made


@dataclass(frozen=True)
class Stats:
    """Where the time of an epoch went, up to now.

    Attributes:
        epoch: its number.
        batches: how many were handed out.
        canvases: on them.
        samples: drawn on these.
        seconds: from the first plan to the last step.
        waited: seconds of these in which the loop stood still for a batch. On a GPU that is time lost only where the
            loop reads a value of every step (`loss.item()`); else it runs ahead of the device, and an epoch's time
            beside one with `headspace` tells whether the device waited.
        stages: seconds of all threads by stage: `plan` (the epoch's plan, and its rows for each batch, or
            waiting for another thread that makes them), `read`,
            `decode`, `resize`, `paste`, or `draw` where a pipeline does these in one; `normalise`, `transform`.
    """

    epoch: int
    batches: int = 0
    canvases: int = 0
    samples: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)

    @property
    def waiting(self) -> float:
        """The share of the time in which the loop waited, 0 to 1."""
        return self.waited / self.seconds if self.seconds else 0.0

    @property
    def bottleneck(self) -> str | None:
        """The stage that took the threads longest; None before the first batch."""
        return max(self.stages, key=self.stages.__getitem__) if self.stages else None

    def __str__(self) -> str:
        """One line for people."""
        total = sum(self.stages.values())
        parts = sorted(self.stages.items(), key=lambda stage: -stage[1]) if total else []
        stages = ", ".join(f"{name} {100 * seconds / total:.0f} %" for name, seconds in parts)
        rate = f", {self.canvases / self.seconds:,.0f} canvases/s" if self.seconds else ""
        return (
            f"epoch {self.epoch}: {self.batches:,} batches of {self.samples:,} samples in {self.seconds:.1f} s{rate}; "
            f"the loop waited {100 * self.waiting:.0f} % of it; making them took {total:.1f} s of threads: "
            f"{stages or 'nothing'}"
        )


class Meter:
    """Counts an epoch's batches as they are handed out.

    Args:
        epoch: its number.
    """

    def __init__(self, epoch: int) -> None:
        self._epoch, self._start = epoch, perf_counter()
        self._batches = self._canvases = self._samples = 0
        self._waited, self._now = 0.0, self._start
        self._stages: dict[str, float] = {}

    def planned(self) -> None:
        """The epoch's plan is there: until now the loop waited for it."""
        self._now = perf_counter()
        self._waited = self._stages["plan"] = self._now - self._start

    def watch(self, batches: Generator[Made]) -> Iterator[Made]:
        """The same batches; the time until each comes is the time that the loop waits for it."""
        with closing(batches):
            asked = perf_counter()
            for made in batches:
                self._count(made, perf_counter() - asked)
                yield made
                asked = self._now = perf_counter()

    def _count(self, made: Made, waited: float) -> None:
        self._now = perf_counter()
        self._waited += waited
        self._batches += 1
        self._canvases += made.canvases
        self._samples += made.samples
        for stage, seconds in made.seconds.items():
            self._stages[stage] = self._stages.get(stage, 0.0) + seconds

    def stats(self) -> Stats:
        """What was counted until now."""
        return Stats(
            self._epoch,
            self._batches,
            self._canvases,
            self._samples,
            self._now - self._start,
            self._waited,
            dict(self._stages),
        )
