"""The plot of accuracy against cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mixloader.tools.bench.methods.scoreboard import FEWER, PLAIN, Row

pytest.importorskip("matplotlib")


def row(name: str, cost: float, *by_seed: float) -> Row:
    return Row(name, cost, cost, dict(enumerate(by_seed)), None, None)


@pytest.mark.parametrize(
    "rows",
    [
        [
            row(PLAIN, 1, 90, 91),
            *(row(FEWER, cost, 80, 84) for cost in (0.5, 0.6)),
            *(row(f"entry {i}", cost, 85, 86) for i in range(12) for cost in (0.6, 0.5)),
        ],
        [row("MixTrain", 0.5, 88)],
    ],
    ids=["many", "one"],
)
def test_it_is_a_png(rows: list[Row], tmp_path: Path) -> None:
    from mixloader.tools.bench.methods.pareto import draw_pareto

    draw_pareto(rows, "a title", tmp_path / "pareto.png")
    with Image.open(tmp_path / "pareto.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 500
        assert np.ptp(np.asarray(picture.convert("L"), np.int64)) > 200
