"""A folder of IDX files, the format of MNIST and its relatives, as a source."""

from __future__ import annotations

import gzip
import hashlib
import math
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixloader.errors import MixloaderError
from mixloader.tools.sharding.sources import SourceImage

_IMAGES = re.compile(r"(?P<name>.*)images(?P<sign>[-.])idx3-ubyte(?P<gz>\.gz)?")
_SPLITS = {"train": ("train",), "test": ("t10k", "test")}
_UBYTE = 8  # the IDX type code of unsigned bytes


def holds_idx(folder: Path) -> bool:
    """Whether `folder` holds IDX image files."""
    return any(_IMAGES.fullmatch(path.name) for path in folder.iterdir())


class IdxSource:
    """The images of one split of an IDX folder, in order, as grey pixels.

    Args:
        folder: holds `train-images-idx3-ubyte` and its labels, or others named so; also compressed with gzip.
        split: "train" or "test" (whose files are called `t10k-...` or `...test-...`).
        classes: the class names, which IDX does not hold; None for the numbers.

    Raises:
        MixloaderError: a file is missing, damaged or ambiguous, or a label has no class name.
    """

    def __init__(self, folder: Path, split: str, classes: tuple[str, ...] | None) -> None:
        """Reads the labels, and the images where they are compressed; they are memory-mapped otherwise."""
        path, match = _find(folder, split)
        labels = path.with_name(f"{match['name']}labels{match['sign']}idx1-ubyte")
        labels = next((p for p in (labels, labels.with_name(labels.name + ".gz")) if p.exists()), labels)
        self._images = _read(path, 3)
        self._labels = _read(labels, 1)
        if len(self._images) != len(self._labels):
            raise MixloaderError(
                f"{path} holds {len(self._images)} images, {labels} {len(self._labels)} labels: they do not "
                "belong together, copy them again"
            )
        if not len(self._labels):
            raise MixloaderError(f"{path} holds no images: copy it again")
        largest = int(self._labels.max())
        self.classes = classes or tuple(map(str, range(largest + 1)))
        if largest >= len(self.classes):
            raise MixloaderError(
                f"{labels} has the label {largest}, but {len(self.classes)} classes are named: name all of them"
            )
        self._name = path.name
        digest = hashlib.sha256(repr((path.name, self._images.shape, self.classes)).encode())
        for array in (self._labels, self._images):
            digest.update(array.data)
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        """How many images the split holds."""
        return len(self._labels)

    def __getitem__(self, i: int) -> SourceImage:
        """Image number `i` as a grey Pillow image."""
        from PIL import Image

        return SourceImage(f"{i:08d}", int(self._labels[i]), f"{self._name}[{i}]", Image.fromarray(self._images[i]))


def _find(folder: Path, split: str) -> tuple[Path, re.Match[str]]:
    if split not in _SPLITS:
        raise MixloaderError(f"split {split!r} is not one of {folder}: an IDX folder has train and test")
    matches = [(path, _IMAGES.fullmatch(path.name)) for path in sorted(folder.iterdir())]
    found = {
        match["name"]: (path, match)
        for path, match in reversed(matches)  # the uncompressed twin comes last, and stays
        if match is not None and any(word in match["name"] for word in _SPLITS[split])
    }
    if len(found) != 1:
        names = ", ".join(path.name for path, _ in found.values()) or "none"
        raise MixloaderError(
            f"{folder} must hold one file of {split} images, it holds: {names}: put each data set in a folder "
            "of its own"
        )
    return next(iter(found.values()))


def _read(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    header_bytes = 4 + 4 * dimensions
    data: npt.NDArray[Any]
    if path.exists() and not path.is_file():  # a pipe would keep the reader waiting
        raise MixloaderError(f"{path} is no ordinary file: copy it there again")
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                data = np.frombuffer(file.read(), np.uint8)
        else:
            data = np.memmap(path, np.uint8, "r").view(np.ndarray)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise MixloaderError(f"{path} cannot be read ({error}): copy it there again") from None
    header = data[:header_bytes].tobytes()
    if len(header) < header_bytes or header[:4] != bytes([0, 0, _UBYTE, dimensions]):
        raise MixloaderError(
            f"{path} is no IDX file of bytes in {dimensions} dimensions (it begins {header[:4]!r}): copy it again"
        )
    shape = struct.unpack(f">{dimensions}I", header[4:])
    if len(data) != header_bytes + math.prod(shape):
        raise MixloaderError(
            f"{path} has {len(data)} bytes, its header says {header_bytes + math.prod(shape)}: it is cut short "
            "or damaged, copy it again"
        )
    return data[header_bytes:].reshape(shape)
