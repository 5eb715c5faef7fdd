"""Pipelines: they draw a plan's batches. One is made for CPUs, DALI's for GPUs; Pillow is the reference."""

from __future__ import annotations

from mixloader.pipelines.pipeline import Drawn, Pipeline

__all__ = ["Drawn", "Pipeline"]
