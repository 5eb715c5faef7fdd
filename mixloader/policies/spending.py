"""Spending a budget: whole canvases, epoch by epoch, whose sum over the run is what was asked for."""

from __future__ import annotations

from itertools import pairwise

from mixloader.errors import MixloaderError
from mixloader.policies.policy import Run


def check_speedup(policy: object) -> None:
    """Refuse a policy whose `speedup` is no number of at least 1.

    Raises:
        MixloaderError: it is not.
    """
    value = getattr(policy, "speedup", None)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 1 <= value < float("inf"):
        raise MixloaderError(f"{type(policy).__name__}: speedup must be a number of at least 1, got {value!r}")


def portion(total: float, parts: int) -> list[int]:
    """Whole numbers, as even as can be, whose sum is `total` rounded down: what one leaves over, the next one takes."""
    sums = [int(total * k / parts + 1e-9) for k in range(parts + 1)] if parts else []  # 1e-9: float dust
    return [b - a for a, b in pairwise(sums)]


def spend(policy: object, run: Run, speedup: float, *, whole_first: int, whole_last: int) -> list[int]:
    """Canvases of a batch for every epoch: all of them in the first and last ones, evenly fewer between.

    Args:
        policy: for messages.
        run: the fixed facts of the run.
        speedup: passes of plain training / passes of the run.
        whole_first: epochs at the start with a canvas for every sample.
        whole_last: epochs at the end likewise.

    Raises:
        MixloaderError: the epochs between cannot save as much.
    """
    epochs, size = run.length(policy), run.batch_size
    whole_first = min(whole_first, epochs)
    whole_last = min(whole_last, epochs - whole_first)
    between = epochs - whole_first - whole_last
    left = size * (epochs / speedup - whole_first - whole_last)
    if left < between - 1e-6:  # a batch needs one canvas at least
        most = epochs / (whole_first + whole_last + between / size)
        raise MixloaderError(
            f"{type(policy).__name__}: speedup={speedup:g} is impossible with {epochs} epochs, of which "
            f"{whole_first + whole_last} train on everything; the largest possible is "
            f"{int(100 * most + 1e-6) / 100:.2f}"
        )
    return [size] * whole_first + portion(min(left, size * between), between) + [size] * whole_last
