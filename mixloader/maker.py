"""The maker: draws the batches of an epoch's plan ahead of the training loop, and brings them to their final form."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from mixloader.batch import fill_empty, fill_region_map, normalise, on_device, target, transformed
from mixloader.buffers import Buffers, trim
from mixloader.clock import Clock
from mixloader.errors import MixloaderError
from mixloader.pipelines import Pipeline
from mixloader.plan import Plan
from mixloader.planning import EpochPlan
from mixloader.ranks import Ranks
from mixloader.shards import ShardSet
from mixloader.split import SplitTarget

Batch = tuple[Tensor, SplitTarget]


@dataclass(frozen=True)
class Look:
    """How a drawn picture is handed out.

    Attributes:
        scale: float32 [4], what the values of each channel are multiplied with; the fourth is the region map.
        shift: float32 [4], what is added then.
        transform: of the normalised picture [C, 3, S, S]; or None.
        region_map: whether there is a fourth channel.
    """

    scale: Tensor
    shift: Tensor
    transform: Callable[[Tensor], Tensor] | None
    region_map: bool


@dataclass(frozen=True)
class Made:
    """A batch that is ready.

    Attributes:
        batch: images and target.
        canvases: how many it has.
        samples: how many were drawn on them.
        failed: why each of the others could not be drawn, by id.
        seconds: by stage, of the thread that made it.
        event: on a GPU, what has to have happened before the batch is read.
    """

    batch: Batch
    canvases: int
    samples: int
    failed: dict[int, str]
    seconds: dict[str, float]
    event: torch.cuda.Event | None


class BatchMaker:
    """Makes batches on threads, as many at once as the pipeline has lanes.

    Args:
        shards: where the samples are.
        pipeline: what draws them; it is closed with the maker.
        look: how they are handed out.
        kind: the target type, bound to the run's ledger.
        device: where batches are wanted.
        prefetch: batches that are drawn ahead; None keeps every lane busy.
    """

    def __init__(
        self,
        shards: ShardSet,
        pipeline: Pipeline,
        look: Look,
        kind: type[SplitTarget],
        device: torch.device,
        prefetch: int | None,
    ) -> None:
        self._shards, self._pipeline, self._look, self._kind, self._device = shards, pipeline, look, kind, device
        self._prefetch = pipeline.lanes + 1 if prefetch is None else prefetch
        self._buffers = Buffers(self._prefetch + pipeline.lanes + 1)
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._stream.wait_stream(torch.cuda.current_stream(device))  # which `look` is being made on
        self._in_use: deque[tuple[torch.cuda.Event, Tensor]] = deque()  # what the stream may still be reading
        self._holding = threading.Lock()
        # An iteration that was left but is kept may still be drawing ahead when the next one begins.
        self._drawing = threading.BoundedSemaphore(pipeline.lanes)
        self._closing, self._closed = threading.Lock(), False

    def ahead(self, plan: EpochPlan, first: int, ranks: Ranks) -> Generator[Made]:
        """The batches from `first` on in order, made on threads that end with the iteration, however it ends.

        Raises:
            MixloaderError: the process was forked meanwhile: the threads are the other's.
        """
        pool, home = ThreadPoolExecutor(self._pipeline.lanes, "mixloader-draw", initializer=_work_alone), os.getpid()
        waiting: deque[Future[Made]] = deque()
        wait = True
        try:
            for b in range(first, plan.batches):
                waiting.append(pool.submit(self._make, plan, b, ranks))
                if len(waiting) > self._prefetch:
                    yield waiting.popleft().result()
                    _check_home(home)
            while waiting:
                yield waiting.popleft().result()
                _check_home(home)
            trim()
        except GeneratorExit:
            # Garbage may be collected anywhere: also on one of these threads, or on one that holds what they need to
            # end (Python's own list of threads, while another is started). Who waited for them there would for ever.
            wait = False
            raise
        finally:
            if os.getpid() == home:
                pool.shutdown(wait=wait, cancel_futures=True)

    def replay(self, plan: EpochPlan, first: int, ranks: Ranks) -> Generator[Made]:
        """Batch `first` again and again, as often as there are batches from it on; it is made once."""
        with ThreadPoolExecutor(1, "mixloader-draw", initializer=_work_alone) as pool:
            made = pool.submit(self._make, plan, first, ranks).result()
        for b in range(first, plan.batches):
            yield made if b == first else replace(made, seconds={})

    def receive(self, made: Made) -> Batch:
        """Hand a batch to the caller's stream: its work waits for the drawing, the host does not."""
        if made.event is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(made.event)
            for tensor in (made.batch[0], *made.batch[1].values()):
                tensor.record_stream(stream)
        return made.batch

    def close(self) -> None:
        """Give back the pipeline's threads and memory, once what is being drawn is drawn. No more is drawn then."""
        self._closed = True
        with self._closing:
            for _ in range(self._pipeline.lanes):
                self._drawing.acquire()
            self._pipeline.close()
            if self._stream is not None:
                self._stream.synchronize()
            self._in_use.clear()
            self._drawing.release(self._pipeline.lanes)

    def _make(self, plan: EpochPlan, b: int, ranks: Ranks) -> Made:
        """Draw this rank's part of batch b and bring it to its final form; on a GPU, on the maker's own stream."""
        clock = Clock()
        batch = plan.batch(b, rank=ranks.rank, ranks=ranks.count)
        shown = batch if len(batch) else _stand_in(plan, b, batch.canvases_per_batch)
        norm = _norm(plan, b, batch, ranks) if ranks.count > 1 else 1.0
        clock.lap("plan")
        with self._drawing, torch.no_grad(), torch.cuda.stream(self._stream):
            if self._closed:
                raise MixloaderError("this loader is closed and draws no more: build another one")
            clock = Clock(clock.seconds)  # waiting for a free lane is no work
            drawn = self._pipeline.draw(shown)
            if drawn.seconds:
                clock.take(drawn.seconds)
            else:
                clock.lap("draw")
            images = self._finish(on_device(drawn.canvases, self._device), batch, shown, clock)
            failed = drawn.failed if shown is batch else {}
            made = target(self._kind, batch, self._shards.labels, [*failed], self._device, norm)
            event = self._hold(drawn.canvases)
        clock.lap("normalise")
        samples = len(batch) - len(failed)
        return Made((images, made), batch.canvases_per_batch, samples, failed, clock.seconds, event)

    def _hold(self, canvases: Tensor) -> torch.cuda.Event | None:
        """On a GPU: an event after all that was asked of it, until which it may read the canvases.

        Their memory may be another library's, which knows nothing of this stream: it must not be let go before.
        """
        if self._stream is None:
            return None
        event: torch.cuda.Event = self._stream.record_event()
        with self._holding:
            self._in_use.append((event, canvases))
            while self._in_use and self._in_use[0][0].query():  # type: ignore[no-untyped-call]
                self._in_use.popleft()
        return event

    def _finish(self, canvases: Tensor, batch: Plan, shown: Plan, clock: Clock) -> Tensor:
        """Normalised images [C, 3 or 4, S, S], channels-last, of what was drawn: [C, S, S, 3 or 4], 0-255.

        The region map is the batch's; the picture is what was shown, which a rank without any samples borrowed.
        """
        look, has_slots = self._look, canvases.shape[-1] == 4
        channels = 4 if look.region_map else 3
        shape = (*canvases.shape[:-1], channels)
        if canvases.device.type == "cpu":
            out = torch.from_numpy(self._buffers.take(shape, np.float32))
        else:
            out = torch.empty(shape, dtype=torch.float32, device=canvases.device)
        normalise(canvases, look.scale[:channels], look.shift[:channels], out)
        images = out.permute(0, 3, 1, 2)
        if look.region_map and not (has_slots and batch.covered):
            fill_region_map(images[:, 3], batch)
        clock.lap("normalise")
        if look.transform is not None:
            images[:, :3] = transformed(images[:, :3], look.transform)
            clock.lap("transform")
        fill_empty(images[:, :3], shown)
        return images


def _norm(plan: EpochPlan, b: int, batch: Plan, ranks: Ranks) -> float:
    """What a weight of 1 in a rank's part of batch b adds to the denominator of the mean; see `split.scoring.score`."""
    mine = float(batch.weight.sum(dtype=np.float64))
    return plan.weight_of(b) / (ranks.count * mine) if mine > 0 else 1.0


def _stand_in(plan: EpochPlan, b: int, canvases: int) -> Plan:
    """The first canvas of the whole batch b, for a rank that has no part of it.

    No label belongs to it there. But batch norm sees the rank's pictures, and black ones would shift it.
    """
    whole = plan.batch(b)
    return replace(whole.take(np.arange(min(1, whole.canvases))), canvases_per_batch=canvases)


def _check_home(home: int) -> None:
    """Refuse to wait for threads that a fork left behind: none would ever answer."""
    if os.getpid() != home:
        raise MixloaderError(
            f"this iteration began in process {home}, and process {os.getpid()} was forked from it: its threads are "
            "not here; iterate over the loader itself"
        )


def _work_alone() -> None:
    """Keep torch from giving the calling thread a team of threads of its own.

    There are as many drawing threads as processors already. Teams beside them wait for each other, spinning, on
    processors that are taken: where something else ran too, an epoch was seen to take ten times as long.
    """
    torch.get_num_threads()  # what a thread asks torch first sets its number: it must not come after the limit
    _native_threads().limit(limits=1, user_api="openmp")  # of this thread only


@cache
def _native_threads() -> ThreadpoolController:
    return ThreadpoolController()
