"""The loader: what takes the place of a `DataLoader` in the training loop."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Self

import torch
from torch import Tensor

from mixloader.arguments import check_device, check_normalisation, open_pipeline, open_shards
from mixloader.controller import Controller
from mixloader.errors import MixloaderError
from mixloader.failures import Failures, OnError
from mixloader.ledger import Losses, LossLedger
from mixloader.maker import Batch, BatchMaker, Look
from mixloader.meetings import Meetings
from mixloader.pipelines import Pipeline
from mixloader.plan import Plan
from mixloader.planning import Augment, EpochPlan
from mixloader.policies.policy import Policy, Run, check_count
from mixloader.policies.whole import Whole
from mixloader.ranks import Group, Ranks
from mixloader.shards import ShardSet
from mixloader.split import SplitTarget
from mixloader.stats import Meter, Stats

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_LOG = logging.getLogger("mixloader")


@dataclass(frozen=True)
class _Epoch:
    """An epoch, what it was planned from (None once it is over: nobody goes on within it then), and its plan."""

    number: int
    losses: Losses | None
    plan: EpochPlan

    @cached_property
    def whole(self) -> Plan:
        """All rows of the plan: for who asks for them; the batches are drawn from `plan`."""
        return self.plan.whole()


class MixLoader:
    """Composite batches of a set of shards, planned every epoch from the network's own losses.

    Iterating over it is one epoch: `len(loader)` steps of `(images, target)`, as many every epoch. The epochs count
    up by themselves; an iteration that is given up before its second batch (`next(iter(loader))`) does not count,
    unless the epoch has only one.

    Where torch.distributed is initialised, every rank draws its part of every batch, with as many canvases, and the
    losses of all are brought together at the end of an epoch. The plan is the same for any number of ranks.

    * images: float32 [C, 4, S, S], channels-last; channels 0-2 are the normalised picture, channel 3 is the region
      map: the slot of every pixel, -1 where a canvas is empty. With `region_map=False` [C, 3, S, S].
    * target: a `SplitTarget` of `labels` int64 (-100 = empty slot), `ids` int64 (-1), `weights`, `norms` and `shares`
      float32, each [C, 4]. The stock cross-entropy scores it and fills the ledger.

    Args:
        shards: a folder of shards, or an open `ShardSet`.
        batch_size: samples of a step, of all ranks together; how many canvases they take is the plan's.
        image_size: side of a whole canvas, pixels.
        policy: who gets how much canvas; `Whole()` is plain training.
        epochs: length of the run. A policy that spreads a budget over the run needs it.
        device: where batches are wanted, and where they are drawn.
        seed: of every random choice.
        stride: region borders and canvas sides are multiples of it: the network's total stride, or its patch size.
        drop_last: leave out a short last batch. Otherwise it is padded with empty canvases.
        shuffle: False keeps the samples in order: for evaluation.
        augment: crop and flip; None shows the largest centred window: for evaluation.
        mean: of the three channels, for values within 0 and 1.
        std: likewise.
        transform: called with the normalised picture [C, 3, S, S] on its device; returns one of the same shape. It is
            called on the drawing threads, several at once on a CPU: it must keep no state, and one that draws random
            numbers is not repeatable.
        region_map: False leaves channel 3 out.
        pipeline: `cpu`, `dali`, `pillow`, or a pipeline of your own; default, `cpu` on a CPU and `dali` on a GPU.
        threads: decoding threads; default, as many as this process may use.
        prefetch: batches that are drawn ahead; default, one more than are drawn at once.
        on_error: what to do about a sample that cannot be drawn: `skip` warns and leaves its slot empty, `raise` stops.
        failure_budget: how many samples may be skipped before the run stops: a count, or a fraction of the set where it
            is a float.
        group: the `torch.distributed` group whose ranks share the batches: `world`, or one of your own; None gives this
            process all samples.
        headspace: draw only the first batch of an epoch and hand it out in place of every other. It shows how fast the
            training loop is when it never waits for data; nothing is learned.

    Raises:
        MixloaderError: an argument that cannot be used; the message says which, its value and what to do.
    """

    def __init__(
        self,
        shards: str | os.PathLike[str] | ShardSet,
        batch_size: int,
        image_size: int,
        *,
        policy: Policy = Whole(),
        epochs: int | None = None,
        device: str | torch.device = "cpu",
        seed: int = 0,
        stride: int = 32,
        drop_last: bool = False,
        shuffle: bool = True,
        augment: Augment | None = Augment(),
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        transform: Callable[[Tensor], Tensor] | None = None,
        region_map: bool = True,
        pipeline: Literal["cpu", "dali", "pillow"] | Pipeline | None = None,
        threads: int | None = None,
        prefetch: int | None = None,
        on_error: OnError = "skip",
        failure_budget: int | float = 0.1,
        group: Group | Literal["world"] | None = "world",
        headspace: bool = False,
    ) -> None:
        self._arguments = {name: value for name, value in locals().items() if name != "self"}
        self.shards = open_shards(shards)
        self._opened = self.shards is not shards
        run = Run(len(self.shards), batch_size, image_size, stride, epochs, drop_last)
        for name, count in (("prefetch", prefetch), ("threads", threads)):
            if count is not None:
                check_count(name, count)
        if transform is not None and not callable(transform):
            raise MixloaderError(f"transform={transform!r} cannot be called: pass a function of a tensor, or None")
        self.device = check_device(device)
        look = Look(*check_normalisation(mean, std, self.device), transform, region_map)
        self.ledger = LossLedger(
            len(self.shards),
            device=self.device,
            fingerprint=self.shards.fingerprint,
            label=self.shards.labels,
        )
        self._controller = Controller(
            policy, run, self.shards.sizes, self.ledger, seed=seed, augment=augment, shuffle=shuffle
        )
        drawn_by = open_pipeline(pipeline, self.shards, self.device, threads)
        self._maker = BatchMaker(self.shards, drawn_by, look, SplitTarget.bound(self.ledger), self.device, prefetch)
        self._failures = Failures(self.shards, on_error, failure_budget)
        self._meetings = Meetings(self.ledger, group)
        self._headspace, self._home = headspace, os.getpid()
        self._next_epoch = 0
        self._current: _Epoch | None = None  # the one that a batch was handed out of last, or that is to go on
        self._step = 0  # batches of it that were handed out; 0 between two epochs
        self._go_on_at = 0  # the first batch of the next iteration: above 0 after a state was loaded
        self._meter = Meter(0)

    def __len__(self) -> int:
        """Steps of an epoch: the same every epoch."""
        return self._controller.run.steps

    @property
    def plan(self) -> Plan:
        """The plan of the epoch under way, or of the last; before the first, or a jump by `set_epoch`, the next."""
        if self._current is None:
            self._current = self._open_epoch(self._next_epoch)
        return self._current.whole

    @property
    def failed(self) -> dict[int, str]:
        """The samples that could not be drawn until now, and why, by id. Their slots stayed empty."""
        return dict(sorted(self._failures.reasons.items()))

    def stats(self) -> Stats:
        """Where the time of the epoch under way, or of the last, went: see `Stats`.

        At the end of every epoch it is logged, as one line, by the logger `mixloader` at the level INFO.
        """
        return self._meter.stats()

    @property
    def total_cost(self) -> float | None:
        """Whole-image passes of the run, known before it; None where the losses decide it, or there are no `epochs`."""
        return self._controller.total_cost

    def cost(self, epoch: int) -> float | None:
        """Whole-image passes of an epoch, known before the run; None where the losses decide it (InfoBatch)."""
        return self._controller.cost(epoch)

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` the next one to be iterated over.

        Raises:
            MixloaderError: the run has no such epoch.
        """
        epoch = check_count("epoch", epoch, least=0)
        self._controller.budget(epoch)
        if epoch != self._next_epoch:
            self._next_epoch, self._current, self._step, self._go_on_at = epoch, None, 0, 0

    def close(self) -> None:
        """Give back the pipeline's threads and memory, and the files of a set that it opened itself.

        A closed loader draws no more. An iteration that was left but is kept holds its idle threads until it is let go.
        """
        if os.getpid() == self._home:  # in a process that was forked, what is being drawn is the other's
            self._maker.close()
        if self._opened:
            self.shards.close()

    def __enter__(self) -> Self:
        """The loader itself; it is closed at the end of the `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __iter__(self) -> Iterator[Batch]:
        """One epoch of `(images, target)`, or the rest of one after `load_state_dict`. Of several ranks, all have to.

        Raises:
            MixloaderError: the run is over, or the ranks are not about to do the same.
            FailureBudgetError: too many samples could not be drawn; UndecodableError: one, with `on_error="raise"`.
        """
        self._move_in()
        meter = Meter(self._next_epoch)
        go_on = self._current if self._go_on_at else None
        first = self._go_on_at if go_on else 0
        facts = {name: str(value) for name, value in self._controller.identity().items()}
        facts |= {"epoch": f"{self._next_epoch}, batch {first}", "data set": self.shards.fingerprint[:12]}
        ranks = self._meetings.before(facts, go_on.losses if go_on else None)
        epoch = go_on or self._open_epoch(self._next_epoch)
        meter.planned()
        return self._steps(epoch, first, meter, ranks)

    def _open_epoch(self, number: int, losses: Losses | None = None) -> _Epoch:
        losses = self.ledger.snapshot() if losses is None else losses
        return _Epoch(number, losses, self._controller.plan(number, losses))

    def _steps(self, epoch: _Epoch, first: int, meter: Meter, ranks: Ranks) -> Iterator[Batch]:
        """Hand out the batches from `first` on.

        The epoch counts from the second one on, so that a peek is free: until then it leaves alone another epoch that
        is under way, and what is recorded in the ledger stays that one's.
        """
        counts, before = False, self._meter
        failed: dict[int, str] = {}
        batches = (self._maker.replay if self._headspace else self._maker.ahead)(epoch.plan, first, ranks)
        try:
            for b, made in enumerate(meter.watch(batches), first):
                if not counts and (b > first or b == epoch.plan.batches - 1):
                    counts = True
                    self._next_epoch, self._go_on_at = epoch.number + 1, 0
                if counts or not self._step or self._current is epoch:
                    self._current, self._step, self._meter = epoch, b + 1, meter
                    self.ledger.begin(epoch.number)
                failed |= made.failed
                self._failures.add(made.failed)
                yield self._maker.receive(made)
            self._finish(epoch, failed, ranks)
            _LOG.info("%s", meter.stats())
        finally:
            if self._current is epoch:
                self._step = 0 if counts else first
                if counts:  # before the next one is planned: at a hundred million samples these are 1.6 GB
                    self._current = replace(epoch, losses=None)
            if self._meter is meter and not counts:
                self._meter = before

    def _finish(self, epoch: _Epoch, failed: dict[int, str], ranks: Ranks) -> None:
        """Bring together what the ranks recorded in an epoch, and what they left out."""
        self._meetings.after()
        self._failures.merge(ranks.gather(self._failures.reasons))  # all of them: so that all ranks stop, or none
        failed = ranks.gather(failed)
        if ranks.rank == 0:
            self._failures.tell(epoch.number, failed)

    def gather(self) -> None:
        """Bring together what the ranks recorded in this epoch until now, so that any rank's state is the whole one.

        Every rank has to call it. It is needed for a state that one rank takes for all before the loop has seen the end
        of the epoch: within it, after its last batch, or after the loop was left.
        """
        self._meetings.after()

    def state_dict(self) -> dict[str, Any]:
        """What a run needs to go on after the last batch that was handed out: the ledger and a few numbers.

        Within an epoch it holds the ledger twice: as it is, and as it was when the epoch was planned. There, every
        rank's state holds what that rank recorded: save each, or call `gather` first. It does not wait for other ranks.
        """
        state = {"epoch": self._next_epoch, "step": 0, **self._controller.state_dict()}
        if 0 < self._step < len(self) and self._current is not None and self._current.losses is not None:
            start = self._current.losses.state_dict()
            state |= {"epoch": self._current.number, "step": self._step, "start": start}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the state of an earlier run: the next iteration hands out the batch after its last one.

        The number of ranks may be another one.

        Raises:
            MixloaderError: the state is of another policy, run, seed or data set, or none at all. Nothing is changed.
        """
        if not isinstance(state, dict) or not all(type(state.get(name)) is int for name in ("epoch", "step")):
            raise MixloaderError("this is no state of a loader: it needs epoch and step (see MixLoader.state_dict)")
        epoch, step, last = state["epoch"], state["step"], self._controller.run.epochs
        if max(abs(epoch), abs(step)) >= 1 << 31:  # not to be shown: it may have a million digits
            raise MixloaderError("this state is damaged: its epoch or step is beyond any run")
        if not 0 <= step < len(self) or epoch < 0 or (last is not None and epoch > last - (step > 0)):
            raise MixloaderError(f"this state is damaged: it is of epoch {epoch} of {last}, step {step} of {len(self)}")
        self._controller.check_state(state)
        start = Losses.of_state(state.get("start"), self.shards.labels) if step else None
        current = self._open_epoch(epoch, start) if start is not None else None
        self._controller.load_state_dict(state)
        self._next_epoch, self._current, self._step, self._go_on_at = epoch, current, step, step
        self._meetings.forget()

    def __reduce__(self) -> tuple[Any, ...]:
        """Into another process goes how it was built, and its state: there it goes on as after `load_state_dict`."""
        # As bytes: torch would share the ledger's tensors between the processes, which fails where a child is spawned.
        return _unpickle, (self._arguments, pickle.dumps(self.state_dict()))

    def _move_in(self) -> None:
        """In a process that was forked: build all anew that the other's threads may have been at work on."""
        if os.getpid() != self._home:
            vars(self).update(vars(_rebuild(self._arguments, self.state_dict())))


def _unpickle(arguments: dict[str, Any], state: bytes) -> MixLoader:
    return _rebuild(arguments, pickle.loads(state))


def _rebuild(arguments: dict[str, Any], state: dict[str, Any]) -> MixLoader:
    loader = MixLoader(**arguments)
    loader.load_state_dict(state)
    return loader
