from __future__ import annotations

from pathlib import Path

import pytest

from mixloader.errors import MixloaderError
from mixloader.shards import ShardSet
from mixloader.tools.sharding.folder import FolderSource
from mixloader.tools.sharding.subset import SubsetSource
from mixloader.tools.sharding.writer import write_shards


def test_a_subset_has_the_chosen_images_in_its_order(image_folder: Path, tmp_path: Path) -> None:
    whole = FolderSource(image_folder)
    subset = SubsetSource(whole, [7, 0, 20])
    assert [subset[i] for i in range(3)] == [whole[i] for i in (7, 0, 20)]
    write_shards(subset, tmp_path)
    assert [sample.key for sample in ShardSet(tmp_path)] == [whole[i].key for i in (7, 0, 20)]
    assert ShardSet(tmp_path).classes == whole.classes


def test_its_fingerprint_sees_the_source_and_the_choice(image_folder: Path) -> None:
    whole = FolderSource(image_folder)
    subset = SubsetSource(whole, range(5))
    assert SubsetSource(whole, [0, 1, 2, 3, 4]).fingerprint == subset.fingerprint
    others = [
        whole,
        SubsetSource(whole, range(6)),
        SubsetSource(whole, [1, 0, 2, 3, 4]),
        SubsetSource(subset, range(5)),
    ]
    assert len({source.fingerprint for source in [subset, *others]}) == 5


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ([], "none of 24 images is chosen"),
        ([1, 2, 1], "an image is chosen twice among 3"),
        ([3, 24], "images 3 to 24 are chosen, but there are 0 to 23"),
        ([-1], "images -1 to -1 are chosen"),
    ],
)
def test_a_choice_that_cannot_be_made(image_folder: Path, chosen: list[int], message: str) -> None:
    with pytest.raises(MixloaderError, match=message):
        SubsetSource(FolderSource(image_folder), chosen)
