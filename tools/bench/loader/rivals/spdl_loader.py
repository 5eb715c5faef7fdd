"""SPDL: its own pipeline of threads, with its own decoder (FFmpeg, which crops and scales too) or simplejpeg."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import spdl.io
import torch
from pictures import Jpegs, Normalise, Plan, draw
from protocol import Batch, Task, serve
from spdl.pipeline import PipelineBuilder

_AHEAD = 2  # batches


class Own:
    """Draws canvases with SPDL's decoder: one filter crops, scales, flips and brings to RGB."""

    def __init__(self, plan: Plan, jpegs: Jpegs) -> None:
        self._plan, self._jpegs = plan, jpegs
        self._decoding = spdl.io.decode_config(decoder_options={"threads": "1"})

    def __call__(self, canvas: int) -> torch.Tensor:
        """Draw one canvas: uint8 [S, S, 3]."""
        rows = self._plan.rows(canvas)
        out = (np.empty if len(rows) else np.zeros)((self._plan.side, self._plan.side, 3), np.uint8)
        for row in rows:
            x0, y0, x1, y1 = self._plan.region[row]
            out[y0:y1, x0:x1] = self._draw(row, x1 - x0, y1 - y0)
        return torch.from_numpy(out)

    def _draw(self, row: int, width: int, height: int) -> np.ndarray:
        sample = self._plan.sample[row]
        left, top, right, bottom = self._plan.box(row, *self._jpegs.sizes[sample])
        steps = [
            f"crop={right - left}:{bottom - top}:{left}:{top}:exact=1",
            # FFmpeg's bilinear filter grows with the reduction: it is antialiased
            f"scale={width}:{height}:flags=bilinear",
            *["hflip"] * bool(self._plan.flip[row]),
            "format=pix_fmts=rgb24",
        ]
        packets = spdl.io.demux_image(self._jpegs[sample].tobytes())
        frames = spdl.io.decode_packets(packets, decode_config=self._decoding, filter_desc=",".join(steps))
        return spdl.io.to_numpy(spdl.io.convert_frames(frames))


def batches(task: Task) -> Iterator[Batch]:
    """Batches without end: each thread makes a whole batch, so that the pipeline itself has little to do."""
    plan, jpegs = Plan(task.plan), Jpegs(task.jpegs)
    one: Callable[[int], torch.Tensor] = Own(plan, jpegs)
    if task.options["decoder"] == "simplejpeg":
        one = lambda canvas: draw(plan, canvas, jpegs)  # noqa: E731
    normalise = Normalise(plan.side)

    def make(canvases: range) -> Batch:
        pictures = torch.stack([one(canvas) for canvas in canvases])
        labels = torch.from_numpy(np.stack([jpegs.labels_of(plan, canvas) for canvas in canvases]))
        return normalise(pictures), labels, None

    pipeline = (
        PipelineBuilder()
        .add_source(plan.laps())
        .pipe(make, concurrency=task.threads, output_order="input")
        .add_sink(_AHEAD)
        .build(num_threads=task.threads)
    )
    with pipeline.auto_stop():
        yield from pipeline.get_iterator()


if __name__ == "__main__":
    serve(batches)
