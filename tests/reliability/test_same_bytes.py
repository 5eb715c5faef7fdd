"""What is the same to the last bit, whatever it was drawn with, and what is only close."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.draw_epochs import POLICY, Drawn, draw, numpy_features
from helpers.draw_epochs import plans as plans_here
from helpers.images import encoded
from helpers.loaders import PLAIN
from helpers.pictures import gallery, photo

from mixloader.loader import MixLoader
from mixloader.shards import ShardSet
from mixloader.tools.sharding.folder import FolderSource
from mixloader.tools.sharding.writer import ShardOptions, write_shards

HELPERS = Path(__file__).parents[1]
SHAPE: dict[str, Any] = {"batch_size": 9, "image_size": 96, "stride": 16, "epochs": 8, "seed": 5}
EVERY = [(1, 1), (1, 9), (2, 1), (2, 2), (4, 2), (4, 9)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of every kind of picture, and photographs whose decoding takes several ways."""
    folder = tmp_path_factory.mktemp("in")
    for i, data in enumerate(gallery().values()):
        path = folder / f"class{i % 3}" / f"{i:02}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    for i in range(30):
        data = encoded(photo(150 + 11 * i, 400 - 9 * i, seed=i), quality=60 + i, subsampling=i % 3)
        (folder / f"class{i % 3}" / f"photo{i:02}.jpg").write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def folder(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    dest = tmp_path_factory.mktemp("shards")
    write_shards(FolderSource(source), dest, options=ShardOptions(shard_size=25))
    return dest


Make = Callable[..., MixLoader]


@pytest.fixture
def make(folder: Path) -> Iterator[Make]:
    made: list[MixLoader] = []

    def loader(shards: Path | ShardSet = folder, **options: Any) -> MixLoader:
        made.append(MixLoader(shards, **{"policy": POLICY, "pipeline": "cpu", "threads": 1, **SHAPE, **options}))
        return made[-1]

    yield loader
    for each in made:
        each.close()


@pytest.fixture(scope="module")
def same(note: Any) -> Iterator[dict[str, str]]:
    """How much is the same, by what differs: the table of docs/reliability.md."""
    lines: dict[str, str] = {}
    yield lines
    note("same bytes", **lines)


def exact(one: Drawn, other: Drawn) -> bool:
    return (one.images, one.targets, one.plans) == (other.images, other.targets, other.plans)


@pytest.mark.parametrize("pipeline", ["cpu", "pillow", "dali"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_threads_and_prefetch(make: Make, same: dict[str, str], pipeline: str, shuffle: bool, thorough: bool) -> None:
    if pipeline == "dali":
        pytest.importorskip("nvidia.dali")
    ways = [(threads, prefetch) for threads in (1, 2, 4) for prefetch in (1, 2, 9)] if thorough else EVERY
    drawn = [draw(make(threads=t, prefetch=p, pipeline=pipeline, shuffle=shuffle)) for t, p in ways]
    assert all(exact(drawn[0], other) for other in drawn[1:])
    same["threads=, prefetch="] = "bit-exact"


def test_an_index_or_a_scan_of_the_same_tars(make: Make, folder: Path, tmp_path: Path, same: dict[str, str]) -> None:
    for path in folder.glob("*.tar"):
        shutil.copy(path, tmp_path)
    (tmp_path / "classes.txt").write_text("\n".join(ShardSet(folder).classes))
    expected = draw(make())
    assert exact(draw(make(tmp_path)), expected)  # scans
    assert exact(draw(make(tmp_path)), expected)  # finds the index that the scan left
    same["index written by mixloader, or made by a scan"] = "bit-exact"


def test_files_in_memory_or_on_the_disk(make: Make, folder: Path, same: dict[str, str]) -> None:
    expected = draw(make())
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert exact(draw(make()), expected)
    same["files cached by the system or not"] = "bit-exact"


def test_a_copy_by_pickle(make: Make, same: dict[str, str]) -> None:
    loader = make()
    with pickle.loads(pickle.dumps(loader)) as copied:
        assert exact(draw(copied), draw(loader))
    same["a loader, or its copy by pickle"] = "bit-exact"


def test_shards_written_by_any_number_of_workers(
    make: Make, source: Path, tmp_path: Path, same: dict[str, str]
) -> None:
    write_shards(FolderSource(source), tmp_path, options=ShardOptions(shard_size=25, workers=5))
    assert exact(draw(make(tmp_path)), draw(make()))
    same["workers of `mixloader shard`"] = "bit-exact"


def elsewhere(folder: Path, out: Path, options: dict[str, Any], **environment: str) -> dict[str, Any]:
    """What is drawn in a process of its own."""
    arguments = [folder, out, json.dumps({"pipeline": "cpu", "threads": 1, **SHAPE, **options})]
    command = [sys.executable, "-m", "helpers.draw_epochs", *map(str, arguments)]
    variables = {**os.environ, "PYTHONPATH": str(HELPERS), **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(out.read_text())
    return found


ENVIRONMENTS: dict[str, dict[str, str]] = {
    "another process, PYTHONHASHSEED=1": {"PYTHONHASHSEED": "1"},
    "another process, OMP_NUM_THREADS=1": {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "2"},
    "another process, OMP_NUM_THREADS=3": {"OMP_NUM_THREADS": "3", "PYTHONHASHSEED": "3"},
    "torch's code for AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "torch's code for any processor": {"ATEN_CPU_CAPABILITY": "default"},
    "numpy's code for any processor": {"NPY_DISABLE_CPU_FEATURES": " ".join(numpy_features())},
    "simplejpeg's code for any processor": {"JSIMD_FORCENONE": "1"},
}
ROUNDED = "torch's code for any processor"
"""Without fused multiply-add, the normalised picture is rounded once more."""

SHORT = [name for name in ENVIRONMENTS if not name.endswith(("PYTHONHASHSEED=1", "OMP_NUM_THREADS=1", "AVX2"))]


def apart(one: list[Any], other: list[Any]) -> tuple[float, float]:
    """Mean and largest difference of pictures."""
    differences = [np.abs(a.astype(np.float64) - b) for a, b in zip(one, other, strict=True)]
    means, sizes = [d.mean() for d in differences], [d.size for d in differences]
    return float(np.average(means, weights=sizes)), float(max(d.max() for d in differences))


def test_other_processes_and_processors(
    make: Make, folder: Path, tmp_path: Path, same: dict[str, str], thorough: bool
) -> None:
    """Pictures, targets and plans; and larger plans of every policy, made from losses many of which are the same."""
    names = list(ENVIRONMENTS) if thorough else SHORT

    def run(name: str) -> dict[str, Any]:
        threads = int(ENVIRONMENTS[name].get("OMP_NUM_THREADS", 1))
        return elsewhere(
            folder, tmp_path / f"{names.index(name)}.json", {"torch_threads": threads}, **ENVIRONMENTS[name]
        )

    expected = draw(make())
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(names, pool.map(run, names), strict=True))
    planned = plans_here()
    for number, (name, facts) in enumerate(found.items()):
        assert (facts["targets"], facts["plans"]) == (expected.targets, expected.plans), name
        assert facts["planned"] == planned, name
        if name == ROUNDED:
            pixels = np.load(tmp_path / f"{number}.npz")
            mean, most = apart(expected.pixels, [pixels[key] for key in pixels.files])
            assert most < 1e-5
            same[name] = f"targets and plans bit-exact; normalised pictures: mean {mean:.1g}, max {most:.1g}"
        else:
            assert facts["images"] == expected.images, name
            same[name] = "bit-exact"
    assert found["numpy's code for any processor"]["numpy"] == []
    assert found[ROUNDED]["torch"] == "DEFAULT"


def test_pipelines_are_close(make: Make, same: dict[str, str], thorough: bool) -> None:
    """Their targets and plans are the same; pictures differ by how they decode and scale."""
    kinds = ["cpu", "pillow"] + (["dali"] if importlib.util.find_spec("nvidia.dali") else [])
    drawn = {kind: draw(make(pipeline=kind, **PLAIN)) for kind in kinds}
    for kind, most_apart in (("cpu", 4), ("dali", 28)):  # as in tests/pipelines/test_same_picture.py
        if kind not in drawn:
            continue
        assert drawn[kind].targets == drawn["pillow"].targets
        assert drawn[kind].plans == drawn["pillow"].plans
        mean, most = apart(drawn[kind].pixels, drawn["pillow"].pixels)
        assert mean < 1
        assert most <= most_apart + 0.01
        same[f"`{kind}` and `pillow`"] = f"targets and plans bit-exact; mean {mean:.2g} / 255, max {most:.0f} / 255"
