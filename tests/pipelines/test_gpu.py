"""Drawing on a GPU: the same picture, on the device, without a wait. Needs a CUDA device and DALI."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.images import encoded, write_tar
from helpers.pictures import gallery, photo, picture_of, samples, sizes_of
from helpers.runs import PAIRS, build_plan, random_losses
from torch import Tensor, nn

from mixloader.batch import region_map
from mixloader.errors import MixloaderWarning
from mixloader.loader import MixLoader
from mixloader.pipelines.cpu import CpuPipeline
from mixloader.plan import Plan
from mixloader.planning import Augment
from mixloader.policies import Naive, Policy, Progressive, Run, Whole
from mixloader.shards import ShardSet
from mixloader.split import split_model
from mixloader.tools.vision import import_torchvision

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device, and torch finds none here", allow_module_level=True)
pytest.importorskip("nvidia.dali", reason="needs DALI, which is not installed here")
from mixloader.pipelines.dali import DaliPipeline

CUDA = torch.device("cuda", 0)
LOOKS: dict[str, Policy] = {
    "whole": Whole(),
    "pairs": Naive(),
    "quads": Progressive(until=1, packed=True),
    "blends": Naive("blend"),
}
LOSSLESS = ("png", "bmp", "tiff", "ppm", "gray png", "rgba", "noise", "large noise", "turned png")

# Where a picture is made smaller, the filter reaches over the window's border: there DALI sees the border again.
# JPEG decoders of GPUs enlarge the colour planes in another way, which shows at edges between colours.
MOST_APART = {"lossless": 28, "lossy": 64}


def plan_for(pictures: list[bytes], policy: Policy, batch_size: int = 7, size: int = 224) -> Plan:
    run = Run(len(pictures), batch_size, size, 32, 8)
    allocation = policy.allocate(run, 1, random_losses(0, len(pictures)), np.random.default_rng(0))
    budget = policy.budget(run, 1)
    return build_plan(allocation, run, sizes_of(pictures), seed=1, epoch=1, budget=budget, augment=Augment())


@contextmanager
def no_host_sync() -> Iterator[None]:
    """Whatever makes the host wait for the device is an error, on every thread: the mode is the process's."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def small_network() -> nn.Module:
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 8, 16, 16), nn.ReLU())
    return split_model((features, nn.Linear(8, 3))).to(CUDA).train()


def open_loader(shards: Path | ShardSet, **options: Any) -> MixLoader:
    defaults: dict[str, Any] = {"policy": PAIRS, "stride": 16, "epochs": 8, "threads": 2, "device": CUDA, "seed": 3}
    return MixLoader(shards, 7, 64, **(defaults | options))


@pytest.mark.parametrize("look", LOOKS)
def test_the_gpu_draws_what_the_cpu_pipeline_draws(look: str) -> None:
    names, pictures = list(gallery()), list(gallery().values())
    shards, plan = samples(pictures), plan_for(pictures, LOOKS[look])
    on_gpu, on_cpu = DaliPipeline(shards, device=CUDA, threads=2), CpuPipeline(shards, threads=1)
    for b in range(plan.batches):
        batch = plan.batch(b)
        drawn = on_gpu.draw(batch)
        assert drawn.failed == {}
        assert drawn.canvases.device == CUDA
        picture, expected = picture_of(drawn).cpu(), picture_of(on_cpu.draw(batch))
        assert (picture.shape, picture.dtype) == (expected.shape, expected.dtype)
        apart = (picture.float() - expected.float()).abs()
        for row, (x0, y0, x1, y1) in enumerate(batch.region.tolist()):
            name = names[batch.sample[row]]
            here = apart[batch.canvas[row], y0:y1, x0:x1]
            assert here[2:-2, 2:-2].mean() < 1, name
            assert here.max() <= MOST_APART["lossless" if name in LOSSLESS else "lossy"], name
            if name in LOSSLESS and look != "blends":  # a blend's region shows both
                assert here[2:-2, 2:-2].max() <= 4, name
    on_gpu.close()


def test_batches_arrive_on_the_device_channels_last_with_the_region_map(shards: Path) -> None:
    with open_loader(shards) as loader:
        for _ in range(2):
            for b, (images, target) in enumerate(loader):
                batch = loader.plan.batch(b)
                assert images.shape == (batch.canvases_per_batch, 4, batch.canvas_size, batch.canvas_size)
                assert (images.device, images.dtype) == (CUDA, torch.float32)
                assert images.is_contiguous(memory_format=torch.channels_last)
                assert torch.equal(images[:, 3].cpu(), region_map(batch, torch.device("cpu")))
                assert {value.device for value in target.values()} == {CUDA}
                drawn = target["ids"][target["ids"] >= 0]
                assert sorted(drawn.tolist()) == sorted(batch.sample.tolist())
                assert (target["labels"][target["ids"] >= 0].cpu().numpy() == loader.shards.labels[drawn.cpu()]).all()


def test_the_cpu_pipeline_feeds_a_gpu_with_the_same_batches(shards: Path) -> None:
    with open_loader(shards, pipeline="cpu") as there, open_loader(shards, pipeline="cpu", device="cpu") as here:
        for (images, target), (expected, labels) in zip(there, here, strict=True):
            assert images.device == CUDA
            assert torch.allclose(images.cpu(), expected, atol=1e-5)
            assert all(torch.equal(target[name].cpu(), labels[name]) for name in labels)


@pytest.mark.parametrize("pipeline", ["dali", "cpu"])
def test_an_epoch_never_makes_the_host_wait_for_the_device(shards: Path, pipeline: str) -> None:
    """Neither the training thread nor those that draw; the ledger is read once, when the epoch is planned."""
    model = small_network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def train(images: Tensor, target: Any) -> None:
        with torch.autocast("cuda", torch.bfloat16):
            logits = model(images)
        F.cross_entropy(logits, target, label_smoothing=0.1).backward()
        optimizer.step()
        optimizer.zero_grad()

    with open_loader(shards, pipeline=pipeline) as loader:
        for images, target in loader:  # graphs are built, memory is taken, kernels are loaded
            train(images, target)
        batches = iter(loader)
        with no_host_sync():
            for images, target in batches:
                train(images, target)
        losses = loader.ledger.snapshot()
        assert set(np.flatnonzero(losses.seen == 1).tolist()) == set(loader.plan.sample.tolist())
        assert np.isfinite(losses.loss).all()


@pytest.mark.parametrize("pipeline", ["dali", "cpu"])
def test_nothing_is_overwritten_while_the_device_still_reads_it(shards: Path, pipeline: str) -> None:
    """The loop runs far ahead of the device, and lets go of each batch before the device has come to it."""
    with open_loader(shards, pipeline=pipeline) as loader:
        expected = []
        for images, target in loader:
            torch.cuda.synchronize()
            expected.append((images.clone(), target["ids"].clone()))
            torch.cuda.synchronize()
    torch.cuda._sleep(200_000_000)  # the loader's constants are made behind this
    with open_loader(shards, pipeline=pipeline, prefetch=2) as loader:
        copies = []
        for images, target in loader:
            torch.cuda._sleep(50_000_000)  # cycles: some tens of milliseconds
            copies.append((images.clone(), target["ids"].clone()))
            del images, target
        torch.cuda.synchronize()
        for (images, ids), (others, other_ids) in zip(copies, expected, strict=True):
            assert torch.equal(ids, other_ids)
            assert torch.equal(images, others)


def test_batches_may_be_used_on_a_stream_of_ones_own(shards: Path) -> None:
    with open_loader(shards) as loader:
        expected = [images.cpu() for images, _ in loader]
    mine = torch.cuda.Stream(CUDA)
    with open_loader(shards) as loader, torch.cuda.stream(mine):
        copies = [images.clone() for images, _ in loader]
    mine.synchronize()
    assert all(torch.equal(copy.cpu(), images) for copy, images in zip(copies, expected, strict=True))


JPEG = encoded(photo(300, 200))
GOOD = [encoded(photo(100 + 20 * i, 120, seed=i), quality=95) for i in range(4)]
BAD = {
    "garbage": bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8)),
    "empty": b"",
    "half a JPEG": JPEG[: len(JPEG) // 2],
    "a JPEG's header": JPEG[:20],
    "half a PNG": encoded(photo(300, 200), "PNG")[:2000],
    "a web page": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
}


@pytest.mark.parametrize("name", BAD)
def test_what_nothing_decodes_costs_its_own_region_and_nothing_else(name: str) -> None:
    pictures = [*GOOD[:2], BAD[name], *GOOD[2:]]
    batch = plan_for(pictures, Progressive(until=1, packed=True), 5, 128).batch(0)
    pipeline = DaliPipeline(samples(pictures), device=CUDA, threads=2)
    healthy = DaliPipeline(samples([*GOOD[:2], GOOD[0], *GOOD[2:]]), device=CUDA, threads=2)
    for _ in range(2):  # again, as in the next epoch
        drawn = pipeline.draw(batch)
        assert list(drawn.failed) == [2]
        assert "\n" not in drawn.failed[2]
        expected = picture_of(healthy.draw(batch)).cpu()
        row = int(np.flatnonzero(batch.sample == 2)[0])
        x0, y0, x1, y1 = batch.region[row].tolist()
        expected[int(batch.canvas[row]), y0:y1, x0:x1] = 0
        assert torch.equal(picture_of(drawn).cpu(), expected)
    pipeline.close()
    healthy.close()


@pytest.mark.parametrize("kind", ["gif", "cmyk", "webp", "16 bit", "progressive", "exif 6"])
def test_what_only_a_cpu_decodes_is_drawn_all_the_same(kind: str) -> None:
    pictures = [gallery()[kind], *GOOD]
    shards, batch = samples(pictures), plan_for(pictures, Whole(), 5, 128).batch(0)
    on_gpu, on_cpu = DaliPipeline(shards, device=CUDA, threads=2), CpuPipeline(shards, threads=1)
    for _ in range(2):
        drawn = on_gpu.draw(batch)
        assert drawn.failed == {}
        apart = (picture_of(drawn).cpu().float() - picture_of(on_cpu.draw(batch)).float()).abs()
        assert (apart[:, 2:-2, 2:-2].mean(dim=(1, 2, 3)) < 1).all()
    on_gpu.close()


def test_a_run_goes_on_over_an_undecodable_image(tmp_path: Path) -> None:
    members = [("00.jpg", BAD["garbage"]), ("00.cls", b"0")]
    for i, picture in enumerate(GOOD, 1):
        members += [(f"{i:02d}.jpg", picture), (f"{i:02d}.cls", b"1")]
    write_tar(tmp_path / "a.tar", members)
    with open_loader(tmp_path, policy=Whole()) as loader:
        with pytest.warns(MixloaderWarning, match="sample 0 "):
            ((images, target),) = list(loader)
        assert sorted(target["ids"].flatten().tolist())[-4:] == [1, 2, 3, 4]
        assert (target["labels"] >= 0).sum() == 4
        assert images.isfinite().all()


def test_measurement_a_resnet50_is_not_kept_waiting(tmp_path: Path) -> None:
    """A measurement, of this GPU and these processor cores: a training step, and the same without drawing.

    The loss is read every step, as for a progress bar: only then is the loop's waiting also the device's.
    """
    pytest.importorskip("torchvision")
    pictures = [encoded(photo(500, 375, seed=seed), quality=90) for seed in range(64)]
    members = [
        (f"{i:05d}.{end}", data) for i in range(2560) for end, data in (("jpg", pictures[i % 64]), ("cls", b"1"))
    ]
    write_tar(tmp_path / "a.tar", members)
    model = split_model(import_torchvision().models.resnet50(num_classes=2))
    model = model.to(CUDA, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def seconds_of(loader: MixLoader) -> float:
        torch.cuda.synchronize()
        start = time.perf_counter()
        for images, target in loader:
            with torch.autocast("cuda", torch.bfloat16):
                logits = model(images)
            loss = F.cross_entropy(logits, target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            assert np.isfinite(loss.item())
        return time.perf_counter() - start

    options: dict[str, Any] = {"epochs": 4, "device": CUDA}
    with (
        MixLoader(tmp_path, 64, 224, **options) as loader,
        MixLoader(tmp_path, 64, 224, **options, headspace=True) as top,
    ):
        seconds_of(loader), seconds_of(top)  # kernels are chosen, the files come into memory
        best, mine = seconds_of(top), seconds_of(loader)
        stats = loader.stats()
    assert stats.batches == 40
    assert stats.waiting < 0.1, stats
    assert mine / best < 1.1, (mine, best, str(stats))
