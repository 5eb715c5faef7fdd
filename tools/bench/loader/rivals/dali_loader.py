"""Plain DALI: a pipeline that a user of it would write out for such canvases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from nvidia.dali import fn, pipeline_def, types
from pictures import Jpegs, Normalise, Plan
from protocol import Batch, Task, serve
from torch.utils.dlpack import from_dlpack


class Inputs:
    """What the pipeline is given for each batch of an epoch; made once, since planning is not what is timed."""

    def __init__(self, plan: Plan, jpegs: Jpegs) -> None:
        self._plan, self._jpegs = plan, jpegs
        self._batches = [self._of(canvases) for canvases in plan.lap()]

    @property
    def most_rows(self) -> int:
        """Of any batch."""
        return max(len(rows) for rows, *_ in self._batches)

    def jpegs(self) -> Iterator[list[np.ndarray]]:
        """Every row's encoded bytes, batch by batch, without end."""
        while True:
            for rows, *_ in self._batches:
                yield [self._jpegs[self._plan.sample[row]] for row in rows]

    def places(self) -> Iterator[tuple[Any, ...]]:
        """Starts and shapes of the windows, sizes of the regions, where to resize from, and who is pasted where."""
        while True:
            for _, *places in self._batches:
                yield tuple(places)

    def _of(self, canvases: range) -> tuple[Any, ...]:
        plan = self._plan
        rows = range(plan.rows(canvases[0]).start, plan.rows(canvases[-1]).stop)
        boxes = np.array([plan.box(r, *self._jpegs.sizes[plan.sample[r]]) for r in rows], np.int32)
        region = plan.region[rows.start : rows.stop].astype(np.int32)
        first, last = np.zeros((len(rows), 2), np.float32), np.ones((len(rows), 2), np.float32)
        first[:, 1] = plan.flip[rows.start : rows.stop]  # a resize from right to left mirrors
        last[:, 1] -= first[:, 1]
        cuts = np.minimum(plan.first[canvases.start + 1 : canvases.stop] - rows.start, len(rows))
        cuts = [*cuts, *[len(rows)] * (len(rows) - len(canvases))]  # more rows than canvases: the rest is empty
        return (
            rows,
            np.ascontiguousarray(boxes[:, [1, 0]]),
            np.ascontiguousarray(boxes[:, [3, 2]] - boxes[:, [1, 0]]),
            np.ascontiguousarray(region[:, [3, 2]] - region[:, [1, 0]], np.float32),
            first,
            last,
            np.split(np.arange(len(rows), dtype=np.int32), cuts),
            np.split(np.ascontiguousarray(region[:, [1, 0]]), cuts),
        )


@pipeline_def
def canvases(inputs: Inputs, side: int) -> Any:
    """Decode the windows alone, resize and flip, paste."""
    # The encoded bytes stay where they are mapped: they need not be copied.
    data = fn.external_source(inputs.jpegs(), batch=True, dtype=types.UINT8, ndim=1, no_copy=True)
    kinds = [types.INT32, types.INT32, types.FLOAT, types.FLOAT, types.FLOAT, types.INT32, types.INT32]
    start, shape, size, first, last, ids, anchors = fn.external_source(
        inputs.places(), num_outputs=7, batch=True, dtype=kinds, ndim=[1, 1, 1, 1, 1, 1, 2]
    )
    images = fn.decoders.image_slice(data, start=start, shape=shape, axis_names="HW", output_type=types.RGB)
    images = fn.resize(
        images, size=size, roi_start=first, roi_end=last, roi_relative=True, interp_type=types.INTERP_LINEAR
    )
    return fn.multi_paste(images, in_ids=ids, out_anchors=anchors, output_size=[side, side])


def batches(task: Task) -> Iterator[Batch]:
    """Batches without end."""
    plan, jpegs = Plan(task.plan), Jpegs(task.jpegs)
    inputs = Inputs(plan, jpegs)
    pipeline = canvases(
        inputs, plan.side, batch_size=max(inputs.most_rows, plan.size), num_threads=task.threads, device_id=None
    )
    pipeline.build()
    normalise = Normalise(plan.side)
    labels = [torch.from_numpy(np.stack([jpegs.labels_of(plan, canvas) for canvas in lap])) for lap in plan.lap()]
    while True:
        for of_batch in labels:
            (pasted,) = pipeline.run()
            yield normalise(from_dlpack(pasted.as_tensor())[: plan.size]), of_batch, None


if __name__ == "__main__":
    serve(batches)
