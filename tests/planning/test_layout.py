"""Cutting canvases: regions tile, areas follow shares, every way round occurs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from helpers.runs import relaxed, seeds
from hypothesis import given
from hypothesis import strategies as st

from mixloader.errors import MixloaderError
from mixloader.planning.layout import check_cells, cut_canvases


def cut(seed: int, canvases: int, k: int, cells: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Shares, largest first, and the regions they get."""
    rng = np.random.default_rng(seed)
    shares = -np.sort(-rng.uniform(0.05, 1, (canvases, k)), axis=1)
    return shares, cut_canvases(rng.random((canvases, 5)), shares, cells)


def chance(canvases: int) -> npt.NDArray[np.float64]:
    return np.random.default_rng(0).random((canvases, 5))


@relaxed
@given(seed=seeds, canvases=st.integers(1, 30), k=st.integers(1, 4), cells=st.integers(2, 14))
def test_the_regions_tile_every_canvas(seed: int, canvases: int, k: int, cells: int) -> None:
    _, regions = cut(seed, canvases, k, cells)
    assert regions.shape == (canvases, k, 4)
    for canvas in regions:
        painted = np.zeros((cells, cells), np.int64)
        for x0, y0, x1, y1 in canvas:
            assert 0 <= x0 < x1 <= cells
            assert 0 <= y0 < y1 <= cells
            painted[y0:y1, x0:x1] += 1
        assert (painted == 1).all()


def area(regions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return (regions[..., 2] - regions[..., 0]) * (regions[..., 3] - regions[..., 1])


@relaxed
@given(seed=seeds, cells=st.integers(2, 14))
def test_the_larger_of_a_pair_gets_as_many_columns_but_one(seed: int, cells: int) -> None:
    _, regions = cut(seed, 50, 2, cells)
    larger, smaller = area(regions).T // cells
    assert (larger >= smaller - 1).all()


@pytest.mark.parametrize("part", [0.3, 0.5, 0.6])
@pytest.mark.parametrize("cells", [5, 7, 8])
def test_the_mean_area_of_a_pair_is_what_was_asked_for(part: float, cells: int) -> None:
    shares = np.tile([part, 1 - part], (20_000, 1))
    mean = area(cut_canvases(chance(len(shares)), shares, cells)).mean(axis=0) / cells**2
    assert mean == pytest.approx([part, 1 - part], abs=0.003)  # 5 standard errors of a one-cell coin


@pytest.mark.parametrize("k", [3, 4])
def test_the_mean_areas_of_threes_and_fours_fall_with_the_shares(k: int) -> None:
    shares = np.tile([0.4, 0.3, 0.2, 0.1][:k], (20_000, 1))
    mean = area(cut_canvases(chance(len(shares)), shares, 10)).mean(axis=0)
    assert (np.diff(mean) < 0).all()


@pytest.mark.parametrize(("k", "layouts"), [(2, 4), (3, 8), (4, 8)])
def test_every_way_round_occurs_about_as_often(k: int, layouts: int) -> None:
    shares = np.tile([0.5, 0.3, 0.2, 0.2][:k], (8_000, 1)) if k < 4 else np.tile([0.4, 0.3, 0.2, 0.1], (8_000, 1))
    regions = cut_canvases(chance(len(shares)), shares, 10)
    # Which corners of the canvas each region touches tells the eight ways apart.
    corners = [(regions[..., i] == wall) for i, wall in ((0, 0), (1, 0), (2, 10), (3, 10))]
    found, counts = np.unique(np.stack(corners, axis=-1).reshape(len(regions), -1), axis=0, return_counts=True)
    assert len(found) == layouts
    assert counts.min() > 0.8 * len(regions) / layouts


def test_a_canvas_of_one_cell_cannot_be_shared() -> None:
    check_cells(2)
    with pytest.raises(MixloaderError, match="cannot be shared: use a larger image_size"):
        check_cells(1)


def test_a_canvas_of_one_cell_can_be_filled_by_one() -> None:
    assert cut(0, 2, 1, 1)[1].tolist() == [[[0, 0, 1, 1]], [[0, 0, 1, 1]]]
