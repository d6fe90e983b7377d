"""Zero points moved into biases where the host multiplies any bytes (VNNI)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.ir import assert_structural_equal

from motet.passes.shift_zero_points import shift_zero_points, zero_points_shifted

any_bytes = zero_points_shifted(any_bytes=True)
WEIGHTS = (np.arange(72) % 7 - 3).astype(np.int8).reshape(2, 4, 3, 3)
MATRIX = np.array([[1, -2, 3], [4, 5, -128]], np.int8)


def module(build: Any, shape: list[int], dtype: str) -> tvm.IRModule:
    builder, x = relax.BlockBuilder(), relax.Var("x", relax.TensorType(shape, dtype))
    with builder.function("main", [x]):
        with builder.dataflow():
            result = builder.emit_output(build(builder, x))
        builder.emit_func_output(result)
    return builder.get()


def centred(bb: Any, x: Any, zero: int) -> Any:
    wide = bb.emit(relax.op.astype(x, "int16"))
    return bb.emit(relax.op.subtract(wide, relax.const(np.int16(zero))))


def raised(bb: Any, x: Any) -> Any:
    wide = bb.emit(relax.op.astype(x, "int16"))
    return bb.emit(relax.op.astype(bb.emit(relax.op.add(wide, relax.const(128, "int16"))), "uint8"))


def conv(x: Any, pad: int, weights: Any = WEIGHTS, groups: int = 1) -> Any:
    return relax.op.nn.conv2d(
        x, relax.const(weights), padding=[pad] * 4, groups=groups, out_dtype="int32"
    )


def shift(zero: int, weights: Any = WEIGHTS) -> Any:
    sums = -zero * weights.astype(np.int32).sum(axis=(1, 2, 3)).reshape(1, -1, 1, 1)
    return relax.const(sums.astype(np.int32))


def test_a_padded_convolution_is_padded_with_the_zero_point():
    def expected(bb: Any, x: Any) -> Any:
        padded = bb.emit(relax.op.nn.pad(x, [0, 0, 0, 0, 1, 1, 1, 1], "constant", 3.0))
        return relax.op.add(bb.emit(conv(padded, 0)), shift(3))

    before = module(lambda bb, x: conv(centred(bb, x, 3), 1), [1, 4, 5, 5], "uint8")
    assert_structural_equal(any_bytes(before), module(expected, [1, 4, 5, 5], "uint8"))
    assert_structural_equal(shift_zero_points(before), before)


def test_the_least_signed_byte_is_the_zero_of_unsigned_ones():
    before = module(lambda bb, x: conv(centred(bb, x, -128), 1), [1, 4, 5, 5], "int8")
    expected = module(lambda bb, x: conv(raised(bb, x), 1), [1, 4, 5, 5], "int8")
    assert_structural_equal(any_bytes(before), expected)


def test_signed_bytes_with_a_bias():
    bias = np.array([5, -6], np.int32).reshape(1, 2, 1, 1)

    def before(bb: Any, x: Any) -> Any:
        return relax.op.add(bb.emit(conv(x, 0)), relax.const(bias))

    def expected(bb: Any, x: Any) -> Any:
        sums = bias - 128 * WEIGHTS.astype(np.int32).sum(axis=(1, 2, 3)).reshape(1, -1, 1, 1)
        y = bb.emit(conv(raised(bb, x), 0))
        return relax.op.add(y, relax.const(sums.astype(np.int32)))

    after = any_bytes(module(before, [1, 4, 5, 5], "int8"))
    assert_structural_equal(after, module(expected, [1, 4, 5, 5], "int8"))


@pytest.mark.parametrize(("dtype", "zero"), [("uint8", 7), ("int8", -3), ("int8", 0)])
def test_a_matrix_product(dtype: str, zero: int):
    def product(x: Any) -> Any:
        return relax.op.matmul(x, relax.const(MATRIX), out_dtype="int32")

    def before(bb: Any, x: Any) -> Any:
        return product(centred(bb, x, zero) if zero else x)

    def expected(bb: Any, x: Any) -> Any:
        above = zero + 128 * (dtype == "int8")
        y = bb.emit(product(raised(bb, x) if dtype == "int8" else x))
        sums = -above * MATRIX.astype(np.int32).sum(axis=0)
        return relax.op.add(y, relax.const(sums.astype(np.int32)))

    after = any_bytes(module(before, [5, 2], dtype))
    assert_structural_equal(after, module(expected, [5, 2], dtype))


@pytest.mark.parametrize(
    ("weights", "groups", "dtype"),
    [
        (WEIGHTS.astype(np.int16), 1, "uint8"),
        (np.ones((4, 1, 3, 3), np.int8), 4, "uint8"),
        (np.ones((4, 1, 3, 3), np.int8), 4, "int8"),
    ],
)
def test_wide_weights_and_depthwise_convolutions_stay(weights: Any, groups: int, dtype: str):
    def build(bb: Any, x: Any) -> Any:
        return conv(centred(bb, x, 3), 1, weights, groups)

    before = module(build, [1, 4, 5, 5], dtype)
    assert_structural_equal(any_bytes(before), before)
