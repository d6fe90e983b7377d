from __future__ import annotations

import numpy as np
import pytest

from motet.compiler.weights import WeightPool


def test_equal_tensors_are_stored_once() -> None:
    pool = WeightPool()
    first = pool.add(np.arange(6, dtype="float32").reshape(2, 3))
    other = pool.add(np.ones(3, "float32"))
    assert pool.add(np.arange(6, dtype="float32").reshape(2, 3)) == first == 0
    assert other == 1
    assert (pool.requested_bytes, pool.stored_bytes) == (24 + 12 + 24, 24 + 12)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.zeros((2, 3), "float32"), np.zeros((3, 2), "float32")),
        (np.zeros(4, "float32"), np.zeros(4, "int32")),
        (np.array([0.0], "float32"), np.array([-0.0], "float32")),
        (np.zeros((), "float32"), np.zeros(1, "float32")),
        (np.zeros((0, 2), "float32"), np.zeros((2, 0), "float32")),
    ],
    ids=["shape", "dtype", "sign of zero", "rank", "empty"],
)
def test_what_differs_is_kept_apart(one: np.ndarray, other: np.ndarray) -> None:
    pool = WeightPool()
    assert pool.add(one) != pool.add(other)
    np.testing.assert_array_equal(pool.arrays[0], one, strict=True)
    np.testing.assert_array_equal(pool.arrays[1], other, strict=True)


def test_not_a_numbers_share_by_their_bytes() -> None:
    pool = WeightPool()
    assert pool.add(np.array([np.nan])) == pool.add(np.array([np.nan]))


def test_strided_and_scalar_tensors_are_stored_contiguous() -> None:
    pool = WeightPool()
    strided = np.arange(12, dtype="int64").reshape(3, 4)[:, ::2]
    pool.add(strided.T)
    pool.add(np.float32(2.5).reshape(()))
    assert all(array.flags.c_contiguous for array in pool.arrays)
    np.testing.assert_array_equal(pool.arrays[0], strided.T)
    assert pool.arrays[1].shape == ()
    assert pool.add(np.ascontiguousarray(strided.T)) == 0
