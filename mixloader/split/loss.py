"""The explicit form of scoring: any criterion that gives a loss per row."""

import copy

from torch import Tensor, nn

from mixloader.split.scoring import RowLosses, score
from mixloader.split.target import SplitTarget


class SplitLoss(nn.Module):
    """Score a SplitTarget with any criterion; `torch.nn.CrossEntropyLoss` needs no wrapper.

    A base with a `reduction` attribute is used with 'none', and its own reduction ('mean', 'sum', 'none') is
    applied to the constituents afterwards, as `mixloader.split.scoring.score` says, with no class weights in
    the mean's denominator. Any other base must give a loss a row, and the weighted mean is taken. Losses are
    recorded as those of cross-entropy are. A target that is a tensor (validation) goes to the base as it is.

    Args:
        base: called with logits [M, classes] float32 and labels [M] int64, gives losses [M]; empty slots come
            with label 0 and do not count.

    Raises:
        MixloaderError: in the call, for a base that reduces its losses, and for shapes that do not fit.
    """

    _unreduced: RowLosses

    def __init__(self, base: RowLosses) -> None:
        """Wrap the criterion `base`."""
        super().__init__()
        self.base = base
        self._reduction = "mean"
        unreduced = base
        reduction = getattr(base, "reduction", None)
        if isinstance(base, nn.Module) and isinstance(reduction, str):
            self._reduction = reduction
            # It shares base's dicts of parameters, buffers and children: it moves where base moves.
            unreduced = copy.copy(base)
            vars(unreduced)["reduction"] = "none"
        # Not registered as a child, which would double the keys of the state_dict.
        object.__setattr__(self, "_unreduced", unreduced)

    def forward(self, logits: Tensor, target: SplitTarget | Tensor) -> Tensor:
        """Logits [C, K, classes] or [C, classes] and a SplitTarget to a 0-d loss ([C, K] for 'none')."""
        if isinstance(target, SplitTarget) and type(self.base) is not nn.CrossEntropyLoss:
            return score(logits, target, self._unreduced, self._reduction)
        return self.base(logits, target)  # type: ignore[arg-type] # a SplitTarget: torch's own handles it
