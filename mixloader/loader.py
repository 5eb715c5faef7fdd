"""The loader: what takes the place of a `DataLoader` in the training loop."""

from __future__ import annotations

import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

import torch
from torch import Tensor

from mixloader.batch import normalise, region_map, target
from mixloader.controller import Controller
from mixloader.errors import MixloaderError, MixloaderWarning
from mixloader.ledger import LossLedger
from mixloader.pipelines import Pipeline
from mixloader.plan import Plan
from mixloader.planning import Augment
from mixloader.policies.policy import Policy, Run
from mixloader.policies.whole import Whole
from mixloader.shards import ShardSet
from mixloader.split import SplitTarget

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Batch = tuple[Tensor, SplitTarget]


class MixLoader:
    """Composite batches of a set of shards, planned every epoch from the network's own losses.

    Iterating over it is one epoch: `len(loader)` steps of `(images, target)`, as many every epoch. The epochs count
    up by themselves; an iteration that is given up before its second batch (`next(iter(loader))`) does not count,
    unless the epoch has only one.

    * images: float32 [C, 4, S, S], channels-last; channels 0-2 are the normalised picture, channel 3 is the region
      map: the slot of every pixel, -1 where a canvas is empty. With `region_map=False` [C, 3, S, S].
    * target: a `SplitTarget` of `labels` int64 (-100 = empty slot), `ids` int64 (-1), `weights` and `shares` float32,
      each [C, 4]. The stock cross-entropy scores it and fills the ledger.

    Args:
        shards: a folder of shards, or an open `ShardSet`.
        batch_size: samples of a step, as in a plain loader; how many canvases they take is the plan's.
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
        transform: called with the normalised picture [C, 3, S, S] on its device; returns one of the same shape.
        region_map: False leaves channel 3 out.
        pipeline: `dali`, `pillow`, or a pipeline of your own.
        threads: decoding threads; default, as many as this process may use.
        prefetch: batches that are drawn ahead.

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
        pipeline: Literal["dali", "pillow"] | Pipeline = "dali",
        threads: int | None = None,
        prefetch: int = 2,
    ) -> None:
        self.shards = shards if isinstance(shards, ShardSet) else ShardSet(shards)
        run = Run(len(self.shards), batch_size, image_size, stride, epochs, drop_last)
        for name, value in (("threads", threads), ("prefetch", prefetch)):
            if value is not None and value < 1:
                raise MixloaderError(f"{name} must be at least 1, got {value}")
        self.device = _check_device(device)
        self._scale, self._shift = _check_normalisation(mean, std, self.device)
        self.ledger = LossLedger(len(self.shards), device=self.device, fingerprint=self.shards.fingerprint)
        self._controller = Controller(
            policy, run, self.shards.sizes, self.ledger, seed=seed, augment=augment, shuffle=shuffle
        )
        self._target = SplitTarget.bound(self.ledger)
        self._transform, self._region_map, self._prefetch = transform, region_map, prefetch
        self._pipeline = _open_pipeline(pipeline, self.shards, self.device, threads)
        on_gpu = self.device.type == "cuda"
        self._stream = torch.cuda.Stream(self.device) if on_gpu else None  # type: ignore[no-untyped-call]
        self._next_epoch = 0
        self._plan: tuple[int, Plan] | None = None
        self._failed: dict[int, str] = {}
        # An iteration that was left but is kept may still be drawing ahead when the next one begins.
        self._drawing = threading.BoundedSemaphore(self._pipeline.lanes)
        self._closed = False

    def __len__(self) -> int:
        """Steps of an epoch: the same every epoch."""
        return self._controller.run.steps

    @property
    def plan(self) -> Plan:
        """The plan of the epoch begun last; before the first, of that one, and after `set_epoch`, of the one set."""
        if self._plan is None:
            self._plan = (self._next_epoch, self._controller.plan(self._next_epoch))
        return self._plan[1]

    @property
    def failed(self) -> dict[int, str]:
        """The samples that could not be decoded until now, and why, by id. Their slots stayed empty."""
        return dict(self._failed)

    @property
    def total_cost(self) -> float | None:
        """Whole-image passes of the run, known before it; None where the losses decide it (InfoBatch)."""
        return self._controller.total_cost

    def cost(self, epoch: int) -> float | None:
        """Whole-image passes of an epoch, known before the run; None where the losses decide it (InfoBatch)."""
        return self._controller.cost(epoch)

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` the next one to be iterated over.

        Raises:
            MixloaderError: the run has no such epoch.
        """
        self._controller.budget(epoch)
        if epoch != self._next_epoch:
            self._next_epoch, self._plan = epoch, None

    def close(self) -> None:
        """Give back threads and memory. A closed loader cannot be iterated over."""
        self._closed = True
        for _ in range(self._pipeline.lanes):  # waits for what is being drawn
            self._drawing.acquire()
        self._pipeline.close()
        self._drawing.release(self._pipeline.lanes)

    def __iter__(self) -> Iterator[Batch]:
        """One epoch of `(images, target)`.

        Raises:
            MixloaderError: the run is over.
        """
        epoch = self._next_epoch
        self._plan = (epoch, self._controller.plan(epoch))
        return self._steps(epoch, self._plan[1])

    def _steps(self, epoch: int, plan: Plan) -> Iterator[Batch]:
        """Draw ahead on threads of its own; they end with the iteration, however that ends."""
        pool = ThreadPoolExecutor(self._pipeline.lanes, "mixloader-draw")
        ahead: deque[Future[tuple[Batch, torch.cuda.Event | None]]] = deque()
        try:
            for b in range(plan.batches + self._prefetch):
                if b < plan.batches:
                    ahead.append(pool.submit(self._make, plan.batch(b)))
                if b < self._prefetch:
                    continue
                if b - self._prefetch == 1 or plan.batches == 1:
                    self._next_epoch = epoch + 1
                yield _receive(*ahead.popleft().result())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _make(self, batch: Plan) -> tuple[Batch, torch.cuda.Event | None]:
        """Draw one batch and bring it to its final form; on a GPU, on the loader's own stream."""
        with self._drawing, torch.no_grad(), torch.cuda.stream(self._stream):
            if self._closed:
                raise MixloaderError("this loader is closed and draws no more: build another one")
            drawn = self._pipeline.draw(batch)
            channels = 4 if self._region_map else 3
            images = normalise(drawn.canvases.to(self.device), self._scale, self._shift, channels=channels)
            if self._transform is not None:
                images[:, :3] = self._transform(images[:, :3])
            if self._region_map:
                images[:, 3] = region_map(batch, self.device)
            made = target(self._target, batch, self.shards.labels, [*drawn.failed], self.device)
            self._report(drawn.failed)
            event = self._stream.record_event() if self._stream is not None else None
        return (images, made), event

    def _report(self, failed: dict[int, str]) -> None:
        """Warn once for every sample that could not be decoded."""
        for sample in failed.keys() - self._failed.keys():
            self._failed[sample] = failed[sample]
            warnings.warn(
                f"sample {sample} ({self.shards.where(sample)}) cannot be decoded ({failed[sample]}); its slot "
                "stays empty: mend or remove it and shard again",
                MixloaderWarning,
                stacklevel=2,
            )

    def state_dict(self) -> dict[str, Any]:
        """The run's state between two epochs: the ledger, and the epoch that comes next."""
        return {"epoch": self._next_epoch, **self._controller.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from between two epochs of an earlier run.

        Raises:
            MixloaderError: the state is of another policy, seed or data set.
        """
        if not isinstance(state, dict) or not isinstance(state.get("epoch"), int):
            raise MixloaderError("this is no state of a loader: it needs an 'epoch' (see MixLoader.state_dict)")
        self._controller.load_state_dict(state)
        self._next_epoch, self._plan = state["epoch"], None


def _receive(batch: Batch, event: torch.cuda.Event | None) -> Batch:
    """Hand a batch to the caller's stream: its work waits for the drawing, the host does not."""
    if event is not None:
        stream = torch.cuda.current_stream()
        stream.wait_event(event)
        for tensor in (batch[0], *batch[1].values()):
            tensor.record_stream(stream)
    return batch


def _open_pipeline(pipeline: str | Pipeline, shards: ShardSet, device: torch.device, threads: int | None) -> Pipeline:
    if pipeline == "dali":
        from mixloader.pipelines.dali import DaliPipeline

        return DaliPipeline(shards, device=device, threads=threads)
    if pipeline == "pillow":
        from mixloader.pipelines.pillow import PillowPipeline

        return PillowPipeline(shards, threads=threads)
    if isinstance(pipeline, type) or not isinstance(pipeline, Pipeline):
        raise MixloaderError(f"pipeline={pipeline!r} is unknown: take 'dali' or 'pillow', or pass a pipeline")
    return pipeline


def _check_device(device: str | torch.device) -> torch.device:
    try:
        checked = torch.device(device)
    except RuntimeError:
        raise MixloaderError(f"device={device!r} is no device: take 'cpu' or 'cuda'") from None
    if checked.type == "cuda" and not torch.cuda.is_available():
        raise MixloaderError(f"device={device!r}: torch finds no CUDA device here; take device='cpu'")
    return checked


def _check_normalisation(mean: Sequence[float], std: Sequence[float], device: torch.device) -> tuple[Tensor, Tensor]:
    """Scale and shift, float32 [3] each, that take values of 0-255 to (value / 255 - mean) / std."""
    channels = []
    for name, values in (("mean", mean), ("std", std)):
        channels.append(torch.as_tensor(values, dtype=torch.float32, device=device))
        if channels[-1].shape != (3,):
            raise MixloaderError(f"{name} needs a value for each of 3 channels, got {values}")
    if not (channels[1] > 0).all():
        raise MixloaderError(f"std must be above 0 in every channel, got {tuple(std)}")
    return 1 / (255 * channels[1]), -channels[0] / channels[1]
