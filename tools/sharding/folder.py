"""A folder of class folders as a source."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path

from mixloader.errors import MixloaderError
from mixloader.shards.scan import IMAGES
from mixloader.tools.sharding.keys import path_keys
from mixloader.tools.sharding.sources import SourceImage, UnreadableImageError, printable, read_file

_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


class FolderSource:
    """The images in the class folders of a folder, at any depth, sorted by class and path.

    Links are followed. A folder that cannot be listed counts as an image that cannot be read: it is named, not lost.

    Args:
        folder: holds one folder a class; the sorted folder names are the classes.

    Attributes:
        passed_over: how many files there are that are no images by their names, by extension.

    Raises:
        MixloaderError: there are no class folders, no images, images beside the class folders, a link to nothing
            there, or the folders are the splits of a data set.
    """

    def __init__(self, folder: Path) -> None:
        """Lists the folder; no image is opened."""
        self.folder = folder
        self.classes = _classes(folder)
        self.passed_over: Counter[str] = Counter()
        digest = hashlib.sha256()
        self._paths: list[str] = []
        self._labels: list[int] = []
        self._problems: dict[int, str] = {}
        for label, name in enumerate(self.classes):
            listing = _Listing(folder, name)
            self.passed_over += listing.passed_over
            for path in sorted(listing.images + list(listing.problems)):
                relative, problem = path.relative_to(folder).as_posix(), listing.problems.get(path)
                if problem is not None:
                    self._problems[len(self._paths)] = problem
                digest.update(repr((relative, *(_stamp(path) if problem is None else (problem,)))).encode())
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
        if i in self._problems:
            raise UnreadableImageError(self._paths[i], self._problems[i])
        try:
            data = read_file(path)
        except OSError as error:
            reason = "it is a link to nothing" if _leads_nowhere(path) else error.strerror
            raise UnreadableImageError(self._paths[i], f"cannot be read: {reason}") from None
        return SourceImage(self._keys[i], self._labels[i], self._paths[i], data)


def _classes(folder: Path) -> tuple[str, ...]:
    """The names of the class folders, sorted."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for path in entries:
        if _leads_nowhere(path):  # it may have been a class, and all labels after it would be others
            raise MixloaderError(f"{folder / printable(path.name)} is a link to nothing: repair it or take it away")
    classes = tuple(path.name for path in entries if path.is_dir())
    if not classes:
        raise MixloaderError(f"{folder} has no class folders: put the images of each class in one")
    if {name.lower() for name in classes} <= _SPLITS:
        raise MixloaderError(
            f"{folder} holds splits ({', '.join(classes)}), not classes: name one, {folder / classes[0]}"
        )
    loose = [path for path in entries if path.is_file() and _is_image(path)]
    if loose:
        raise MixloaderError(
            f"{folder / printable(loose[0].name)} lies beside the class folders ({len(loose)} such): move it into one, "
            "or elsewhere"
        )
    return classes


def _is_image(path: Path) -> bool:
    """By its extension; files of other kinds are passed over."""
    return path.suffix.lower().removeprefix(".") in IMAGES


def _leads_nowhere(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes with a file; nothing where it is gone already, or cannot be looked at."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_size, found.st_mtime_ns


class _Listing:
    """What lies below a class folder. Links are followed, each folder once, so that loops end.

    Attributes:
        images: by their names.
        problems: why a folder was not entered, or a link not followed.
        passed_over: how many files are no images, by extension.
    """

    def __init__(self, source: Path, label: str) -> None:
        self.images: list[Path] = []
        self.problems: dict[Path, str] = {}
        self.passed_over: Counter[str] = Counter()
        entered: set[Path] = set()
        folder, root = source / label, Path(os.path.realpath(source))
        own = Path(os.path.realpath(folder))
        for name, folders, files in os.walk(folder, followlinks=True, onerror=self._not_listed):
            parent, real = Path(name), Path(os.path.realpath(name))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            if real in entered:
                folders.clear()
            elif root.is_relative_to(real) or (parent != folder and own.is_relative_to(real)):
                # Not a folder of this class: it may have all the others in it.
                self.problems[parent] = "is not entered: it is a link to a folder that it lies in"
                folders.clear()
            else:
                entered.add(real)
                self._take(parent, files)

    def _take(self, parent: Path, files: list[str]) -> None:
        for path in (parent / name for name in files if not name.startswith(".")):
            if _is_image(path):
                self.images.append(path)
            elif _leads_nowhere(path):  # it may have been a folder of images
                self.problems[path] = "cannot be read: it is a link to nothing"
            else:
                self.passed_over[path.suffix.lower()] += 1

    def _not_listed(self, error: OSError) -> None:
        self.problems[Path(error.filename)] = f"cannot be listed: {error.strerror}"
