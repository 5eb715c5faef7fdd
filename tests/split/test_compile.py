"""A whole training step compiles into one graph, with the split, the scoring and the recording in it."""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from helpers.transformers import of_timm, of_torchvision
from torch import Tensor, nn

from mixloader.ledger import LossLedger
from mixloader.split import SLOTS, SplitLoss, SplitTarget, split_model

CLASSES, SAMPLES = 10, 64


def small_model() -> nn.Module:
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 16, 8, 8, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()
    )
    return split_model((body, nn.Linear(16, CLASSES)))


def batches(kind: type[SplitTarget], count: int = 3, size: int = 64) -> list[tuple[Tensor, SplitTarget]]:
    """Batches of three canvases: halves, whole and empty; every batch draws other samples."""
    order = torch.randperm(SAMPLES)
    made = []
    for batch in range(count):
        images = torch.randn(3, 4, size, size).contiguous(memory_format=torch.channels_last)
        images[:, 3] = 0
        images[0, 3, :, size // 2 :] = 1
        images[2, 3] = -1
        filled = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]).bool()
        ids = torch.full((3, SLOTS), -1)
        ids[filled] = order[3 * batch : 3 * batch + 3]
        target = kind(
            {
                "labels": (ids % CLASSES).where(filled, -100),
                "ids": ids,
                "weights": filled.float(),
                "norms": filled.float(),
                "shares": torch.tensor([[0.5, 0.5, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]),
            }
        )
        made.append((images, target))
    return made


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


def graphs() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.mark.parametrize(  # inductor is slow to compile: once is enough
    ("backend", "autocast"), [("aot_eager", False), ("aot_eager", True), ("inductor", True)]
)
def test_a_compiled_step_does_and_records_what_an_eager_one_does(backend: str, autocast: bool) -> None:
    model = small_model()
    twin = copy.deepcopy(model)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1, weight=torch.rand(CLASSES) + 0.5)
    ledger, other = LossLedger(SAMPLES), LossLedger(SAMPLES)
    target_type, other_type = SplitTarget.bound(ledger), SplitTarget.bound(other)

    def step(network: nn.Module, images: Tensor, target: SplitTarget) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return criterion(network(images), target)

    compiled = torch.compile(step, backend=backend, fullgraph=True)
    drawn = []
    for epoch in range(2):
        ledger.begin(epoch), other.begin(epoch)
        for images, target in batches(target_type):
            drawn.append(target["ids"])
            loss = compiled(model, images, target)
            loss.backward()
            expected = step(twin, images, other_type(target))
            expected.backward()
            torch.testing.assert_close(loss, expected, rtol=0.02 if autocast else 1e-5, atol=1e-5)
    assert graphs() == 1  # one for the run: not one a batch, not one an epoch
    torch.testing.assert_close(ledger.loss[:-1], other.loss[:-1], rtol=0.05, atol=0.02, equal_nan=True)
    assert torch.equal(ledger.seen[:-1], other.seen[:-1])
    seen = torch.cat([ids[ids >= 0] for ids in drawn]).unique()
    assert torch.equal(ledger.loss[:-1].isfinite().nonzero().flatten(), seen)
    for parameter, same in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, same.grad, rtol=0.05, atol=0.05 if autocast else 1e-4)


@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (small_model, (64, 96, 64)),
        (lambda: split_model(of_torchvision(), isolate=True), (64,)),
    ],
)
def test_a_compiled_model_follows_training_and_eval_and_other_canvas_sizes(
    make: Callable[[], nn.Module], sizes: tuple[int, ...]
) -> None:
    model = make()
    twin = copy.deepcopy(model)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for size in sizes:
        images, _ = batches(SplitTarget, 1, size)[0]
        for given in (images, images[:, :3]):
            torch.testing.assert_close(compiled(given), twin(given))
    compiled.eval(), twin.eval()
    assert compiled(images).shape == (3, CLASSES)
    torch.testing.assert_close(compiled(images), twin(images))


@pytest.mark.parametrize(
    ("make", "isolate", "backend"),
    [
        (of_torchvision, False, "aot_eager"),
        (partial(of_torchvision, depth=1), True, "inductor"),
        (of_timm, True, "aot_eager"),
        (partial(of_timm, global_pool="avg"), False, "aot_eager"),
    ],
)
def test_a_transformer_compiles_into_one_graph(make: Callable[[], nn.Module], isolate: bool, backend: str) -> None:
    torch.manual_seed(0)
    model = split_model(make().train(), isolate=isolate)
    twin = copy.deepcopy(model)
    step = torch.compile(lambda network, images: network(images), backend=backend, fullgraph=True)
    for images, _ in batches(SplitTarget, 2):
        logits, expected = step(model, images), twin(images)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
        logits.square().mean().backward(), expected.square().mean().backward()
    assert graphs() == 1
    for parameter, same in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, same.grad, rtol=1e-3, atol=1e-3)


def test_split_loss_and_unsplit_logits_compile_too() -> None:
    ledger = LossLedger(SAMPLES)
    model = nn.Linear(5, CLASSES)
    criterion = SplitLoss(nn.NLLLoss())
    step = torch.compile(
        lambda features, target: criterion(model(features).log_softmax(-1), target), backend="aot_eager", fullgraph=True
    )
    for _, target in batches(SplitTarget.bound(ledger)):
        step(torch.randn(3, 5), target).backward()
    assert graphs() == 1
    assert ledger.loss[:-1].isfinite().sum() == 9


def test_bfloat16_logits_are_near_the_float32_ones() -> None:
    model = small_model()
    images, target = batches(SplitTarget, 1)[0]
    expected = model(images)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
    assert logits.dtype == torch.bfloat16
    occupied = target["labels"] >= 0
    torch.testing.assert_close(logits[occupied].float(), expected[occupied], rtol=0.02, atol=0.02)
