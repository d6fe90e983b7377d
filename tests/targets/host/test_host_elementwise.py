"""Elementwise operators at the values where a careless definition traps or lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kernel_runner import Array, run_unit
from tvm import relax

R = relax.op
SPECIAL = np.array([1, np.nan, -1, np.inf, -np.inf, 0, 2, np.nan] * 5, np.float32)
OTHER = np.array([np.nan, 1, 0, 1, np.nan, -2, 5, np.nan] * 5, np.float32)


def assert_unit(folder: Path, build: object, inputs: list[Array], want: Array) -> None:
    (got,) = run_unit(folder, build, inputs, [want])  # type: ignore[arg-type]
    if want.dtype.kind == "f":
        np.testing.assert_allclose(got, want, rtol=2e-6)
    else:
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8"])
def test_integer_division_traps_on_no_divisor(tmp_path: Path, dtype: str) -> None:
    least = np.iinfo(dtype).min
    a = np.array([7, -7, 7, -7, least, 5, 0, least] * 5).astype(dtype)
    b = np.array([2, 2, -2, -2, -1, 0, 0, 0] * 5).astype(dtype)
    with np.errstate(all="ignore"):
        remainder, rest = np.mod(a, b), np.fmod(a, b)
        quotient = np.where(b == 0, 0, (a - rest) // np.where(b == 0, 1, b)).astype(dtype)

    def build(x: relax.Expr, y: relax.Expr) -> relax.Expr:
        results = [R.divide(x, y), R.floor_mod(x, y), R.mod(x, y)]
        return R.concat([R.expand_dims(result, 0) for result in results], 0)

    assert_unit(tmp_path, build, [a, b], np.stack([quotient, remainder, rest]))


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_maximum_minimum_relu_clip_and_sign_keep_nan(tmp_path: Path, dtype: str) -> None:
    x, y = SPECIAL.astype(dtype), OTHER.astype(dtype)
    half = relax.const(0.5, dtype)

    def build(a: relax.Expr, b: relax.Expr) -> relax.Expr:
        results = [
            R.maximum(a, b), R.minimum(a, b), R.nn.relu(a), R.clip(a, -0.5, 0.5), R.sign(a),
            R.maximum(a, half), R.minimum(half, a),
        ]  # fmt: skip
        return R.concat([R.expand_dims(result, 0) for result in results], 0)

    want = [
        np.maximum(x, y), np.minimum(x, y), np.maximum(x, 0), np.clip(x, -0.5, 0.5), np.sign(x),
        np.maximum(x, 0.5), np.minimum(x, 0.5),
    ]  # fmt: skip
    assert_unit(tmp_path, build, [x, y], np.stack(want).astype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["sinh", "cosh"])
def test_hyperbolic_functions(tmp_path: Path, name: str, dtype: str) -> None:
    x = np.concatenate([np.linspace(-12, 12, 99), [1e-6, -1e-3, 88.9, 0]]).astype(dtype)
    assert_unit(tmp_path, getattr(R, name), [x], getattr(np, name)(x))


def test_where_takes_scalars_and_broadcasts(tmp_path: Path) -> None:
    x = SPECIAL.reshape(4, 10)
    mask = np.array([[True], [False], [True], [False]])
    zero = relax.const(np.float32(0))
    assert_unit(tmp_path, lambda c, a: R.where(c, a, zero), [mask, x], np.where(mask, x, 0))


@pytest.mark.parametrize("name", ["bitwise_and", "bitwise_or", "bitwise_xor"])
def test_bitwise_operators(tmp_path: Path, name: str) -> None:
    a, b = np.arange(40, dtype=np.uint8).reshape(2, 20), np.full(20, 0x5A, np.uint8)
    assert_unit(tmp_path, getattr(R, name), [a, b], getattr(np, name)(a, b))


def test_bitwise_not_and_shifts(tmp_path: Path) -> None:
    a, b = np.arange(40, dtype=np.int32) - 20, np.arange(40, dtype=np.int32) % 7

    def build(x: relax.Expr, y: relax.Expr) -> relax.Expr:
        return R.add(R.left_shift(R.bitwise_not(x), y), R.right_shift(x, y))

    assert_unit(tmp_path, build, [a, b], (~a << b) + (a >> b))


@pytest.mark.parametrize("name", ["equal", "not_equal"])
def test_nan_is_unlike_everything(tmp_path: Path, name: str) -> None:
    want = getattr(np, name)(SPECIAL, SPECIAL[::-1])
    assert_unit(tmp_path, getattr(R, name), [SPECIAL, SPECIAL[::-1].copy()], want)


@pytest.mark.parametrize("name", ["equal", "not_equal"])
def test_booleans_are_compared(tmp_path: Path, name: str) -> None:
    x, true = np.array([True, False, True]), relax.const(True, "bool")
    want = getattr(np, name)(x, True)
    assert_unit(tmp_path, lambda a: getattr(R, name)(a, true), [x], want)


@pytest.mark.parametrize("number", [np.inf, np.nan, 3.0])
def test_a_tensor_full_of_a_number(tmp_path: Path, number: float) -> None:
    x = np.zeros((2, 3), np.float32)
    fill = relax.const(number, "float32")
    assert_unit(tmp_path, lambda a: R.add(a, R.full((2, 3), fill)), [x], x + np.float32(number))
