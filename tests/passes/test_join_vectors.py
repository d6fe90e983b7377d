"""Products of dequantised vectors: Before and Expected, and what must stay float, with why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.ir import assert_structural_equal

from motet.passes.graph import bindings_of
from motet.passes.join_vectors import Joined, join_vectors
from motet.passes.macs import integer_macs_of, macs_of
from motet.passes.op_kinds import Kind, kind_of, op_name
from motet.passes.options import JoinVectorsOptions
from motet.passes.unit_values import is_product
from motet.passes.vector_forms import bits_of
from motet.targets.operators.vectors import (
    PRODUCTS,
    Quantizing,
    VectorProduct,
    Window,
    quantize_vectors,
    vector_conv,
    vector_matmul,
)
from motet.targets.quantized.types import QuantType

KIND = QuantType(8, True, "vector", 4, 10)
GAMMA = np.float32(0.25)
RNG = np.random.default_rng(0)


def const(value: Any) -> relax.Constant:
    return relax.const(np.ascontiguousarray(value))


def module(build: Callable[..., Any], *shapes: Any, dtype: str = "float32") -> tvm.IRModule:
    builder = relax.BlockBuilder()
    params = [relax.Var(f"x{i}", relax.TensorType(s, dtype)) for i, s in enumerate(shapes)]
    with builder.function("main", params):
        with builder.dataflow():
            result = builder.emit_output(build(builder, *params))
        builder.emit_func_output(result)
    return builder.get()


def vectors(bb: Any, x: Any, axis: int, kind: QuantType = KIND) -> tuple[Any, Any]:
    gamma = None if kind.scale_bits is None else relax.const(GAMMA)
    pair = bb.emit(quantize_vectors(Quantizing(axis, kind), x, gamma))
    return bb.emit(relax.TupleGetItem(pair, 0)), bb.emit(relax.TupleGetItem(pair, 1))


def worth(bb: Any, integers: Any, steps: Any, axis: int, size: int) -> Any:
    """Integers (*rest, G, V) times steps (*rest, G), as a tensor."""
    wide = bb.emit(relax.op.astype(integers, "float32"))
    each = bb.emit(relax.op.expand_dims(steps, [-1]))
    real = bb.emit(relax.op.multiply(wide, each))
    *rest, count, length = [int(v) for v in integers.ty.shape.values]
    flat = bb.emit(relax.op.reshape(real, [*rest, count * length]))
    if size % length:
        flat = bb.emit(relax.op.strided_slice(flat, [len(rest)], [0], [size], [1]))
    order = list(range(len(rest)))
    order.insert(axis, len(rest))
    return flat if axis == len(rest) else bb.emit(relax.op.permute_dims(flat, order))


def data(bb: Any, x: Any, axis: int, kind: QuantType = KIND) -> Any:
    integers, scales = vectors(bb, x, axis, kind)
    steps = scales
    if kind.scale_bits is not None:
        wide = bb.emit(relax.op.astype(scales, "float32"))
        steps = bb.emit(relax.op.multiply(wide, relax.const(GAMMA)))
    return worth(bb, integers, steps, axis, int(x.ty.shape.values[axis]))


def stored(*shape: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integers (*rest, G, 4) of 4 bits, scales of 6 bits, a gamma for each of the first axis."""
    integers = RNG.integers(-7, 8, shape).astype(np.int8)
    scales = RNG.integers(1, 64, shape[:-1]).astype(np.uint8)
    integers.flat[0], scales.flat[0] = 7, 63
    return integers, scales, RNG.random(shape[0]).astype(np.float32)


def weights(bb: Any, parts: tuple[np.ndarray, ...], axis: int, size: int, channel: int = 0) -> Any:
    integers, scales, gamma = parts
    zero = np.zeros(gamma.shape, np.uint8)
    steps = relax.op.dequantize(const(scales), const(gamma), const(zero), channel, "float32")
    return worth(bb, const(integers), bb.emit(steps), axis, size)


def joined(mod: tvm.IRModule, **options: Any) -> tuple[tvm.IRModule, Joined]:
    told = Joined()
    return join_vectors(JoinVectorsOptions(**options), told)(mod), told


CONV = stored(8, 3, 2, 2, 4)  # 8 outputs, taps 3 x 2, 7 channels in 2 vectors
BIAS = np.ones((1, 8, 1, 1), np.float32)
WHAT = VectorProduct(8, 4, 10, 6, None, "float32", 7)
WINDOW = Window((2, 1), (1, 0, 0, 1), (1, 2))


def convolution() -> tvm.IRModule:
    def build(bb: Any, x: Any) -> Any:
        real, kernel = data(bb, x, 1), weights(bb, CONV, 1, 7)
        y = relax.op.nn.conv2d(real, kernel, (2, 1), (1, 0, 0, 1), (1, 2))
        return relax.op.nn.relu(bb.emit(relax.op.add(bb.emit(y), const(BIAS))))

    return module(build, (1, 7, 6, 5))


def test_a_convolution() -> None:
    def build(bb: Any, x: Any) -> Any:
        integers, scales = vectors(bb, x, 1)
        held = [const(CONV[0]), const(CONV[1].astype(np.uint16)), const(CONV[2] * GAMMA)]
        y = bb.emit(vector_conv(WHAT, WINDOW, [integers, scales, *held]))
        return relax.op.nn.relu(bb.emit(relax.op.add(y, const(BIAS))))

    made, told = joined(convolution())
    assert_structural_equal(made, module(build, (1, 7, 6, 5)))
    assert told.summary == "1 products of vectors in integers"
    (call,) = [b.value for b in bindings_of(made["main"]) if op_name(b.value) in PRODUCTS]
    assert kind_of(call) is Kind.ANCHOR
    assert is_product(call)
    assert int(macs_of(call)) == int(integer_macs_of(call)) == 8 * 3 * 4 * 7 * 6  # of 7 channels


def test_rounded_products_of_scales_are_worth_more() -> None:
    made, _ = joined(convolution(), product_bits=12)
    (call,) = [b.value for b in bindings_of(made["main"]) if op_name(b.value) in PRODUCTS]
    assert VectorProduct.of(call).dropped == 4
    np.testing.assert_array_equal(call.args[4].value.numpy(), CONV[2] * GAMMA * 16)


def test_off_is_off() -> None:
    from motet.compiler.pipeline import steps_for
    from motet.compiler.spec import PassesSpec

    off = PassesSpec(join_vectors=JoinVectorsOptions(enabled=False))
    assert "join_vectors" not in [step.name for step in steps_for(off, None)]


@pytest.mark.parametrize("turned", [False, True])
def test_a_product_with_weights_that_may_be_transposed(turned: bool) -> None:
    parts = stored(6, 3, 4)  # 6 outputs, depth 12

    def before(bb: Any, x: Any) -> Any:
        held = weights(bb, parts, 1 if turned else 0, 12)
        held = bb.emit(relax.op.permute_dims(held)) if turned else held
        return relax.op.matmul(data(bb, x, 2), held)

    def after(bb: Any, x: Any) -> Any:
        held = [const(parts[0]), const(parts[1].astype(np.uint16)), const(parts[2] * GAMMA)]
        what = VectorProduct(8, 4, 10, 6, None, "float32", 12)
        return vector_matmul(what, [*vectors(bb, x, 2), *held])

    made, _ = joined(module(before, (2, 3, 12)))
    assert_structural_equal(made, module(after, (2, 3, 12)))


@pytest.mark.parametrize("levels", [1, 2])
def test_two_computed_operands(levels: int) -> None:
    kind = KIND if levels == 2 else QuantType(8, False, "vector", 4, None)

    def before(bb: Any, x: Any, y: Any) -> Any:
        return relax.op.matmul(data(bb, x, 2, kind), data(bb, y, 1, kind))

    def after(bb: Any, x: Any, y: Any) -> Any:
        bits = kind.scale_bits or 0
        what = VectorProduct(8, 8, bits, bits, None, "float32", 10)
        factor = np.float32(GAMMA * GAMMA if levels == 2 else 1)
        parts = [*vectors(bb, x, 2, kind), *vectors(bb, y, 1, kind)]
        return vector_matmul(what, [*parts, relax.const(factor)])

    shapes = ((2, 5, 10), (2, 10, 6))
    made, _ = joined(module(before, *shapes))
    assert_structural_equal(made, module(after, *shapes))


def test_a_gamma_that_no_factor_carries_becomes_part_of_float_scales() -> None:
    """Gammas of the weights' vectors (axis 1), not of output channels."""
    integers, scales, _ = stored(6, 3, 4)
    gamma = np.array([0.5, 2.0, 0.125], np.float32)

    def before(bb: Any, x: Any) -> Any:
        held = weights(bb, (integers, scales, gamma), 0, 12, channel=1)
        return relax.op.matmul(data(bb, x, 1), held)

    made, _ = joined(module(before, (3, 12)))
    (call,) = [b.value for b in bindings_of(made["main"]) if op_name(b.value) in PRODUCTS]
    what = VectorProduct.of(call)
    assert (what.x_scale_bits, what.w_scale_bits) == (0, 0)
    np.testing.assert_array_equal(call.args[3].value.numpy(), scales * gamma)
    assert str(call.args[1].ty.dtype) == "float32"


def of_two_lengths(bb: Any, x: Any) -> Any:
    return relax.op.matmul(
        data(bb, x, 1, QuantType(8, True, "vector", 8, 10)), weights(bb, stored(6, 4, 4), 0, 16)
    )


def along_another_axis(bb: Any, x: Any) -> Any:
    return relax.op.matmul(data(bb, x, 0), const(np.ones((16, 2), np.float32)))


def beside_floats(bb: Any, x: Any) -> Any:
    return relax.op.matmul(x, weights(bb, stored(6, 4, 4), 0, 16))


def straddling(bb: Any, x: Any) -> Any:
    image = bb.emit(relax.op.reshape(x, [4, 4, 4, 1]))
    wide = bb.emit(relax.op.concat([image, image, image], 1))
    return relax.op.nn.conv2d(data(bb, wide, 1), weights(bb, stored(4, 1, 1, 2, 4), 1, 6), groups=2)


def too_wide(bb: Any, x: Any) -> Any:
    integers, scales, gamma = stored(2, 40000, 4)
    wide = scales.astype(np.uint16)
    wide.flat[0], integers.flat[1] = 65535, -128
    real = data(bb, x, 1, QuantType(8, False, "vector", 4, 16))
    steps = relax.op.dequantize(
        const(wide), const(gamma), const(np.zeros(2, np.uint16)), 0, "float32"
    )
    return relax.op.matmul(real, worth(bb, const(integers), bb.emit(steps), 0, 160000))


@pytest.mark.parametrize(
    ("build", "shape", "why"),
    [
        (of_two_lengths, (4, 16), "vectors of 8 and 4 elements"),
        (along_another_axis, (4, 16), "another axis"),
        (beside_floats, (4, 16), "no vectors of integers"),
        (straddling, (4, 16), "straddle the groups"),
        (too_wide, (1, 160000), "do not fit 63 bits"),
    ],
)
def test_what_stays_float(build: Callable[..., Any], shape: tuple[int, ...], why: str) -> None:
    before = module(build, shape)
    made, told = joined(before)
    assert_structural_equal(made, before)
    assert told.count == 0
    assert len(told.refused) == 1
    assert why in told.refused[0]
    assert told.summary == "0 products of vectors in integers, 1 stay float"


@pytest.mark.parametrize(
    ("values", "bits"),
    [([-8, 7], 4), ([-7, 7], 4), ([-8, 8], 5), ([0, 1], 2), ([-128], 8), ([0], 2)],
)
def test_bits_of_signed_integers(values: list[int], bits: int) -> None:
    assert bits_of(np.array(values, np.int16)) == bits


def test_bits_of_unsigned_integers() -> None:
    assert bits_of(np.array([0, 15], np.uint8)) == 4
    assert bits_of(np.array([255], np.uint8)) == 8
