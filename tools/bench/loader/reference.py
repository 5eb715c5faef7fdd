"""The reference: canvases of a plan as Pillow draws them, a line for each word of the plan's meaning."""

from __future__ import annotations

import io
import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from mixloader.loader import IMAGENET_MEAN, IMAGENET_STD
from mixloader.pipelines.versions import Versions
from mixloader.plan import Plan
from mixloader.shards import ShardSet
from mixloader.split import EMPTY, SLOTS
from mixloader.tools.bench.loader.process import ContestantError


def check_batch(path: str, shards: ShardSet, plan: Plan, tolerance: float) -> float:
    """The mean difference of a saved batch to the reference, of values within 0 and 1.

    Args:
        path: what a contestant saved.
        shards: what it is compared with.
        plan: what it was to draw.
        tolerance: largest difference, of 255.

    Raises:
        ContestantError: the difference is larger, or labels or region maps differ.
    """
    with np.load(path) as file:
        images, labels, canvases = file["images"], file["labels"], file["canvases"]
    batch = plan.take(canvases.astype(np.int64))
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    drawn = draw(shards, batch).transpose(0, 3, 1, 2) / np.float32(255)
    if images.dtype != np.float32 or images[:, :3].shape != drawn.shape:
        raise ContestantError(f"delivers {images.dtype}{list(images.shape)}, not float32{list(drawn.shape)}")
    difference = float(np.abs(images[:, :3] * std + mean - drawn).mean())
    wrong = [] if np.array_equal(labels, labels_of(shards, batch)) else ["labels"]
    if images.shape[1] > 3 and not np.array_equal(images[:, 3], slots_of(batch)):
        wrong.append("region map")
    if wrong:
        raise ContestantError(f"does not deliver the same batch: its {' and '.join(wrong)} differ")
    if not 255 * difference < tolerance:
        raise ContestantError(
            f"does not deliver the same pixels: they differ by {255 * difference:.2f} / 255 in the mean "
            f"(allowed: {tolerance:g})"
        )
    return difference


def labels_of(shards: ShardSet, batch: Plan) -> npt.NDArray[np.int64]:
    """Labels by canvas and slot: int64 [C, SLOTS]."""
    labels = np.full((batch.canvases_per_batch, SLOTS), EMPTY, np.int64)
    labels[batch.canvas, batch.slot] = shards.labels[batch.sample]
    return labels


def slots_of(batch: Plan) -> npt.NDArray[np.float32]:
    """The slot of every pixel, -1 where nothing is drawn: float32 [C, S, S]."""
    slots = np.full((batch.canvases_per_batch, batch.canvas_size, batch.canvas_size), -1, np.float32)
    for canvas, slot, (x0, y0, x1, y1) in zip(batch.canvas, batch.slot, batch.region, strict=True):
        slots[canvas, y0:y1, x0:x1] = slot
    return slots


def draw(shards: ShardSet, batch: Plan) -> npt.NDArray[np.uint8]:
    """Canvases uint8 [C, S, S, 3]: crop whole pixels, resize with an antialiased triangle filter, flip, paste.

    Of an image that has levels, the one is drawn that mixloader reads.
    """
    out = np.zeros((batch.canvases_per_batch, batch.canvas_size, batch.canvas_size, 3), np.uint8)
    for row, read in enumerate(Versions.of(batch, shards).read):
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(shards.data(*read)))).convert("RGB")
        x0, y0, x1, y1 = (float(edge) for edge in batch.window[row])
        (left, right), (top, bottom) = _whole(x0, x1, image.width), _whole(y0, y1, image.height)
        x0, y0, x1, y1 = (int(edge) for edge in batch.region[row])
        part = image.crop((left, top, right, bottom)).resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR)
        if batch.flip[row]:
            part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        out[batch.canvas[row], y0:y1, x0:x1] = np.asarray(part)
    return out


def _whole(start: float, stop: float, extent: int) -> tuple[int, int]:
    """A stretch, given in fractions, in whole pixels: at least one, inside the image."""
    first = min(math.floor(start * extent + 0.5), extent - 1)
    return first, min(max(first + 1, math.floor(stop * extent + 0.5)), extent)
