"""Matrix products against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kernel_runner import Array, run_unit
from tvm import relax

SHAPES = [
    ((37, 29), (29, 45)),
    ((1, 64), (64, 100)),
    ((5, 64), (64, 1)),
    ((3, 37, 29), (29, 16)),
    ((2, 3, 17, 8), (2, 3, 8, 33)),
    ((2, 1, 7, 8), (1, 3, 8, 9)),
    ((29,), (29, 45)),
    ((4, 29), (29,)),
    ((96, 128), (128, 256)),
]


def normal(shape: tuple[int, ...], seed: int, dtype: str = "float32") -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_product(left: tuple[int, ...], right: tuple[int, ...], constant: bool, tmp_path: Path):
    a, b = normal(left, 1), normal(right, 2)
    expected = np.matmul(a.astype(np.float64), b.astype(np.float64))
    like = expected.astype(np.float32)
    (y,) = run_unit(tmp_path, relax.op.matmul, [a, b], [like], (1,) if constant else ())
    assert np.abs(y - expected).max() <= 5e-5


@pytest.mark.parametrize("rows", [1, 5, 6, 7, 40])
def test_open_row_count_with_bias_and_activation(rows: int, tmp_path: Path):
    a, b, c = normal((2, rows, 33), 1), normal((33, 50), 2), normal((50,), 3)
    expected = np.maximum(a @ b + c, 0)

    def build(a, b, c):
        return relax.op.nn.relu(relax.op.add(relax.op.matmul(a, b), c))

    shapes = [("n", "m", 33), (33, 50), (50,)]
    (y,) = run_unit(tmp_path, build, [a, b, c], [expected], (1, 2), shapes)
    assert np.abs(y - expected).max() <= 5e-5


def test_all_sizes_open_as_in_attention(tmp_path: Path):
    q, k = normal((2, 3, 13, 8), 1), normal((2, 3, 21, 8), 2)
    expected = q @ k.swapaxes(-1, -2) * np.float32(0.25)

    def build(q, k):
        scores = relax.op.matmul(q, relax.op.permute_dims(k, [0, 1, 3, 2]))
        return relax.op.multiply(scores, relax.const(0.25, "float32"))

    shapes = [("b", "h", "m", "k"), ("b", "h", "n", "k")]
    (y,) = run_unit(tmp_path, build, [q, k], [expected], (), shapes)
    assert np.abs(y - expected).max() <= 2e-5


@pytest.mark.parametrize("constant", [False, True])
def test_transposed_weights(constant: bool, tmp_path: Path):
    a, b = normal((20, 33), 1), normal((50, 33), 2)

    def build(a, b):
        return relax.op.matmul(a, relax.op.permute_dims(b, [1, 0]))

    (y,) = run_unit(tmp_path, build, [a, b], [a @ b.T], (1,) if constant else ())
    assert np.abs(y - a @ b.T).max() <= 5e-5


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 5e-2), ("float64", 1e-12)])
def test_other_types(dtype: str, tolerance: float, tmp_path: Path):
    a, b = normal((20, 33), 1, dtype), normal((33, 18), 2, dtype)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    (y,) = run_unit(tmp_path, relax.op.matmul, [a, b], [expected.astype(dtype)])
    assert np.abs(y - expected).max() <= tolerance


def test_integers_are_exact(tmp_path: Path):
    rng = np.random.default_rng(0)
    a = rng.integers(-1000, 1000, (7, 33)).astype(np.int32)
    b = rng.integers(-1000, 1000, (33, 9)).astype(np.int32)
    (y,) = run_unit(tmp_path, relax.op.matmul, [a, b], [a @ b])
    assert np.array_equal(y, a @ b)


@pytest.mark.parametrize("rows", [1, 3, 4])
@pytest.mark.parametrize("columns", [64, 97, 203])
def test_few_rows_read_the_right_operand_in_place(rows: int, columns: int, tmp_path: Path):
    rng = np.random.default_rng(rows)
    a = rng.standard_normal((2, 3, rows, 31)).astype(np.float32)
    b = rng.standard_normal((3, 31, columns)).astype(np.float32)
    c = rng.standard_normal(columns).astype(np.float32)
    expected = np.maximum(a.astype(np.float64) @ b + c, 0)

    def build(a, b, c):
        return relax.op.nn.relu(relax.op.add(relax.op.matmul(a, b), c))

    (y,) = run_unit(tmp_path, build, [a, b, c], [expected.astype(np.float32)])
    assert np.abs(y - expected).max() <= 2e-5
