"""What gets a picture and what does not: the same for every pipeline, with a reason, in bounded time and memory."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from helpers.bad_images import animated, bad, odd
from helpers.fuzzing import bounded, damaged, fuzz
from helpers.images import encoded
from helpers.pictures import photo, picture_of, samples, sizes_of
from helpers.runs import build_plan
from hypothesis import strategies as st

from mixloader.errors import UndecodableError
from mixloader.pipelines import Pipeline
from mixloader.pipelines.cpu import CpuPipeline
from mixloader.pipelines.decode import decode_window
from mixloader.pipelines.pillow import PillowPipeline, decode_rgb
from mixloader.policies import Run, Whole
from mixloader.shards import ShardSet

KINDS = ["cpu", "pillow", "dali"]
NEIGHBOURS = [encoded(photo(80 + i, 60, seed=i)) for i in range(2)]


def open_pipeline(kind: str, shards: ShardSet) -> Pipeline:
    if kind == "dali":
        pytest.importorskip("nvidia.dali")
        from mixloader.pipelines.dali import DaliPipeline

        return DaliPipeline(shards, threads=1)
    return {"cpu": CpuPipeline, "pillow": PillowPipeline}[kind](shards, threads=1)  # type: ignore[abstract]


def draw_between_neighbours(kind: str, data: bytes) -> tuple[dict[int, str], torch.Tensor]:
    """What became of sample 1, between two that are well."""
    pictures = [NEIGHBOURS[0], data, NEIGHBOURS[1]]
    shards, run = samples(pictures), Run(3, 3, 64, 32, None)
    whole = Whole().allocate(run, 0, None, np.random.default_rng(0))  # type: ignore[arg-type]
    plan = build_plan(whole, run, sizes_of(pictures), seed=0, epoch=0, shuffle=False)
    pipeline = open_pipeline(kind, shards)
    with bounded():
        drawn = pipeline.draw(plan.batch(0))
    pipeline.close()
    return drawn.failed, picture_of(drawn).float()


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_drawn_is_left_out_with_a_reason(kind: str, note: Any) -> None:
    for name, data in bad().items():
        failed, picture = draw_between_neighbours(kind, data)
        assert list(failed) == [1], name
        assert failed[1], name
        assert "\n" not in failed[1], name
        assert "0x" not in failed[1], name  # no addresses of memory
        assert not picture[1].any(), name
        assert picture[[0, 2]].flatten(1).any(1).all(), name
    note(f"bad images, {kind}", tried=len(bad()), left_out=len(bad()), kinds=sorted(bad()))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_odd_is_drawn_as_pillow_draws_it(kind: str, note: Any) -> None:
    for name, data in odd().items():
        failed, picture = draw_between_neighbours(kind, data)
        assert failed == {}, name
        _, reference = draw_between_neighbours("pillow", data)
        assert (picture - reference).abs().mean() < 1, name
    note(f"odd images, {kind}", tried=len(odd()), drawn=len(odd()), kinds=sorted(odd()))


SOUND = {
    "JPEG": encoded(photo(48, 40)),
    "JPEG with restart markers": encoded(photo(48, 40), restart_marker_blocks=1),
    "progressive JPEG": encoded(photo(48, 40), progressive=True),
    "PNG": encoded(photo(24, 20), "PNG"),
    "WebP": encoded(photo(48, 40), "WEBP"),
    "GIF": animated("GIF"),
    "BMP": encoded(photo(12, 10), "BMP"),
    "TIFF": encoded(photo(12, 10), "TIFF"),
    "PPM": encoded(photo(12, 10), "PPM"),
}


def test_any_bytes_are_decoded_or_refused(thorough: bool, note: Any) -> None:
    """By both ways of decoding on a CPU, and by one error only: others would stop the run."""
    found: Counter[str] = Counter()

    def each(data: st.DataObject) -> None:
        image = data.draw(damaged(SOUND[data.draw(st.sampled_from(sorted(SOUND)))]))
        x, y = data.draw(st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)))
        window = np.array([x, y, x + 0.1, y + 0.1], np.float32)
        verdicts = []
        with bounded():
            for decode in (lambda: decode_window(image, (0, 0), (0, 0, 0, 0), window), lambda: decode_rgb(image)):
                try:
                    decode()
                    verdicts.append("drawn")
                except UndecodableError as error:
                    verdicts.append("left out" if "\n" not in str(error) else "an error of two lines")
        found[" and ".join(sorted(set(verdicts)))] += 1

    fuzz(each, 30_000 if thorough else 300)
    note("fuzz: image bytes", executions=found.total(), **{name.replace(" ", "_"): n for name, n in found.items()})
    assert not any("two lines" in verdict for verdict in found)
    assert found["drawn"]
    assert found["left out"]
