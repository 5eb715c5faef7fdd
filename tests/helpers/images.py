"""Small image sets and tar files for the tests."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ORIENTATION = 0x0112


def picture(width: int, height: int, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """A smooth gradient with some noise: unlike its mirror image, and not trivial to compress."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    planes = np.stack([x, y, (x + y) / 2 * rng.random()], axis=-1) * 200 + rng.random((height, width, 3)) * 55
    return Image.fromarray(planes.astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, image_format: str = "JPEG", orientation: int | None = None, **options: Any) -> bytes:
    """The bytes of `image`, with an EXIF orientation when one is given."""
    buffer = io.BytesIO()
    if orientation is not None:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        options["exif"] = exif
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def jpeg(width: int = 40, height: int = 30, seed: int = 0) -> bytes:
    return encoded(picture(width, height, seed))


def write_image_folder(folder: Path, classes: Iterable[str] = ("cat", "dog", "owl"), per_class: int = 8) -> Path:
    """Class folders of JPEGs, PNGs and one WebP each, of sizes from 24 to 80 pixels, two of them nested."""
    for c, name in enumerate(classes):
        for i in range(per_class):
            image = picture(24 + 7 * (i % 8), 80 - 6 * (i % 8), seed=100 * c + i)
            parent = folder / name / ("nested" if i % 4 == 3 else "")
            parent.mkdir(parents=True, exist_ok=True)
            suffix, image_format = {1: ("png", "PNG"), 2: ("webp", "WEBP")}.get(i, ("jpg", "JPEG"))
            (parent / f"{name}_{i}.{suffix}").write_bytes(encoded(image, image_format))
    return folder


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    """A tar file as other tools write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def cls_members(labels: Iterable[int], prefix: str = "") -> list[tuple[str, bytes]]:
    """Samples with their label in .cls."""
    members: list[tuple[str, bytes]] = []
    for i, label in enumerate(labels):
        members += [(f"{prefix}{i:04d}.jpg", jpeg(20 + i, 30, i)), (f"{prefix}{i:04d}.cls", str(label).encode())]
    return members


def json_members(labels: Iterable[Any], key: str = "label") -> list[tuple[str, bytes]]:
    """Samples with their label in a field of .json."""
    members: list[tuple[str, bytes]] = []
    for i, label in enumerate(labels):
        members += [(f"{i:04d}.jpg", jpeg(20 + i, 30, i)), (f"{i:04d}.json", json.dumps({key: label}).encode())]
    return members


def write_idx(folder: Path, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], prefix: str = "train") -> None:
    """The two IDX files of uint8 images [N, H, W] and labels [N]."""
    folder.mkdir(parents=True, exist_ok=True)
    for array, name in ((images, "images-idx3-ubyte"), (labels, "labels-idx1-ubyte")):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (folder / f"{prefix}-{name}").write_bytes(header + array.astype(np.uint8).tobytes())
