"""The target of a composite batch: a dict that trainers can move and that stock cross-entropy scores."""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NoReturn, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from mixloader.errors import MixloaderError
from mixloader.split import scoring

_KEYS = ("labels", "ids", "weights", "norms", "shares")
_INSTEAD = 'use target["labels"] with the mask target["labels"] >= 0, target.correct(logits), or SplitLoss(criterion)'


class Recorder(Protocol):
    """What a target needs of a ledger."""

    def record(self, ids: Tensor, losses: Tensor, shares: Tensor) -> None:
        """Note the losses [M] float32 of the samples ids [M] int64, drawn on shares [M] of a whole canvas each.

        An id of -1 is an empty slot. Must write in place to tensors of the losses' device, with no synchronisation.
        """


class SplitTarget(dict[str, Tensor]):
    """What the samples of a batch of C canvases with K = SLOTS slots each are, and how they count.

    Keys, all [C, K]:

    - `labels` int64, -100 in an empty slot;
    - `ids` int64, the samples' ids, -1 in an empty slot;
    - `weights` float32, the factor of the sample's loss;
    - `norms` float32, what it adds to the denominator of the mean: its weight or, where several ranks share the batch,
      what makes the mean over the ranks of their means that of the whole batch;
    - `shares` float32, the part of a whole image's pixels that the sample was given, 0 in an empty slot.

    `torch.nn.CrossEntropyLoss` and `torch.nn.functional.cross_entropy` take it in the place of a tensor of
    labels; see `mixloader.split.scoring.score` for what they compute. Any other function of torch, and any
    comparison, raises TypeError: there is no one tensor to compare with.

    A trainer that moves a batch rebuilds it as `type(target)({key: value.to(device)})`, so the ledger is
    bound to the type: `SplitTarget.bound(ledger)`. A plain SplitTarget records nothing, and neither does one
    that was pickled.
    """

    ledger: ClassVar[Recorder | None] = None

    def __init__(self, values: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]) -> None:
        """Values: the five tensors by key, or such pairs. Raises MixloaderError for other keys."""
        super().__init__(values)
        if self.keys() != set(_KEYS):
            raise MixloaderError(
                f"a SplitTarget has the keys {', '.join(_KEYS)}, not {', '.join(map(str, self)) or 'none'}: "
                "pass a dict of those five tensors"
            )

    @classmethod
    def bound(cls, ledger: Recorder) -> type[Self]:
        """A type of target that records in `ledger`. Make one a run: compiled code is bound to it."""
        return type(cls.__name__, (cls,), {"ledger": ledger, "__module__": cls.__module__})

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> Self:
        """The same target on `device`."""
        return self._each(lambda value: value.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """The same target in pinned memory."""
        return self._each(lambda value: value.pin_memory())

    def correct(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """How many constituents have the largest logit at their label, and how many there are: 0-d int64.

        logits: [C, K, classes], or [C, classes], where every constituent is held against its canvas's row.
        Raises MixloaderError for logits of another shape.
        """
        labels = self["labels"]
        predicted = scoring.as_rows(logits, labels).argmax(-1).view_as(labels)
        occupied = labels >= 0
        return ((predicted == labels) & occupied).sum(), occupied.sum()

    def _each(self, move: Callable[[Tensor], Tensor]) -> Self:
        return type(self)({key: move(value) for key, value in self.items()})

    def __copy__(self) -> Self:
        """The same tensors in a target of the same type."""
        return type(self)(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copies of the tensors; the ledger stays the same one."""
        return self._each(lambda value: copy.deepcopy(value, memo))

    def __reduce__(self) -> tuple[type["SplitTarget"], tuple[dict[str, Tensor]]]:
        """Pickle as a plain SplitTarget: another process can neither find a bound type nor use its ledger."""
        return SplitTarget, (dict(self),)

    def __repr__(self) -> str:
        """The sizes, not the tensors. Waits for the device."""
        labels = self["labels"]
        canvases, slots = labels.shape
        return (
            f"SplitTarget({int((labels >= 0).sum())} samples on {canvases} canvases of {slots} slots, "
            f"device={str(labels.device)!r}, ledger={type(self.ledger).__name__})"
        )

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Tensor:
        """Score cross-entropy; refuse every other function of torch with a TypeError."""
        if func is F.cross_entropy:
            return scoring.cross_entropy(*args, **(kwargs or {}))
        raise TypeError(f"{getattr(func, '__name__', func)} cannot take a SplitTarget: {_INSTEAD}")

    def __eq__(self, other: object) -> NoReturn:
        """Refused with a TypeError: a dict would answer False, whatever the labels."""
        raise TypeError(f"a SplitTarget cannot be compared with a {type(other).__name__}: {_INSTEAD}")

    __ne__ = __eq__

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse a tensor's attributes with an AttributeError that says what to use."""
        raise AttributeError(f"a SplitTarget has no {name!r}: it is a dict of tensors: {_INSTEAD}")
