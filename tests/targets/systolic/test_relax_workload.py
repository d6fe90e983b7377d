"""Which Relax calls and functions become workloads of the array, and with which values."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm")
import tvm
from array_workload_values import evaluate
from tvm import relax

from motet.runtime.errors import CompileError
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.from_relax.rules import accepts_epilogue, refusal
from motet.targets.systolic.from_relax.values import RefusedError, shape_of
from motet.targets.systolic.from_relax.workload import workload_of
from motet.targets.systolic.instructions.isa import Activation
from motet.targets.systolic.instructions.program import Element, Role
from motet.targets.systolic.workload.layers import (
    Convolution,
    Elementwise,
    LayerNorm,
    MatrixProduct,
    Pooling,
    Softmax,
    TransposedConvolution,
)

TINY, GEMMINI = load_architecture("tiny-4x4"), load_architecture("gemmini-16x16")
op, nn = relax.op, relax.op.nn


def tensor(name, *shape, dtype="float32"):
    return relax.Var(name, relax.TensorType(shape, dtype))


def function_of(params, build):
    """A function of ``params`` whose calls ``build(emit)`` emits, returning the last value."""
    builder = relax.BlockBuilder()
    with builder.function("unit", params):
        with builder.dataflow():
            result = builder.emit_output(build(builder.emit))
        builder.emit_func_output(result)
    return builder.get()["unit"]


def normalised(call):
    return relax.BlockBuilder().normalize(call)


def bound(function, weights=()):
    return workload_of(function, lambda _: pytest.fail("no units"), lambda _: "unit", weights)


def chain(*steps):
    """Calls on the value before each; the first is a call itself."""

    def build(emit):
        value = emit(steps[0])
        for step in steps[1:]:
            value = emit(step(value))
        return value

    return build


def assert_same(function, tolerance=2e-6):
    """The workload's values are those that TVM computes for the function."""
    binding = bound(function)
    rng = np.random.default_rng(0)
    given = [rng.uniform(-1, 1, shape_of(p)).astype(np.float32) for p in function.params]
    mod = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    executable = tvm.compile(mod, target=tvm.target.Target({"kind": "llvm"}))
    machine = relax.VirtualMachine(executable, tvm.cpu())
    wanted = machine["main"](*[tvm.runtime.tensor(value) for value in given]).numpy()
    with np.errstate(invalid="ignore"):  # roots of negative values
        (found,) = evaluate(binding.workload, [given[index] for index in binding.params])
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=tolerance, atol=tolerance)
    return binding.workload.steps[0]


X, W, B = tensor("x", 2, 4, 7, 8), tensor("w", 6, 2, 3, 2), tensor("b", 1, 6, 1, 1)
R = tensor("r", 2, 6, 4, 7)
CONV = {"strides": (2, 1), "padding": (1, 0, 2, 1), "dilation": (1, 2), "groups": 2}


@pytest.mark.parametrize("bias_first", [False, True])
@pytest.mark.parametrize("bias_shape", [(1, 6, 1, 1), (6, 1, 1)])
def test_conv2d_with_everything_after_it(bias_first, bias_shape):
    b = tensor("b", *bias_shape)
    function = function_of(
        [b, X, W, R],
        chain(
            nn.conv2d(X, W, **CONV),
            lambda y: op.add(b, y) if bias_first else op.add(y, b),
            lambda y: op.add(R, y),
            nn.silu,
            lambda y: op.clip(y, -0.1, 0.5),
        ),
    )
    step = assert_same(function)
    assert step.layer == Convolution(2, 4, 6, 2, 7, 8, (3, 2), (2, 1), (1, 0, 2, 1), (1, 2))
    assert (step.epilogue.activation, step.epilogue.clamp) == (
        Activation.SILU,
        pytest.approx((-0.1, 0.5)),
    )
    binding = bound(function, weights=(0, 2))
    assert binding.params == (1, 2, 0, 3)
    roles = [(t.role, t.element, t.shape) for t in binding.workload.tensors]
    assert roles[:3] == [
        (Role.INPUT, Element.WORD, (2, 4, 7, 8)),
        (Role.WEIGHT, Element.WORD, (6, 2, 3, 2)),
        (Role.WEIGHT, Element.FP32, (6,)),
    ]


P = {
    "x1": tensor("x", 1, 3, 20),
    "w1": tensor("w", 5, 3, 4),
    "t1": tensor("w", 3, 5, 4),
    "x": tensor("x", 2, 4, 5, 6),
    "t": tensor("w", 4, 3, 3, 2),
    "image": tensor("x", 2, 3, 7, 9),
    "rows": tensor("x", 2, 5, 8),
    "scale": tensor("g", 8),
    "shift": tensor("h", 8),
    "same": tensor("y", 2, 5, 8),
    "one": tensor("s", 1),
}


@pytest.mark.parametrize(
    ("call", "layer"),
    [
        (
            nn.conv1d(P["x1"], P["w1"], strides=3, padding=(2, 1), dilation=2),
            Convolution(1, 3, 5, 1, 1, 20, (1, 4), (1, 3), (0, 2, 0, 1), (1, 2)),
        ),
        (
            nn.conv1d_transpose(P["x1"], P["t1"], strides=3, padding=(2, 1), output_padding=1),
            TransposedConvolution(
                1, 3, 5, 1, 1, 20, (1, 4), (1, 3), (0, 2, 0, 1), output_padding=(0, 1)
            ),
        ),
        (
            nn.conv2d_transpose(P["x"], P["t"], (2, 3), (1, 0, 0, 1), groups=2),
            TransposedConvolution(2, 4, 6, 2, 5, 6, (3, 2), (2, 3), (1, 0, 0, 1)),
        ),
        (
            nn.max_pool2d(P["image"], (3, 2), (2, 1), (1, 0, 2, 1), (1, 2)),
            Pooling("max", 2, 3, 7, 9, (3, 2), (2, 1), (1, 0, 2, 1), (1, 2)),
        ),
        (
            nn.avg_pool2d(P["image"], (3, 2), (2, 1), (1, 0, 2, 1), count_include_pad=True),
            Pooling("average", 2, 3, 7, 9, (3, 2), (2, 1), (1, 0, 2, 1), count_padding=True),
        ),
        (
            nn.avg_pool2d(P["image"], (3, 2), (2, 1), (1, 0, 2, 1), count_include_pad=False),
            Pooling("average", 2, 3, 7, 9, (3, 2), (2, 1), (1, 0, 2, 1)),
        ),
        (
            nn.max_pool1d(P["x1"], 3, 2, 1),
            Pooling("max", 1, 3, 1, 20, (1, 3), (1, 2), (0, 1, 0, 1)),
        ),
        (op.mean(P["image"], [2, 3], True), Pooling("average", 2, 3, 7, 9, (7, 9))),
        (op.mean(P["image"], [-1, -2]), Pooling("average", 2, 3, 7, 9, (7, 9))),
        (op.max(P["image"], [2, 3], True), Pooling("max", 2, 3, 7, 9, (7, 9))),
        (nn.adaptive_avg_pool2d(P["image"], (1, 1)), Pooling("average", 2, 3, 7, 9, (7, 9))),
        (nn.softmax(P["rows"], -1), Softmax(10, 8)),
        (nn.softmax(P["rows"], 2), Softmax(10, 8)),
        (
            nn.layer_norm(P["rows"], P["scale"], P["shift"], [-1], 1e-3),
            LayerNorm(10, 8, pytest.approx(1e-3)),
        ),
        (op.add(P["rows"], P["same"]), Elementwise("add", (2, 5, 8))),
        (op.maximum(P["rows"], P["same"]), Elementwise("maximum", (2, 5, 8))),
        (op.multiply(P["scale"], P["rows"]), Elementwise("multiply", (10, 8), vector=True)),
        (op.multiply(P["rows"], P["one"]), Elementwise("multiply", (80, 1), vector=True)),
        (op.add(P["rows"], P["rows"]), Elementwise("add", (2, 5, 8))),
    ],
    ids=lambda value: str(value.op.name) if isinstance(value, relax.Call) else "",
)
def test_layers(call, layer):
    params = list(dict.fromkeys(a for a in call.args if isinstance(a, relax.Var)))
    assert assert_same(function_of(params, chain(call))).layer == layer


@pytest.mark.parametrize(
    "activation",
    [
        *(op.sigmoid, op.tanh, op.erf, nn.gelu, nn.gelu_tanh, nn.silu, nn.relu, op.exp, op.abs),
        *(op.negative, lambda y: nn.leakyrelu(y, 0.25), lambda y: op.clip(y, -0.25, 0.5)),
        *(op.sqrt, op.rsqrt),
    ],
)
def test_activations_alone(activation):
    step = assert_same(function_of([P["rows"]], chain(activation(P["rows"]))), 1e-5)
    assert step.layer == Elementwise("identity", (2, 5, 8))


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
    bias = [tensor("b", *bias_shape)] if bias_shape else []
    steps = [op.matmul(x, w), *([lambda y: op.add(y, bias[0])] if bias else [])]
    step = assert_same(function_of([x, w, *bias], chain(*steps)))
    assert step.layer == layer
    assert (step.epilogue.bias is not None) == bool(bias)


def test_the_transpose_of_the_right_side():
    q, k = tensor("q", 2, 3, 5, 8), tensor("k", 2, 3, 7, 8)
    build = chain(op.permute_dims(k, [0, 1, 3, 2]), lambda t: op.matmul(q, t), nn.relu)
    step = assert_same(function_of([q, k], build))
    assert step.layer == MatrixProduct(6, 5, 7, 8, rhs_batched=True, rhs_transposed=True)


def test_five_axes_are_folded():
    x = tensor("x", 2, 3, 2, 2, 4)
    function = function_of([x], chain(nn.softmax(x, -1)))
    assert assert_same(function).layer == Softmax(24, 4)
    assert {t.shape for t in bound(function).workload.tensors} == {(6, 2, 2, 4)}


SYMBOL = tvm.tirx.Var("n", "int64")


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (op.astype(X, "float16"), "a tensor is float16|the array has no relax.astype"),
        (nn.conv3d(tensor("x", 1, 2, 4, 4, 4), tensor("w", 2, 2, 3, 3, 3)), "3-D convolution"),
        (
            nn.conv2d(tensor("x", 1, 8, 8, 4), tensor("w", 4, 4, 3, 3), data_layout="NHWC"),
            "layouts are NHWC, OIHW, NHWC, not NCHW",
        ),
        (nn.conv2d(X, W, **CONV, out_dtype="float16"), "float16, not float32"),
        (op.matmul(tensor("x", 4), tensor("w", 4, 5)), "one side of the product is a vector"),
        (op.matmul(tensor("x", 5, 4), tensor("w", 4)), "one side of the product is a vector"),
        (op.matmul(tensor("x", 2, 1, 5, 4), tensor("w", 3, 4, 5)), "broadcast"),
        (op.matmul(tensor("x", 5, 4), tensor("w", 3, 4, 5)), "broadcast"),
        (op.matmul(tensor("x", 0, 4), tensor("w", 4, 5)), "empty"),
        (
            op.matmul(tensor("x", SYMBOL, 4), tensor("w", 4, 5)),
            r"^its shape \[n, 4\] is symbolic$",
        ),
        (
            op.matmul(tensor("x", SYMBOL * 2 + 1, 4), tensor("w", 4, 5)),
            r"^its shape \[n \* 2 \+ 1, 4\] is symbolic$",
        ),
        (op.matmul(tensor("x", 2, 4, dtype="int8"), tensor("w", 4, 5, dtype="int8")), "int8"),
        (
            op.matmul(relax.Var("x", relax.TensorType(None, "float32", ndim=2)), tensor("w", 4, 5)),
            "the shape of a tensor is unknown",
        ),
        (nn.max_pool2d(P["image"], 2, 2, ceil_mode=True), "rounded up"),
        (nn.max_pool2d(P["image"], 2, 2, padding=2), "in the padding alone"),
        (nn.adaptive_avg_pool2d(P["image"], (3, 3)), "not to one value"),
        (op.mean(P["image"], [1, 3]), "other axes than an image's"),
        (op.mean(P["image"], [3]), "other axes than an image's"),
        (nn.softmax(P["rows"], 1), "another axis than the last"),
        (
            nn.layer_norm(P["rows"], tensor("g", 5), tensor("h", 5), [1]),
            "other axes than the last",
        ),
        (op.add(tensor("x", 4, 1), tensor("y", 1, 5)), "broadcasts both"),
        (op.add(X, tensor("y", 1, 4, 1, 1)), r"broadcasts \[1, 4, 1, 1\] to \[2, 4, 7, 8\]"),
        (op.maximum(P["rows"], P["scale"]), r"relax.maximum of a tensor and \[8\]"),
        (op.clip(X, 1, -1), "limits that are not known"),
        (relax.Call(relax.ExternFunc("f"), [X]), "it is a call of"),
    ],
)
def test_refusals_say_why(call, reason):
    made = call if isinstance(call.op, relax.ExternFunc) else normalised(call)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(refusal(made, TINY) or "accepted")


def test_a_format_that_no_pod_has():
    made = normalised(nn.relu(X))
    assert refusal(made, TINY, "bf16") is None
    assert refusal(made, GEMMINI, "int4") == "array 'gemmini-16x16' has no pod for int4"


def test_epilogues():
    anchor = normalised(nn.conv2d(tensor("x", 1, 4, 8, 8), tensor("w", 4, 4, 3, 3)))
    value = relax.Var("y", anchor.ty)
    bias = normalised(op.add(value, tensor("b", 1, 4, 1, 1)))
    residual = normalised(op.add(tensor("r", 1, 4, 6, 6), value))
    relu, clip = normalised(nn.relu(value)), normalised(op.clip(value, -1, 1))
    gelu = normalised(nn.gelu(value))
    for so_far in ([], [bias], [bias, residual], [residual], [bias, residual, gelu]):
        assert accepts_epilogue(anchor, relu, so_far)
    refused = [
        (bias, [bias]),
        (bias, [residual]),
        (residual, [residual]),
        (residual, [relu]),
        (gelu, [gelu]),
        (gelu, [relu]),
        (clip, [relu]),
        (normalised(op.clip(value, 1, -1)), []),
        (normalised(op.add(value, value)), []),
        (normalised(op.add(value, tensor("b", 6))), []),
        (normalised(op.add(value, tensor("b", 3, 1, 4, 1, 1))), []),
        (normalised(op.multiply(value, tensor("b", 1, 4, 1, 1))), []),
        (normalised(op.astype(value, "float16")), []),
    ]
    for call, so_far in refused:
        assert not accepts_epilogue(anchor, call, so_far), call


def test_what_follows_other_layers():
    pool = normalised(nn.max_pool2d(P["image"], 2, 2))
    value = relax.Var("y", pool.ty)
    assert accepts_epilogue(pool, normalised(nn.relu(value)), [])
    assert not accepts_epilogue(pool, normalised(op.add(value, tensor("r", *shape_of(pool)))), [])
    soft = normalised(nn.softmax(P["rows"]))
    assert not accepts_epilogue(soft, normalised(nn.relu(relax.Var("y", soft.ty))), [])
    clamp = normalised(nn.relu(P["rows"]))
    assert not accepts_epilogue(clamp, normalised(nn.relu(relax.Var("y", clamp.ty))), [])
    assert not accepts_epilogue(clamp, normalised(nn.gelu(relax.Var("y", clamp.ty))), [])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda emit: emit(op.astype(X, "float16")), "float16|no relax.astype"),
        (
            lambda emit: emit(nn.conv2d(X, relax.const(np.zeros((6, 2, 3, 2), "f4")), **CONV)),
            "not a parameter",
        ),
        (
            lambda emit: [emit(nn.conv2d(X, W, **CONV)), emit(op.add(R, B))][1],
            "does not use the value before it",
        ),
        (
            lambda emit: emit(nn.softmax(emit(nn.conv2d(X, W, **CONV)))),
            "does not belong to its epilogue",
        ),
        (
            lambda emit: [y := emit(nn.conv2d(X, W, **CONV)), emit(nn.relu(y))][0],
            "returns something else",
        ),
    ],
)
def test_functions_that_are_not_units(build, message):
    with pytest.raises(CompileError, match=message):
        bound(function_of([X, W, R, B], build))


def test_shapes_of_what_is_no_tensor_are_refused():
    with pytest.raises(RefusedError, match="not a tensor"):
        shape_of(relax.Tuple([X, W]))
