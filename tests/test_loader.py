"""The loader: what a training loop gets from it, and what it refuses."""

from __future__ import annotations

import io
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.images import cls_members, jpeg, write_tar
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mixloader.errors import MixloaderError, MixloaderWarning
from mixloader.ledger import LossLedger
from mixloader.loader import MixLoader
from mixloader.pipelines import Drawn
from mixloader.plan import Plan
from mixloader.policies import InfoBatch, MixTrain, Naive, Policy, Progressive, Whole
from mixloader.shards import ShardSet
from mixloader.split import SplitTarget, split_model

PLAIN: dict[str, Any] = {"mean": (0, 0, 0), "std": (1 / 255,) * 3}
"""Pixels as they were drawn, 0-255."""


@pytest.fixture(params=["dali", "pillow"])
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


class PlanDataset(Dataset[tuple[Tensor, int]]):
    """A plain torch data set of a plan's windows, on a plain order."""

    def __init__(self, shards: ShardSet, plan: Plan) -> None:
        self.shards, self.plan = shards, plan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        sample = self.shards[int(self.plan.sample[row])]
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(sample.data))).convert("RGB")
        box = tuple((self.plan.window[row] * np.tile(image.size, 2)).tolist())
        image = image.resize((self.plan.canvas_size,) * 2, Image.Resampling.BILINEAR, box=box)
        if self.plan.flip[row]:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float(), sample.label


def test_whole_batches_equal_a_plain_loaders(make: Callable[..., MixLoader], pipeline: str) -> None:
    loader = make(pipeline=pipeline, seed=3, **PLAIN)
    plain = DataLoader(PlanDataset(loader.shards, loader.plan), batch_size=7)
    steps = 0
    for (images, target), (expected, labels) in zip(loader, plain, strict=True):
        filled = target["labels"][:, 0] >= 0
        assert target["labels"][filled, 0].tolist() == labels.tolist()
        assert filled[: len(labels)].all()
        assert (images[filled, :3] - expected).abs().mean() < 1
        steps += 1
    assert steps == len(loader) == 4


def test_unshuffled_and_unaugmented_it_is_a_validation_loader(make: Callable[..., MixLoader]) -> None:
    loader = make(shuffle=False, augment=None)
    ids = [i for _, target in loader for i in target["ids"][:, 0].tolist()]
    assert ids == [*range(24), *[-1] * 4]


def test_a_short_last_batch_is_padded_with_empty_canvases(make: Callable[..., MixLoader], pipeline: str) -> None:
    loader = make(pipeline=pipeline, **PLAIN)
    batches = [(images.clone(), target) for images, target in loader]
    assert {tuple(images.shape) for images, _ in batches} == {(7, 4, 64, 64)}
    images, target = batches[-1]
    assert (target["labels"][:3, 0] >= 0).all()
    assert (target["labels"][3:] == -100).all()
    assert (target["ids"][3:] == -1).all()
    assert not target["weights"][3:].any()
    assert not target["shares"][3:].any()
    assert not images[3:, :3].any()
    assert (images[3:, 3] == -1).all()


def test_drop_last_leaves_the_short_batch_out(make: Callable[..., MixLoader]) -> None:
    loader = make(drop_last=True)
    targets = [target for _, target in loader]
    assert len(targets) == len(loader) == 3
    assert all((target["labels"][:, 0] >= 0).all() for target in targets)


@pytest.mark.parametrize("policy", [Naive(), Naive("blend"), Progressive(packed=True), Progressive()], ids=repr)
def test_targets_and_region_maps_say_what_the_plan_says(make: Callable[..., MixLoader], policy: Policy) -> None:
    loader = make(policy=policy, stride=16)
    plan, labels = loader.plan, loader.shards.labels
    for b, (images, target) in enumerate(loader):
        batch = plan.batch(b)
        side = batch.canvas_size
        assert images.shape == (batch.canvases_per_batch, 4, side, side)
        expected = torch.full((batch.canvases_per_batch, side, side), -1.0)
        slots = {name: torch.zeros(batch.canvases_per_batch, 4) for name in ("weights", "shares")}
        slots |= {"labels": torch.full(slots["weights"].shape, -100), "ids": torch.full(slots["weights"].shape, -1)}
        for row in reversed(range(len(batch))):  # the first of a blend is the map's
            canvas, slot = int(batch.canvas[row]), int(batch.slot[row])
            x0, y0, x1, y1 = batch.region[row]
            expected[canvas, y0:y1, x0:x1] = slot
            sample = int(batch.sample[row])
            slots["ids"][canvas, slot], slots["labels"][canvas, slot] = sample, int(labels[sample])
            slots["weights"][canvas, slot] = 1
            slots["shares"][canvas, slot] = float(batch.shares[row])
        assert torch.equal(images[:, 3], expected)
        assert {name: value.dtype for name, value in target.items()} == {
            "labels": torch.int64,
            "ids": torch.int64,
            "weights": torch.float32,
            "shares": torch.float32,
        }
        for name, value in slots.items():
            assert torch.equal(target[name], value.to(target[name].dtype)), name


@pytest.mark.parametrize("channels", [3, 4])
def test_images_are_channels_last(make: Callable[..., MixLoader], channels: int) -> None:
    for images, _ in make(region_map=channels == 4):
        assert images.shape == (7, channels, 64, 64)
        assert images.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_without_a_region_map_the_picture_is_the_same(make: Callable[..., MixLoader]) -> None:
    for (mapped, _), (plain, _) in zip(make(), make(region_map=False), strict=True):
        assert torch.equal(mapped[:, :3], plain)


def test_mean_and_std_normalise(make: Callable[..., MixLoader]) -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    shape = (1, 3, 1, 1)
    for (raw, _), (scaled, _) in zip(make(**PLAIN), make(mean=mean, std=std), strict=True):
        expected = (raw[:, :3] / 255 - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
        assert torch.allclose(scaled[:, :3], expected, atol=1e-5)
        assert torch.equal(scaled[:, 3], raw[:, 3])


def test_a_transform_sees_the_normalised_picture_alone(make: Callable[..., MixLoader]) -> None:
    seen = []

    def negative(images: Tensor) -> Tensor:
        seen.append(tuple(images.shape))
        return -images

    for (turned, _), (images, _) in zip(make(transform=negative), make(), strict=True):
        assert torch.equal(turned[:, :3], -images[:, :3])
        assert torch.equal(turned[:, 3], images[:, 3])
    assert set(seen) == {(7, 3, 64, 64)}


def test_a_failing_transform_fails_the_step_with_its_own_error(make: Callable[..., MixLoader]) -> None:
    def broken(images: Tensor) -> Tensor:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        next(iter(make(transform=broken)))


def ids_of(batches: Any) -> list[list[int]]:
    return [target["ids"].flatten().tolist() for _, target in batches]


def test_peeking_does_not_use_up_an_epoch(make: Callable[..., MixLoader]) -> None:
    loader, fresh = make(), make()
    first = ids_of([next(iter(loader))])
    assert ids_of([next(iter(loader))]) == first
    assert ids_of(loader) == ids_of(fresh)
    assert ids_of(loader) == ids_of(fresh)


def test_leaving_an_epoch_after_its_second_batch_uses_it_up(make: Callable[..., MixLoader]) -> None:
    loader, fresh = make(), make()
    for step, _ in enumerate(loader):
        if step == 1:
            break
    ids_of(fresh)
    assert ids_of(loader) == ids_of(fresh)


def test_an_epoch_of_one_batch_counts(make: Callable[..., MixLoader]) -> None:
    loader = make(batch_size=24, epochs=2)
    assert ids_of(loader) != ids_of(loader)
    with pytest.raises(MixloaderError, match="epoch 2 is outside the run"):
        iter(loader)


def test_running_on_beyond_the_run_is_an_error_that_says_so(make: Callable[..., MixLoader]) -> None:
    loader = make(epochs=2)
    for _ in range(2):
        for _ in loader:
            pass
    with pytest.raises(MixloaderError, match="epoch 2 is outside the run: it was planned for epochs=2") as caught:
        for _ in loader:
            pass
    assert "\n" not in str(caught.value)
    loader.set_epoch(1)
    assert len(list(loader)) == 4


def test_an_open_run_goes_on_and_on(make: Callable[..., MixLoader]) -> None:
    loader = make(epochs=None, batch_size=24)
    orders = [ids_of(loader)[0] for _ in range(4)]
    assert len({tuple(order) for order in orders}) == 4


def test_set_epoch_replays_an_epoch(make: Callable[..., MixLoader]) -> None:
    loader = make()
    first, second = ids_of(loader), ids_of(loader)
    loader.set_epoch(0)
    assert ids_of(loader) == first
    assert ids_of(loader) == second
    with pytest.raises(MixloaderError, match="epoch 8 is outside"):
        loader.set_epoch(8)


@pytest.mark.parametrize("options", [{"threads": 3}, {"prefetch": 1}, {"prefetch": 9, "threads": 2}])
def test_threads_and_prefetch_change_nothing(
    make: Callable[..., MixLoader], pipeline: str, options: dict[str, int]
) -> None:
    with_options = make(pipeline=pipeline, policy=Naive(), seed=5, **options)
    for (images, target), (others, other) in zip(
        with_options, make(pipeline=pipeline, policy=Naive(), seed=5), strict=True
    ):
        assert torch.equal(images, others)
        assert torch.equal(target["ids"], other["ids"])


def test_another_seed_gives_another_order(make: Callable[..., MixLoader]) -> None:
    assert ids_of(make(seed=1)) != ids_of(make(seed=2))


def test_two_iterations_at_once_do_not_disturb_each_other(make: Callable[..., MixLoader], pipeline: str) -> None:
    expected = [images.clone() for images, _ in make(pipeline=pipeline, image_size=224)]
    loader = make(pipeline=pipeline, image_size=224)
    kept = iter(loader)  # peeked at, and kept: it goes on drawing ahead
    first = next(kept)[0]
    for images, other in zip(loader, expected, strict=True):
        assert torch.equal(images[0], other)
    assert torch.equal(first, expected[0])
    assert torch.equal(next(kept)[0], expected[1])


class Careful:
    """A pipeline of the user's own; it notes when a call comes before the last one has ended."""

    lanes = 1

    def __init__(self) -> None:
        self.busy, self.overlapped, self.closed = False, False, False

    def draw(self, batch: Plan) -> Drawn:
        self.overlapped |= self.busy
        self.busy = True
        time.sleep(0.005)
        self.busy = False
        shape = (batch.canvases_per_batch, batch.canvas_size, batch.canvas_size, 3)
        return Drawn(torch.full(shape, 51, dtype=torch.uint8))

    def close(self) -> None:
        self.overlapped |= self.busy
        self.closed = True


def test_a_pipeline_of_ones_own_is_called_one_at_a_time_and_closed(make: Callable[..., MixLoader]) -> None:
    mine = Careful()
    loader = make(pipeline=mine, batch_size=2, prefetch=9, mean=(0, 0, 0), std=(1, 1, 1))
    kept = iter(loader)
    next(kept)
    assert all(torch.allclose(images[:, :3], torch.tensor(0.2)) for images, _ in loader)
    kept = iter(loader)
    next(kept)
    loader.close()
    assert mine.closed
    assert not mine.overlapped


POLICIES = [Whole(), Naive(), Naive("blend"), MixTrain(speedup=1.3, early=0), MixTrain(packed=True), InfoBatch()]


def network() -> nn.Module:
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 8, 16, 16), nn.ReLU())
    return split_model((features, nn.Linear(8, 3)))


def train_epoch(loader: MixLoader, model: nn.Module) -> dict[int, float]:
    """Train an epoch; the losses by hand from the logits of every step."""
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    by_hand = {}
    for images, target in loader:
        logits = model(images)
        for canvas, slot in (target["ids"] >= 0).nonzero().tolist():
            row, label = logits[canvas, slot].detach(), target["labels"][canvas, slot]
            by_hand[int(target["ids"][canvas, slot])] = float(F.cross_entropy(row, label, label_smoothing=0.1))
        optimizer.zero_grad()
        criterion(logits, target).backward()
        optimizer.step()
    return by_hand


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_the_ledger_holds_the_losses_of_those_that_were_drawn(make: Callable[..., MixLoader], policy: Policy) -> None:
    loader, model = make(policy=policy, stride=16, batch_size=8), network().train()
    last: dict[int, tuple[float, int]] = {}
    for epoch in range(3):
        by_hand = train_epoch(loader, model)
        assert set(by_hand) == set(loader.plan.sample.tolist())
        last |= {sample: (loss, epoch) for sample, loss in by_hand.items()}
        got = loader.ledger.snapshot()
        assert got.seen.tolist() == [last[i][1] for i in range(24)]
        assert got.loss.tolist() == pytest.approx([last[i][0] for i in range(24)], rel=1e-4)
    if isinstance(policy, InfoBatch):
        assert len(set(got.seen)) > 1


def test_two_loaders_keep_their_losses_apart(make: Callable[..., MixLoader]) -> None:
    one, other, model = make(seed=1), make(seed=2), network().train()
    for (images, target), (more, another) in zip(one, other, strict=True):
        F.cross_entropy(model(images), target)
        F.cross_entropy(model(more) + 100, SplitTarget({**another}))  # not bound: recorded nowhere
    assert one.ledger.snapshot().known.all()
    assert not other.ledger.snapshot().known.any()


def test_validation_records_nothing(make: Callable[..., MixLoader]) -> None:
    loader, model = make(), network().train()
    with torch.no_grad():
        for images, target in loader:
            F.cross_entropy(model(images), target)
    assert not loader.ledger.snapshot().known.any()


def test_a_state_between_two_epochs_gives_the_same_next_epoch(make: Callable[..., MixLoader]) -> None:
    policy = MixTrain(speedup=1.3, early=0)
    loader, model = make(policy=policy, stride=16), network().train()
    train_epoch(loader, model)
    train_epoch(loader, model)
    resumed = make(policy=policy, stride=16)
    assert ids_of([next(iter(resumed))])
    resumed.load_state_dict(loader.state_dict())
    for (images, target), (others, other) in zip(loader, resumed, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(target["ids"], other["ids"])
    unseen = make(policy=policy, stride=16)
    unseen.set_epoch(2)
    assert not np.array_equal(unseen.plan.sample, loader.plan.sample)  # it was the losses that made the plan


def test_the_state_of_another_run_is_refused(make: Callable[..., MixLoader], tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", cls_members([0, 1, 2] * 8))
    states = [make(tmp_path).state_dict(), make(seed=4).state_dict(), make(policy=Naive()).state_dict(), {}]
    states += [{name: value for name, value in make().state_dict().items() if name != "epoch"}]
    loader = make()
    for state in states:
        with pytest.raises(MixloaderError) as caught:
            loader.load_state_dict(state)
        assert "\n" not in str(caught.value)
    loader.load_state_dict(make().state_dict())


def test_the_plan_can_be_read_before_the_epoch(make: Callable[..., MixLoader]) -> None:
    loader = make(policy=Naive())
    before = loader.plan
    assert [sorted(i for i in ids if i >= 0) for ids in ids_of(loader)] == [
        sorted(before.batch(b).sample.tolist()) for b in range(4)
    ]
    assert loader.cost(0) == before.cost == 16
    assert loader.total_cost == 128


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("mixloader")]


def test_no_thread_outlives_an_iteration_or_the_loader(make: Callable[..., MixLoader], pipeline: str) -> None:
    before = len(workers())
    loader = make(pipeline=pipeline)
    batches = iter(loader)
    next(batches)
    assert any(name.startswith("mixloader-draw") for name in workers())
    del batches
    assert not any(name.startswith("mixloader-draw") for name in workers())
    for _ in loader:
        pass
    assert not any(name.startswith("mixloader-draw") for name in workers())
    loader.close()
    loader.close()
    assert len(workers()) == before


def test_a_closed_loader_cannot_be_iterated_over(make: Callable[..., MixLoader], pipeline: str) -> None:
    loader = make(pipeline=pipeline)
    under_way = iter(loader)
    next(under_way)
    loader.close()
    with pytest.raises(MixloaderError, match="closed"):
        list(under_way)
    with pytest.raises(MixloaderError, match="closed"):
        list(loader)


def damaged(folder: Path) -> Path:
    """24 samples, of which the sixth is a web page and the eighth is cut off."""
    members = cls_members([i % 3 for i in range(24)])
    members[10] = (members[10][0], b"<html>404</html>")
    members[14] = (members[14][0], jpeg(80, 60)[:700])
    write_tar(folder / "web.tar", members)
    return folder


def test_an_undecodable_image_is_an_empty_slot_and_one_warning(
    make: Callable[..., MixLoader], pipeline: str, tmp_path: Path
) -> None:
    loader = make(damaged(tmp_path), pipeline=pipeline, policy=Naive(), **PLAIN)
    with pytest.warns(MixloaderWarning) as caught:
        batches = [(images.clone(), target) for images, target in loader]
    messages = sorted(str(warning.message) for warning in caught)
    assert len(messages) == 2
    for message, sample in zip(messages, (5, 7), strict=True):
        assert message.startswith(f"sample {sample} (web.tar: member '000{sample}'")
        assert "cannot be decoded" in message
        assert "\n" not in message
    assert set(loader.failed) == {5, 7}
    drawn = sorted(i for _, target in batches for i in target["ids"].flatten().tolist() if i >= 0)
    assert drawn == [i for i in range(24) if i not in (5, 7)]
    plan = loader.plan
    for sample in (5, 7):
        row = int(np.flatnonzero(plan.sample == sample)[0])
        images, target = batches[plan.canvas[row] // 4]
        canvas, slot = plan.canvas[row] % 4, plan.slot[row]
        x0, y0, x1, y1 = plan.region[row]
        assert not images[canvas, :3, y0:y1, x0:x1].any()
        assert (images[canvas, 3, y0:y1, x0:x1] == slot).all()
        assert target["labels"][canvas, slot] == -100
        assert target["weights"][canvas, slot] == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(loader)) == 4  # not again


def test_training_goes_on_over_undecodable_images(make: Callable[..., MixLoader], tmp_path: Path) -> None:
    loader, model = make(damaged(tmp_path), stride=16), network().train()
    with pytest.warns(MixloaderWarning, match="cannot be decoded"):
        losses = train_epoch(loader, model)
    assert np.isfinite(list(losses.values())).all()
    assert np.flatnonzero(~loader.ledger.snapshot().known).tolist() == [5, 7]


def test_a_step_of_nothing_but_undecodable_images_trains_nothing(
    make: Callable[..., MixLoader], pipeline: str, tmp_path: Path
) -> None:
    members = [(name, b"" if name.endswith("jpg") else data) for name, data in cls_members([0, 1, 2])]
    write_tar(tmp_path / "a.tar", members)
    loader, model = make(tmp_path, batch_size=3, stride=16, pipeline=pipeline), network().train()
    with pytest.warns(MixloaderWarning):
        ((images, target),) = list(loader)
    loss = F.cross_entropy(model(images), target)
    loss.backward()
    assert loss == 0
    assert all((p.grad == 0).all() for p in model.parameters() if p.grad is not None)


def test_a_shard_set_can_be_shared(make: Callable[..., MixLoader], shards: Path) -> None:
    opened = ShardSet(shards)
    one, other = make(opened), make(opened)
    assert ids_of(one) == ids_of(other)
    assert one.shards is other.shards is opened


BAD_ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ({"image_size": 100}, "image_size=100 is not a multiple of stride=32.*image_size=96 or 128"),
    ({"stride": 0}, "stride must be at least 1"),
    ({"epochs": 0}, "epochs must be at least 1"),
    ({"batch_size": 25, "drop_last": True}, "24 samples are fewer than batch_size=25"),
    ({"policy": Whole}, "pass an instance"),
    ({"policy": "mixtrain"}, "pass an instance"),
    ({"policy": MixTrain(speedup=9)}, "speedup=9 is impossible here"),
    ({"policy": MixTrain(), "epochs": None}, "tell the loader its length, epochs="),
    ({"seed": -1}, "seed must be at least 0"),
    ({"threads": 0}, "threads must be at least 1"),
    ({"prefetch": 0}, "prefetch must be at least 1"),
    ({"std": (1, 0, 1)}, "std must be above 0"),
    ({"std": (1, -1, 1)}, "std must be above 0"),
    ({"std": (1, float("nan"), 1)}, "std must be above 0"),
    ({"mean": (0, 0)}, "mean needs a value for each of 3 channels"),
    ({"mean": 0.5}, "mean needs a value for each of 3 channels"),
    ({"std": 0.5}, "std needs a value for each of 3 channels"),
    ({"pipeline": "ffmpeg"}, "pipeline='ffmpeg' is unknown: take 'dali' or 'pillow'"),
    ({"pipeline": None}, "pipeline=None is unknown"),
    ({"device": "gpu"}, "device='gpu' is no device"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS, ids=lambda value: str(value)[:40])
def test_an_argument_that_cannot_be_used_is_refused_in_one_line(
    make: Callable[..., MixLoader], arguments: dict[str, Any], message: str
) -> None:
    before = workers()
    with pytest.raises(MixloaderError, match=message) as caught:
        make(**arguments)
    assert "\n" not in str(caught.value)
    assert workers() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_gpu_is_an_error_that_says_so(make: Callable[..., MixLoader]) -> None:
    with pytest.raises(MixloaderError, match="finds no CUDA device here; take device='cpu'"):
        make(device="cuda")


def test_shards_that_are_not_there_are_refused_in_one_line(make: Callable[..., MixLoader], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    labelled = tmp_path / "labelled"
    write_tar(labelled / "a.tar", cls_members([0, 5]))
    (labelled / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "file").write_text("")
    for path, message in (
        (tmp_path / "gone", "does not exist"),
        (tmp_path / "empty", "holds no .tar files"),
        (tmp_path / "file", "is a file"),
        (labelled, "5"),
    ):
        with pytest.raises(MixloaderError, match=message) as caught:
            make(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_the_ledger_of_another_data_set_is_refused(
    make: Callable[..., MixLoader], shards: Path, tmp_path: Path
) -> None:
    same = tmp_path / "same"
    shutil.copytree(shards, same)
    write_tar(tmp_path / "other" / "a.tar", cls_members([0, 1, 2] * 8))
    saved = tmp_path / "ledger.npz"
    make().ledger.save(saved)
    make(same).ledger.load(saved)  # wherever it lies
    other: LossLedger = make(tmp_path / "other").ledger
    with pytest.raises(MixloaderError, match="of another data set") as caught:
        other.load(saved)
    assert "\n" not in str(caught.value)


def test_drawing_ahead_stops_at_prefetch(make: Callable[..., MixLoader]) -> None:
    """A slow network must not make the loader fill the memory with batches."""
    drawn: list[int] = []
    loader = make(batch_size=1, prefetch=3, transform=lambda images: drawn.append(1) or images)
    batches = iter(loader)
    next(batches)
    time.sleep(0.5)
    assert 1 < len(drawn) <= 4
