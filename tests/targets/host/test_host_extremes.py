"""Extremes, and where they lie, in rows that hold nothing better than what TVM starts at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_runner import Array, run_unit
from tvm import relax

R = relax.op
FLOATS = ["float16", "float32", "float64"]


def result(folder: Path, build: Callable[..., Any], x: Array, want: Array) -> Array:
    (got,) = run_unit(folder, build, [x], [want])
    return got


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("axes", [[1], [0], [0, 1]], ids=str)
def test_extremes_of_infinities(tmp_path: Path, dtype: str, axes: list[int]) -> None:
    x = np.full((4, 40), -np.inf, dtype)

    def build(a: relax.Expr) -> relax.Expr:
        return R.subtract(R.max(a, axes), R.min(R.negative(a), axes))

    want = np.asarray(x.max(tuple(axes)) - (-x).min(tuple(axes)))
    np.testing.assert_array_equal(result(tmp_path, build, x, want), want)


@pytest.mark.parametrize("dtype", FLOATS)
def test_padding_of_max_pool_is_below_infinities(tmp_path: Path, dtype: str) -> None:
    x, want = np.full((1, 1, 4, 4), -np.inf, dtype), np.full((1, 1, 3, 3), -np.inf, dtype)

    def build(a: relax.Expr) -> relax.Expr:
        return R.nn.max_pool2d(a, (2, 2), (2, 2), (1, 1))

    np.testing.assert_array_equal(result(tmp_path, build, x, want), want)


WORST = [
    np.zeros((3, 5), np.uint8),
    np.full((3, 5), -128, np.int8),
    np.full((3, 5), -np.inf, np.float32),
    np.full((3, 5), np.nan, np.float32),
    np.array([[1, np.nan, 5, np.nan], [3, 3, 1, 1]], np.float32),
]


@pytest.mark.parametrize("x", WORST, ids=lambda x: f"{x.dtype}-{x.flat[0]}")
@pytest.mark.parametrize(("axis", "keep"), [(0, False), (1, True), (None, False), (None, True)])
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions_of_extremes(
    tmp_path: Path, x: Array, axis: int | None, keep: bool, name: str
) -> None:
    def build(a: relax.Expr) -> relax.Expr:
        return getattr(R, name)(a, axis, keep)

    want = np.asarray(getattr(np, name)(x, axis, keepdims=keep))
    np.testing.assert_array_equal(result(tmp_path, build, x, want), want)


@pytest.mark.parametrize("largest", [True, False])
def test_selection_orders_nan_above_all_numbers(tmp_path: Path, largest: bool) -> None:
    x = np.array([[1, np.nan, 7, np.nan, -np.inf, 5]], np.float32)
    order = [1, 3, 2, 5] if largest else [4, 0, 5, 2]
    want = np.array([order])

    def build(a: relax.Expr) -> relax.Expr:
        return R.topk(a, 4, -1, "indices", largest, "int64")

    np.testing.assert_array_equal(result(tmp_path, build, x, want), want)
