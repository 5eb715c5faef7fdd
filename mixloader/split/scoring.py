"""The loss of a composite batch from the losses of its constituents. The formulas are this project's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from mixloader.errors import MixloaderError

if TYPE_CHECKING:
    from mixloader.split.target import SplitTarget

EMPTY = -100
"""The label of an empty slot: the index that torch's criteria ignore."""

RowLosses = Callable[[Tensor, Tensor], Tensor]
"""Logits [M, classes] float32 and labels [M] int64 to the loss [M] of every row."""


def score(
    logits: Tensor,
    target: SplitTarget,
    losses_of: RowLosses,
    reduction: str,
    *,
    ignore_index: int = EMPTY,
    class_weight: Tensor | None = None,
) -> Tensor:
    """Score logits against a target, record the loss of every constituent, and reduce.

    With l the loss of a constituent, w its weight in the target, n its norm, and v the class weight of its label (1
    without):

    - 'none': w * l, [C, K], 0 in empty slots;
    - 'sum': the sum of those;
    - 'mean': that sum / sum(n * v), which with all w = 1 is torch's own mean over the constituents. On one rank n is
      w; on R ranks n = w * (the whole batch's sum of w) / (R * this rank's), so that the mean over the ranks, which is
      what DDP makes of gradients, is the mean over the whole batch.

    Logits [C, K, classes] are those of a split model, a row a constituent. For logits [C, classes] every
    constituent is scored against its canvas's row, and w and n are multiplied by its share of the canvas's shares:
    with all w = 1 the mean is the cross-entropy of the soft label that has these shares.

    `losses_of` is given float32 logits, and label 0 for the slots that are empty or have the label
    `ignore_index`; what it answers there is not used. The loss is recorded as `losses_of` answers it, before
    w, while gradients are on. Without any constituent the result is 0, with a gradient of 0. Raises
    MixloaderError for shapes that do not fit.
    """
    labels = target["labels"]
    counted = (labels >= 0) & (labels != ignore_index)
    safe_labels = torch.where(counted, labels, 0)
    rows = as_rows(logits, labels)
    losses = losses_of(rows, safe_labels.flatten())
    if losses.shape != rows.shape[:1]:
        raise MixloaderError(
            f"the criterion gave shape {list(losses.shape)} for {rows.shape[0]} rows of logits: it must give "
            'one a row, so pass it reduction="none"'
        )
    losses = torch.where(counted, losses.float().view_as(labels), 0.0)
    if target.ledger is not None and torch.is_grad_enabled():
        ids = torch.where(counted, target["ids"], -1)
        target.ledger.record(ids.flatten(), losses.detach().flatten(), target["shares"].flatten())
    weights, norms = (torch.where(counted, target[name], 0.0) for name in ("weights", "norms"))
    if logits.dim() == 2:
        shares = target["shares"]
        total = shares.sum(1, keepdim=True)
        part = shares / torch.where(total > 0, total, 1.0)
        weights, norms = weights * part, norms * part
    if class_weight is not None:
        norms = norms * class_weight[safe_labels]
    return _reduce(losses * weights, norms, reduction)


def cross_entropy(
    input: Tensor,  # noqa: A002
    target: SplitTarget,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = EMPTY,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """`torch.nn.functional.cross_entropy` of a SplitTarget, with its signature; `score` has the arithmetic.

    input: [C, K, classes] or [C, classes]; weight: [classes]. Raises MixloaderError for the arguments that
    torch has deprecated and for shapes that do not fit.
    """
    if size_average is not None or reduce is not None:
        raise MixloaderError(
            f"cross_entropy of a SplitTarget does not take size_average={size_average} and reduce={reduce}: "
            "pass reduction="
        )
    class_weight = None if weight is None else weight.float()

    def losses_of(rows: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(rows, labels, weight=class_weight, reduction="none", label_smoothing=label_smoothing)

    return score(input, target, losses_of, reduction, ignore_index=ignore_index, class_weight=class_weight)


def as_rows(logits: Tensor, labels: Tensor) -> Tensor:
    """The logits [C * K, classes] float32 against which the labels [C, K] are scored."""
    canvases, slots = labels.shape
    if logits.dim() == 3 and logits.shape[:2] == labels.shape:
        return logits.flatten(0, 1).float()
    if logits.dim() == 2 and logits.shape[0] == canvases:
        return logits.float().repeat_interleave(slots, 0)
    raise MixloaderError(
        f"logits of shape {list(logits.shape)} do not fit the target's {canvases} canvases of {slots} slots: "
        f"give [{canvases}, {slots}, classes] (split_model) or [{canvases}, classes]"
    )


def _reduce(terms: Tensor, norms: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return terms
    if reduction == "sum":
        return terms.sum()
    if reduction == "mean":
        norm = norms.sum()
        return terms.sum() / torch.where(norm > 0, norm, 1.0)
    raise MixloaderError(f"reduction={reduction!r} is not known: pass 'mean', 'sum' or 'none'")
