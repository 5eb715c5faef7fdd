"""Layers: canvases are drawn as opaque sheets; a blend's rows get a sheet each, laid over each other at the end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mixloader.plan import Plan


@dataclass(frozen=True)
class Layers:
    """Which sheet each row of a batch is drawn on.

    Attributes:
        row: int64 [M], the sheet of each row.
        canvas: int64 [L], the canvas that each sheet belongs to.
        opacity: float32 [L]
        canvases: C, the number of canvases. Without blends L == C, in order.
    """

    row: npt.NDArray[np.int64]
    canvas: npt.NDArray[np.int64]
    opacity: npt.NDArray[np.float32]
    canvases: int

    @classmethod
    def of(cls, batch: Plan) -> Layers:
        """The sheets of a batch."""
        count = batch.canvases_per_batch
        if (batch.opacity == 1).all():
            return cls(batch.canvas, np.arange(count), np.ones(count, np.float32), count)
        begins = (batch.opacity < 1) | (np.diff(batch.canvas, prepend=-1) > 0)
        return cls(np.cumsum(begins) - 1, batch.canvas[begins], batch.opacity[begins], count)

    def __len__(self) -> int:
        """The number of sheets."""
        return len(self.canvas)

    def merge(self, sheets: Tensor) -> Tensor:
        """Lay the sheets over each other.

        Args:
            sheets: uint8 [L, S, S, 3]

        Returns:
            [C, S, S, 3]: the sheets themselves where there is nothing to blend, else float32.
        """
        if len(self) == self.canvases and (self.opacity == 1).all():
            return sheets
        opacity = torch.from_numpy(self.opacity).to(sheets.device)[:, None, None, None]
        canvas = torch.from_numpy(self.canvas).to(sheets.device)
        out = torch.zeros((self.canvases, *sheets.shape[1:]), device=sheets.device)
        return out.index_add_(0, canvas, sheets * opacity)
