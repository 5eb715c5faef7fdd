"""Real photographs that can be had without an account: those of Debian's package `opencv-doc`."""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image

from mixloader.errors import MixloaderError
from mixloader.tools.datasets.debian import unpack_package

LONGER = 500  # pixels of the longer side: what most of ImageNet's photographs have
_PACKAGE, _QUALITY = "opencv-doc", 90
_SHORTEST, _MOST_OBLONG = 240, 2.2  # icons and banners are left out
_CLASSES = 8  # what is in a picture is not known; labels only have to differ


def photographs_folder(data: Path) -> Path:
    """The folder `data/photographs`, with the JPEGs in class folders; made from the package where it is not there.

    Raises:
        MixloaderError: the package is not to be had or holds no such pictures, or the folder cannot be written.
    """
    folder = data / "photographs"
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory() as temporary:
        try:
            unpack_package(_PACKAGE, Path(temporary))
        except MixloaderError as error:
            raise MixloaderError(f"photographs are not to be had from Debian's package {_PACKAGE}: {error}") from None
        part = data / "photographs.part"
        try:
            shutil.rmtree(part, ignore_errors=True)
            if not select_photographs(Path(temporary), part):
                raise MixloaderError(f"Debian's package {_PACKAGE} holds no photographs: it is no longer what it was")
            part.replace(folder)  # under its own name only when it is whole
        except OSError as error:
            raise MixloaderError(f"{part} cannot be written: {error.strerror or error}") from None
    return folder


def select_photographs(source: Path, dest: Path) -> int:
    """Write every colour JPEG below `source` that has a photograph's shape, once, made smaller and encoded anew.

    Args:
        source: a folder of pictures, at any depth.
        dest: where class folders with `00000.jpg`, ... go.

    Returns:
        How many there are.
    """
    seen: set[str] = set()
    for path in sorted(path for path in source.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg"}):
        if path.is_symlink() or not path.is_file():
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        made = None if digest in seen else _shrunk(path)
        if made is not None:
            parent = dest / f"class_{len(seen) % _CLASSES}"
            parent.mkdir(parents=True, exist_ok=True)
            (parent / f"{len(seen):05d}.jpg").write_bytes(made)
            seen.add(digest)
    return len(seen)


def _shrunk(path: Path) -> bytes | None:
    """The encoded picture, or None for one that is no photograph by its shape, or cannot be read."""
    try:
        with Image.open(path) as image:
            if len(image.getbands()) != 3 or min(image.size) < _SHORTEST:
                return None
            if max(image.size) > _MOST_OBLONG * min(image.size):
                return None
            image.thumbnail((LONGER, LONGER), Image.Resampling.LANCZOS, reducing_gap=None)
            file = io.BytesIO()
            image.convert("RGB").save(file, "JPEG", quality=_QUALITY)
            return file.getvalue()
    except OSError:
        return None
