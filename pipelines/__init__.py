"""Pipelines: they draw a plan's batches. DALI draws on a CPU or a GPU; Pillow is the reference it must match."""

from __future__ import annotations

from mixloader.pipelines.pipeline import Drawn, Pipeline

__all__ = ["Drawn", "Pipeline"]
