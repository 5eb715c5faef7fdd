"""The CPU pipeline: decodes only what a window needs, and draws it where it belongs; a batch on each thread."""

from __future__ import annotations

import os

import numpy as np
import torch

from mixloader.buffers import Buffers
from mixloader.clock import Clock
from mixloader.errors import ShardError, UndecodableError
from mixloader.pipelines.decode import Pixels, decode_window
from mixloader.pipelines.layers import Layers
from mixloader.pipelines.pipeline import Drawn
from mixloader.pipelines.versions import Versions
from mixloader.plan import Plan
from mixloader.shards import ShardSet

_COLOUR = 0x00FFFFFF  # of a pixel as one number: red lowest, the slot highest
_PAGE = 4096
_MOST_THREADS = 16


class CpuPipeline:
    """Draws a plan with simplejpeg and torch's resampling, on as many threads as batches are asked for at once.

    Images that simplejpeg does not decode, Pillow does.

    Args:
        shards: where the samples are.
        threads: batches that are drawn at once; default, as many as this process has processors,
            up to 16: between two images Python runs one thread at a time, and more would wait for each other.
    """

    def __init__(self, shards: ShardSet, *, threads: int | None = None) -> None:
        self._shards = shards
        self.lanes = threads or min(_MOST_THREADS, len(os.sched_getaffinity(0)))
        self._sheets = Buffers(self.lanes)

    def draw(self, batch: Plan) -> Drawn:
        """Draw one batch on the calling thread; see `Pipeline`. Its canvases have a fourth channel, the slots."""
        clock, layers, versions = Clock(), Layers.of(batch), Versions.of(batch, self._shards)
        slot = np.where(batch.opacity < 1, np.int8(0), batch.slot)  # a blend's pixels are all slot 0's
        sheets = self._sheets.take((len(layers), batch.canvas_size, batch.canvas_size, 4), np.uint8)
        if not batch.covered:
            sheets[:] = 0
        failed: dict[int, str] = {}
        clock.lap("plan")
        columns = (layers.row, slot, batch.region, batch.flip, versions.size, versions.box)
        for row, values in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
            sheet, slot_number, (x0, y0, x1, y1), flip, size, box = values
            place = sheets[sheet, y0:y1, x0:x1]
            try:
                data = self._shards.data(*versions.read[row])
                _touch(data)
                clock.lap("read")
                pixels = decode_window(data, tuple(size), tuple(box), batch.window[row])
            except (UndecodableError, ShardError) as error:
                failed[versions.read[row][0]] = str(error)
                place[:] = (0, 0, 0, slot_number)
                clock.lap("decode")
                continue
            clock.lap("decode")
            drawn = resize(pixels, x1 - x0, y1 - y0)
            clock.lap("resize")
            paste(drawn, place, slot_number, flip=flip)
            clock.lap("paste")
        canvases = layers.merge(torch.from_numpy(sheets))
        clock.lap("paste")
        return Drawn(canvases, failed, clock.seconds)

    def close(self) -> None:
        """Nothing is held."""


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """Scale a picture with an antialiased triangle filter, as Pillow's BILINEAR does.

    Args:
        pixels: uint8 [h, w, 4]; torch scales four channels faster than three.
        width: of the result, pixels.
        height: of the result, pixels.

    Returns:
        uint8 [height, width, 4], in one piece.
    """
    # In one piece before torch sees it: torch would copy it with threads of its own for each thread that draws.
    picture = torch.from_numpy(np.ascontiguousarray(pixels))[None].permute(0, 3, 1, 2)
    # The operator itself: `interpolate` takes a tenth longer to get there.
    scaled = torch.ops.aten._upsample_bilinear2d_aa(picture, [height, width], False, None, None)
    result: Pixels = np.ascontiguousarray(scaled[0].permute(1, 2, 0).numpy())
    return result


def paste(drawn: Pixels, place: Pixels, slot: int, *, flip: bool) -> None:
    """Put a picture where it belongs, in place.

    Args:
        drawn: uint8 [h, w, 4], RGB and 255.
        place: uint8 [h, w, 4], a part of a canvas; gets RGB and the slot.
        slot: 0 to 255.
        flip: mirror left to right.
    """
    source = drawn.view("<u4")[..., 0]
    np.bitwise_and(source[:, ::-1] if flip else source, np.uint32(_COLOUR | slot << 24), out=place.view("<u4")[..., 0])


def _touch(data: memoryview) -> None:
    """Read a byte of every page: what has to come from the disk comes now, and counts as reading."""
    np.frombuffer(data, np.uint8)[::_PAGE].max(initial=0)
