"""The DALI pipeline: one graph that decodes, crops, scales, flips and pastes a batch, on the CPU or a GPU."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
import torch
from torch.utils.dlpack import from_dlpack

from mixloader.pipelines.feed import Feed
from mixloader.pipelines.graph import build_graph, find_undecodable, require_dali
from mixloader.pipelines.layers import Layers
from mixloader.pipelines.pillow import decode_rgb
from mixloader.pipelines.pipeline import Drawn
from mixloader.plan import Plan
from mixloader.shards import ShardSet


class DaliPipeline:
    """Draws a plan with DALI.

    DALI gives up a whole batch when one image in it cannot be decoded. Here that image is found, then drawn from
    what Pillow makes of it or, when Pillow cannot read it either, left out of this batch and every later one.

    Args:
        shards: where the samples are.
        device: `cpu`, or a CUDA device, whose hardware decoder is used.
        threads: decoding threads; default, as many as this process may use.

    Raises:
        MixloaderError: DALI is not installed.
    """

    def __init__(self, shards: ShardSet, *, device: str | torch.device = "cpu", threads: int | None = None) -> None:
        require_dali()
        self._shards = shards
        self._device = torch.device(device)
        self._threads = threads or len(os.sched_getaffinity(0))
        self._graph: Any = None
        self._rows = 0
        self._in_use: Feed | None = None  # DALI reads the inputs without a copy: they live until the next run
        self._bad: dict[int, str] = {}  # neither DALI nor Pillow can decode these
        self._foreign: set[int] = set()  # only Pillow can

    def draw(self, batch: Plan) -> Drawn:
        """Draw one batch on the pipeline's device; see `Pipeline`."""
        layers = Layers.of(batch)
        try:
            sheets = self._run(self._feed(batch, layers))
        except RuntimeError:
            if not self._find_undecodable(batch):
                raise
            sheets = self._run(self._feed(batch, layers))
        failed = {int(s): self._bad[int(s)] for s in batch.sample if int(s) in self._bad}
        return Drawn(layers.merge(sheets), failed)

    def close(self) -> None:
        """Let go of the graph, its threads and its memory."""
        self._graph = None

    def _feed(self, batch: Plan, layers: Layers) -> Feed:
        good = np.array([int(s) not in self._bad for s in batch.sample], np.bool_)
        data = [self._bytes(int(s)) for s in batch.sample[good]]
        return Feed.of(batch.without(~good), layers.row[good], len(layers), data)

    def _bytes(self, sample: int) -> bytes | memoryview:
        data = self._shards[sample].data
        return _transcode(data) if sample in self._foreign else data

    def _run(self, feed: Feed) -> torch.Tensor:
        """The sheets of a batch, uint8 [L, S, S, 3]; valid until the next run.

        Raises:
            RuntimeError: DALI could not decode something; the graph is of no more use and is let go.
        """
        if self._graph is None or feed.rows > self._rows:
            self._rows = max(feed.rows, self._rows)
            self._graph = build_graph(self._rows, self._threads, self._device)
        stream = torch.cuda.current_stream(self._device) if self._device.type == "cuda" else None
        self._in_use = feed
        try:
            (pasted,) = self._graph.run(stream, **feed.inputs())
        except RuntimeError:
            self._graph = None
            raise
        return from_dlpack(pasted.as_tensor())[: feed.sheets]

    def _find_undecodable(self, batch: Plan) -> bool:
        """Sort out the samples of a batch that DALI gave up; whether there were any."""
        suspects = [int(s) for s in np.unique(batch.sample) if int(s) not in self._foreign | self._bad.keys()]
        images = [self._shards[sample].data for sample in suspects]
        undecodable = find_undecodable(images, self._device)
        for i in undecodable:
            try:
                _transcode(images[i])
                self._foreign.add(suspects[i])
            except Exception as error:  # Pillow's decoders raise many kinds; all mean: it cannot be read
                self._bad[suspects[i]] = f"{type(error).__name__}: {error}"
        return bool(undecodable)


def _transcode(data: bytes | memoryview) -> bytes:
    """What Pillow decodes, in a format that DALI decodes: binary PPM, upright."""
    file = io.BytesIO()
    decode_rgb(data).save(file, "PPM")
    return file.getvalue()
