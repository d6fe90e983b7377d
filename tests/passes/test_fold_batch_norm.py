from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import tvm
from relax_modules import assert_equal, assert_same_values, calls, named, names
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.fold_batch_norm import fold_batch_norm

RNG = np.random.default_rng(7)


def const(*shape: int, dtype: str = "float32", low: float = -1.0) -> relax.Expr:
    return relax.const(RNG.uniform(low, 1.5, shape).astype(dtype))


def parameters(channels: int, dtype: str = "float32") -> list[relax.Expr]:
    """gamma, beta, mean, variance."""
    return [const(channels, dtype=dtype) for _ in range(3)] + [
        const(channels, dtype=dtype, low=0.5)
    ]


def batch_norm(x: relax.Expr, params: list[relax.Expr], axis: int = 1, **more: Any) -> relax.Expr:
    return relax.op.nn.batch_norm(x, *params, axis=axis, training=False, **more)


def build(shape: list[int], body: Any, dtype: str = "float32") -> tvm.IRModule:
    """A function of x whose calls are named after ``body``'s steps: n0, n1, ..."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, dtype))
    with builder.function("main", [x]):
        with builder.dataflow():
            output = builder.emit_output(body(lambda call, name: builder.emit(call, name), x))
        builder.emit_func_output(output)
    return named(builder.finalize())


def op_names(mod: tvm.IRModule) -> list[str]:
    return [call.op.name.removeprefix("relax.") for call in calls(mod["main"])]


CONVOLUTIONS = [
    ([1, 4, 9], (6, 4, 3), relax.op.nn.conv1d, {}),
    ([2, 4, 6, 5], (6, 4, 3, 3), relax.op.nn.conv2d, {"padding": 1}),
    ([1, 4, 6, 6], (6, 2, 3, 3), relax.op.nn.conv2d, {"groups": 2, "strides": 2}),
    ([1, 4, 5, 5], (4, 1, 3, 3), relax.op.nn.conv2d, {"groups": 4}),
    ([1, 2, 4, 4, 4], (3, 2, 3, 3, 3), relax.op.nn.conv3d, {}),
    ([1, 4, 5], (4, 3, 3), relax.op.nn.conv1d_transpose, {}),
    ([1, 4, 5, 5], (4, 3, 2, 2), relax.op.nn.conv2d_transpose, {"groups": 2, "strides": (2, 2)}),
]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("shape", "weight", "operator", "options"), CONVOLUTIONS)
def test_rule_1_convolutions(
    shape: list[int], weight: tuple[int, ...], operator: Any, options: Any, bias: bool
) -> None:
    def body(emit: Any, x: relax.Expr) -> relax.Expr:
        y = emit(operator(x, const(*weight), **options), "conv")
        channels = int(y.ty.shape[1])
        if bias:
            y = emit(relax.op.add(y, const(channels, *[1] * (len(weight) - 2))), "bias")
        norm = emit(batch_norm(y, parameters(channels)), "norm")
        return emit(relax.TupleGetItem(norm, 0), "item")

    before = build(shape, body)
    after = fold_batch_norm(before)
    assert op_names(after) == [op_names(before)[0], "add"]
    assert names(after["main"]) == [("conv", "bias", "norm") if bias else ("conv", "norm")] * 2
    assert_same_values(before, after)


def test_rule_1_weights_by_the_formula() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor(("n", 1, 1, 1), "float32")):
            with R.dataflow():
                conv = R.nn.conv2d(x, R.const(np.full((1, 1, 1, 1), 3.0, "float32")))
                bias = R.add(conv, R.const(np.full((1, 1, 1), 7.0, "float32")))
                norm = R.nn.batch_norm(
                    bias,
                    R.const(np.array([2.0], "float32")),
                    R.const(np.array([5.0], "float32")),
                    R.const(np.array([1.0], "float32")),
                    R.const(np.array([15.0], "float32")),
                    axis=1,
                    epsilon=1.0,
                    training=False,
                )
                y = norm[0]
                R.output(y)
            return y

    @I.ir_module
    class Expected:  # s = 2 / sqrt(15 + 1) = 0.5; W' = 1.5; b' = (7 - 1) 0.5 + 5 = 8
        @R.function
        def main(x: R.Tensor(("n", 1, 1, 1), "float32")):
            with R.dataflow():
                conv = R.nn.conv2d(x, R.const(np.full((1, 1, 1, 1), 1.5, "float32")))
                y = R.add(conv, R.const(np.full((1, 1, 1, 1), 8.0, "float32")))
                R.output(y)
            return y

    assert_equal(fold_batch_norm(Before), Expected)


@pytest.mark.parametrize(("left", "right"), [((3, 4), (4, 5)), ((2, 3, 4), (4, 5))])
def test_rule_1_matrix_product(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    axis = len(left) - 1

    def body(emit: Any, x: relax.Expr) -> relax.Expr:
        y = emit(relax.op.matmul(x, const(*right)), "product")
        y = emit(relax.op.add(y, const(5)), "bias")
        return emit(relax.TupleGetItem(emit(batch_norm(y, parameters(5), axis), "norm"), 0), "i")

    before = build(list(left), body)
    after = fold_batch_norm(before)
    assert op_names(after) == ["matmul", "add"]
    assert names(after["main"]) == [("product", "bias", "norm")] * 2
    assert_same_values(before, after)


def test_another_axis_is_not_folded_into_a_product() -> None:
    def body(emit: Any, x: relax.Expr) -> relax.Expr:
        y = emit(relax.op.matmul(x, const(4, 5)), "product")
        return emit(relax.TupleGetItem(emit(batch_norm(y, parameters(3)), "norm"), 0), "i")

    before = build([2, 3, 4], body)
    after = fold_batch_norm(before)
    assert op_names(after) == ["matmul", "multiply", "add"]
    assert_same_values(before, after)


def test_batch_norm_written_out() -> None:
    def body(emit: Any, x: relax.Expr) -> relax.Expr:
        y = emit(relax.op.nn.conv2d(x, const(6, 4, 3, 3)), "conv")
        y = emit(relax.op.subtract(y, const(1, 6, 1, 1)), "mean")
        y = emit(relax.op.divide(y, const(6, 1, 1, low=0.5)), "deviation")
        y = emit(relax.op.multiply(const(6, 1, 1), y), "gamma")
        y = emit(relax.op.subtract(relax.const(np.float32(2)), y), "from")
        return emit(relax.op.add(const(6, 1, 1), y), "beta")

    before = build([1, 4, 5, 5], body)
    after = fold_batch_norm(before)
    assert op_names(after) == ["nn.conv2d", "add"]
    assert names(after["main"])[1] == ("conv", "mean", "deviation", "gamma", "from", "beta")
    assert_same_values(before, after)


def test_scale_alone_needs_no_addition() -> None:
    def body(emit: Any, x: relax.Expr) -> relax.Expr:
        y = emit(relax.op.matmul(x, const(4, 4)), "product")
        return emit(relax.op.multiply(y, relax.const(np.float32(0.125))), "scale")

    before = build([3, 4], body)
    after = fold_batch_norm(before)
    assert op_names(after) == ["matmul"]
    assert names(after["main"]) == [("product", "scale")]
    assert_same_values(before, after)


def unchanged_bodies() -> dict[str, Any]:
    weight, wide = const(1, 4, 3, 3), const(1, 6, 1, 1)

    def broadcast_enlarges(emit: Any, x: relax.Expr) -> relax.Expr:
        y = emit(relax.op.nn.conv2d(x, weight), "conv")
        return emit(relax.op.multiply(y, wide), "scale")

    def varies_in_space(emit: Any, x: relax.Expr) -> relax.Expr:
        y = emit(relax.op.nn.conv2d(x, const(3, 4, 3, 3)), "conv")
        return emit(relax.op.multiply(y, const(3, 3, 3)), "scale")

    def wrong_axis(emit: Any, x: relax.Expr) -> relax.Expr:
        y = emit(relax.op.nn.conv2d(x, const(3, 4, 3, 3)), "conv")
        return emit(relax.op.multiply(y, const(3)), "scale")

    def more_axes(emit: Any, x: relax.Expr) -> relax.Expr:
        y = emit(relax.op.nn.conv2d(x, const(3, 4, 3, 3)), "conv")
        return emit(relax.op.multiply(y, const(1, 1, 3, 1, 1)), "scale")

    def reciprocal(emit: Any, x: relax.Expr) -> relax.Expr:
        y = emit(relax.op.nn.conv2d(x, const(3, 4, 3, 3)), "conv")
        return emit(relax.op.divide(const(3, 1, 1), y), "divide")

    def bias_alone(emit: Any, x: relax.Expr) -> relax.Expr:
        y = emit(relax.op.nn.conv2d(x, const(3, 4, 3, 3)), "conv")
        return emit(relax.op.add(y, const(3, 1, 1)), "bias")

    def computed_weights(emit: Any, x: relax.Expr) -> relax.Expr:
        w = emit(relax.op.nn.relu(x), "w")
        y = emit(relax.op.nn.conv2d(x, w), "conv")
        return emit(relax.op.multiply(y, relax.const(np.float32(2))), "scale")

    def two_readers(emit: Any, x: relax.Expr) -> relax.Expr:
        y = emit(relax.op.nn.conv2d(x, const(3, 4, 3, 3)), "conv")
        z = emit(relax.op.multiply(y, const(3, 1, 1)), "scale")
        return emit(relax.op.add(z, y), "sum")

    def training(emit: Any, x: relax.Expr) -> relax.Expr:
        norm = relax.op.nn.batch_norm(x, *parameters(4), axis=1, training=True)
        return emit(relax.TupleGetItem(emit(norm, "norm"), 0), "item")

    def overflows(emit: Any, x: relax.Expr) -> relax.Expr:
        y = emit(relax.op.nn.conv2d(x, relax.const(np.full((3, 4, 3, 3), 1e30, "float32"))), "conv")
        return emit(relax.op.multiply(y, relax.const(np.float32(1e20))), "scale")

    def tensor_bias(emit: Any, x: relax.Expr) -> relax.Expr:
        y = emit(relax.op.nn.conv2d(x, const(4, 4, 1, 1)), "conv")
        y = emit(relax.op.add(y, x), "residual")
        return emit(relax.op.multiply(y, const(4, 1, 1)), "scale")

    return {name: body for name, body in locals().items() if inspect.isfunction(body)}


@pytest.mark.parametrize("name", sorted(unchanged_bodies()))
def test_left_alone(name: str) -> None:
    before = build([1, 4, 5, 5], unchanged_bodies()[name])
    assert_equal(fold_batch_norm(before), before)


def test_convolution_with_two_readers_keeps_its_weights() -> None:
    def body(emit: Any, x: relax.Expr) -> relax.Expr:
        y = emit(relax.op.nn.conv2d(x, const(3, 4, 3, 3)), "conv")
        item = emit(relax.TupleGetItem(emit(batch_norm(y, parameters(3)), "norm"), 0), "item")
        return emit(relax.op.add(item, y), "sum")

    before = build([1, 4, 5, 5], body)
    after = fold_batch_norm(before)
    assert op_names(after) == ["nn.conv2d", "multiply", "add", "add"]
    assert names(after["main"]) == [("conv",), ("norm",), ("norm",), ("sum",)]
    assert calls(after["main"])[0].args[1].same_as(calls(before["main"])[0].args[1])
    assert_same_values(before, after)


def test_two_norms_of_one_convolution_become_two_scalings() -> None:
    def body(emit: Any, x: relax.Expr) -> relax.Expr:
        y = emit(relax.op.nn.conv2d(x, const(3, 4, 3, 3)), "conv")
        one = emit(relax.TupleGetItem(emit(batch_norm(y, parameters(3)), "one"), 0), "i")
        two = emit(relax.TupleGetItem(emit(batch_norm(y, parameters(3)), "two"), 0), "j")
        return emit(relax.op.add(one, two), "sum")

    before = build([1, 4, 5, 5], body)
    after = fold_batch_norm(before)
    assert op_names(after) == ["nn.conv2d", "multiply", "add", "multiply", "add", "add"]
    assert_same_values(before, after)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_rule_2_any_axis_without_a_layer(axis: int) -> None:
    shape = [2, 3, 4]

    def body(emit: Any, x: relax.Expr) -> relax.Expr:
        norm = emit(batch_norm(x, parameters(shape[axis]), axis), "norm")
        return emit(relax.TupleGetItem(norm, 0), "item")

    before = build(shape, body)
    after = fold_batch_norm(before)
    assert op_names(after) == ["multiply", "add"]
    assert names(after["main"]) == [("norm",), ("norm",)]
    assert_same_values(before, after)


def test_running_statistics_pass_through() -> None:
    params = parameters(3)

    def body(emit: Any, x: relax.Expr) -> relax.Expr:
        y = emit(relax.op.nn.conv2d(x, const(3, 4, 3, 3)), "conv")
        norm = emit(batch_norm(y, params), "norm")
        items = [emit(relax.TupleGetItem(norm, index), f"item{index}") for index in range(3)]
        return emit(relax.Tuple(items), "all")

    before = build([1, 4, 5, 5], body)
    after = fold_batch_norm(before)
    assert op_names(after) == ["nn.conv2d", "add"]
    assert_same_values(before, after)


def test_without_center_and_scale() -> None:
    def body(emit: Any, x: relax.Expr) -> relax.Expr:
        y = emit(relax.op.nn.conv2d(x, const(3, 4, 1, 1)), "conv")
        norm = emit(batch_norm(y, parameters(3), center=False, scale=False), "norm")
        return emit(relax.TupleGetItem(norm, 0), "item")

    before = build([1, 4, 5, 5], body)
    assert_same_values(before, fold_batch_norm(before))


def test_float16_is_rounded_once() -> None:
    weight = RNG.uniform(-1, 1, (8, 4, 3, 3)).astype("float16")
    scale = RNG.uniform(0.1, 3, (1, 8, 1, 1)).astype("float16")

    def body(emit: Any, x: relax.Expr) -> relax.Expr:
        y = emit(relax.op.nn.conv2d(x, relax.const(weight)), "conv")
        return emit(relax.op.multiply(y, relax.const(scale)), "scale")

    before = build([1, 4, 5, 5], body, "float16")
    after = fold_batch_norm(before)
    exact = weight.astype("float64") * scale.reshape(8, 1, 1, 1)
    np.testing.assert_array_equal(
        calls(after["main"])[0].args[1].value.numpy(), exact.astype("float16")
    )
    assert_same_values(before, after, tolerance=2e-2)


def test_computed_parameters_are_left_for_decompose() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((1, 3, 4, 4), "float32"), gamma: R.Tensor((3,), "float32")):
            with R.dataflow():
                norm = R.nn.batch_norm(x, gamma, gamma, gamma, gamma, axis=1, training=False)
                y = norm[0]
                R.output(y)
            return y

    assert_equal(fold_batch_norm(Before), Before)


def test_layer_outside_a_branch_is_left_alone() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 3), "float32"), cond: R.Tensor((), "bool")):
            product = R.matmul(x, R.const(np.ones((3, 3), "float32")))
            if cond:
                y = R.multiply(product, R.const(np.array([1, 2, 3], "float32")))
            else:
                y = R.nn.relu(x)
            return y

    assert_equal(fold_batch_norm(Before), Before)
