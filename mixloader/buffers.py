"""Buffers: the memory of pictures, used again once they are let go."""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt


class Buffers:
    """Hands out memory on the CPU, and takes it back when the last array or tensor that looks at it is gone.

    Fresh memory costs more than what is drawn into it: the kernel clears every page of it first.

    Args:
        most: how many are kept for later.
    """

    def __init__(self, most: int) -> None:
        self._free: deque[npt.NDArray[np.uint8]] = deque(maxlen=most)

    def take(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array whose content is not defined. Safe to call from any thread."""
        memory = self._find(math.prod(shape) * np.dtype(dtype).itemsize)
        # A part of an array keeps alive the first array of the chain that it was cut from, and no other. Numpy ends the
        # chain at what is no array, the memoryview: so the first is this one, and it is gone when its parts are.
        whole = np.frombuffer(memory.data, dtype)
        weakref.finalize(whole, self._free.append, memory).atexit = False
        return whole.reshape(shape)

    def _find(self, size: int) -> npt.NDArray[np.uint8]:
        while True:
            try:
                memory = self._free.pop()  # what was used last may still be in the processor's cache
            except IndexError:
                return np.empty(size, np.uint8)
            if len(memory) == size:  # the canvases of another epoch have another size: their memory is let go
                return memory
