from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet.runtime.memory import (
    ALIGNMENT,
    Lifetime,
    align,
    aligned_bytes,
    compact,
    lendable,
    lower_bound,
    plan,
    view,
)

spans = st.tuples(st.integers(0, 12), st.integers(0, 6)).map(lambda p: Lifetime(p[0], sum(p)))
storages = st.lists(st.tuples(st.integers(0, 500), spans), max_size=24)


@given(storages)
def test_storages_alive_together_never_overlap(parts: list[tuple[int, Lifetime]]) -> None:
    sizes, lifetimes = [size for size, _ in parts], [span for _, span in parts]
    offsets, total = plan(sizes, lifetimes)
    assert total >= lower_bound(sizes, lifetimes)
    for i in range(len(sizes)):
        assert offsets[i] % ALIGNMENT == 0
        assert 0 <= offsets[i] <= offsets[i] + sizes[i] <= total
        for j in range(i):
            if max(lifetimes[i].first, lifetimes[j].first) <= min(
                lifetimes[i].last, lifetimes[j].last
            ):
                low, high = sorted((i, j), key=lambda k: (offsets[k], sizes[k]))
                assert offsets[low] + sizes[low] <= offsets[high]


@given(st.integers(1, 500), st.integers(1, 20))
def test_a_chain_of_equal_tensors_needs_two_of_them(size: int, length: int) -> None:
    sizes, lifetimes = [size] * length, [Lifetime(i, i + 1) for i in range(length)]
    _, total = plan(sizes, lifetimes)
    assert total == lower_bound(sizes, lifetimes) == align(size) * min(length, 2)


@pytest.mark.parametrize("sizes", [[2, 1, 1, 2], [1, 1, 1, 2], [3, 2, 1], [1, 2, 1, 3, 1]])
def test_a_chain_needs_no_more_than_its_largest_neighbours(sizes: list[int]) -> None:
    sizes = [size * ALIGNMENT for size in sizes]
    lifetimes = [Lifetime(i, i + 1) for i in range(len(sizes))]
    _, total = plan(sizes, lifetimes)
    neighbours = zip(sizes, [*sizes[1:], 0], strict=True)
    assert total == lower_bound(sizes, lifetimes) == max(map(sum, neighbours))


@given(storages)
def test_lower_bound_is_the_most_bytes_alive_at_once(parts: list[tuple[int, Lifetime]]) -> None:
    alive = [
        sum(align(size) for size, span in parts if span.first <= moment <= span.last)
        for moment in range(20)
    ]
    assert lower_bound([size for size, _ in parts], [span for _, span in parts]) == max(alive)


@given(storages)
def test_plan_depends_on_nothing_but_its_arguments(parts: list[tuple[int, Lifetime]]) -> None:
    sizes, lifetimes = [size for size, _ in parts], [span for _, span in parts]
    assert plan(sizes, lifetimes) == plan(list(sizes), list(lifetimes))


def test_disjoint_lifetimes_share_bytes() -> None:
    offsets, total = plan([100, 100, 100], [Lifetime(0, 0), Lifetime(1, 1), Lifetime(2, 2)])
    assert offsets == [0, 0, 0]
    assert total == 128


def test_nothing_to_plan() -> None:
    assert plan([], []) == ([], 0)
    assert lower_bound([], []) == 0


@pytest.mark.parametrize("size", [1, 63, 64, 65, 1000, 100_000])
def test_memory_is_aligned_zeroed_and_as_large_as_asked(size: int) -> None:
    memory = aligned_bytes(size)
    assert memory.ctypes.data % ALIGNMENT == 0
    assert memory.nbytes == size
    assert not memory.any()


def test_no_bytes_are_no_memory() -> None:
    assert aligned_bytes(0).nbytes == 0


def test_view_reads_and_writes_the_memory() -> None:
    memory = aligned_bytes(128)
    view(memory, 64, "float32", (2, 3))[:] = 1
    assert memory[64:88].view(np.float32).tolist() == [1.0] * 6
    assert not memory[:64].any()
    assert not memory[88:].any()


def test_lendable_keeps_memory_that_kernels_can_use() -> None:
    array = view(aligned_bytes(64), 0, "float32", (4, 4))
    assert lendable(array) is array


def unaligned() -> np.ndarray:
    array = aligned_bytes(80)[16:].view(np.float32)
    array[:] = np.arange(16)
    return array


def read_only() -> np.ndarray:
    array = view(aligned_bytes(64), 0, "float32", (16,))
    array[:] = np.arange(16)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "array",
    [
        unaligned(), read_only(), np.arange(16, dtype=">i4"), np.arange(32, dtype=np.int8)[::2],
        np.arange(12.0).reshape(3, 4).T, np.array(3.5)[()].reshape(()),
    ],
)  # fmt: skip
def test_lendable_copies_what_kernels_cannot_use(array: np.ndarray) -> None:
    lent = lendable(array)
    np.testing.assert_array_equal(lent, array)
    assert lent.shape == array.shape
    assert lent.dtype == array.dtype.newbyteorder("=")
    assert lent.flags.c_contiguous
    assert lent.flags.writeable
    assert lent.ctypes.data % ALIGNMENT == 0


@pytest.mark.parametrize(
    ("shape", "strides"), [((0, 4), (16, 4)), ((3, 0, 2), (0, 8, 4)), ((0,), (4,))]
)
def test_compact_gives_empty_arrays_full_strides(
    shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    array = compact(np.zeros(shape, np.float32))
    assert array.shape == shape
    assert array.strides == strides
