"""QDQ graphs in integers: Before and Expected, and what must stay as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import assert_structural_equal

from motet.passes.join_quantized import join_quantized
from motet.passes.shift_zero_points import shift_zero_points

HALF, QUARTER, EIGHTH = (np.float32(2.0**-i) for i in (1, 2, 3))
WEIGHTS = np.arange(-8, 8, dtype=np.int8).reshape(2, 8, 1, 1)
BIAS = np.array([3, -4], np.int32)


def const(value: Any) -> relax.Constant:
    return relax.const(np.asarray(value))


def real(x: relax.Expr, scale: Any, zero: Any, axis: int = -1) -> relax.Call:
    return relax.op.dequantize(x, const(scale), const(zero), axis, "float32")


def bytes_of(x: relax.Expr, scale: Any, zero: Any) -> relax.Call:
    return relax.op.quantize(x, const(scale), const(zero), -1, "uint8")


def module(build: Any, *shapes: Any) -> tvm.IRModule:
    builder = relax.BlockBuilder()
    params = [relax.Var(f"x{i}", relax.TensorType(s, "uint8")) for i, s in enumerate(shapes)]
    with builder.function("main", params):
        with builder.dataflow():
            result = builder.emit_output(build(builder, *params))
        builder.emit_func_output(result)
    return builder.get()


def convolution(bias_scale: Any = HALF * QUARTER) -> tvm.IRModule:
    def build(bb: Any, x: Any) -> Any:
        a = bb.emit(real(x, HALF, np.uint8(3)))
        w = bb.emit(real(const(WEIGHTS), np.array([QUARTER] * 2), np.zeros(2, np.int8), 0))
        b = bb.emit(real(const(BIAS), np.array([bias_scale] * 2), np.zeros(2, np.int32), 0))
        b = bb.emit(relax.op.reshape(b, [1, 2, 1, 1]))
        y = bb.emit(relax.op.add(bb.emit(relax.op.nn.conv2d(a, w)), b))
        return bytes_of(bb.emit(relax.op.nn.relu(y)), EIGHTH, np.uint8(5))

    return module(build, [1, 8, 4, 4])


def names(mod: tvm.IRModule) -> list[str]:
    block = mod["main"].body.blocks[0]
    return [str(b.value.op.name).removeprefix("relax.") for b in block.bindings]


def test_a_convolution_with_bias_and_activation():
    def build(bb: Any, x: Any) -> Any:
        wide = bb.emit(relax.op.astype(x, "int16"))
        a = bb.emit(relax.op.subtract(wide, relax.const(3, "int16")))
        y = bb.emit(relax.op.nn.conv2d(a, const(WEIGHTS), out_dtype="int32"))
        y = bb.emit(relax.op.add(y, const(BIAS.reshape(1, 2, 1, 1))))
        factor = np.full((1, 2, 1, 1), HALF * QUARTER / EIGHTH, np.float32)
        y = bb.emit(relax.op.multiply(bb.emit(relax.op.astype(y, "float32")), const(factor)))
        return bytes_of(bb.emit(relax.op.nn.relu(y)), np.float32(1), np.uint8(5))

    assert_structural_equal(join_quantized(convolution()), module(build, [1, 8, 4, 4]))


def test_a_bias_of_another_scale_stays_float_behind_integer_sums():
    def build(bb: Any, x: Any) -> Any:
        b = bb.emit(real(const(BIAS), np.array([QUARTER] * 2), np.zeros(2, np.int32), 0))
        b = bb.emit(relax.op.reshape(b, [1, 2, 1, 1]))
        wide = bb.emit(relax.op.astype(x, "int16"))
        a = bb.emit(relax.op.subtract(wide, relax.const(3, "int16")))
        y = bb.emit(relax.op.nn.conv2d(a, const(WEIGHTS), out_dtype="int32"))
        worth = np.full((1, 2, 1, 1), HALF * QUARTER, np.float32)
        y = bb.emit(relax.op.multiply(bb.emit(relax.op.astype(y, "float32")), const(worth)))
        return bytes_of(bb.emit(relax.op.nn.relu(bb.emit(relax.op.add(y, b)))), EIGHTH, np.uint8(5))

    assert_structural_equal(join_quantized(convolution(QUARTER)), module(build, [1, 8, 4, 4]))


def test_a_sum_takes_the_form_of_the_qlinear_operator():
    def build(bb: Any, x: Any, y: Any) -> Any:
        a, b = bb.emit(real(x, HALF, np.uint8(3))), bb.emit(real(y, QUARTER, np.uint8(0)))
        return bytes_of(bb.emit(relax.op.add(a, b)), EIGHTH, np.uint8(5))

    after = names(join_quantized(module(build, [4], [4])))
    assert sorted(after) == sorted(["astype", "multiply"] * 2 + ["add", "add", "quantize"])


def test_a_view_and_a_maximum_between_equal_scales_need_no_float():
    def build(bb: Any, x: Any) -> Any:
        a = bb.emit(real(x, HALF, np.uint8(3)))
        y = bb.emit(relax.op.nn.max_pool2d(a, (2, 2)))
        y = bb.emit(bytes_of(y, HALF, np.uint8(3)))
        y = bb.emit(relax.op.reshape(bb.emit(real(y, HALF, np.uint8(3))), [1, -1]))
        return bytes_of(y, HALF, np.uint8(3))

    assert names(join_quantized(module(build, [1, 8, 4, 4]))) == ["nn.max_pool2d", "reshape"]


def test_a_view_between_other_scales_stays():
    def build(bb: Any, x: Any) -> Any:
        a = bb.emit(real(x, HALF, np.uint8(3)))
        return bytes_of(bb.emit(relax.op.reshape(a, [4, 2])), HALF, np.uint8(4))

    before = module(build, [8])
    assert names(join_quantized(before)) == names(before)


def test_a_product_that_others_read_is_summed_in_integers_once():
    def build(bb: Any, x: Any) -> Any:
        a = bb.emit(real(x, HALF, np.uint8(3)))
        w = bb.emit(real(const(WEIGHTS), QUARTER, np.int8(0)))
        y = bb.emit(relax.op.nn.conv2d(a, w))
        q = bb.emit(bytes_of(y, EIGHTH, np.uint8(5)))
        return relax.op.add(bb.emit(real(q, EIGHTH, np.uint8(5))), y)

    after = names(join_quantized(module(build, [1, 8, 4, 4])))
    assert after == ["astype", "subtract", "nn.conv2d", "astype", "multiply", "quantize",
                     "dequantize", "add"]  # fmt: skip


def test_a_product_without_a_quantisation_behind_is_summed_in_integers():
    def build(bb: Any, x: Any) -> Any:
        w = bb.emit(real(const(WEIGHTS.reshape(2, 8).T), QUARTER, np.int8(0)))
        return relax.op.matmul(bb.emit(real(x, HALF, np.uint8(0))), w)

    def expected(bb: Any, x: Any) -> Any:
        weights = const(np.ascontiguousarray(WEIGHTS.reshape(2, 8).T))
        sums = bb.emit(relax.op.matmul(x, weights, out_dtype="int32"))
        worth = const(np.asarray(HALF * QUARTER))
        return relax.op.multiply(bb.emit(relax.op.astype(sums, "float32")), worth)

    assert_structural_equal(
        join_quantized(module(build, [4, 8])), module(expected, [4, 8])
    )  # fmt: skip


def test_a_zero_point_moves_into_the_bias():
    def expected(bb: Any, x: Any) -> Any:
        y = bb.emit(relax.op.nn.conv2d(x, const(WEIGHTS), out_dtype="int32"))
        shift = -3 * WEIGHTS.astype(np.int32).sum(axis=(1, 2, 3)) + BIAS
        y = bb.emit(relax.op.add(y, const(shift.astype(np.int32).reshape(1, 2, 1, 1))))
        factor = np.full((1, 2, 1, 1), HALF * QUARTER / EIGHTH, np.float32)
        y = bb.emit(relax.op.multiply(bb.emit(relax.op.astype(y, "float32")), const(factor)))
        return bytes_of(bb.emit(relax.op.nn.relu(y)), np.float32(1), np.uint8(5))

    after = shift_zero_points(join_quantized(convolution()))
    assert_structural_equal(after, module(expected, [1, 8, 4, 4]))


SCALES = np.array([HALF, QUARTER, EIGHTH, HALF])
ZEROS = np.array([3, 0, 7, 1], np.uint8)
DEPTHWISE = np.arange(-36, 36, dtype=np.int8).reshape(8, 1, 3, 3)


def depthwise(zeros: Any, weights: Any = DEPTHWISE, groups: int = 4, axis: int = 1) -> Any:
    """A convolution of an input with a scale per channel (or row)."""

    def build(bb: Any, x: Any) -> Any:
        a = bb.emit(real(x, SCALES, zeros, axis))
        w = bb.emit(real(const(weights), np.full(8, QUARTER), np.zeros(8, np.int8), 0))
        return relax.op.nn.conv2d(a, w, padding=1, groups=groups)

    return module(build, [1, 4, 4, 4])


def test_a_depthwise_convolution_of_an_input_with_scales_per_channel():
    """Two outputs a channel: each output's factor has the scale of the channel it reads."""

    def expected(bb: Any, x: Any) -> Any:
        wide = bb.emit(relax.op.astype(x, "int16"))
        zeros = const(ZEROS.astype(np.int16).reshape(1, 4, 1, 1))
        a = bb.emit(relax.op.subtract(wide, zeros))
        y = relax.op.nn.conv2d(a, const(DEPTHWISE), padding=1, groups=4, out_dtype="int32")
        worth = np.repeat(SCALES, 2).reshape(1, 8, 1, 1) * QUARTER
        real = bb.emit(relax.op.astype(bb.emit(y), "float32"))
        return relax.op.multiply(real, const(worth.astype(np.float32)))

    assert_structural_equal(join_quantized(depthwise(ZEROS)), module(expected, [1, 4, 4, 4]))


def test_zero_points_of_0_need_no_wider_integers():
    after = names(join_quantized(depthwise(np.zeros(4, np.uint8))))
    assert after == ["nn.conv2d", "astype", "multiply"]


def test_scales_along_what_is_summed_stay_float():
    dense = np.arange(-16, 16, dtype=np.int8).reshape(8, 4, 1, 1)
    for before in (depthwise(ZEROS, dense, 1), depthwise(ZEROS, axis=2)):
        assert names(join_quantized(before))[-1] == "nn.conv2d"
        assert "int32" not in join_quantized(before).script()


def test_a_product_of_two_computed_operands():
    def build(bb: Any, x: Any, y: Any) -> Any:
        a, b = bb.emit(real(x, HALF, np.uint8(3))), bb.emit(real(y, QUARTER, np.uint8(0)))
        return bytes_of(bb.emit(relax.op.matmul(a, b)), EIGHTH, np.uint8(5))

    def expected(bb: Any, x: Any, y: Any) -> Any:
        wide = bb.emit(relax.op.astype(x, "int16"))
        a = bb.emit(relax.op.subtract(wide, relax.const(3, "int16")))
        sums = bb.emit(relax.op.matmul(a, y, out_dtype="int32"))
        factor = const(np.asarray(HALF * QUARTER / EIGHTH))
        z = bb.emit(relax.op.multiply(bb.emit(relax.op.astype(sums, "float32")), factor))
        return bytes_of(z, np.float32(1), np.uint8(5))

    shapes = [2, 4, 8], [2, 8, 3]
    after = join_quantized(module(build, *shapes))
    assert_structural_equal(after, module(expected, *shapes))


def test_sums_that_int32_does_not_hold_stay_float():
    def build(bb: Any, x: Any, y: Any) -> Any:
        a, b = bb.emit(real(x, HALF, np.uint8(0))), bb.emit(real(y, QUARTER, np.uint8(0)))
        return relax.op.matmul(a, b)

    for depth, sums in ((33025, "int32"), (33026, "float32")):  # of 255 * 255
        after = join_quantized(module(build, [1, depth], [depth, 1]))
        (product,) = (
            b.value for b in after["main"].body.blocks[0].bindings
            if str(b.value.op.name) == "relax.matmul"
        )  # fmt: skip
        assert str(product.ty.dtype) == sums


def test_what_moves_between_dequantisation_and_product_moves_integers():
    def build(bb: Any, x: Any, y: Any) -> Any:
        a, b = bb.emit(real(x, HALF, np.uint8(0))), bb.emit(real(y, QUARTER, np.uint8(0)))
        b = bb.emit(relax.op.permute_dims(bb.emit(relax.op.reshape(b, [3, 8])), [1, 0]))
        return relax.op.matmul(a, b)

    def expected(bb: Any, x: Any, y: Any) -> Any:
        b = bb.emit(relax.op.permute_dims(bb.emit(relax.op.reshape(y, [3, 8])), [1, 0]))
        sums = bb.emit(relax.op.matmul(x, b, out_dtype="int32"))
        worth = const(np.asarray(HALF * QUARTER))
        return relax.op.multiply(bb.emit(relax.op.astype(sums, "float32")), worth)

    shapes = [4, 8], [24]
    after = join_quantized(module(build, *shapes))
    assert_structural_equal(after, module(expected, *shapes))
