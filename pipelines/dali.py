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

from mixloader.clock import Clock
from mixloader.errors import MixloaderError, ShardError, UndecodableError
from mixloader.pipelines.feed import Feed
from mixloader.pipelines.graph import Graph, find_undecodable, require_dali
from mixloader.pipelines.jpeg import is_regular, read_header
from mixloader.pipelines.layers import Layers
from mixloader.pipelines.pillow import decode_rgb
from mixloader.pipelines.pipeline import Drawn
from mixloader.pipelines.versions import Versions, pixel_boxes
from mixloader.plan import Plan
from mixloader.shards import ShardSet
from mixloader.shards.header import MOST_PIXELS, open_image, upright_size

_Version = tuple[int, int]
"""A sample and a level of it."""


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
        self._bad: dict[_Version, str] = {}  # neither DALI nor Pillow can decode these
        self._foreign: set[_Version] = set()  # only Pillow can
        self._measured = np.zeros(len(shards), np.bool_)  # what is no JPEG: its own header was asked for its size
        self._sorting = Lock()

    def draw(self, batch: Plan) -> Drawn:
        """Draw one batch on the pipeline's device; see `Pipeline`.

        Raises:
            MixloaderError: DALI fails for another reason than an image that it cannot decode.
        """
        clock, layers, versions = Clock(), Layers.of(batch), Versions.of(batch, self._shards)
        found, lost = self._read(versions)
        graph = self._graphs.get()
        try:
            sheets = self._run(graph, batch, versions, layers, found)
        finally:
            self._graphs.put(graph)
        reasons = self._bad | lost
        failed = {version[0]: reasons[version] for version in versions.read if version in reasons}
        canvases = layers.merge(sheets)
        clock.lap("draw")
        return Drawn(canvases, failed, clock.seconds)

    def close(self) -> None:
        """Let go of the graphs, their threads and their memory."""
        graphs = [self._graphs.get() for _ in range(self.lanes)]  # waits for what is being drawn
        for graph in graphs:
            graph.drop()
            self._graphs.put(graph)

    def _read(self, versions: Versions) -> tuple[dict[_Version, memoryview], dict[_Version, str]]:
        """The encoded images of a batch, and why each of the others could not be read: this time, it may be again."""
        found, lost = {}, {}
        for version in versions.read:
            try:
                found[version] = self._shards.data(*version)
            except ShardError as error:
                lost[version] = str(error)
        return found, lost

    def _run(
        self, graph: Graph, batch: Plan, versions: Versions, layers: Layers, found: dict[_Version, memoryview]
    ) -> Tensor:
        feed = self._feed(batch, versions, layers, found)
        with suppress(RuntimeError):
            return graph.run(feed)
        self._sort_out(found)
        feed = self._feed(batch, versions, layers, found)
        try:
            return graph.run(feed)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise MixloaderError(
                f"DALI cannot draw a batch of {len(batch)} images on {layers.canvases} canvases of "
                f"{batch.canvas_size} pixels on {self._device}, although it decodes each image: {reason}; take smaller "
                "batches where memory is short, or pipeline='cpu'"
            ) from error

    def _feed(self, batch: Plan, versions: Versions, layers: Layers, found: dict[_Version, memoryview]) -> Feed:
        for version, (width, height) in zip(versions.read, versions.size.tolist(), strict=True):
            if version in found and self._is_suspect(version, found[version], (width, height)):
                self._judge(version, found[version])
        good, box, data = np.zeros(len(versions.read), np.bool_), versions.box.copy(), []
        for row, version in enumerate(versions.read):
            encoded, size = self._decodable(version, found) if version in found else (None, None)
            if encoded is None:
                continue
            if size is not None:
                box[row] = pixel_boxes(batch.window[[row]], np.array([size]))[0]
            good[row] = True
            data.append(encoded)
        return Feed.of(batch.without(~good), box[good], layers.row[good], len(layers), data)

    def _decodable(
        self, version: _Version, found: dict[_Version, memoryview]
    ) -> tuple[bytes | memoryview | None, tuple[int, int] | None]:
        """What DALI decodes of an image, and its size where that is another one's; None for what none can decode."""
        if version in self._bad:
            return None, None
        if version not in self._foreign:
            return found[version], None
        try:
            return _transcode(found[version])
        except UndecodableError as error:  # its shard changed since it was judged
            self._bad[version] = str(error)
            return None, None

    def _is_suspect(self, version: _Version, data: memoryview, size: tuple[int, int]) -> bool:
        """Whether Pillow has to look first: DALI would draw it another way, or take any memory that it asks for."""
        if version in self._foreign or version in self._bad:
            return False
        sample, level = version
        header = read_header(data)
        if header is None and (level or not self._measured[sample]):
            if not all(upright_size(data)) or not _is_regular(data):
                return True
            self._measured[sample] = True
        if header is None:
            return not size[0]
        another = level > 0 and size != (header.width, header.height)
        huge = max(size[0] * size[1], header.width * header.height) > MOST_PIXELS
        return not size[0] or another or huge or header.ambiguous or header.irregular

    def _sort_out(self, found: dict[_Version, memoryview]) -> None:
        """Find what DALI cannot decode of a batch, and what Pillow makes of each."""
        with self._sorting:
            suspects = sorted(found.keys() - self._foreign - self._bad.keys())
            for i in find_undecodable([found[version] for version in suspects], self._device):
                self._judge(suspects[i], found[suspects[i]])

    def _judge(self, version: _Version, data: memoryview) -> None:
        """Find out whether Pillow can decode what DALI cannot, or what has no readable header."""
        if version in self._foreign or version in self._bad:
            return
        try:
            _transcode(data)
            self._foreign.add(version)
        except UndecodableError as error:
            self._bad[version] = str(error)


def _is_regular(data: memoryview) -> bool:
    """Whether decoders agree on what the Exif data of an image that is no JPEG say."""
    exif: bytes = open_image(data).info.get("exif", b"")
    return not exif or is_regular(exif if exif.startswith(b"Exif") else b"Exif\0\0" + exif)


def _transcode(data: bytes | memoryview) -> tuple[bytes, tuple[int, int]]:
    """What Pillow decodes, in a format that DALI decodes (binary PPM, upright), and its width and height."""
    file, image = io.BytesIO(), decode_rgb(data)
    image.save(file, "PPM")
    return file.getvalue(), image.size
