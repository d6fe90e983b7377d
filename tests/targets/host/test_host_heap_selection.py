"""Selections of many elements against numpy's stable sort."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kernel_runner import Array, run_unit
from tvm import relax

RNG = np.random.default_rng(11)


def rows(dtype: str, number: int) -> Array:
    """Few different values, and of floats NaN, infinities and both zeros."""
    x = RNG.integers(-40, 40, (3, number)).astype(dtype)
    if "float" in dtype:
        x[:, ::17], x[:, 3::29], x[:, 5::31] = np.nan, np.inf, -np.inf
        x[:, 7::11] = -0.0
    return x


def order(x: Array, largest: bool) -> Array:
    """Numbers of the elements of each row, NaN counting as the largest."""
    if not largest:
        return np.argsort(x, -1, kind="stable")
    backwards = np.argsort(x[:, ::-1], -1, kind="stable")
    return (x.shape[1] - 1 - backwards)[:, ::-1]


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize(
    ("dtype", "number", "k"),
    [("float32", 700, 100), ("float32", 257, 256), ("int32", 300, 77), ("float64", 90, 25)],
)
def test_many_of_a_row(dtype: str, number: int, k: int, largest: bool, tmp_path: Path):
    x = rows(dtype, number)
    want = order(x, largest)[:, :k]
    like = [np.zeros((3, k), dtype), np.zeros((3, k), np.int64)]
    values, indices = run_unit(
        tmp_path, lambda a: relax.op.topk(a, k, -1, "both", largest, "int64"), [x], like
    )
    np.testing.assert_array_equal(indices, want)
    np.testing.assert_array_equal(values, np.take_along_axis(x, want, -1))


@pytest.mark.parametrize("number", [1, 2, 3, 1000])
def test_whole_rows(number: int, tmp_path: Path):
    x = rows("float32", number)
    (y,) = run_unit(tmp_path, lambda a: relax.op.argsort(a, -1, False, "int32"), [x],
                    [np.zeros(x.shape, np.int32)])  # fmt: skip
    np.testing.assert_array_equal(y, order(x, False))
