"""The ledger: the last seen loss of every sample, and when it was seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mixloader.errors import MixloaderError

NEVER = -1
"""What `seen` holds for a sample that was not drawn yet."""


@dataclass(frozen=True)
class Losses:
    """What a policy gets to read: a copy of the ledger on the CPU, taken once an epoch.

    Attributes:
        loss: float32 [N], the last recorded loss; NaN where there is none.
        seen: int64 [N], the epoch in which it was recorded; `NEVER` (-1) where there is none.
    """

    loss: npt.NDArray[np.float32]
    seen: npt.NDArray[np.int64]

    @classmethod
    def none(cls, samples: int) -> Losses:
        """The losses of `samples` samples before the first step."""
        return cls(np.full(samples, np.nan, np.float32), np.full(samples, NEVER, np.int64))

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Bool [N]: the samples with a finite loss. A NaN or infinite loss says nothing about difficulty."""
        return np.asarray((self.seen != NEVER) & np.isfinite(self.loss))

    def state_dict(self) -> dict[str, Tensor]:
        """What `of_state` takes: loss float32 [N] and seen int64 [N], copied."""
        return {"loss": torch.from_numpy(self.loss.copy()), "seen": torch.from_numpy(self.seen.copy())}

    @classmethod
    def of_state(cls, state: object, samples: int) -> Losses:
        """The losses in what `state_dict` gave, on any device.

        Raises:
            MixloaderError: it is something else, or of another number of samples.
        """
        values = [state.get(name) if isinstance(state, dict) else None for name in ("loss", "seen")]
        if not all(isinstance(value, Tensor) and value.shape == (samples,) for value in values):
            raise MixloaderError(f"this state is damaged: it needs loss and seen of {samples} samples")
        loss, seen = (value.cpu().numpy() for value in values if isinstance(value, Tensor))
        return cls(loss.astype(np.float32), seen.astype(np.int64))

    def ranked(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """The ids from the lowest loss to the highest, int64 [N]; ties in random order.

        Samples without a finite loss come last: nobody knows yet that they are easy.
        """
        loss = np.where(self.known, self.loss, np.inf)
        shuffled = rng.permutation(len(loss))
        return shuffled[np.argsort(loss[shuffled], kind="stable")]


class LossLedger:
    """The last loss of each of `samples` samples, kept on `device` and written without a sync.

    The tensors have one spare row at the end, which takes the empty slots' writes, so that recording a batch is
    two in-place index writes whatever the batch holds. `now` is a tensor rather than a number so that a
    compiled training step does not recompile every epoch.

    Attributes:
        loss: float32 [samples + 1]
        seen: int64 [samples + 1]
        now: int64 [], the epoch that recorded losses are stamped with.
    """

    def __init__(self, samples: int, *, device: str | torch.device = "cpu", fingerprint: str = "") -> None:
        if samples < 1:
            raise MixloaderError(f"a ledger needs at least one sample, got samples={samples}")
        self.samples = samples
        self.fingerprint = fingerprint
        self.loss = torch.full((samples + 1,), float("nan"), device=device)
        self.seen = torch.full((samples + 1,), NEVER, dtype=torch.int64, device=device)
        self.now = torch.zeros((), dtype=torch.int64, device=device)

    def record(self, ids: Tensor, losses: Tensor) -> None:
        """Write the losses of a batch in place, in the current epoch.

        Args:
            ids: int64, any shape; -1 marks an empty slot.
            losses: float, the same shape.
        """
        if losses.device != self.loss.device:  # the trainer moved the batch: follow it, once
            self.loss, self.seen, self.now = (t.to(losses.device) for t in (self.loss, self.seen, self.now))
        rows = torch.where(ids < 0, self.samples, ids).flatten()
        self.loss[rows] = losses.detach().flatten().to(self.loss.dtype)
        self.seen[rows] = self.now

    def begin(self, epoch: int) -> None:
        """Stamp what is recorded from here on with `epoch`."""
        self.now.fill_(epoch)

    def snapshot(self) -> Losses:
        """A copy on the CPU for the policies: the one sync of an epoch."""
        return Losses(self.loss[: self.samples].cpu().numpy().copy(), self.seen[: self.samples].cpu().numpy().copy())

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes: the losses, when they were seen, and whose they are."""
        return {"fingerprint": self.fingerprint, **self.snapshot().state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the losses of an earlier run.

        Raises:
            MixloaderError: the state is not a ledger's, or is of another data set.
        """
        try:
            fingerprint = str(state["fingerprint"])
            (loss_size,), (seen_size,) = state["loss"].shape, state["seen"].shape
        except (KeyError, TypeError, ValueError, AttributeError):
            raise MixloaderError(
                "this is no ledger state: it needs 'fingerprint', 'loss' and 'seen' (see LossLedger.state_dict)"
            ) from None
        if loss_size != self.samples or seen_size != self.samples or fingerprint != self.fingerprint:
            raise MixloaderError(
                f"this ledger is of another data set: it holds {loss_size} samples of set "
                f"{fingerprint[:12] or '(unnamed)'}, the loader reads {self.samples} of set "
                f"{self.fingerprint[:12] or '(unnamed)'}; give the ledger of this set, or start without one"
            )
        self.loss[: self.samples] = state["loss"].to(self.loss)
        self.seen[: self.samples] = state["seen"].to(self.seen)

    def save(self, path: str | Path) -> None:
        """Write the ledger as `.npz`."""
        state = self.state_dict()
        with Path(path).open("wb") as file:
            np.savez(
                file,
                loss=state["loss"].numpy(),
                seen=state["seen"].numpy(),
                fingerprint=np.array(self.fingerprint),
            )

    def load(self, path: str | Path) -> None:
        """Read what `save` wrote.

        Raises:
            MixloaderError: the file is no ledger, or one of another data set.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                state = {
                    "fingerprint": str(file["fingerprint"]),
                    "loss": torch.from_numpy(file["loss"]),
                    "seen": torch.from_numpy(file["seen"]),
                }
        except FileNotFoundError:
            raise MixloaderError(f"no ledger at {path}: LossLedger.save writes one") from None
        except Exception as error:  # numpy raises a dozen kinds for a file that is no .npz
            raise MixloaderError(f"{path} is no ledger file ({error}): LossLedger.save writes one") from error
        self.load_state_dict(state)
