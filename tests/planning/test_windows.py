"""Windows: inside the image, of the region's shape, of the asked-for area."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from helpers.runs import random_sizes, relaxed, seeds
from hypothesis import given
from hypothesis import strategies as st

from mixloader.errors import MixloaderError
from mixloader.planning.windows import Augment, draw_windows
from mixloader.policies.policy import View

CANVAS = 224
FLOAT32 = 2.0**-23

views = st.sampled_from(["crop", "scale"])
augments = st.builds(
    lambda scale, ratio, flip: Augment((min(scale), max(scale)), (1 / ratio[0], ratio[1]), flip),
    st.tuples(*[st.floats(0.05, 1)] * 2),
    st.tuples(*[st.floats(1, 2)] * 2),
    st.floats(0, 1),
)


class Drawn(NamedTuple):
    """Windows as fractions and as pixels of the source, with what they were drawn for."""

    window: npt.NDArray[np.float32]
    flip: npt.NDArray[np.bool_]
    part: npt.NDArray[np.float64]  # [M, 2] fractions of the image's sides
    pixels: npt.NDArray[np.float64]  # [M, 2] sides
    image: npt.NDArray[np.float64]  # [M, 2] sides
    region: npt.NDArray[np.float64]  # [M, 2] sides

    @property
    def touches(self) -> npt.NDArray[np.bool_]:
        """As wide or as high as the image: perhaps shrunk to fit."""
        return self.part.max(axis=1) >= 1 - 4 * FLOAT32

    @property
    def rounding(self) -> npt.NDArray[np.float64]:
        """How far the rounding of the window's ends may move an area or an aspect, relatively."""
        return 8 * FLOAT32 / self.part.min(axis=1)


def drawn(seed: int, view: View, augment: Augment | None, rows: int = 300) -> Drawn:
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 4, (rows, 2)) * 32
    side = rng.integers(1, 4, (rows, 2)) * 32
    region = np.concatenate((corner, corner + side), axis=1).astype(np.int16)
    sizes = random_sizes(seed, rows)
    window, flip = draw_windows(rng.random((rows, 5)), sizes, region, CANVAS, view, augment)
    part = window[:, 2:].astype(np.float64) - window[:, :2]
    image = np.maximum(sizes, 1).astype(np.float64)
    return Drawn(window, flip, part, part * image, image, side.astype(np.float64))


@relaxed
@given(seed=seeds, view=views, augment=st.none() | augments)
def test_every_window_lies_in_its_image(seed: int, view: View, augment: Augment | None) -> None:
    got = drawn(seed, view, augment)
    assert (got.window >= 0).all()
    assert (got.window <= 1).all()
    assert (got.window[:, :2] < got.window[:, 2:]).all()


@relaxed
@given(seed=seeds, view=views, augment=st.none() | augments)
def test_a_window_has_its_regions_shape_within_the_ratio(seed: int, view: View, augment: Augment | None) -> None:
    got = drawn(seed, view, augment)
    aspect = (got.pixels[:, 0] / got.pixels[:, 1]) / (got.region[:, 0] / got.region[:, 1])
    low, high = (1, 1) if augment is None else augment.ratio
    assert (aspect >= low * (1 - got.rounding)).all()
    assert (aspect <= high * (1 + got.rounding)).all()


@relaxed
@given(seed=seeds, view=views, augment=augments)
def test_a_windows_area_is_within_the_scale_unless_it_shrank_to_fit(seed: int, view: View, augment: Augment) -> None:
    got = drawn(seed, view, augment)
    whole = got.region.prod(axis=1) / CANVAS**2 if view == "crop" else 1.0
    scale = got.part.prod(axis=1) / whole
    assert (scale <= augment.scale[1] * (1 + 2 * got.rounding)).all()
    assert (got.touches | (scale >= augment.scale[0] * (1 - 2 * got.rounding))).all()


@relaxed
@given(seed=seeds)
def test_a_crop_shows_its_region_at_the_scale_of_a_whole_canvas(seed: int) -> None:
    """Source pixels per canvas pixel do not depend on the region."""
    got = drawn(seed, "crop", Augment(scale=(0.3, 0.3), ratio=(1, 1)))
    zoom = got.pixels.prod(axis=1) / got.region.prod(axis=1)
    whole = 0.3 * got.image.prod(axis=1) / CANVAS**2
    free = ~got.touches
    assert free.sum() > 50
    assert (np.abs(zoom / whole - 1) <= 2 * got.rounding)[free].all()


@relaxed
@given(seed=seeds)
def test_without_augmentation_the_window_is_centred_and_the_largest(seed: int) -> None:
    got = drawn(seed, "scale", None)
    assert not got.flip.any()
    assert np.allclose(got.window[:, :2] + got.window[:, 2:], 1, atol=4 * FLOAT32)
    assert got.touches.all()


@relaxed
@given(seed=seeds)
def test_without_augmentation_a_crop_is_centred_and_shows_its_part(seed: int) -> None:
    got = drawn(seed, "crop", None)
    assert np.allclose(got.window[:, :2] + got.window[:, 2:], 1, atol=4 * FLOAT32)
    part = got.part.prod(axis=1) / (got.region.prod(axis=1) / CANVAS**2)
    assert (got.touches | (np.abs(part - 1) <= 2 * got.rounding)).all()


def test_windows_are_placed_all_over_the_image() -> None:
    got = drawn(0, "scale", Augment(scale=(0.1, 0.1)), rows=5000)
    free = (got.part < 0.9).all(axis=1)
    place = got.window[free, :2] / (1 - got.part[free])
    assert place.mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.03)
    assert place.std(axis=0) == pytest.approx([12**-0.5] * 2, abs=0.02)


@pytest.mark.parametrize("chance", [0, 0.25, 1])
def test_flips_come_up_as_often_as_asked(chance: float) -> None:
    assert drawn(0, "crop", Augment(flip=chance), rows=5000).flip.mean() == pytest.approx(chance, abs=0.03)


@pytest.mark.parametrize("size", [(1, 2**31 - 1), (2**31 - 1, 1), (2**31 - 1, 2**31 - 1), (0, 0), (1, 1)])
@pytest.mark.parametrize("augment", [Augment(), Augment(scale=(1e-14, 1e-14)), None])
def test_the_thinnest_windows_are_not_empty(size: tuple[int, int], augment: Augment | None) -> None:
    sizes = np.tile(np.array(size, np.int32), (200, 1))
    region = np.tile(np.array([0, 0, 32, 224], np.int16), (200, 1))
    window, _ = draw_windows(np.random.default_rng(0).random((200, 5)), sizes, region, CANVAS, "crop", augment)
    assert (window[:, :2] < window[:, 2:]).all()
    assert window.min() >= 0
    assert window.max() <= 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"scale": (0, 1)},
        {"scale": (0.5, 0.2)},
        {"scale": (0.5, 1.5)},
        {"scale": (float("nan"), 1)},
        {"ratio": (0, 1)},
        {"ratio": (2, 1)},
        {"flip": -0.1},
        {"flip": 1.1},
        {"flip": float("nan")},
        {"scale": 0.5},
        {"scale": (0.5,)},
        {"scale": "0.5"},
        {"ratio": None},
        {"ratio": 2},
        {"scale": ("a", "b")},
        {"ratio": (None, 1)},
        {"flip": None},
        {"flip": "0.5"},
    ],
    ids=str,
)
def test_ranges_that_cannot_be_drawn_from_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(MixloaderError, match=f"Augment: {next(iter(arguments))} must be") as caught:
        Augment(**arguments)
    assert "\n" not in str(caught.value)
