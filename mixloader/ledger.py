"""The ledger: what is known of every sample, from the losses that the training loop saw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mixloader.archive import load_arrays, save_arrays
from mixloader.errors import MixloaderError

NEVER = -1
"""What `seen` and `whole` hold for a sample that was not drawn yet, or not whole yet."""

_WHOLE = 0.999  # a share that counts as a whole canvas: float32 regions sum to 1 up to rounding

_COLUMNS = {"loss": torch.float32, "previous": torch.float32, "seen": torch.int32, "whole": torch.int32}


@dataclass(frozen=True)
class Losses:
    """What a policy gets to read: a copy of the ledger on the CPU, taken once an epoch.

    Attributes:
        loss: float32 [N], the last recorded loss; NaN where there is none.
        previous: float32 [N], the loss recorded before that; NaN where there is none.
        seen: int32 [N], the epoch in which `loss` was recorded; `NEVER` (-1) where there is none.
        whole: int32 [N], the last epoch in which a loss was recorded of the sample on a whole canvas; `NEVER`.
        label: int64 [N], the samples' classes; all 0 where they are not known.
    """

    loss: npt.NDArray[np.float32]
    previous: npt.NDArray[np.float32]
    seen: npt.NDArray[np.int32]
    whole: npt.NDArray[np.int32]
    label: npt.NDArray[np.int64]

    @classmethod
    def none(cls, label: npt.NDArray[np.int64]) -> Losses:
        """Before the first step: samples of the classes `label`, int64 [N]."""
        nothing, never = np.full(len(label), np.nan, np.float32), np.full(len(label), NEVER, np.int32)
        return cls(nothing, nothing.copy(), never, never.copy(), label)

    def __len__(self) -> int:
        """N, the number of samples."""
        return len(self.loss)

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Bool [N]: the samples with a finite loss. A NaN or infinite loss says nothing about difficulty."""
        return np.asarray((self.seen != NEVER) & np.isfinite(self.loss))

    def state_dict(self) -> dict[str, Tensor]:
        """What `of_state` takes: loss and previous float32 [N], seen and whole int32 [N], copied."""
        return {name: torch.from_numpy(getattr(self, name).copy()) for name in _COLUMNS}

    @classmethod
    def of_state(cls, state: object, label: npt.NDArray[np.int64]) -> Losses:
        """The losses in what `state_dict` gave, on any device, of samples of the classes `label`, int64 [N].

        Raises:
            MixloaderError: it is something else, or of another number of samples.
        """
        given = state if isinstance(state, dict) else {}
        columns: dict[str, Any] = {}
        for name, dtype in _COLUMNS.items():
            value: Any = given.get(name)
            if not _is_plain(value) or value.shape != (len(label),) or value.dtype != dtype:
                raise MixloaderError(f"this state is damaged: it needs {name}, {dtype}, of {len(label)} samples")
            # Copied: the state stays its owner's, and a view may lie in any order of memory.
            columns[name] = np.array(value.detach().cpu().resolve_neg().numpy())
        for name in ("seen", "whole"):
            if (columns[name] < NEVER).any():
                raise MixloaderError(f"this state is damaged: {name} is {columns[name].min()} for a sample")
        return cls(**columns, label=label)


def _is_plain(value: object) -> TypeGuard[Tensor]:
    """Whether it is a tensor with values in it: one that is sparse, nested, on "meta" or of a subclass need not be."""
    if type(value) is not Tensor or value.is_nested:
        return False
    return value.layout is torch.strided and value.device.type != "meta"


class LossLedger:
    """The last losses of each of `samples` samples, kept on `device` and written without a sync.

    The tensors have one spare row at the end, which takes the empty slots' writes, so that recording a batch is
    a few in-place index writes whatever the batch holds. `now` is a tensor rather than a number so that a
    compiled training step does not recompile every epoch.

    Args:
        samples: N.
        device: where the tensors are; they follow the first batch that is recorded elsewhere.
        fingerprint: of the data set whose samples these are.
        label: int64 [N], the samples' classes; None where nobody asks for them.

    Attributes:
        loss: float32 [N + 1]
        previous: float32 [N + 1]
        seen: int32 [N + 1]
        whole: int32 [N + 1]
        now: int32 [], the epoch that recorded losses are stamped with.
    """

    loss: Tensor
    previous: Tensor
    seen: Tensor
    whole: Tensor

    def __init__(
        self,
        samples: int,
        *,
        device: str | torch.device = "cpu",
        fingerprint: str = "",
        label: npt.NDArray[np.int64] | None = None,
    ) -> None:
        if samples < 1:
            raise MixloaderError(f"a ledger needs at least one sample, got samples={samples}")
        if label is not None and label.shape != (samples,):
            raise MixloaderError(f"label has shape {label.shape}; the ledger needs one for each of {samples} samples")
        self.samples = samples
        self.fingerprint = fingerprint
        self._label = np.zeros(samples, np.int64) if label is None else label
        for name, dtype in _COLUMNS.items():
            nothing = float("nan") if dtype.is_floating_point else NEVER
            setattr(self, name, torch.full((samples + 1,), nothing, dtype=dtype, device=device))
        self.now = torch.zeros((), dtype=torch.int32, device=device)

    def record(self, ids: Tensor, losses: Tensor, shares: Tensor | None = None) -> None:
        """Write the losses of a batch in place, in the current epoch.

        Args:
            ids: int64, any shape; -1 marks an empty slot. A sample comes once in a batch.
            losses: float, the same shape.
            shares: float, the same shape: how much canvas each sample had; None stands for a whole one each.
        """
        if losses.device != self.loss.device:  # the trainer moved the batch: follow it, once
            for name in (*_COLUMNS, "now"):
                setattr(self, name, getattr(self, name).to(losses.device))
        rows = torch.where(ids < 0, self.samples, ids).flatten()
        self.previous[rows] = self.loss[rows]
        self.loss[rows] = losses.detach().flatten().to(self.loss.dtype)
        self.seen[rows] = self.now
        if shares is None:
            self.whole[rows] = self.now
        else:
            self.whole[rows] = torch.where(shares.flatten() >= _WHOLE, self.now, self.whole[rows])

    def begin(self, epoch: int) -> None:
        """Stamp what is recorded from here on with `epoch`."""
        self.now.fill_(epoch)

    def snapshot(self) -> Losses:
        """A copy on the CPU for the policies: the one sync of an epoch."""
        columns: dict[str, Any] = {name: getattr(self, name)[: self.samples].cpu().numpy().copy() for name in _COLUMNS}
        return Losses(**columns, label=self._label)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes: the losses, when they were seen, and whose they are."""
        return {"fingerprint": self.fingerprint, **self.snapshot().state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the losses of an earlier run.

        Raises:
            MixloaderError: the state is not a ledger's, or is of another data set. Nothing is changed.
        """
        given: dict[str, Any] = state if isinstance(state, dict) else {}
        fingerprint, columns = given.get("fingerprint"), [given.get(name) for name in _COLUMNS]
        shapes = {tuple(column.shape) if _is_plain(column) else () for column in columns}
        if type(fingerprint) is not str or {len(shape) for shape in shapes} != {1}:
            raise MixloaderError(
                f"this is no ledger state: it needs fingerprint, {', '.join(_COLUMNS)} (see LossLedger.state_dict)"
            )
        if shapes != {(self.samples,)} or fingerprint != self.fingerprint:
            raise MixloaderError(
                f"this ledger is of another data set: it holds {' and '.join(str(n) for (n,) in sorted(shapes))} "
                f"samples of set {_named(fingerprint)}, the loader reads {self.samples} of set "
                f"{_named(self.fingerprint)}; give the ledger of this set, or start without one"
            )
        losses = Losses.of_state(state, self._label)  # all of it, before anything is changed
        for name in _COLUMNS:
            column = getattr(self, name)
            column[: self.samples] = torch.from_numpy(getattr(losses, name)).to(column)

    def save(self, path: str | Path) -> None:
        """Write the ledger as `.npz`."""
        columns = {name: value.numpy() for name, value in self.snapshot().state_dict().items()}
        save_arrays(path, {"fingerprint": np.array(self.fingerprint), **columns})

    def load(self, path: str | Path) -> None:
        """Read what `save` wrote.

        Raises:
            MixloaderError: the file is no ledger, or one of another data set.
        """
        arrays = load_arrays(path, ["fingerprint", *_COLUMNS], "ledger", "LossLedger.save")
        fingerprint = _text(arrays.pop("fingerprint"))
        wrong = [name for name, values in arrays.items() if values.dtype not in (np.float32, np.int32)]
        if wrong or fingerprint is None:
            raise MixloaderError(f"{path} is no ledger: {', '.join(wrong) or 'its fingerprint'} is of another type")
        columns = {name: torch.from_numpy(values) for name, values in arrays.items()}
        try:
            self.load_state_dict({"fingerprint": fingerprint, **columns})
        except MixloaderError as error:
            raise MixloaderError(f"{path} cannot be used: {error}") from None


def _named(fingerprint: str) -> str:
    """What messages call a data set: it may come from a file that holds anything."""
    return ascii(fingerprint[:12])[1:-1] or "(unnamed)"


def _text(array: npt.NDArray[Any]) -> str | None:
    """The text in an array; None where there is none."""
    if array.shape != () or array.dtype.kind != "U":
        return None
    try:
        return str(array)
    except (SystemError, ValueError):  # of characters that there are not
        return None
