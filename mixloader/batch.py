"""From a drawn batch to what the training loop gets: normalised images with their region map, and the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from mixloader.errors import MixloaderError
from mixloader.plan import Plan
from mixloader.split import EMPTY, SLOTS, SplitTarget


def normalise(canvases: Tensor, scale: Tensor, shift: Tensor, out: Tensor) -> None:
    """Bring drawn canvases to a network's scale.

    Args:
        canvases: [C, S, S, 3 or 4], 0-255, uint8 or float32; a channel that is missing holds zeros.
        scale: float32 [channels], what a value is multiplied with.
        shift: float32 [channels], what is added then.
        out: float32 [C, S, S, channels], is written to.
    """
    # A line of pixels has its factors laid out in full: long runs are worked on, instead of a pixel's three values.
    *_, side, channels = out.shape
    lines = out.view(-1, side * channels)
    if canvases.shape == out.shape or out.device.type != "cpu":
        out.copy_(_with_channels(canvases, channels))
    else:
        for place, canvas in zip(out, canvases, strict=True):  # one by one: all at once would take a batch more
            place.copy_(_with_channels(canvas, channels))
    torch.addcmul(shift.repeat(side), lines, scale.repeat(side), out=lines)


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """The values on the device. What goes from the host to a GPU goes through pinned memory.

    From other memory the copy would first wait for all that was asked of the stream: the thread that draws could not
    run ahead of the GPU.
    """
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def _with_channels(pixels: Tensor, channels: int) -> Tensor:
    """The pixels [..., 3 or 4] with 3 or 4 channels; a channel that is added holds zeros."""
    missing = channels - pixels.shape[-1]
    return functional.pad(pixels, (0, missing)) if missing > 0 else pixels[..., :channels]


def transformed(picture: Tensor, transform: Callable[[Tensor], Any]) -> Tensor:
    """What the user's transform makes of a picture [C, 3, S, S].

    Raises:
        MixloaderError: something of another shape, or no tensor.
    """
    result = transform(picture)
    if not isinstance(result, Tensor) or result.shape != picture.shape:
        got = list(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise MixloaderError(f"transform gave {got} for a picture of {list(picture.shape)}: it must keep the shape")
    return result


def fill_empty(images: Tensor, batch: Plan) -> None:
    """Put pictures of the batch on its empty canvases, in place.

    Batch norm sees every canvas. Black ones would shift its statistics in the short last batch of every epoch;
    repeated pictures, which no label belongs to, do not.

    Args:
        images: [C, channels, S, S]
        batch: the plan that they were drawn from.
    """
    count = np.bincount(batch.canvas, minlength=batch.canvases_per_batch)
    filled, empty = np.flatnonzero(count).tolist(), np.flatnonzero(count == 0).tolist()
    for canvas, copied in zip(empty, cycle(filled), strict=False):  # one by one: all at once would take a batch more
        images[canvas] = images[copied]


def fill_region_map(out: Tensor, batch: Plan) -> None:
    """Write the slot index of every pixel, -1 where a canvas is empty.

    The rows of a blend share one region; all its pixels are slot 0's.

    Args:
        out: float32 [C, S, S]
        batch: the plan of one batch.
    """
    if out.device.type != "cpu":
        out.copy_(region_map(batch, out.device))
        return
    rows, pixels = _uppermost(batch), out.numpy()
    pixels[:] = -1
    for canvas, slot, (x0, y0, x1, y1) in zip(rows.canvas, rows.slot, rows.region.tolist(), strict=True):
        pixels[canvas, y0:y1, x0:x1] = slot


def region_map(batch: Plan, device: torch.device) -> Tensor:
    """What `fill_region_map` writes, float32 [C, S, S]: in a few steps for all regions, as a GPU wants it."""
    batch = _uppermost(batch)
    box = np.zeros((batch.canvases_per_batch, SLOTS, 4), np.float32)
    box[batch.canvas, batch.slot] = batch.region
    x0, y0, x1, y1 = on_device(torch.from_numpy(box), device).unbind(dim=2)
    pixel = torch.arange(batch.canvas_size, device=device)
    across = (pixel >= x0[..., None]) & (pixel < x1[..., None])
    down = (pixel >= y0[..., None]) & (pixel < y1[..., None])
    # A pixel lies in one region at most, so the product of the two stripes, weighed with slot + 1, is its slot + 1.
    number = torch.arange(1, SLOTS + 1, dtype=torch.float32, device=device)[:, None]
    return torch.einsum("cky,ckx->cyx", down * number, across.float()) - 1


def _uppermost(batch: Plan) -> Plan:
    """The rows that pixels belong to."""
    return batch.without(batch.slot > 0) if (batch.opacity < 1).any() else batch


def target(
    kind: type[SplitTarget],
    batch: Plan,
    labels: npt.NDArray[np.int64],
    failed: Sequence[int],
    device: torch.device,
    norm: float = 1.0,
) -> SplitTarget:
    """Labels, ids, weights, norms and shares by canvas and slot.

    Args:
        kind: the target type, bound to the run's ledger.
        batch: the plan of one batch.
        labels: int64 [N], of all samples.
        failed: ids of the samples that could not be drawn: their slots stay empty.
        device: where the tensors go.
        norm: what a weight of 1 adds to the denominator of the mean: 1, but where ranks share the batch.
    """
    rows = batch.without(np.isin(batch.sample, failed)) if failed else batch
    shape = (batch.canvases_per_batch, SLOTS)
    values: dict[str, npt.NDArray[Any]] = {
        "labels": np.full(shape, EMPTY, np.int64),
        "ids": np.full(shape, -1, np.int64),
        "weights": np.zeros(shape, np.float32),
        "norms": np.zeros(shape, np.float32),
        "shares": np.zeros(shape, np.float32),
    }
    columns = {
        "labels": labels[rows.sample],
        "ids": rows.sample,
        "weights": rows.weight,
        "norms": rows.weight * np.float32(norm),
        "shares": rows.shares,
    }
    for name, column in columns.items():
        values[name][rows.canvas, rows.slot] = column
    return kind({name: on_device(torch.from_numpy(value), device) for name, value in values.items()})
