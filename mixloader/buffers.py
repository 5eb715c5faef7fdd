"""Buffers: the memory of batches, used again once a batch is let go."""

from __future__ import annotations

import math
import weakref
from collections import deque

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Buffers:
    """Hands out memory for batches on the CPU, and takes it back when the last tensor that looks at it is gone.

    Fresh memory costs more than what is drawn into it: the kernel clears every page of it first.

    Args:
        most: how many are kept for later.
    """

    def __init__(self, most: int) -> None:
        self._free: deque[npt.NDArray[np.float32]] = deque(maxlen=most)

    def take(self, shape: tuple[int, ...]) -> Tensor:
        """A float32 tensor of this shape; what is in it is not defined. Safe to call from any thread."""
        memory = self._find(math.prod(shape))
        view = memory.reshape(shape)  # an object of its own, which the tensor keeps alive
        weakref.finalize(view, self._free.append, memory).atexit = False
        return torch.from_numpy(view)

    def _find(self, size: int) -> npt.NDArray[np.float32]:
        while True:
            try:
                memory = self._free.popleft()
            except IndexError:
                return np.empty(size, np.float32)
            if memory.size == size:  # the canvases of another epoch have another size: their memory is let go
                return memory
