"""The DALI graph: decode, crop, scale, flip and paste, the same on a CPU and on a GPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from mixloader.errors import MixloaderError
from mixloader.pipelines.feed import Feed


def require_dali() -> None:
    """Import DALI.

    Raises:
        MixloaderError: it is not installed, or cannot be loaded here.
    """
    # DALI prints of every image that it cannot decode; here each is reported once, by shard and key.
    os.environ.setdefault("DALI_NVIMGCODEC_LOG_LEVEL", "1")
    try:
        import nvidia.dali  # noqa: F401  (this is the check)
    except ImportError as error:
        raise MixloaderError(
            f"DALI cannot be imported ({error}): pip install 'mixloader[cuda12]' or 'mixloader[cuda13]' (which draws "
            "on a CPU, too), or pass pipeline='cpu'"
        ) from error


class Graph:
    """A graph that is built when it is first needed, and again when a larger batch or a failure asks for it.

    Args:
        threads: decoding threads.
        device: where it draws.
    """

    def __init__(self, threads: int, device: torch.device) -> None:
        self._threads, self._device = threads, device
        self._built: Any = None
        self._rows = 0
        self._in_use: Feed | None = None  # DALI reads the inputs without a copy: they live until the next run

    def run(self, feed: Feed) -> Tensor:
        """The sheets of a batch, uint8 [L, S, S, 3], on the device; DALI does not write to them again.

        Raises:
            RuntimeError: DALI could not decode something.
        """
        if self._built is None or feed.rows > self._rows:
            self._rows = max(feed.rows, self._rows)
            self._built = _build(self._rows, self._threads, self._device)
        stream = torch.cuda.current_stream(self._device) if self._device.type == "cuda" else None
        self._in_use = feed
        try:
            (pasted,) = self._built.run(stream, **feed.inputs())
        except RuntimeError:
            self.drop()  # a graph that failed is of no more use
            raise
        return from_dlpack(pasted.as_tensor())[: feed.sheets]

    def drop(self) -> None:
        """Let go of the graph, its threads and its memory, until it is needed again."""
        self._built = self._in_use = None


def _build(rows: int, threads: int, device: torch.device) -> Any:
    """The graph for batches of up to `rows` constituents: a built `nvidia.dali.Pipeline`.

    Its inputs are those of a `Feed`; its output is uint8 [R, S, S, 3], one sheet a row, on the device.
    """
    from nvidia.dali import fn, types

    def given(name: str, dtype: Any, ndim: int) -> Any:
        return fn.external_source(name=name, dtype=dtype, ndim=ndim, no_copy=True)

    with _pipeline(rows, threads, device) as pipeline:
        window = fn.slice(
            _decode(given("data", types.UINT8, 1), device),
            start=given("start", types.INT32, 1),
            end=given("end", types.INT32, 1),
            axes=(0, 1),
            out_of_bounds_policy="trim_to_shape",  # an image that is smaller than its index says
        )
        drawn = fn.resize(
            window,
            size=given("size", types.FLOAT, 1),
            roi_start=given("first", types.FLOAT, 1),
            roi_end=given("last", types.FLOAT, 1),
            roi_relative=True,
            interp_type=types.INTERP_LINEAR,
            antialias=True,
        )
        pasted = fn.multi_paste(
            drawn,
            in_ids=given("paste", types.INT32, 1),
            out_anchors=given("anchor", types.INT32, 2),
            output_size=given("canvas", types.INT32, 1),
        )
        pipeline.set_outputs(pasted)
    pipeline.build()
    return pipeline


def find_undecodable(images: Sequence[bytes | memoryview], device: torch.device) -> list[int]:
    """The positions of the images that DALI cannot decode; each is tried alone."""
    found: list[int] = []
    graph: Any = None
    for i, data in enumerate(images):
        if graph is None:
            graph = _build_decoder(device)
        try:
            graph.run(data=[np.frombuffer(data, np.uint8)])
        except RuntimeError:  # a graph that failed is of no more use
            found.append(i)
            graph = None
    return found


def _build_decoder(device: torch.device) -> Any:
    from nvidia.dali import fn, types

    with _pipeline(1, 1, device) as pipeline:
        encoded = fn.external_source(name="data", dtype=types.UINT8, ndim=1)
        pipeline.set_outputs(_decode(encoded, device))
    pipeline.build()
    return pipeline


def _pipeline(rows: int, threads: int, device: torch.device) -> Any:
    from nvidia.dali import Pipeline

    return Pipeline(
        batch_size=rows,
        num_threads=threads,
        device_id=(device.index or 0) if device.type == "cuda" else None,
        exec_dynamic=True,
        prefetch_queue_depth=1,  # the loader draws ahead; here, a failure belongs to the batch that was asked for
    )


def _decode(encoded: Any, device: torch.device) -> Any:
    from nvidia.dali import fn, types

    return fn.decoders.image(encoded, device="mixed" if device.type == "cuda" else "cpu", output_type=types.RGB)
