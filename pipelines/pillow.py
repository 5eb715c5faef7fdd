"""The Pillow renderer: the reference that every other pipeline must match."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from mixloader.buffers import Buffers
from mixloader.clock import Clock
from mixloader.errors import ShardError, UndecodableError
from mixloader.pipelines.layers import Layers
from mixloader.pipelines.pipeline import Drawn
from mixloader.pipelines.versions import Versions, pixel_boxes
from mixloader.plan import Plan
from mixloader.shards import ShardSet
from mixloader.shards.header import ORIENTATION, open_image, undecodable

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by Exif orientation: what makes the picture upright


class PillowPipeline:
    """Draws a plan with Pillow, a batch on each thread.

    Args:
        shards: where the samples are.
        threads: batches that are drawn at once; default, as many as this process has processors.
    """

    def __init__(self, shards: ShardSet, *, threads: int | None = None) -> None:
        self._shards = shards
        self.lanes = threads or len(os.sched_getaffinity(0))
        self._sheets = Buffers(self.lanes)

    def draw(self, batch: Plan) -> Drawn:
        """Draw one batch on the calling thread; see `Pipeline`."""
        clock, layers, versions = Clock(), Layers.of(batch), Versions.of(batch, self._shards)
        sheets = self._sheets.take((len(layers), batch.canvas_size, batch.canvas_size, 3), np.uint8)
        if not batch.covered:
            sheets[:] = 0
        failed: dict[int, str] = {}
        for row, (sample, level) in enumerate(versions.read):
            x0, y0, x1, y1 = batch.region[row].tolist()
            place = sheets[layers.row[row], y0:y1, x0:x1]
            try:
                image = decode_rgb(self._shards.data(sample, level))
            except (UndecodableError, ShardError) as error:
                failed[sample] = str(error)
                place[:] = 0
                continue
            place[:] = draw_window(image, batch.window[row], (x1 - x0, y1 - y0), flip=bool(batch.flip[row]))
        canvases = layers.merge(torch.from_numpy(sheets))
        clock.lap("draw")
        return Drawn(canvases, failed, clock.seconds)

    def close(self) -> None:
        """Nothing is held."""


def decode_rgb(data: bytes | memoryview) -> Image.Image:
    """Decode an image, upright by its EXIF orientation, as 8-bit RGB.

    Alpha is dropped, not blended; 16-bit gray is scaled to 8 bits. Both as DALI does.

    Raises:
        UndecodableError: Pillow cannot decode it whole, or it has too many pixels.
    """
    image = open_image(data)
    try:
        return to_rgb(_upright(image))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds; all mean: this image cannot be decoded
        raise undecodable(error) from error


def _upright(image: Image.Image) -> Image.Image:
    """As `ImageOps.exif_transpose`, which also writes the Exif data anew: it fails where those are odd elsewhere."""
    image.load()
    turn = _TURNS.get(image.getexif().get(ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def to_rgb(image: Image.Image) -> Image.Image:
    """The image as 8-bit RGB: alpha is dropped, 16-bit gray scaled."""
    if image.mode.startswith("I;16") or image.mode == "I":  # Pillow would clip these at 255
        image = Image.fromarray(np.round(np.asarray(image, np.float32) / 257).clip(0, 255).astype(np.uint8))
    image.info.pop("transparency", None)  # a palette's would be dropped with a warning
    return image.convert("RGB")


def crop(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """The pixels x0, y0, x1, y1 of an RGB image, as `Image.crop` gives them: that warns or fails by a global limit."""
    x0, y0, x1, y1 = box
    if (x0, y0, x1, y1) == (0, 0, *image.size):
        return image
    part = Image.new("RGB", (x1 - x0, y1 - y0))
    part.paste(image, (-x0, -y0))
    return part


def draw_window(
    image: Image.Image,
    window: npt.NDArray[np.float32],
    size: tuple[int, int],
    *,
    flip: bool,
) -> npt.NDArray[np.uint8]:
    """Crop an image, scale the crop with an antialiased triangle filter, and flip it.

    Args:
        image: RGB.
        window: float32 [4], x0, y0, x1, y1 as fractions of the image.
        size: width and height of the result, pixels.
        flip: mirror left to right.

    Returns:
        uint8 [height, width, 3]
    """
    x0, y0, x1, y1 = pixel_boxes(window[None], np.array([image.size]))[0].tolist()
    result = crop(image, (x0, y0, x1, y1)).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(result.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else result)
