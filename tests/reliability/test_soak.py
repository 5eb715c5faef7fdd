"""Long runs hold no more at their end than at their beginning."""

from __future__ import annotations

import io
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.images import cls_members, write_tar
from helpers.loaders import drawing_threads, network, train_step, wait_until

from mixloader.loader import MixLoader
from mixloader.policies import MixTrain
from mixloader.tools.bench.soak_run import Held

WARM_UP = 3  # epochs, until every buffer is there


def train(loader: MixLoader, model: torch.nn.Module, steps: int) -> int:
    """So many steps of an epoch, with a checkpoint in the middle and one behind it; the side of its canvases."""
    side = 0
    for b, batch in enumerate(loader):
        train_step(model, batch)
        side = batch[0].shape[2]
        if b == 1:
            torch.save(loader.state_dict(), io.BytesIO())
        if b + 1 == steps:
            break
    torch.save(loader.state_dict(), io.BytesIO())
    return side


def drift(resident: Sequence[int]) -> float:
    """MB between the middle of the first and that of the last half, the first few left out."""
    settled = resident[5:]
    return (statistics.median(settled[len(settled) // 2 :]) - statistics.median(settled[: len(settled) // 2])) / 1e6


@pytest.mark.parametrize("pipeline", ["cpu", "pillow"])
def test_epochs_whole_and_given_up_leave_nothing(tmp_path: Path, pipeline: Any, thorough: bool, note: Any) -> None:
    write_tar(tmp_path / "a.tar", cls_members([i % 3 for i in range(60)]))
    epochs = (200 if thorough else 6) + WARM_UP
    with MixLoader(
        tmp_path, 7, 128, policy=MixTrain(speedup=1.3), epochs=epochs, stride=16, threads=2, pipeline=pipeline
    ) as loader:
        model = network()
        loader.set_epoch(epochs - 1)  # the last has the largest canvases
        with torch.no_grad():
            for images, _ in loader:
                model(images)
        del images
        loader.set_epoch(0)
        for _ in range(WARM_UP):
            train(loader, model, len(loader))
        before, resident = Held.now(), defaultdict[int, list[int]](list)
        for epoch in range(WARM_UP, epochs):
            side = train(loader, model, 3 if epoch % 3 == 2 else len(loader))
            resident[side].append(Held.now().resident)
            assert wait_until(lambda: not drawing_threads())
        wait_until(lambda: not Held.now().more_than(before))
        left = Held.now().more_than(before)
    growth = (max(map(max, resident.values())) - before.resident) / 1e6
    drifts = {side: round(drift(values), 1) for side, values in resident.items() if len(values) > 20}
    threads, files = (sum(what.startswith(kind) for what in left) for kind in ("thread ", "file "))
    note(
        f"soak {pipeline}",
        epochs=epochs,
        growth_mb=round(growth, 1),  # canvases become larger in the course of the run
        drift_mb_by_canvas_side=drifts,
        threads_left=threads,
        files_left=files,
    )
    assert left == []
    assert growth < 25
    assert max(drifts.values(), default=0) < 3, drifts
    assert len(drifts) > 0 or not thorough
