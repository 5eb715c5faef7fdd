"""Made-up photographs: pictures with a photograph's size, spectrum and file size, for when none are at hand."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 500, 375  # what most of ImageNet's photographs are
_QUALITY, _FALL = 90, 1.15
_CLASSES = 8


def write_photographs(folder: Path, count: int, seed: int = 0) -> None:
    """Write `count` JPEGs into class folders.

    Each is noise whose amplitude falls with frequency, as it does in photographs, with correlated colours; so its
    JPEG is about as large as a photograph's (about 100 kB), which is what decoding time follows.
    """
    rng = np.random.default_rng(seed)
    for number in range(count):
        parent = folder / f"class_{number % _CLASSES}"
        parent.mkdir(parents=True, exist_ok=True)
        (parent / f"{number:05d}.jpg").write_bytes(_photograph(rng))


def _photograph(rng: np.random.Generator) -> bytes:
    grey, colour = _pink(rng, 1), _pink(rng, 3)
    pixels = 127 + 48 * (grey + 0.35 * colour)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _pink(rng: np.random.Generator, channels: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Noise whose amplitude is 1 / frequency^_FALL, float [HEIGHT, WIDTH, channels], of variance 1."""
    noise = np.fft.rfft2(rng.standard_normal((HEIGHT, WIDTH, channels)), axes=(0, 1))
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None, :])
    frequency[0, 0] = np.inf  # no mean
    field = np.fft.irfft2(noise / frequency[..., None] ** _FALL, s=(HEIGHT, WIDTH), axes=(0, 1))
    return np.asarray(field / field.std())
