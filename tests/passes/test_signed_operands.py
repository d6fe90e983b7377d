"""Products of bytes brought into signed bytes: Before and Expected, and the same integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.ir import assert_structural_equal

from motet.passes.signed_operands import signed_operands

WEIGHTS = np.arange(-36, 36, dtype=np.int8).reshape(4, 2, 3, 3)


def module(build: Any, dtype: str, shape: Any) -> tvm.IRModule:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, dtype))
    with builder.function("main", [x]):
        with builder.dataflow():
            result = builder.emit_output(build(builder, x))
        builder.emit_func_output(result)
    return builder.get()


def centred(bb: Any, x: Any, zero: int) -> Any:
    wide = bb.emit(relax.op.astype(x, "int16"))
    return bb.emit(relax.op.subtract(wide, relax.const(zero, "int16")))


def signed(bb: Any, x: Any) -> Any:
    wide = bb.emit(relax.op.astype(x, "int16"))
    below = bb.emit(relax.op.subtract(wide, relax.const(128, "int16")))
    return bb.emit(relax.op.astype(below, "int8"))


def convolution(x: Any, padding: Any, weights: Any = WEIGHTS) -> relax.Call:
    return relax.op.nn.conv2d(x, relax.const(weights), padding=padding, out_dtype="int32")


def bias(zero: int, weights: Any = WEIGHTS) -> Any:
    shift = -zero * weights.astype(np.int64).sum(axis=(1, 2, 3))
    return relax.const(shift.astype(np.int32).reshape(1, -1, 1, 1))


def test_unsigned_bytes_are_shifted_and_padded_before():
    def before(bb: Any, x: Any) -> Any:
        return convolution(x, (1, 2, 3, 4))

    def expected(bb: Any, x: Any) -> Any:
        wide = [0, 0, 0, 0, 1, 3, 2, 4]
        data = bb.emit(relax.op.nn.pad(signed(bb, x), wide, "constant", -128.0))
        return relax.op.add(bb.emit(convolution(data, (0, 0, 0, 0))), bias(-128))

    shape = [1, 2, 8, 8]
    after = signed_operands(module(before, "uint8", shape))
    assert_structural_equal(after, module(expected, "uint8", shape))


def test_a_zero_point_of_signed_bytes_moves_into_the_bias():
    def before(bb: Any, x: Any) -> Any:
        y = bb.emit(convolution(centred(bb, x, 5), 0))
        return relax.op.add(y, relax.const(np.ones((1, 4, 1, 1), np.int32)))

    def expected(bb: Any, x: Any) -> Any:
        y = bb.emit(convolution(x, 0))
        shift = bias(5).value.numpy() + 1
        return relax.op.add(y, relax.const(shift.astype(np.int32)))

    after = signed_operands(module(before, "int8", [1, 2, 8, 8]))
    assert_structural_equal(after, module(expected, "int8", [1, 2, 8, 8]))


def test_zero_points_of_128_need_no_padding():
    def before(bb: Any, x: Any) -> Any:
        return convolution(centred(bb, x, 128), 1)

    def expected(bb: Any, x: Any) -> Any:
        return convolution(signed(bb, x), 1)

    after = signed_operands(module(before, "uint8", [1, 2, 8, 8]))
    assert_structural_equal(after, module(expected, "uint8", [1, 2, 8, 8]))


def test_a_matrix_product():
    weights = np.arange(-12, 12, dtype=np.int8).reshape(8, 3)

    def before(bb: Any, x: Any) -> Any:
        return relax.op.matmul(centred(bb, x, 7), relax.const(weights), out_dtype="int32")

    def expected(bb: Any, x: Any) -> Any:
        y = bb.emit(relax.op.matmul(signed(bb, x), relax.const(weights), out_dtype="int32"))
        shift = 121 * weights.astype(np.int32).sum(axis=0)
        return relax.op.add(y, relax.const(shift.astype(np.int32)))

    after = signed_operands(module(before, "uint8", [2, 5, 8]))
    assert_structural_equal(after, module(expected, "uint8", [2, 5, 8]))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_what_signed_bytes_do_not_hold_or_are_already_stays(dtype: str):
    weights = WEIGHTS if dtype == "int8" else WEIGHTS.astype(np.int16) * 9

    def build(bb: Any, x: Any) -> Any:
        return convolution(x, 1, weights)

    before = module(build, dtype, [1, 2, 8, 8])
    assert_structural_equal(signed_operands(before), before)
