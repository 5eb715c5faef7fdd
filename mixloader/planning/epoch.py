"""An epoch's plan, drawn a batch at a time: what passes from deciding to drawing, for any number of samples."""

from __future__ import annotations

from mixloader.plan import Plan


class EpochPlan:
    """The plan of one epoch; its rows are made when a batch is asked for. Safe to use from several threads."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.image_size, self.canvas_size = plan.image_size, plan.canvas_size
        self.batches, self.canvases_per_batch = plan.batches, plan.canvases_per_batch

    def batch(self, b: int) -> Plan:
        """The plan of batch b alone, with its canvases counted from 0.

        Raises:
            IndexError: there is no such batch.
        """
        return self._plan.batch(b)

    def whole(self) -> Plan:
        """All rows."""
        return self._plan
