"""Which Relax calls and functions become layers of the array, and with which values."""

from __future__ import annotations

import numpy as np
import pytest
from systolic_cases import expected

from motet.runtime.errors import CompileError
from motet.targets.systolic.codegen import compile_layer
from motet.targets.systolic.description import load_description
from motet.targets.systolic.layers import Convolution, MatrixProduct
from motet.targets.systolic.simulated_device import SimulatedArray

pytest.importorskip("tvm")
import tvm
from tvm import relax

from motet.targets.systolic.relax_layers import accepts_epilogue, layer_of, refusal

TINY = load_description("tiny-4x4")


def tensor(name, *shape, dtype="float32"):
    return relax.Var(name, relax.TensorType(shape, dtype))


def unit(params, build, dataflow=True):
    """A function of ``params`` whose calls ``build(emit)`` emits, returning the last value."""
    builder = relax.BlockBuilder()
    with builder.function("unit", params):
        if dataflow:
            with builder.dataflow():
                result = builder.emit_output(build(builder.emit))
        else:
            result = build(builder.emit)
        builder.emit_func_output(result)
    return builder.get()["unit"]


def normalised(call):
    return relax.BlockBuilder().normalize(call)


def run(function, values):
    """The unit on the tiny array, fed by parameter index as the VM would."""
    binding = layer_of(function)
    device = SimulatedArray(TINY)
    device.load("unit", compile_layer(binding.layer, TINY).encode())
    output = np.full(binding.output_shape, np.nan, np.float32)
    device.invoke("unit", [values[index] for index in binding.params], output)
    return output


def integers(*shape):
    return np.random.default_rng(0).integers(-4, 5, shape).astype(np.float32)


@pytest.mark.parametrize("bias_first", [False, True])
@pytest.mark.parametrize("bias_shape", [(1, 6, 1, 1), (6, 1, 1)])
@pytest.mark.parametrize("dataflow", [False, True])
def test_conv2d_bias_relu6(bias_first, bias_shape, dataflow):
    b, x, w = tensor("b", *bias_shape), tensor("x", 2, 4, 7, 8), tensor("w", 6, 2, 3, 2)

    def build(emit):
        y = emit(
            relax.op.nn.conv2d(
                x, w, strides=(2, 1), padding=(1, 0, 2, 1), dilation=(1, 2), groups=2
            )
        )
        y = emit(relax.op.add(b, y) if bias_first else relax.op.add(y, b))
        return emit(relax.op.nn.relu6(y))

    function = unit([b, x, w], build, dataflow)
    layer = Convolution(
        2, 4, 6, 2, 7, 8, (3, 2), (2, 1), (1, 0, 2, 1), (1, 2), bias=True, clamp=(0.0, 6.0)
    )
    binding = layer_of(function)
    assert (binding.layer, binding.params) == (layer, (1, 2, 0))
    assert binding.output_shape == layer.output_shape
    values = [integers(*bias_shape), integers(2, 4, 7, 8), integers(6, 2, 3, 2)]
    wanted = expected(layer, [values[1], values[2], values[0].reshape(6)])
    np.testing.assert_array_equal(run(function, values), wanted)


def test_conv1d_is_a_convolution_of_height_one():
    x, w = tensor("x", 1, 3, 20), tensor("w", 5, 3, 4)

    def build(emit):
        y = relax.op.nn.conv1d(x, w, strides=3, padding=(2, 1), dilation=2)
        return emit(relax.op.nn.relu(emit(y)))

    layer = Convolution(
        1, 3, 5, 1, 1, 20, (1, 4), (1, 3), (0, 2, 0, 1), (1, 2), clamp=(0.0, float("inf"))
    )
    function = unit([x, w], build)
    assert layer_of(function).layer == layer
    assert layer_of(function).output_shape == (1, 5, 6)
    values = [integers(1, 3, 20), integers(5, 3, 4)]
    wanted = expected(layer, [values[0].reshape(1, 3, 1, 20), values[1].reshape(5, 3, 1, 4)])
    np.testing.assert_array_equal(run(function, values), wanted.reshape(1, 5, 6))


@pytest.mark.parametrize(
    ("left", "right", "layer"),
    [
        ((5, 6), (6, 7), MatrixProduct(1, 5, 7, 6)),
        ((2, 3, 5, 6), (6, 7), MatrixProduct(6, 5, 7, 6)),
        ((2, 3, 5, 6), (1, 1, 6, 7), MatrixProduct(6, 5, 7, 6)),
        ((5, 6), (1, 6, 7), MatrixProduct(1, 5, 7, 6)),
        ((2, 3, 5, 6), (2, 3, 6, 7), MatrixProduct(6, 5, 7, 6, rhs_batched=True)),
        ((1, 3, 5, 6), (3, 6, 7), MatrixProduct(3, 5, 7, 6, rhs_batched=True)),
    ],
)
@pytest.mark.parametrize("bias_shape", [None, (7,), (1, 7)])
def test_products(left, right, layer, bias_shape):
    x, w = tensor("x", *left), tensor("w", *right)
    params = [x, w, *([tensor("b", *bias_shape)] if bias_shape else [])]

    def build(emit):
        y = emit(relax.op.matmul(x, w))
        return emit(relax.op.add(y, params[2])) if bias_shape else y

    function = unit(params, build)
    binding = layer_of(function)
    assert (binding.layer.macs, binding.layer.rhs_batched) == (layer.macs, layer.rhs_batched)
    assert binding.layer.output_shape == layer.output_shape
    values = [integers(*left), integers(*right), *([integers(*bias_shape)] if bias_shape else [])]
    wanted = values[0] @ values[1] + (values[2] if bias_shape else 0)
    output = run(function, values)
    assert output.shape == wanted.shape
    np.testing.assert_array_equal(output, wanted)


X, W = tensor("x", 1, 4, 8, 8), tensor("w", 4, 4, 3, 3)
SYMBOL = tvm.tirx.Var("n", "int64")


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (relax.op.nn.conv2d(tensor("x", 1, 4, 8, 8, dtype="float16"), W), None),
        (relax.op.nn.relu(X), "relax.nn.relu is neither a convolution nor a matrix product"),
        (relax.op.nn.conv2d_transpose(X, W), "relax.nn.conv2d_transpose is a transposed"),
        (
            relax.op.nn.conv3d(tensor("x", 1, 2, 4, 4, 4), tensor("w", 2, 2, 3, 3, 3)),
            "3-D convolution",
        ),
        (
            relax.op.nn.conv2d(
                tensor("x", 1, 8, 8, 4), W, data_layout="NHWC", kernel_layout="OIHW"
            ),
            "layouts are NHWC, OIHW, NHWC, not NCHW",
        ),
        (relax.op.nn.conv2d(X, W, out_dtype="float16"), "float16, not float32"),
        (relax.op.matmul(tensor("x", 4), tensor("w", 4, 5)), "one side of the product is a vector"),
        (relax.op.matmul(tensor("x", 5, 4), tensor("w", 4)), "one side of the product is a vector"),
        (relax.op.matmul(tensor("x", 2, 1, 5, 4), tensor("w", 3, 4, 5)), "broadcast"),
        (relax.op.matmul(tensor("x", 5, 4), tensor("w", 3, 4, 5)), "broadcast"),
        (relax.op.matmul(tensor("x", 0, 4), tensor("w", 4, 5)), "empty"),
        (relax.op.matmul(tensor("x", SYMBOL, 4), tensor("w", 4, 5)), "symbolic"),
        (relax.op.matmul(tensor("x", 2, 4, dtype="int8"), tensor("w", 4, 5, dtype="int8")), "int8"),
        (
            relax.op.matmul(
                relax.Var("x", relax.TensorType(None, "float32", ndim=2)), tensor("w", 4, 5)
            ),
            "the shape of a tensor is unknown",
        ),
        (relax.op.matmul(tensor("x", 9999, 9999), tensor("w", 9999, 9999)), "tiles on array"),
    ],
)
def test_refusals_say_why(call, reason):
    if reason is None:
        call, reason = relax.op.astype(call.args[0], "float32"), "relax.astype is neither"
    assert reason in (refusal(normalised(call), TINY) or "accepted")


def test_accepted_anchors():
    for call in (
        relax.op.nn.conv2d(X, W),
        relax.op.nn.conv1d(tensor("x", 1, 4, 9), tensor("w", 2, 4, 3)),
        relax.op.matmul(tensor("x", 3, 4), tensor("w", 4, 5)),
    ):
        assert refusal(normalised(call), TINY) is None


def test_calls_of_other_functions_are_refused():
    call = relax.Call(relax.ExternFunc("f"), [X])
    assert "neither a convolution" in (refusal(call, TINY) or "")


def test_epilogues():
    anchor = normalised(relax.op.nn.conv2d(X, W))
    value = relax.Var("y", anchor.ty)
    bias = normalised(relax.op.add(value, tensor("b", 1, 4, 1, 1)))
    relu, clip = normalised(relax.op.nn.relu(value)), normalised(relax.op.clip(value, -1, 1))
    assert accepts_epilogue(anchor, bias, [])
    assert accepts_epilogue(anchor, relu, [])
    assert accepts_epilogue(anchor, clip, [bias])
    refused = [
        (bias, [bias]),
        (bias, [relu]),
        (clip, [relu]),
        (normalised(relax.op.clip(value, 1, -1)), []),
        (normalised(relax.op.add(value, value)), []),
        (normalised(relax.op.add(value, tensor("b", 6))), []),
        (normalised(relax.op.add(value, tensor("r", 1, 4, 6, 6))), []),
        (normalised(relax.op.add(value, relax.const(1.0))), []),
        (normalised(relax.op.multiply(value, tensor("b", 1, 4, 1, 1))), []),
        (normalised(relax.op.nn.gelu(value)), []),
        (normalised(relax.op.astype(value, "float16")), []),
    ]
    for call, so_far in refused:
        assert not accepts_epilogue(anchor, call, so_far), call
    wide = normalised(relax.op.add(value, tensor("b", 3, 1, 4, 1, 1)))
    assert not accepts_epilogue(anchor, wide, [])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda emit: emit(relax.op.nn.relu(X)), "relax.nn.relu is neither"),
        (
            lambda emit: emit(relax.op.nn.gelu(emit(relax.op.nn.conv2d(X, W)))),
            "relax.nn.gelu is neither its bias nor its clamp",
        ),
        (
            lambda emit: emit(relax.op.nn.conv2d(X, relax.const(np.zeros((4, 4, 3, 3), "f4")))),
            "not a parameter",
        ),
        (
            lambda emit: [emit(relax.op.nn.conv2d(X, W)), emit(relax.op.nn.relu(X))][1],
            "does not use the value before it",
        ),
        (
            lambda emit: [y := emit(relax.op.nn.conv2d(X, W)), emit(relax.op.nn.relu(y))][0],
            "returns something else",
        ),
    ],
)
def test_functions_that_are_not_units(build, message):
    with pytest.raises(CompileError, match=message):
        layer_of(unit([X, W], build))
