"""Data sets for the demo and the benchmarks: where they come from, how they are split, how they are trained on."""

from mixloader.tools.datasets.dataset import DataSet, Splits
from mixloader.tools.datasets.registry import DATASETS

__all__ = ["DATASETS", "DataSet", "Splits"]
