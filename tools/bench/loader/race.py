"""The race: contestants that draw one plan on the same cores, each in its own process, measured in turns."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from mixloader.errors import MixloaderError
from mixloader.plan import Plan
from mixloader.shards import ShardSet
from mixloader.tools.bench.loader.contestants import Contestant
from mixloader.tools.bench.loader.process import ContestantError, Process, interrupts_deferred
from mixloader.tools.bench.loader.reference import check_batch

_UNTIMED = 4  # batches, and so many for each thread: more than any contestant's queues hold
_SLACK_SECONDS = 120.0  # beyond the length of a measurement


@dataclass(frozen=True)
class Entry:
    """One contestant's outcome.

    Attributes:
        contestant: who.
        difference: mean difference of its first batch to the reference, 0 to 1; None where nothing is compared.
        rates: composites a second, one figure for each round.
        error: why it has no figures; None when all is well.
    """

    contestant: Contestant
    difference: float | None = None
    rates: tuple[float, ...] = ()
    error: str | None = None

    @property
    def rate(self) -> float:
        """Median composites a second; 0 without figures."""
        return median(self.rates) if self.rates else 0.0


@dataclass(frozen=True)
class Ratio:
    """One contestant's rate relative to another's: least, median and largest of the rounds."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, entry: Entry, base: Entry | None) -> Ratio | None:
        """Round by round; None where one has no figures."""
        if base is None or not entry.rates or not base.rates:
            return None
        ratios = [mine / other for mine, other in zip(entry.rates, base.rates, strict=True)]
        return cls(min(ratios), median(ratios), max(ratios))


@dataclass(frozen=True)
class Cell:
    """The outcome of one plan on one number of threads.

    Attributes:
        plan: its name.
        threads: cores, threads, worker processes.
        canvases_per_batch: of all contestants.
        images_per_canvas: mean.
        entries: in the order of the contestants.
    """

    plan: str
    threads: int
    canvases_per_batch: int
    images_per_canvas: float
    entries: tuple[Entry, ...] = field(repr=False)

    @property
    def best_rival(self) -> Entry | None:
        """The fastest of those that deliver the same pixels; None where none has figures."""
        rivals = [entry for entry in self.entries if entry.contestant.kind == "rival" and entry.rates]
        return max(rivals, key=lambda entry: entry.rate, default=None)

    def limit(self, entry: Entry) -> Entry | None:
        """What decoding and resizing alone make of the shards that this contestant reads."""
        limits = [e for e in self.entries if e.contestant.kind == "limit"]
        return next((e for e in limits if e.contestant.shards == entry.contestant.shards), None)

    def images_per_second(self, entry: Entry) -> float:
        """Images that a contestant decodes a second: with other pixels, one a canvas."""
        return entry.rate * (1.0 if entry.contestant.kind == "other" else self.images_per_canvas)

    def summary(self) -> dict[str, Any]:
        """All figures, for JSON."""
        best = self.best_rival
        return {
            "plan": self.plan,
            "threads": self.threads,
            "canvases_per_batch": self.canvases_per_batch,
            "images_per_canvas": self.images_per_canvas,
            "best_rival": best.contestant.name if best else None,
            "contestants": [self._summary_of(entry) for entry in self.entries],
        }

    def _summary_of(self, entry: Entry) -> dict[str, Any]:
        to_best, to_limit = Ratio.of(entry, self.best_rival), Ratio.of(entry, self.limit(entry))
        return {
            "name": entry.contestant.name,
            "kind": entry.contestant.kind,
            "error": entry.error,
            "difference": entry.difference,
            "composites_per_second": entry.rate or None,
            "images_per_second": self.images_per_second(entry) or None,
            "ratio_to_best_rival": vars(to_best) if to_best else None,
            "share_of_limit": vars(to_limit) if to_limit else None,
            "rounds": list(entry.rates),
        }


@dataclass(frozen=True)
class Start:
    """What is needed to start one contestant.

    Attributes:
        contestant: who.
        command: the program; empty where it cannot even be started.
        task: the fields of a `protocol.Task`.
        environment: variables for it.
        error: why it cannot be started.
    """

    contestant: Contestant
    command: Sequence[str] = ()
    task: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    error: str | None = None


def run_cell(
    plan_file: Path,
    shards: ShardSet,
    threads: int,
    starts: Sequence[Start],
    rounds: int,
    seconds: float,
    report: Callable[[str], object],
) -> Cell:
    """Start all contestants on `threads` cores, compare what they draw, and measure them `rounds` times in turns.

    Args:
        plan_file: what they draw.
        shards: the plain set.
        threads: cores.
        starts: how they are started.
        rounds: measurements of each.
        seconds: length of a measurement.
        report: is told how it goes.
    """
    plan, name = Plan.load(plan_file), plan_file.stem
    cores = set(sorted(os.sched_getaffinity(0))[:threads])
    entries = {start.contestant.name: Entry(start.contestant, error=start.error) for start in starts}
    with ExitStack() as stack:
        running: dict[str, Process] = {}
        for start in starts:
            if start.error is not None:
                report(f"{name}, threads {threads}: {start.contestant.name}: {start.error}")
                continue
            with interrupts_deferred():
                process = stack.enter_context(Process(list(start.command), start.task, cores, start.environment))
            who = start.contestant.name
            with _named(entries, who, report):
                process.wait_ready()
                entries[who] = replace(entries[who], difference=_compare(process, start, shards, plan))
                running[who] = process
        for number in range(1, rounds + 1):
            # There and back again: who comes after whom must not matter.
            for who in list(running)[:: 1 if number % 2 else -1]:
                with _named(entries, who, report):
                    rate = _measure(running[who], seconds, threads)
                    entries[who] = replace(entries[who], rates=(*entries[who].rates, rate))
                    report(f"{name}, threads {threads}, round {number} of {rounds}: {who} {rate:,.0f} composites/s")
                if entries[who].error is not None:
                    del running[who]
    return Cell(name, threads, plan.canvases_per_batch, len(plan) / plan.canvases, tuple(entries.values()))


@contextmanager
def _named(entries: dict[str, Entry], who: str, report: Callable[[str], object]) -> Iterator[None]:
    """What a contestant does wrong inside is written down as its error, and stops nobody else."""
    try:
        yield
    except (ContestantError, MixloaderError) as error:
        entries[who] = replace(entries[who], error=str(error), rates=())
        report(f"{who}: {error}")


def _compare(process: Process, start: Start, shards: ShardSet, plan: Plan) -> float | None:
    """The difference to what the plain set shows; what differs from what the contestant itself reads is refused."""
    tolerance = start.contestant.tolerance
    if tolerance is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "batch.npz"))
        process.ask(_SLACK_SECONDS, do="save", path=path)
        check_batch(path, ShardSet(start.task["shards"]), plan, tolerance)
        return check_batch(path, shards, plan, 255)


def _measure(process: Process, seconds: float, threads: int) -> float:
    how = {"seconds": seconds, "untimed": _UNTIMED * (1 + threads)}
    answer = process.ask(seconds + _SLACK_SECONDS, do="measure", how=how)
    return float(answer["composites"] / answer["seconds"])
