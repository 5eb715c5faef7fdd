from __future__ import annotations

import gzip
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.images import jpeg, picture, write_idx, write_image_folder
from PIL import Image

from mixloader.errors import MixloaderError
from mixloader.shards import ShardSet
from mixloader.tools.sharding import torchvision_source
from mixloader.tools.sharding.folder import FolderSource
from mixloader.tools.sharding.idx import IdxSource
from mixloader.tools.sharding.sources import open_source
from mixloader.tools.sharding.torchvision_source import TorchvisionSource
from mixloader.tools.sharding.writer import write_shards

IMAGES = np.random.default_rng(0).integers(0, 255, (4, 6, 5), np.uint8)
LABELS = np.array([2, 0, 1, 2], np.uint8)


def test_a_folder_is_read_in_the_order_of_its_paths(image_folder: Path) -> None:
    source = open_source(str(image_folder))
    assert source.classes == ("cat", "dog", "owl")
    names = [source[i].name for i in range(len(source))]
    assert names == sorted(names)
    assert source[0].data == (image_folder / names[0]).read_bytes()
    assert source[3].key == "cat/cat_4"
    assert source[6].key == "cat/nested/cat_3"


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "real", per_class=2)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "real" / "cat")
    (tmp_path / "real" / "cat" / "loop").symlink_to(tmp_path / "real" / "cat")
    source = FolderSource(tmp_path / "in")
    assert source.classes == ("linked",)
    assert len(source) == 2


def test_a_fingerprint_sees_a_changed_file(tmp_path: Path) -> None:
    folder = write_image_folder(tmp_path, per_class=2)
    before = FolderSource(folder).fingerprint
    assert FolderSource(folder).fingerprint == before
    os.utime(folder / "cat" / "cat_0.jpg", ns=(1, 1))
    assert FolderSource(folder).fingerprint != before


def test_folders_that_are_no_source(tmp_path: Path) -> None:
    with pytest.raises(MixloaderError, match="has no class folders"):
        open_source(str(tmp_path))
    (tmp_path / "cat").mkdir()
    with pytest.raises(MixloaderError, match="1 class folders and no images in them"):
        open_source(str(tmp_path))
    (tmp_path / "loose.JPG").write_bytes(jpeg())
    with pytest.raises(MixloaderError, match=r"loose\.JPG lies beside the class folders"):
        open_source(str(tmp_path))
    write_image_folder(tmp_path / "splits" / "train")
    with pytest.raises(MixloaderError, match=r"holds splits \(train\), not classes: name one"):
        open_source(str(tmp_path / "splits"))
    with pytest.raises(MixloaderError, match="is no folder and no torchvision data set"):
        open_source(str(tmp_path / "absent"))


@pytest.mark.parametrize("option", ["split", "classes"])
def test_options_that_do_not_apply_to_a_folder(image_folder: Path, option: str) -> None:
    with pytest.raises(MixloaderError, match=f"--{option} does not apply"):
        open_source(str(image_folder), **{option: "test"})  # type: ignore[arg-type]


@pytest.mark.parametrize("compressed", [False, True])
def test_idx_files(tmp_path: Path, compressed: bool) -> None:
    write_idx(tmp_path, IMAGES, LABELS)
    write_idx(tmp_path, IMAGES[:1], LABELS[:1], "t10k")
    if compressed:
        for path in list(tmp_path.iterdir()):
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    assert len(open_source(str(tmp_path), split="test")) == 1
    source = open_source(str(tmp_path))
    assert source.classes == ("0", "1", "2")
    assert source[3].key == "00000003"
    write_shards(source, tmp_path / "out")
    opened = ShardSet(tmp_path / "out")
    assert opened.labels.tolist() == LABELS.tolist()
    assert opened.sizes.tolist() == [[5, 6]] * 4
    assert np.array_equal(np.asarray(Image.open(_bytes(opened[2].data))), IMAGES[2])


def _bytes(view: memoryview) -> Any:
    import io

    return io.BytesIO(view)


def test_idx_classes_are_named_beside_or_by_hand(tmp_path: Path) -> None:
    write_idx(tmp_path, IMAGES, LABELS, "emnist-letters-train")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    assert open_source(str(tmp_path)).classes == ("a", "b", "c")
    assert open_source(str(tmp_path), classes=("x", "y", "z", "w")).classes == ("x", "y", "z", "w")
    with pytest.raises(MixloaderError, match="has the label 2, but 2 classes are named"):
        open_source(str(tmp_path), classes=("x", "y"))


def test_idx_files_that_are_damaged(tmp_path: Path) -> None:
    write_idx(tmp_path, IMAGES, LABELS)
    with pytest.raises(MixloaderError, match="split 'val' is not one of"):
        IdxSource(tmp_path, "val", None)
    with pytest.raises(MixloaderError, match="must hold one file of test images, it holds: none"):
        IdxSource(tmp_path, "test", None)
    images, labels = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    whole = images.read_bytes()
    for content, message in (
        (whole[:-1], r"has 135 bytes, its header says 136"),
        (whole[:7], "is no IDX file of bytes in 3 dimensions"),
        (b"", "cannot be read"),
        (b"\0\0\x0d" + whole[3:], "is no IDX file"),
    ):
        images.write_bytes(content)
        with pytest.raises(MixloaderError, match=message):
            IdxSource(tmp_path, "train", None)
    write_idx(tmp_path, IMAGES[:2], LABELS[:2], "other-train")
    with pytest.raises(MixloaderError, match="must hold one file of train images, it holds: "):
        IdxSource(tmp_path, "train", None)
    for path in tmp_path.glob("other*"):
        path.unlink()
    write_idx(tmp_path, IMAGES[:2], LABELS[:2])
    images.write_bytes(whole)
    with pytest.raises(MixloaderError, match=r"holds 4 images, .* 2 labels"):
        IdxSource(tmp_path, "train", None)
    labels.unlink()
    with pytest.raises(MixloaderError, match="train-labels-idx1-ubyte cannot be read"):
        IdxSource(tmp_path, "train", None)
    os.mkfifo(labels)
    with pytest.raises(MixloaderError, match="train-labels-idx1-ubyte is no ordinary file"):
        IdxSource(tmp_path, "train", None)


class Arrays:
    """Like CIFAR10: `train=`, `download=`, pixels in memory."""

    classes = ("cat", "dog", "owl")

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        assert download
        self.targets = LABELS.tolist() if train else [0]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        return picture(8, 8, i), self.targets[i]


class Files:
    """Like Flowers102: `split=`, image files, numbers for labels."""

    def __init__(self, root: str, split: str = "train") -> None:
        if split not in ("train", "val"):
            raise ValueError(f"Unknown value '{split}' for argument split.\nValid values are train, val.")
        self._image_files = sorted(Path(root).rglob("*.*"))
        self._labels = [i % 3 for i in range(len(self._image_files))]

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        raise NotImplementedError("the files are read")


class Boxes(Arrays):
    def __init__(self, root: str, **options: Any) -> None:
        super().__init__(root, **options)

    def __getitem__(self, i: int) -> Any:
        return picture(8, 8, i), {"boxes": []}


class Nameless(Boxes):
    classes = ()

    def __init__(self, root: str) -> None:
        self.targets = []

    def __len__(self) -> int:
        return 3


@pytest.fixture
def vision(monkeypatch: pytest.MonkeyPatch) -> None:
    members = {cls.__name__: cls for cls in (Arrays, Files, Boxes, Nameless)}
    module = SimpleNamespace(datasets=SimpleNamespace(__all__=tuple(members), **members))
    monkeypatch.setattr(torchvision_source, "import_torchvision", lambda: module)


@pytest.mark.usefixtures("vision")
def test_a_torchvision_set_of_arrays(tmp_path: Path) -> None:
    source = open_source("Arrays", root=tmp_path)
    assert source.classes == ("cat", "dog", "owl")
    assert [source[i].label for i in range(4)] == LABELS.tolist()
    assert len(open_source("Arrays", split="test", root=tmp_path)) == 1
    with pytest.raises(MixloaderError, match="split 'val' is not one of Arrays"):
        open_source("Arrays", split="val", root=tmp_path)


@pytest.mark.usefixtures("vision")
def test_a_torchvision_set_of_files_keeps_their_bytes(tmp_path: Path) -> None:
    folder = write_image_folder(tmp_path / "in")
    source = TorchvisionSource("Files", folder, "val", None)
    assert source.classes == ("0", "1", "2")
    files = sorted(folder.rglob("*.*"))
    write_shards(source, tmp_path / "out")
    assert [bytes(sample.data) for sample in ShardSet(tmp_path / "out")] == [path.read_bytes() for path in files]
    with pytest.raises(MixloaderError, match=r"failed .*Unknown value 'test' for argument split\. Valid values"):
        TorchvisionSource("Files", folder, "test", None)
    with pytest.raises(MixloaderError, match="outside the 1 classes"):
        TorchvisionSource("Files", folder, "val", ("only",))[1]


@pytest.mark.usefixtures("vision")
def test_torchvision_sets_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(MixloaderError, match="did you mean Arrays"):
        open_source("arays")
    with pytest.raises(MixloaderError, match="no integer: this is no data set for classification"):
        TorchvisionSource("Boxes", tmp_path, "train", None)[0]
    with pytest.raises(MixloaderError, match="names no classes: name them with --classes"):
        TorchvisionSource("Nameless", tmp_path, "train", None)


def test_torchvision_itself_imports_and_reads(tmp_path: Path) -> None:
    write_idx(tmp_path / "FashionMNIST" / "raw", IMAGES, LABELS)
    write_idx(tmp_path / "FashionMNIST" / "raw", IMAGES, LABELS, "t10k")
    source = open_source("FashionMNIST", root=tmp_path)
    assert source.classes[9] == "Ankle boot"
    assert [source[i].label for i in range(4)] == LABELS.tolist()
    with pytest.raises(MixloaderError, match="did you mean FashionMNIST"):
        open_source("FashonMNIST")
