"""Where images come from: the protocol, and which source a name on the command line means."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mixloader.errors import MixloaderError
from mixloader.shards.catalog import CLASSES, read_class_names

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One labelled image of a source.

    Attributes:
        key: its WebDataset key, unique in the source: no dots after the last slash, at most 90 bytes of UTF-8.
        label: an index into the source's classes.
        name: its path or number, for messages and the manifest.
        data: the encoded bytes, or pixels where the source has no file.
    """

    key: str
    label: int
    name: str
    data: bytes | Image.Image


class UnreadableImageError(Exception):
    """One image that cannot be used: it is left out, its name and the reason go into the manifest."""

    def __init__(self, name: str, reason: str) -> None:
        """Both for people; the reason is one line."""
        super().__init__(name, reason)
        self.name = name
        self.reason = " ".join(reason.split())


MOST_BYTES = 1 << 30
"""A file of more is no image: it is not read, as it might not fit into memory."""


def read_file(path: Path) -> bytes:
    """What a file holds, if it is an ordinary one: a pipe might keep the reader waiting, a device never end.

    Raises:
        OSError: it cannot be read; `strerror` says why.
    """
    _check_ordinary(path.stat())  # before it is opened: opening a device may do something

    def at_once(name: str, flags: int) -> int:  # it may be a pipe by now
        return os.open(name, flags | os.O_NONBLOCK)

    with open(path, "rb", opener=at_once) as file:
        found = os.fstat(file.fileno())
        _check_ordinary(found)
        return file.read(found.st_size)


def _check_ordinary(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no ordinary file")
    if found.st_size > MOST_BYTES:
        raise OSError(errno.EFBIG, f"it has {found.st_size:,} bytes, images have at most {MOST_BYTES:,}")


def printable(name: str) -> str:
    """A name on one line, with escapes for what cannot be printed: line breaks, bytes that are no UTF-8."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


class Source(Protocol):
    """A finite, ordered set of labelled images. Items are asked for from several threads."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names; label i is `classes[i]`."""
        ...

    @property
    def fingerprint(self) -> str:
        """A digest of what the source lists, so that a stopped run is not continued with other images."""
        ...

    def __len__(self) -> int:
        """How many images there are."""
        ...

    def __getitem__(self, i: int) -> SourceImage:
        """Image number `i`, 0 <= i < len. UnreadableImageError when it cannot be read."""
        ...


def open_source(
    name: str,
    *,
    split: str | None = None,
    root: Path = Path("data"),
    classes: tuple[str, ...] | None = None,
) -> Source:
    """The source that `name` means: a folder of class folders, an IDX folder, or a torchvision data set.

    Args:
        name: a folder, or the name of a class in torchvision.datasets.
        split: which part of an IDX folder or torchvision data set; "train" when None.
        root: where torchvision keeps, and downloads, its data sets.
        classes: the class names of an IDX folder or torchvision data set, where it does not know them.

    Raises:
        MixloaderError: there is no such source, it is empty, or an argument does not apply to it.
    """
    from mixloader.tools.sharding.folder import FolderSource
    from mixloader.tools.sharding.idx import IdxSource, holds_idx
    from mixloader.tools.sharding.torchvision_source import TorchvisionSource

    folder = Path(name)
    if folder.is_dir() and holds_idx(folder):
        return IdxSource(folder, split or "train", classes or read_class_names(folder / CLASSES))
    if folder.is_dir():
        for option, value in (("--split", split), ("--classes", classes)):
            if value is not None:
                raise MixloaderError(
                    f"{option} does not apply to {folder}, a folder of class folders: leave it out, and name "
                    "the folder of one split"
                )
        return FolderSource(folder)
    if not name.isidentifier():
        raise MixloaderError(f"source {name!r} is no folder and no torchvision data set: check the path")
    return TorchvisionSource(name, root, split or "train", classes)
