"""The stock criterion and SplitLoss agree with sums done by hand, and the ledger holds what they found."""

import math
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mixloader.errors import MixloaderError
from mixloader.ledger import LossLedger
from mixloader.split import SLOTS, SplitLoss, SplitTarget

CLASSES, SAMPLES = 6, 50


def make_target(occupied: list[int], seed: int = 0, weighted: bool = True) -> SplitTarget:
    """A target whose canvas c holds occupied[c] constituents, each of its own id."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(occupied), SLOTS)
    filled = torch.arange(SLOTS) < torch.tensor(occupied).unsqueeze(1)
    ids = torch.randperm(SAMPLES, generator=generator)[: math.prod(shape)].view(shape)
    weights = 2 * torch.rand(shape, generator=generator) if weighted else torch.ones(shape)
    shares = torch.rand(shape, generator=generator) + 0.1
    return SplitTarget(
        {
            "labels": torch.randint(CLASSES, shape, generator=generator).where(filled, -100),
            "ids": ids.where(filled, -1),
            "weights": weights.where(filled, 0.0),
            "norms": weights.where(filled, 0.0),
            "shares": shares.where(filled, 0.0),
        }
    )


def record_in(target: SplitTarget) -> tuple[SplitTarget, LossLedger]:
    ledger = LossLedger(SAMPLES)
    return SplitTarget.bound(ledger)(target), ledger


def by_hand(logits: Tensor, target: SplitTarget, **options: Any) -> list[tuple[int, Tensor, Tensor, Tensor]]:
    """Of every constituent: its id, its loss, its factor and the class weight of its label."""
    found = []
    class_weight = options.get("weight")
    for canvas, slot in (target["labels"] >= 0).nonzero().tolist():
        label = target["labels"][canvas, slot]
        row = logits[canvas, slot] if logits.dim() == 3 else logits[canvas]
        loss = F.cross_entropy(row[None], label[None], reduction="sum", **options)
        factor = target["weights"][canvas, slot]
        if logits.dim() == 2:
            factor = factor * target["shares"][canvas, slot] / target["shares"][canvas].sum()
        norm = torch.tensor(1.0) if class_weight is None else class_weight[label]
        found.append((int(target["ids"][canvas, slot]), loss, factor, norm))
    return found


def test_the_mean_of_the_ranks_means_is_that_of_the_whole_batch() -> None:
    """Though they have as many canvases and not as many samples; with class weights as well as torch's own can be."""
    logits, target = torch.randn(6, SLOTS, CLASSES), make_target([4, 1, 0, 2, 1, 3])
    whole = F.cross_entropy(logits, target)
    parts = [
        (logits[rank::3], SplitTarget({name: value[rank::3] for name, value in target.items()})) for rank in range(3)
    ]
    total = target["weights"].sum()
    for _, part in parts:
        part["norms"] = part["weights"] * total / (3 * part["weights"].sum())
    mean = torch.stack([F.cross_entropy(rows, part) for rows, part in parts]).mean()
    torch.testing.assert_close(mean, whole)


occupancies = st.lists(st.integers(0, SLOTS), min_size=1, max_size=5).filter(any)


@settings(max_examples=60, deadline=None)
@given(occupancies, st.booleans(), st.booleans(), st.sampled_from([0.0, 0.1]), st.integers(0, 2**31))
def test_the_stock_criterion_is_the_sum_by_hand(
    occupied: list[int], split: bool, classes_weighted: bool, smoothing: float, seed: int
) -> None:
    torch.manual_seed(seed)
    target, ledger = record_in(make_target(occupied, seed))
    logits = torch.randn((len(occupied), SLOTS, CLASSES) if split else (len(occupied), CLASSES))
    options = {"label_smoothing": smoothing, "weight": torch.rand(CLASSES) + 0.5 if classes_weighted else None}
    rows = by_hand(logits, target, **options)
    total = sum(loss * factor for _, loss, factor, _ in rows)
    norm = sum(factor * class_weight for _, _, factor, class_weight in rows)
    torch.testing.assert_close(nn.CrossEntropyLoss(**options)(logits, target), total / norm)
    torch.testing.assert_close(nn.CrossEntropyLoss(**options, reduction="sum")(logits, target), total)
    each = nn.CrossEntropyLoss(**options, reduction="none")(logits, target)
    torch.testing.assert_close(each.sum(), total)
    assert each.shape == target["labels"].shape
    assert not each[target["labels"] < 0].any()
    expected = torch.full((SAMPLES,), float("nan"))
    for sample, loss, _, _ in rows:
        expected[sample] = loss
    torch.testing.assert_close(ledger.loss[:SAMPLES], expected, equal_nan=True)


@settings(max_examples=30, deadline=None)
@given(occupancies, st.booleans(), st.sampled_from([0.0, 0.2]))
def test_with_equal_weights_the_mean_is_torchs_own(
    occupied: list[int], classes_weighted: bool, smoothing: float
) -> None:
    target = make_target(occupied, weighted=False)
    logits = torch.randn(len(occupied), SLOTS, CLASSES)
    criterion = nn.CrossEntropyLoss(torch.rand(CLASSES) if classes_weighted else None, label_smoothing=smoothing)
    expected = criterion(logits.flatten(0, 1), target["labels"].flatten())
    torch.testing.assert_close(criterion(logits, target), expected)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, SLOTS), min_size=1, max_size=5), st.sampled_from([0.0, 0.2]))
def test_unsplit_logits_are_scored_against_the_soft_label(occupied: list[int], smoothing: float) -> None:
    target = make_target(occupied, weighted=False)
    soft = torch.zeros(len(occupied), CLASSES)
    soft.scatter_add_(1, target["labels"].clamp(min=0), target["shares"])
    soft /= soft.sum(1, keepdim=True)
    logits = torch.randn(len(occupied), CLASSES)
    criterion = nn.CrossEntropyLoss(label_smoothing=smoothing)
    torch.testing.assert_close(criterion(logits, target), criterion(logits, soft))


@pytest.mark.parametrize("shape", [(2, SLOTS, CLASSES), (2, CLASSES)])
@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss(), SplitLoss(nn.NLLLoss())])
def test_a_batch_of_empty_canvases_costs_nothing(shape: tuple[int, ...], criterion: nn.Module) -> None:
    target, ledger = record_in(make_target([0, 0]))
    logits = torch.randn(shape, requires_grad=True)
    loss = criterion(logits, target)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()
    assert ledger.loss[:SAMPLES].isnan().all()


def test_empty_slots_get_no_gradient() -> None:
    target = make_target([1, 3])
    logits = torch.randn(2, SLOTS, CLASSES, requires_grad=True)
    F.cross_entropy(logits, target).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad.abs().sum(-1) > 0, target["labels"] >= 0)


def test_the_loss_is_computed_and_recorded_in_float32() -> None:
    target, ledger = record_in(make_target([2, 1]))
    logits = torch.randn(2, SLOTS, CLASSES).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(logits, target)
    torch.testing.assert_close(loss, F.cross_entropy(logits.float(), target), rtol=1e-6, atol=0)
    assert loss.dtype == ledger.loss.dtype == torch.float32


def test_nothing_is_recorded_without_gradients_or_ledger() -> None:
    target, ledger = record_in(make_target([2, 1]))
    logits = torch.randn(2, SLOTS, CLASSES)
    with torch.no_grad():
        expected = F.cross_entropy(logits, target)
    with torch.inference_mode():
        F.cross_entropy(logits, target)
    assert ledger.loss.isnan().all()
    torch.testing.assert_close(F.cross_entropy(logits, SplitTarget(target)), expected)


def test_ignored_labels_count_for_nothing() -> None:
    target, ledger = record_in(make_target([4, 4]))
    ignored = int(target["labels"][0, 0])
    logits = torch.randn(2, SLOTS, CLASSES)
    kept = {**target, "labels": target["labels"].where(target["labels"] != ignored, -100)}
    expected = F.cross_entropy(logits, SplitTarget(kept))
    torch.testing.assert_close(F.cross_entropy(logits, target, ignore_index=ignored), expected)
    assert ledger.loss[target["ids"][0, 0]].isnan()


@pytest.mark.parametrize("shape", [(3, SLOTS, CLASSES), (2, 2, CLASSES), (3, CLASSES), (CLASSES,), (2, CLASSES, 2, 2)])
def test_logits_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    target = make_target([1, 2])
    for score in (nn.CrossEntropyLoss(), SplitLoss(nn.NLLLoss())):
        with pytest.raises(
            MixloaderError, match=r"do not fit the target's 2 canvases of 4 slots: give \[2, 4, classes\]"
        ):
            score(torch.randn(shape), target)


def test_options_that_torch_deprecated_are_refused() -> None:
    with pytest.raises(MixloaderError, match="size_average=None and reduce=False: pass reduction="):
        F.cross_entropy(torch.randn(1, SLOTS, CLASSES), make_target([1]), reduce=False)
    with pytest.raises(MixloaderError, match="reduction='most' is not known"):
        F.cross_entropy(torch.randn(1, SLOTS, CLASSES), make_target([1]), reduction="most")


class Focal(nn.Module):
    """A criterion of the user's own."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction
        self.register_buffer("gamma", torch.tensor(2.0))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        assert labels.is_meta or labels.min() >= 0
        loss = F.cross_entropy(logits, labels, reduction="none")
        loss = (1 - (-loss).exp()) ** self.gamma * loss
        return loss if self.reduction == "none" else getattr(loss, self.reduction)()


@pytest.mark.parametrize("shape", [(3, SLOTS, CLASSES), (3, CLASSES)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_split_loss_scores_and_records_as_cross_entropy_does(shape: tuple[int, ...], reduction: str) -> None:
    target, ledger = record_in(make_target([2, 0, 4]))
    logits = torch.randn(shape)
    expected = F.cross_entropy(logits, target, reduction=reduction)
    recorded = ledger.loss.clone()
    ledger.loss.fill_(float("nan"))

    class Same(Focal):
        def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(logits, labels, reduction=self.reduction)

    torch.testing.assert_close(SplitLoss(Same(reduction))(logits, target), expected)
    torch.testing.assert_close(ledger.loss, recorded, equal_nan=True)
    if reduction == "mean":
        bare = SplitLoss(partial(F.cross_entropy, reduction="none"))
        torch.testing.assert_close(bare(logits, target), expected)


def test_split_loss_keeps_a_stock_criterions_class_weights_and_a_tensor_targets_meaning() -> None:
    target = make_target([2, 3])
    logits = torch.randn(2, SLOTS, CLASSES)
    stock = nn.CrossEntropyLoss(torch.rand(CLASSES))
    torch.testing.assert_close(SplitLoss(stock)(logits, target), stock(logits, target))
    labels = torch.randint(CLASSES, (8,))
    focal = Focal()
    torch.testing.assert_close(SplitLoss(focal)(logits.flatten(0, 1), labels), focal(logits.flatten(0, 1), labels))
    assert focal.reduction == "mean"


def test_split_loss_moves_and_saves_with_its_base() -> None:
    loss = SplitLoss(Focal())
    assert list(loss.state_dict()) == ["base.gamma"]
    loss.load_state_dict({"base.gamma": torch.tensor(0.0)})
    target = make_target([2, 3])
    logits = torch.randn(2, SLOTS, CLASSES)
    torch.testing.assert_close(loss(logits, target), F.cross_entropy(logits, target))
    loss.to("meta")
    moved = target.to("meta")
    assert loss(logits.to("meta"), moved).is_meta


def test_a_base_that_reduces_is_refused() -> None:
    loss = SplitLoss(F.cross_entropy)
    with pytest.raises(MixloaderError, match=r'gave shape \[\] for 4 rows.*reduction="none"'):
        loss(torch.randn(1, SLOTS, CLASSES), make_target([2]))
