"""A data set to train on: its three splits as shards, and what a loader must know of its pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mixloader.planning import Augment

if TYPE_CHECKING:
    from mixloader.tools.sharding.sources import Source


@dataclass(frozen=True)
class Splits:
    """The folders of a data set's shards."""

    train: Path
    validation: Path
    test: Path


@dataclass(frozen=True)
class DataSet:
    """A data set that can be had without an account.

    Attributes:
        name: of its folder of shards.
        title: for people.
        image_size: pixels a side, of every picture.
        mean: of the training pictures' red, green and blue, 0 to 1.
        std: their standard deviation over all pixels.
        augment: what training may do to a picture.
        sources: finds or fetches it in a folder; its training, validation and test pictures, in this order,
            by the name of the folder that the shards of each go to.
    """

    name: str
    title: str
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    augment: Augment
    sources: Callable[[Path], Mapping[str, Source]]

    def prepare(self, data: Path) -> Splits:
        """Fetch it and write its shards below `data/shards`, where that is not done yet.

        Raises:
            MixloaderError: it is not to be had, or its shards cannot be written.
        """
        return Splits(*write_folders(self.sources(data), data / "shards" / self.name))


def write_folders(sources: Mapping[str, Source], dest: Path) -> list[Path]:
    """Write the shards of each source to the folder of its name in `dest`, where that is not done yet.

    Raises:
        MixloaderError: a folder holds something else or cannot be written.
    """
    from mixloader.tools.shard import run_shard
    from mixloader.tools.sharding.writer import ShardOptions

    for name, source in sources.items():
        run_shard(source, dest / name, ShardOptions())
    return [dest / name for name in sources]
