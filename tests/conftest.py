"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # so that tests can `from helpers.images import ...`

from helpers.images import write_image_folder

from mixloader.tools.sharding.folder import FolderSource
from mixloader.tools.sharding.writer import ShardOptions, write_shards


@pytest.fixture(autouse=True)
def user_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache directory of the test's own."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return cache


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 small JPEGs, PNGs and WebPs in three class folders. Shared: copy it to change it."""
    return write_image_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def shards(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`image_folder` in three shards. Shared: copy it to change it."""
    dest = tmp_path_factory.mktemp("shards")
    write_shards(FolderSource(image_folder), dest, options=ShardOptions(shard_size=10, workers=2))
    return dest


def pytest_addoption(parser: pytest.Parser) -> None:
    """How much the tests of reliability try; see tests/reliability."""
    group = parser.getgroup("mixloader")
    group.addoption("--thorough", action="store_true", help="try as much as docs/reliability.md reports: takes long")
    group.addoption("--figures", metavar="FILE", help="note what was tried in this JSON file")
