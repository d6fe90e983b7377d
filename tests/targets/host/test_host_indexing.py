"""Indices that only the run knows: in range they are numpy's, outside they do no harm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_runner import Array, run_unit
from tvm import relax

R = relax.op
RNG = np.random.default_rng(2)
X = RNG.standard_normal((5, 7, 6)).astype(np.float32)
WILD = np.array([-(2**62), -9, -1, 0, 4, 5, 9, 2**40, 2**62])


def within(i: Array, extent: int) -> Array:
    return np.clip(i, 0, extent - 1)


def scattered(x: Array, at: Any, values: Array) -> Array:
    y = x.copy()
    y[at] = values
    return y


ROWS = RNG.integers(0, 5, (4, 3))
ELEMENTS = RNG.integers(0, 7, (5, 7, 6))
PLACES = RNG.integers(0, 5, (4, 3, 2))
BATCHED = RNG.integers(0, 6, (5, 4, 2))
ONCE = np.array([[4, 6], [0, 0], [2, 3]])
COLUMNS = np.stack([RNG.permutation(7) for _ in range(30)], -1).reshape(7, 5, 6).swapaxes(0, 1)
EACH = np.indices(X.shape)
B = np.arange(5)[:, None]
Case = tuple[Callable[..., Any], list[Array], Callable[..., Array]]
CASES: dict[str, Case] = {
    "take": (lambda x, i: R.take(x, i, 0, "clip"), [ROWS], lambda i: X[i]),
    "take_wrapped": (lambda x, i: R.take(x, i, 1, "wrap"), [ROWS - 5], lambda i: X[:, i % 7]),
    "gather_elements": (
        lambda x, i: R.gather_elements(x, i, 1), [ELEMENTS],
        lambda i: np.take_along_axis(X, i, 1),
    ),
    "gather_nd": (lambda x, i: R.gather_nd(x, i), [PLACES], lambda i: X[i[..., 0], i[..., 1]]),
    "gather_nd_batched": (
        lambda x, i: R.gather_nd(x, i, 1), [BATCHED], lambda i: X[B, i[..., 0], i[..., 1]],
    ),
    "scatter_elements": (
        lambda x, i, u: R.scatter_elements(x, i, u, 1), [COLUMNS, -X],
        lambda i, u: scattered(X, (EACH[0], i, EACH[2]), u),
    ),
    "scatter_nd": (
        lambda x, i, u: R.scatter_nd(x, i, u), [ONCE, X[0, :3]],
        lambda i, u: scattered(X, (i[..., 0], i[..., 1]), u),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_indices_in_range(name: str, tmp_path: Path):
    build, rest, reference = CASES[name]
    expected = reference(*rest)
    (y,) = run_unit(tmp_path, build, [X, *rest], [expected])
    assert np.array_equal(y, expected)


@pytest.mark.parametrize("name", [n for n in CASES if "wrapped" not in n])
def test_indices_out_of_range_touch_nothing_outside(name: str, tmp_path: Path):
    build, rest, reference = CASES[name]
    shape = reference(*rest).shape
    wild = np.resize(WILD, rest[0].shape)
    (y,) = run_unit(tmp_path, build, [X, wild, *rest[1:]], [np.zeros(shape, np.float32)])
    assert np.isin(y, np.concatenate([X.reshape(-1), -X.reshape(-1)])).all()


def test_out_of_range_is_the_nearest(tmp_path: Path):
    expected = X[within(WILD, 5)]
    (y,) = run_unit(tmp_path, lambda x, i: R.take(x, i, 0, "clip"), [X, WILD], [expected])
    assert np.array_equal(y, expected)


@pytest.mark.parametrize("mode", ["clip", "wrap"])
def test_rows_of_an_empty_table_are_zero(mode: str, tmp_path: Path):
    empty, shapes = np.zeros((0, 6), np.float32), [("n", 6), WILD.shape]
    expected = np.zeros((len(WILD), 6), np.float32)

    def build(x, i):
        return R.take(x, i, 0, mode)

    (y,) = run_unit(tmp_path, build, [empty, WILD], [expected], shapes=shapes)
    assert np.array_equal(y, expected)


def test_the_best_none(tmp_path: Path):
    like = [np.zeros((5, 7, 0), np.float32), np.zeros((5, 7, 0), np.int32)]
    values, indices = run_unit(tmp_path, lambda x: R.topk(x, 0), [X], like)
    assert values.shape == indices.shape == (5, 7, 0)
