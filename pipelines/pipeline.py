"""What every pipeline does: draw a plan's batches. It knows no policy and no ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

from mixloader.plan import Plan


@dataclass(frozen=True)
class Drawn:
    """A drawn batch.

    Attributes:
        canvases: [C, S, S, 3], 0-255, on any device; uint8, or float32 where samples were blended. Or [C, S, S, 4] from
            a pipeline that draws the slot of every pixel too, which spares the loader that. The pipeline does not
            write to it again.
        failed: why each sample that could not be decoded was left out, by sample id. Its region is black.
        seconds: where the time went, by stage; any names.
    """

    canvases: Tensor
    failed: dict[int, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@runtime_checkable
class Pipeline(Protocol):
    """Draws batches. Calls may come from any thread, and `lanes` of them at once.

    Attributes:
        lanes: how many batches it is best drawn at once.
    """

    lanes: int

    def draw(self, batch: Plan) -> Drawn:
        """Draw the plan of one batch (`Plan.batch`).

        A sample that cannot be decoded is left out and named in `failed`; the others are drawn.
        """

    def close(self) -> None:
        """Give back threads and memory. The loader draws no more after it."""
