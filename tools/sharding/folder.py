"""A folder of class folders as a source."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from mixloader.errors import MixloaderError
from mixloader.shards.scan import IMAGES
from mixloader.tools.sharding.keys import path_keys
from mixloader.tools.sharding.sources import SourceImage, UnreadableImageError

_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


class FolderSource:
    """The images in the class folders of a folder, at any depth, sorted by class and path.

    Args:
        folder: holds one folder a class; the sorted folder names are the classes.

    Raises:
        MixloaderError: there are no class folders, no images, images beside the class folders, or the folders
            are the splits of a data set.
    """

    def __init__(self, folder: Path) -> None:
        """Lists the folder; no image is opened."""
        self.folder = folder
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        self.classes = tuple(path.name for path in entries if path.is_dir())
        if not self.classes:
            raise MixloaderError(f"{folder} has no class folders: put the images of each class in one")
        if {name.lower() for name in self.classes} <= _SPLITS:
            raise MixloaderError(
                f"{folder} holds splits ({', '.join(self.classes)}), not classes: name one, {folder / self.classes[0]}"
            )
        loose = [path for path in entries if path.is_file() and _is_image(path)]
        if loose:
            raise MixloaderError(
                f"{loose[0]} lies beside the class folders ({len(loose)} such): move it into one, or elsewhere"
            )
        digest = hashlib.sha256()
        self._paths: list[str] = []
        self._labels: list[int] = []
        for label, name in enumerate(self.classes):
            for path in _images(folder / name):
                stat = path.stat()
                relative = path.relative_to(folder).as_posix()
                digest.update(repr((relative, stat.st_size, stat.st_mtime_ns)).encode())
                self._paths.append(relative)
                self._labels.append(label)
        if not self._paths:
            raise MixloaderError(
                f"{folder} has {len(self.classes)} class folders and no images in them: known are "
                f"{' '.join(sorted(IMAGES))}"
            )
        self._keys = path_keys(self._paths)
        digest.update(repr(self.classes).encode())
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        """How many images the folder holds."""
        return len(self._paths)

    def __getitem__(self, i: int) -> SourceImage:
        """Image number `i` as the bytes of its file. UnreadableImageError when it cannot be read."""
        path = self.folder / self._paths[i]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UnreadableImageError(self._paths[i], f"cannot be read: {error.strerror}") from None
        return SourceImage(self._keys[i], self._labels[i], self._paths[i], data)


def _is_image(path: Path) -> bool:
    """By its extension; files of other kinds are passed over."""
    return path.suffix.lower().removeprefix(".") in IMAGES


def _images(folder: Path) -> list[Path]:
    """The image files below `folder`, sorted. Links are followed, each folder once, so that loops end."""
    found: list[Path] = []
    entered: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        if os.path.realpath(parent) in entered:
            folders.clear()
            continue
        entered.add(os.path.realpath(parent))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            path = Path(parent, name)
            if _is_image(path) and not name.startswith(".") and path.exists():
                found.append(path)
    return sorted(found)
