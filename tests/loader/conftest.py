"""Loaders for the loader's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mixloader.loader import MixLoader
from mixloader.shards import ShardSet


@pytest.fixture(params=["cpu", "dali", "pillow"])
def pipeline(request: pytest.FixtureRequest) -> str:
    if request.param == "dali":
        pytest.importorskip("nvidia.dali")
    return str(request.param)


@pytest.fixture
def make(shards: Path) -> Iterator[Callable[..., MixLoader]]:
    """Loaders of the 24 small images in batches of 7, drawn by Pillow unless told; closed at the end."""
    made: list[MixLoader] = []

    def loader(
        source: Path | ShardSet = shards, batch_size: int = 7, image_size: int = 64, **options: Any
    ) -> MixLoader:
        defaults = {"pipeline": "pillow", "threads": 1, "epochs": 8}
        made.append(MixLoader(source, batch_size, image_size, **(defaults | options)))
        return made[-1]

    yield loader
    for each in made:
        each.close()
