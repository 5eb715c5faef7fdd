"""Buffers: the memory of pictures, used again once they are let go."""

from __future__ import annotations

import ctypes
import math
import mmap
import weakref
from collections import deque
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

_HUGE = 1 << 22  # bytes from which on huge pages are worth asking for; numpy does, too


class Buffers:
    """Hands out memory on the CPU, and takes it back when the last array or tensor that looks at it is gone.

    Fresh memory costs more than what is drawn into it: the kernel clears every page of it first. It comes from the
    kernel itself, and goes back there: in between, `malloc` would keep the gaps that canvases of changing sizes leave.

    Args:
        most: how many are kept for later.
    """

    def __init__(self, most: int) -> None:
        self._free: deque[mmap.mmap] = deque(maxlen=most)

    def take(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array whose content is not defined. Safe to call from any thread."""
        count = math.prod(shape)
        memory = self._find(count * np.dtype(dtype).itemsize)
        # A part of an array keeps alive the first array of the chain that it was cut from, and none between. This is
        # the first, as its memory is no array's: it is gone when all that looks at the memory is.
        whole = np.frombuffer(memory, dtype, count)
        weakref.finalize(whole, self._free.append, memory).atexit = False
        return whole.reshape(shape)

    def _find(self, size: int) -> mmap.mmap:
        while True:
            try:
                memory = self._free.pop()  # what was used last may still be in the processor's cache
            except IndexError:
                return _map(size)
            # The batches of another epoch may have a canvas less, or canvases of another size: only then is it let go.
            if size <= len(memory) <= size + size // 4:
                return memory


def _map(size: int) -> mmap.mmap:
    """Memory of the process's own, with no file behind it."""
    memory = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them: ordinary ones, then
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def trim() -> None:
    """Give the system back what the C library keeps of freed memory, where it is one that can.

    Decoders take and free pictures of all sizes on many threads. The gaps that they leave are used again, but not all
    of them: over many epochs a process would grow by hundreds of megabytes that hold nothing.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):  # glibc
        library.malloc_trim(0)
