"""What every policy shares: the run it works for, the budget it promises, the allocation it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
import numpy.typing as npt

from mixloader.errors import MixloaderError
from mixloader.ledger import Losses
from mixloader.order import LARGEST_SET

Mixing = Literal["spatial", "blend"]
View = Literal["crop", "scale"]
Pairing = Literal["opposite", "random", "classes"]

LARGEST_COMPOSITE = 4
"""The most samples that a canvas holds."""

LARGEST_CANVAS = 32767
"""The largest side, pixels: a plan keeps regions as int16."""


@dataclass(frozen=True)
class Run:
    """The fixed facts of a training run: all that a policy may know besides the losses.

    Attributes:
        samples: N, the number of samples in the data set.
        batch_size: samples of a step.
        image_size: side of a whole canvas, pixels.
        stride: region borders and canvas sides are multiples of it, pixels.
        epochs: length of the run; None when it is open-ended, which only policies without a schedule accept.
        drop_last: whether a short last batch is left out.
    """

    samples: int
    batch_size: int
    image_size: int
    stride: int
    epochs: int | None
    drop_last: bool = False

    def __post_init__(self) -> None:
        """Refuse a run that cannot be."""
        for name in ("samples", "batch_size", "image_size", "stride", "epochs"):
            value = getattr(self, name)
            if name != "epochs" or value is not None:  # numpy's integers become plain ones: they end up in states
                object.__setattr__(self, name, check_count(name, value))
        if self.image_size % self.stride:
            lower = self.image_size // self.stride * self.stride
            near = f"{lower} or {lower + self.stride}" if lower else f"{self.stride}"
            raise MixloaderError(
                f"image_size={self.image_size} is not a multiple of stride={self.stride}, so regions could not "
                f"follow the network's cells: take image_size={near}, or pass the network's own stride="
            )
        if self.image_size > LARGEST_CANVAS:
            raise MixloaderError(
                f"image_size={self.image_size} is too large: canvases have {LARGEST_CANVAS} pixels at most"
            )
        if self.samples > LARGEST_SET:
            raise MixloaderError(f"{self.samples} samples are too many: a run can have {LARGEST_SET}")
        if self.steps < 1:
            raise MixloaderError(
                f"no batch: {self.samples} samples are fewer than batch_size={self.batch_size} and drop_last is "
                "set; lower batch_size or leave drop_last off"
            )

    @property
    def steps(self) -> int:
        """Batches of an epoch: the same every epoch."""
        whole, rest = divmod(self.samples, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def length(self, policy: object) -> int:
        """The number of epochs, for a policy whose schedule needs it.

        Raises:
            MixloaderError: the run is open-ended.
        """
        if self.epochs is None:
            raise MixloaderError(
                f"{type(policy).__name__} spreads a budget over the run: tell the loader its length, epochs=..."
            )
        return self.epochs

    def check_shareable(self, policy: object) -> None:
        """Refuse a policy that shares canvases where a canvas is a single stride.

        Raises:
            MixloaderError: it is.
        """
        if self.image_size < 2 * self.stride:
            raise MixloaderError(
                f"{type(policy).__name__} cannot share canvases here: image_size={self.image_size} holds one stride of "
                f"{self.stride} pixels; take a larger image_size, the network's own stride=, or Whole()"
            )

    def canvas(self, side: float) -> int:
        """The canvas side nearest to `side` * image_size that is a multiple of the stride, pixels."""
        cells = self.image_size // self.stride
        return self.stride * min(cells, max(1, round(side * cells)))

    def area(self, canvas_size: int) -> float:
        """The share that a canvas of this side is: its pixels relative to a whole one's."""
        return (canvas_size / self.image_size) ** 2


@dataclass(frozen=True)
class Budget:
    """What every batch of an epoch is made of: known before the run.

    Attributes:
        canvas_size: side, pixels.
        canvases: canvases of a batch.
    """

    canvas_size: int
    canvases: int


@dataclass(frozen=True)
class Allocation:
    """One epoch's decision.

    The shares say who gets more and who gets less. Two samples share a canvas when their shares are about half of
    it, four when they are about a quarter. The plan meets their sum exactly, and each of them in proportion to
    those on its canvas, as far as borders on multiples of the stride let it.

    Attributes:
        canvas_size: side, pixels.
        share: float32 [N], canvas pixels of a sample's turn / image_size²; 0 sits out this epoch.
        weight: float32 [N], the factor of a sample's loss.
        mixing: `spatial` cuts the canvas into regions, `blend` lays the samples over each other.
        view: what a region or canvas of less than image_size² shows: `crop`, a part of the picture at the scale that
            it would have on a whole canvas; `scale`, as much of the picture as a whole canvas would show, smaller.
        pairing: who of a batch's sharers sits with whom: `opposite`, the largest share with the smallest; `random`;
            `classes`, at random but with other classes, as far as there are enough of them.
    """

    canvas_size: int
    share: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    mixing: Mixing = "spatial"
    view: View = "crop"
    pairing: Pairing = "opposite"

    def check(self, run: Run) -> None:
        """Refuse an allocation that cannot be drawn in `run`.

        Raises:
            MixloaderError: a shape, share, weight, canvas size or mode that cannot be.
        """
        side, whole = self.canvas_size, run.area(self.canvas_size)
        if not run.stride <= side <= run.image_size or side % run.stride:
            raise MixloaderError(
                f"canvas_size={side} is not a multiple of stride={run.stride} up to image_size={run.image_size}"
            )
        for name, values in (("share", self.share), ("weight", self.weight)):
            if values.shape != (run.samples,):
                raise MixloaderError(f"{name} has shape {values.shape}; it needs one for each of {run.samples} samples")
            bad = ~np.isfinite(values) | (values < 0)
            if bad.any():
                at = int(np.argmax(bad))
                raise MixloaderError(f"{name}[{at}] is {values[at]}; it must be finite and at least 0")
        if (self.share > whole * (1 + 1e-6)).any():
            at = int(np.argmax(self.share))
            raise MixloaderError(
                f"share[{at}] is {self.share[at]:.4g}, more than the canvas of {side} pixels has ({whole:.4g})"
            )
        for name, choices in (("mixing", Mixing), ("view", View), ("pairing", Pairing)):
            if getattr(self, name) not in get_args(choices):
                raise MixloaderError(f"{name}={getattr(self, name)!r}: it is one of {', '.join(get_args(choices))}")


@runtime_checkable
class Policy(Protocol):
    """Ledger and progress in, allocation out. A policy knows no images, no files and no model.

    Implementations are frozen dataclasses of their parameters: the same arguments give the same answer, so that
    every rank and every resumed run decides alike. All chance comes from the generator that is passed in.
    """

    def budget(self, run: Run, epoch: int) -> Budget | None:
        """What the batches of `epoch` are made of; None when that follows the losses and is not known before.

        Called for every epoch when a loader is built, so an impossible parameter is refused there.

        Raises:
            MixloaderError: the parameters cannot be met in this run.
        """

    def allocate(self, run: Run, epoch: int, losses: Losses, rng: np.random.Generator) -> Allocation:
        """Decide an epoch. What is returned is read for as long as the epoch is drawn: it must not change."""


def even(run: Run, canvas_size: int, share: float = 1.0) -> Allocation:
    """The same share of a canvas (1 = all of it) for every sample, at weight 1; read-only."""
    return Allocation(
        canvas_size,
        share=np.broadcast_to(np.float32(share * run.area(canvas_size)), run.samples),  # one number, repeated
        weight=np.broadcast_to(np.float32(1), run.samples),
    )


def check_count(name: str, value: object, least: int = 1) -> int:
    """The value as an int, if it is a whole number of at least `least`.

    Raises:
        MixloaderError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise MixloaderError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise MixloaderError(f"{name} must be at least {least}, got {value}")
    return int(value)


def check_fraction(policy: object, name: str, *, above: float = 0.0, below: float = 1.0) -> None:
    """Refuse a policy whose parameter `name` is no number within [above, below].

    Raises:
        MixloaderError: it is not.
    """
    value = getattr(policy, name)
    if not isinstance(value, int | float) or not above <= value <= below:
        raise MixloaderError(f"{type(policy).__name__}: {name} must be within {above:g} and {below:g}, got {value!r}")


def check_choice(policy: object, name: str, choices: object) -> None:
    """Refuse a policy whose parameter `name` is none of `choices`, a `Literal` of strings.

    Raises:
        MixloaderError: it is not.
    """
    value, known = getattr(policy, name), get_args(choices)
    if value not in known:
        listed = ", ".join(map(repr, known[:-1]))
        raise MixloaderError(f"{type(policy).__name__}: {name} must be {listed} or {known[-1]!r}, got {value!r}")
