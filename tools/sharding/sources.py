"""Where images come from: the protocol, and which source a name on the command line means."""

from __future__ import annotations

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
