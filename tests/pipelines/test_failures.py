"""What is no image's fault is an error, and one line; afterwards the pipeline draws as before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import cls_members, encoded, picture, write_tar
from helpers.loaders import drawing_threads
from helpers.runs import build_plan

from mixloader.errors import MixloaderError, ShardError
from mixloader.pipelines import Pipeline
from mixloader.pipelines.cpu import CpuPipeline
from mixloader.pipelines.pillow import PillowPipeline
from mixloader.plan import Plan
from mixloader.policies import Run, Whole
from mixloader.shards import ShardSet

pytest.importorskip("nvidia.dali")
from mixloader.pipelines import dali
from mixloader.pipelines.dali import DaliPipeline


@pytest.fixture(params=[CpuPipeline, DaliPipeline, PillowPipeline])
def pipeline(request: pytest.FixtureRequest, shard_set: ShardSet) -> Iterator[Pipeline]:
    made: Pipeline = request.param(shard_set, threads=2)
    yield made
    made.close()


@pytest.fixture
def shard_set(tmp_path: Path) -> ShardSet:
    """Samples 0-5 lie in a.tar, 6-11 in b.tar; neither is open yet."""
    for name in ("a", "b"):
        write_tar(tmp_path / f"{name}.tar", cls_members(range(6), prefix=name))
    assert len(ShardSet(tmp_path).sizes) == 12
    return ShardSet(tmp_path)


def plan_of(shards: ShardSet, batch_size: int = 4) -> Plan:
    run = Run(len(shards), batch_size, 64, 32, 8)
    whole = Whole().allocate(run, 0, None, np.random.default_rng(0))  # type: ignore[arg-type]
    return build_plan(whole, run, shards.sizes, seed=0, epoch=0, shuffle=False)


def test_a_sample_whose_shard_is_gone_is_left_out_until_it_is_back(pipeline: Pipeline, shard_set: ShardSet) -> None:
    plan = plan_of(shard_set)
    assert pipeline.draw(plan.batch(0)).failed == {}
    shard = shard_set.path / "b.tar"
    data = shard.read_bytes()
    shard.unlink()
    for problem in ("b.tar cannot be opened", "truncated or was replaced"):
        failed = pipeline.draw(plan.batch(1)).failed
        assert sorted(failed) == [6, 7]  # what of the batch was in it
        assert all(problem in reason and "\n" not in reason for reason in failed.values())
        shard.write_bytes(data[:-512])
    shard.write_bytes(data)
    drawn = pipeline.draw(plan.batch(1))
    assert drawn.failed == {}
    assert drawn.canvases.flatten(1).any(dim=1).all()


class Buggy(ShardSet):
    """Raises what no bad data raises, while it is told to."""

    raises: Exception | None = None

    def data(self, i: int, level: int = 0) -> memoryview:
        if self.raises is not None and i == 1:
            raise self.raises
        return super().data(i, level)


@pytest.mark.parametrize("kind", [CpuPipeline, DaliPipeline, PillowPipeline])
@pytest.mark.parametrize(
    "error", [TypeError("a bug"), RuntimeError("a bug"), IndexError("a bug"), OSError("a bug"), MemoryError("a bug")]
)
def test_a_programming_error_reaches_the_caller_and_is_no_image_s_fault(
    kind: type, error: Exception, shard_set: ShardSet
) -> None:
    shards = Buggy(shard_set.path)
    pipeline, batch = kind(shards, threads=1), plan_of(shards).batch(0)
    for shards.raises in (error, error):
        with pytest.raises(type(error)) as caught:
            pipeline.draw(batch)
        assert caught.value is error
    shards.raises = None
    assert pipeline.draw(batch).failed == {}
    pipeline.close()


class Changing(ShardSet):
    """Sample 1 is another image than it was, while it is told to."""

    other: bytes | None = None

    def data(self, i: int, level: int = 0) -> memoryview:
        return super().data(i, level) if self.other is None or i != 1 else memoryview(self.other)


@pytest.mark.parametrize("kind", [CpuPipeline, DaliPipeline, PillowPipeline])
def test_an_image_that_only_pillow_decodes_may_go_bad_during_the_run(kind: type, shard_set: ShardSet) -> None:
    shards = Changing(shard_set.path)
    pipeline, batch = kind(shards, threads=1), plan_of(shards).batch(0)
    shards.other = encoded(picture(40, 30), "GIF")
    assert pipeline.draw(batch).failed == {}
    shards.other = b"GIF89a, no more"
    drawn = pipeline.draw(batch)
    assert list(drawn.failed) == [1]
    assert not drawn.canvases[1, ..., :3].any()
    assert drawn.canvases[0].any()
    pipeline.close()


def test_a_failure_of_dalis_own_is_one_line_and_blames_no_image(
    shard_set: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, batch = DaliPipeline(shard_set, threads=2), plan_of(shard_set).batch(0)
    healthy = pipeline.draw(batch).canvases.clone()

    def fail(self: object, feed: object) -> torch.Tensor:
        raise RuntimeError("Critical error in pipeline:\nout of memory\n  at allocate()")

    with monkeypatch.context() as patch:
        patch.setattr(dali.Graph, "run", fail)
        for _ in range(3):  # more often than there are graphs: none is lost
            with pytest.raises(MixloaderError, match=r"out of memory at allocate.*take smaller batches") as caught:
                pipeline.draw(batch)
            assert "\n" not in str(caught.value)
            assert "4 images on 4 canvases of 64 pixels on cpu" in str(caught.value)
            assert not isinstance(caught.value, ShardError)
    drawn = pipeline.draw(batch)
    assert drawn.failed == {}
    assert torch.equal(drawn.canvases, healthy)
    pipeline.close()


def test_all_are_pipelines_with_lanes(shard_set: ShardSet) -> None:
    """DALI draws two at once where a second thread has something to do, the others a batch on each thread."""
    lanes = {}
    for kind in (CpuPipeline, DaliPipeline, PillowPipeline):
        for threads in (1, 2, 3):
            pipeline = kind(shard_set, threads=threads)
            assert isinstance(pipeline, Pipeline)
            lanes[kind.__name__, threads] = pipeline.lanes
            pipeline.close()
    assert lanes == {
        **{("CpuPipeline", threads): threads for threads in (1, 2, 3)},
        **{("DaliPipeline", threads): min(threads, 2) for threads in (1, 2, 3)},
        **{("PillowPipeline", threads): threads for threads in (1, 2, 3)},
    }


def test_what_has_no_lanes_is_no_pipeline() -> None:
    class Old:
        def draw(self, batch: Plan) -> None: ...

        def close(self) -> None: ...

    assert not isinstance(Old(), Pipeline)


def test_closing_ends_the_threads(shard_set: ShardSet) -> None:
    before = drawing_threads()
    for kind in (CpuPipeline, DaliPipeline, PillowPipeline):
        pipeline = kind(shard_set, threads=3)
        pipeline.draw(plan_of(shard_set).batch(0))
        pipeline.close()
        pipeline.close()
    assert drawing_threads() == before
