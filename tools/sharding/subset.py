"""Some images of another source as a source."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from mixloader.errors import MixloaderError
from mixloader.tools.sharding.sources import Source, SourceImage


class SubsetSource:
    """Chosen images of another source, with their keys and classes unchanged.

    Args:
        source: has all images.
        chosen: their numbers in it, each once, in the order they get here.

    Raises:
        MixloaderError: none is chosen, one is chosen twice, or there is no such image.
    """

    def __init__(self, source: Source, chosen: Sequence[int]) -> None:
        """Checks the choice; no image is opened."""
        self._source = source
        self._chosen = tuple(chosen)
        if not self._chosen:
            raise MixloaderError(f"none of {len(source)} images is chosen: choose at least one")
        if len(set(self._chosen)) != len(self._chosen):
            raise MixloaderError(f"an image is chosen twice among {len(self._chosen)}: choose each once")
        least, largest = min(self._chosen), max(self._chosen)
        if least < 0 or largest >= len(source):
            raise MixloaderError(f"images {least} to {largest} are chosen, but there are 0 to {len(source) - 1}")
        self.classes = source.classes
        self.fingerprint = hashlib.sha256(repr((source.fingerprint, self._chosen)).encode()).hexdigest()

    def __len__(self) -> int:
        """How many images are chosen."""
        return len(self._chosen)

    def __getitem__(self, i: int) -> SourceImage:
        """Image number `chosen[i]` of the other source. UnreadableImageError when it cannot be read."""
        return self._source[self._chosen[i]]
