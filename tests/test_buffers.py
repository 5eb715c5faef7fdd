"""Memory is used again when nothing looks at it any more, and never before."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixloader.buffers import Buffers, trim

SHAPE = (6, 8, 4)

LOOKS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda array: array,
    "a row": lambda array: array[2],
    "a part": lambda array: array[1:5, ::2],
    "a part of a part": lambda array: array[1:5][2, 3:],
    "turned": lambda array: array.T,
    "flat": lambda array: array.reshape(-1)[7:],
    "as other numbers": lambda array: array.view(np.uint8),
    "a memoryview": memoryview,
    "a tensor": torch.from_numpy,
    "a part of a tensor": lambda array: torch.from_numpy(array)[3].T,
    "a tensor of a part": lambda array: torch.from_numpy(array[1:3]),
    "an array of a tensor": lambda array: torch.from_numpy(array).permute(2, 0, 1).numpy()[1:, 2],
    "through DLPack": lambda array: np.from_dlpack(torch.from_numpy(array)[1:])[0],
}


def address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def bytes_of(look: Any) -> bytes:
    return look.numpy().tobytes() if isinstance(look, torch.Tensor) else look.tobytes()


@pytest.mark.parametrize("name", LOOKS)
def test_whatever_looks_at_it_keeps_it(name: str) -> None:
    buffers = Buffers(4)
    array = buffers.take(SHAPE, np.float32)
    array[:] = np.random.default_rng(0).random(SHAPE)
    place, look = address(array), LOOKS[name](array)
    expected = bytes_of(look)
    del array
    others = [buffers.take(SHAPE, np.float32) for _ in range(3)]
    for other in others:
        other[:] = -1
    assert place not in [address(other) for other in others]
    assert bytes_of(look) == expected
    del look
    assert address(buffers.take(SHAPE, np.float32)) == place


def test_what_autograd_keeps_is_kept() -> None:
    buffers = Buffers(4)
    images = torch.from_numpy(buffers.take((4,), np.float32)).fill_(3)
    factor = torch.ones(4, requires_grad=True)
    loss = (images * factor).sum()
    del images
    buffers.take((4,), np.float32)[:] = -1
    loss.backward()
    assert factor.grad is not None
    assert factor.grad.tolist() == [3, 3, 3, 3]


sizes = st.sampled_from([(3,), (4, 5), (2, 3, 4), (0, 8)])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), sizes, st.sampled_from([np.uint8, np.float32])),
        st.tuples(st.just("look"), st.integers(0, 99), st.sampled_from(sorted(LOOKS))),
        st.tuples(st.just("drop"), st.integers(0, 99), st.none()),
    ),
    max_size=40,
)


@given(steps=steps, most=st.integers(0, 4))
@settings(deadline=None)
def test_no_two_that_are_held_share_memory(steps: list[tuple[str, Any, Any]], most: int) -> None:
    """Every array is filled with a number of its own; it is still there as long as anything looks at it."""
    buffers, held, number = Buffers(most), [], 0
    looks = {name: LOOKS[name] for name in ("itself", "turned", "flat", "a tensor", "a memoryview")}
    for action, which, how in steps:
        if action == "take":
            number += 1
            array = buffers.take(which, how)
            assert (array.shape, array.dtype, array.flags.writeable) == (which, how, True)
            array[...] = number
            held.append((number, array))
            del array
        elif held and action == "drop":
            held.pop(which % len(held))
        elif held:
            number_of, seen = held[which % len(held)]
            if isinstance(seen, np.ndarray):
                held[which % len(held)] = (number_of, looks.get(how, looks["flat"])(seen))
            del seen
    for number_of, seen in held:
        assert (np.asarray(seen) == number_of).all()


def test_memory_of_another_size_is_let_go() -> None:
    buffers = Buffers(4)
    small = [buffers.take((10,), np.uint8) for _ in range(3)]
    del small
    assert len(buffers._free) == 3
    large = buffers.take((20,), np.uint8)
    assert len(buffers._free) == 0
    del large
    assert [len(memory) for memory in buffers._free] == [20]


@pytest.mark.parametrize(("first", "then", "again"), [(60, 59, True), (60, 48, True), (60, 47, False), (59, 60, False)])
def test_memory_that_is_a_little_larger_serves(first: int, then: int, again: bool) -> None:
    """Batches of one epoch have a canvas less than those of the next, and memory is not to be had for nothing."""
    buffers = Buffers(1)
    place = address(buffers.take((first, 1000), np.uint8))
    kept = buffers._free[0]  # so that no fresh memory can come to lie there
    assert (address(buffers.take((then, 1000), np.uint8)) == place) == again
    assert len(kept) == first * 1000


def test_the_same_bytes_serve_another_shape_and_type() -> None:
    buffers = Buffers(1)
    place = address(buffers.take((4, 6), np.float32))
    assert address(buffers.take((96,), np.uint8)) == place


def test_no_more_is_kept_than_was_asked_for() -> None:
    buffers = Buffers(2)
    arrays = [buffers.take((10,), np.uint8) for _ in range(5)]
    places = [address(array) for array in arrays]
    for _ in range(5):
        arrays.pop(0)
    assert len(buffers._free) == 2
    again = [buffers.take((10,), np.uint8) for _ in range(2)]
    assert [address(array) for array in again] == places[:2:-1]  # the last ones, the very last first


def test_nothing_keeps_the_buffers_alive_but_what_was_taken() -> None:
    """An array that outlives its buffers still holds its own memory, and lets go of it."""
    buffers = Buffers(2)
    array = buffers.take((10,), np.uint8)
    array[:] = 7
    del buffers
    gc.collect()
    assert (array == 7).all()


def test_threads_never_get_the_same_memory() -> None:
    buffers = Buffers(3)

    def work(number: int) -> bool:
        whole = True
        for turn in range(300):
            array = buffers.take((64, 64), np.int32)
            array[:] = value = number * 1000 + turn
            part = array[5:, ::3]
            del array
            whole &= bool((part == value).all())
        return whole

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs the GNU C library")
def test_trimming_gives_back_what_lies_between_what_is_used() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    blocks = [b"\1" * 5000 for _ in range(20_000)]
    last = blocks.pop()  # while it is used, what lies below it stays
    blocks.clear()
    freed = resident()
    trim()
    assert freed - resident() > 50e6
    assert len(last) == 5000
