"""What a loader's arguments become, or one line that says why they cannot be used."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from mixloader.errors import MixloaderError
from mixloader.pipelines import Pipeline
from mixloader.policies.policy import check_count
from mixloader.shards import ShardSet


def open_shards(shards: str | os.PathLike[str] | ShardSet) -> ShardSet:
    """The set, opened if it is not.

    Raises:
        MixloaderError: there is none.
    """
    if isinstance(shards, ShardSet):
        return shards
    if not isinstance(shards, str | os.PathLike):
        raise MixloaderError(f"shards={shards!r} is no set of shards: pass the path of their folder, or a ShardSet")
    return ShardSet(shards)


def open_pipeline(
    pipeline: str | Pipeline | None, shards: ShardSet, device: torch.device, threads: int | None
) -> Pipeline:
    """The pipeline of that name, the one for the device where there is no name, or the user's own.

    Raises:
        MixloaderError: it is neither, or DALI is not installed.
    """
    if pipeline is None:
        pipeline = "cpu" if device.type == "cpu" else "dali"
    if pipeline == "cpu":
        from mixloader.pipelines.cpu import CpuPipeline

        return CpuPipeline(shards, threads=threads)
    if pipeline == "dali":
        from mixloader.pipelines.dali import DaliPipeline

        return DaliPipeline(shards, device=device, threads=threads)
    if pipeline == "pillow":
        from mixloader.pipelines.pillow import PillowPipeline

        return PillowPipeline(shards, threads=threads)
    if isinstance(pipeline, type) or not isinstance(pipeline, Pipeline):
        raise MixloaderError(f"pipeline={pipeline!r} is unknown: take 'cpu', 'dali' or 'pillow', or pass a pipeline")
    check_count("the pipeline's lanes", pipeline.lanes)
    return pipeline


def check_device(device: str | torch.device) -> torch.device:
    """The device, if it is there.

    Raises:
        MixloaderError: it is not.
    """
    try:
        checked = torch.device(device)
    except (RuntimeError, TypeError):
        raise MixloaderError(f"device={device!r} is no device: take 'cpu' or 'cuda'") from None
    if checked.type not in ("cpu", "cuda"):
        raise MixloaderError(f"device={device!r} cannot be drawn on: take 'cpu' or 'cuda', and move the batches on")
    if checked.type == "cuda" and not torch.cuda.is_available():
        raise MixloaderError(f"device={device!r}: torch finds no CUDA device here; take device='cpu'")
    if checked.type == "cuda":  # DALI wants the number that torch leaves open
        index = torch.cuda.current_device() if checked.index is None else checked.index
        if index >= torch.cuda.device_count():
            raise MixloaderError(
                f"device={device!r}: there are {torch.cuda.device_count()} CUDA devices; take a lower one"
            )
        checked = torch.device("cuda", index)
    return checked


def check_normalisation(mean: Sequence[float], std: Sequence[float], device: torch.device) -> tuple[Tensor, Tensor]:
    """Scale and shift, float32 [4] each, that take values of 0-255 to (value / 255 - mean) / std; a fourth stays.

    Raises:
        MixloaderError: there are no three of them, or a std is not above 0.
    """
    channels = []
    for name, values in (("mean", mean), ("std", std)):
        try:
            channels.append(torch.as_tensor(values, dtype=torch.float32, device=device).reshape(3))
        except (RuntimeError, TypeError, ValueError):
            raise MixloaderError(f"{name} needs a value for each of 3 channels, got {values!r}") from None
    if not channels[0].isfinite().all():
        raise MixloaderError(f"mean must be finite in every channel, got {tuple(mean)}")
    if not (channels[1] > 0).all():
        raise MixloaderError(f"std must be above 0 in every channel, got {tuple(std)}")
    one = torch.ones(1, device=device)
    return torch.cat((1 / (255 * channels[1]), one)), torch.cat((-channels[0] / channels[1], 0 * one))
