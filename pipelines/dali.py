"""The DALI pipeline: one graph that decodes, crops, scales, flips and pastes a batch, on the CPU or a GPU."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from mixloader.errors import MixloaderError
from mixloader.pipelines.feed import Feed
from mixloader.pipelines.graph import Graph, find_undecodable, require_dali
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
        threads = threads or len(os.sched_getaffinity(0))
        # On the CPU two graphs share the threads: while one waits for its slowest image, or for what comes after
        # drawing, the other's threads work.
        self.lanes = 2 if self._device.type == "cpu" and threads > 1 else 1
        self._graphs: SimpleQueue[Graph] = SimpleQueue()
        for lane in range(self.lanes):
            self._graphs.put(Graph((threads + lane) // self.lanes, self._device))
        self._bad: dict[int, str] = {}  # neither DALI nor Pillow can decode these
        self._foreign: set[int] = set()  # only Pillow can
        self._sorting = Lock()

    def draw(self, batch: Plan) -> Drawn:
        """Draw one batch on the pipeline's device; see `Pipeline`.

        Raises:
            MixloaderError: DALI fails for another reason than an image that it cannot decode.
        """
        layers = Layers.of(batch)
        graph = self._graphs.get()
        try:
            sheets = self._run(graph, batch, layers)
        finally:
            self._graphs.put(graph)
        failed = {int(s): self._bad[int(s)] for s in batch.sample if int(s) in self._bad}
        return Drawn(layers.merge(sheets), failed)

    def close(self) -> None:
        """Let go of the graphs, their threads and their memory."""
        graphs = [self._graphs.get() for _ in range(self.lanes)]  # waits for what is being drawn
        for graph in graphs:
            graph.drop()
            self._graphs.put(graph)

    def _run(self, graph: Graph, batch: Plan, layers: Layers) -> Tensor:
        with suppress(RuntimeError):
            return graph.run(self._feed(batch, layers))
        self._sort_out(batch)
        try:
            return graph.run(self._feed(batch, layers))
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise MixloaderError(
                f"DALI cannot draw a batch of {len(batch)} images on {layers.canvases} canvases of "
                f"{batch.canvas_size} pixels on {self._device}, although it decodes each image: {reason}; take smaller "
                "batches where memory is short, or pipeline='pillow'"
            ) from error

    def _feed(self, batch: Plan, layers: Layers) -> Feed:
        good = np.array([int(s) not in self._bad for s in batch.sample], np.bool_)
        data = [self._bytes(int(s)) for s in batch.sample[good]]
        return Feed.of(batch.without(~good), layers.row[good], len(layers), data)

    def _bytes(self, sample: int) -> bytes | memoryview:
        data = self._shards[sample].data
        return _transcode(data) if sample in self._foreign else data

    def _sort_out(self, batch: Plan) -> None:
        """Find the samples of a batch that DALI cannot decode, and what Pillow makes of each."""
        with self._sorting:
            suspects = [int(s) for s in np.unique(batch.sample) if int(s) not in self._foreign | self._bad.keys()]
            images = [self._shards[sample].data for sample in suspects]
            for i in find_undecodable(images, self._device):
                try:
                    _transcode(images[i])
                    self._foreign.add(suspects[i])
                except Exception as error:  # Pillow's decoders raise many kinds; all mean: it cannot be read
                    self._bad[suspects[i]] = f"{type(error).__name__}: {error}"


def _transcode(data: bytes | memoryview) -> bytes:
    """What Pillow decodes, in a format that DALI decodes: binary PPM, upright."""
    file = io.BytesIO()
    decode_rgb(data).save(file, "PPM")
    return file.getvalue()
