"""Relax's products of vectors as workloads of the array: values, placement, regions, widths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm")
import tvm
from array_vectors import machine, random_vectors, words_of
from numpy.testing import assert_array_equal
from tvm import relax
from tvm.ir import GlobalVar

from motet.passes.fuse import fuse
from motet.passes.graph import bindings_of
from motet.passes.macs import macs_of
from motet.passes.names import ARRAY, TARGET
from motet.passes.op_kinds import op_name
from motet.passes.place import Placement, place
from motet.passes.regions import regions
from motet.targets.operators.vectors import VectorProduct, Window, vector_conv, vector_matmul
from motet.targets.quantized import vectors as reference
from motet.targets.quantized.vectors import Rounding, Vectors
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.from_relax.rules import accepts_epilogue, refusal
from motet.targets.systolic.from_relax.vector_sums import narrowed
from motet.targets.systolic.from_relax.workload import workload_of
from motet.targets.systolic.instructions.checker import check_program
from motet.targets.systolic.simulation.functional import Interpreter
from motet.targets.systolic.workload.vector_layers import VectorProduct as VectorLayer

WHAT = VectorProduct(8, 4, 10, 6, None, "float32", 7)
WINDOW = Window((2, 1), (1, 0, 0, 2), (1, 1), 2)


def tensor(name, *shape, dtype="float32"):
    return relax.Var(name, relax.TensorType(shape, dtype))


def operands(x, w, n, signed="uint8"):
    """Parameters of a product: (x, scales, w, scales, factor)."""
    return [
        tensor("x", *x, dtype=signed),
        tensor("xs", *x[:-1], dtype="uint16"),
        tensor("w", *w, dtype="int8"),
        tensor("ws", *w[:-1], dtype="uint16"),
        tensor("f", *n),
    ]


def function_of(params, build):
    builder = relax.BlockBuilder()
    with builder.function("unit", params):
        with builder.dataflow():
            result = builder.emit_output(build(builder.emit))
        builder.emit_func_output(result)
    return builder.get()["unit"]


def bound(function, weights=()):
    return workload_of(function, lambda _: pytest.fail("no units"), lambda _: "unit", weights)


def run(binding, arguments):
    program = compile_workload(binding.workload, machine(pods=2)).program
    check_program(program, machine(pods=2))
    tensor_ = program.tensors[program.results[0]]
    kind = np.int64 if tensor_.element.name == "INT64" else np.float32
    output = np.zeros(tensor_.shape, kind)
    Interpreter(program).run([arguments[i] for i in binding.params], [output])
    return output


CONV = ((1, 9, 6, 4, 4), (6, 2, 3, 2, 4), (6,))
LINE = ((2, 11, 2, 4), (5, 3, 2, 4), (5,))
MATMUL = ((2, 5, 3, 4), (7, 3, 4), (7,))
COMPUTED = ((2, 3, 5, 2, 4), (2, 3, 4, 2, 4), ())


@pytest.mark.parametrize("out", ["float32", "int64"])
@pytest.mark.parametrize("name", ["conv", "line", "matmul", "computed"])
def test_values_are_the_references_bit_for_bit(name: str, out: str) -> None:
    shapes = {"conv": CONV, "line": LINE, "matmul": MATMUL, "computed": COMPUTED}[name]
    what = replace(WHAT, out_dtype=out, product_bits=11)
    window = WINDOW if name == "conv" else Window((2,), (1, 1), (2,))

    def build(emit):
        if name in ("conv", "line"):
            return emit(vector_conv(what, window, params))
        return emit(vector_matmul(what, params))

    params = operands(*shapes)
    binding = bound(function_of(params, build))
    words = words_of("v4-4/8u/6/10-p11-wide")
    layer = VectorLayer(1, 1, 1, 1, length=4)
    rng = np.random.default_rng(5)
    x, w = (
        Vectors(
            rng.integers(side.least, side.largest + 1, shape).astype(side.stored),
            rng.integers(0, 1 << side.scale_bits, shape[:-1]).astype(np.uint16),
        )
        for side, shape in zip((words.inputs, words.weights), shapes, strict=False)
    )
    assert random_vectors(rng, words, layer)[0].integers.shape == (1, 1, 1, 4)
    factor = rng.normal(size=shapes[2]).astype(np.float32)
    found = run(binding, [x.integers, x.scales, w.integers, w.scales, factor])
    given = None if out == "int64" else factor
    rounding = Rounding(what.dropped, 11)
    if name in ("conv", "line"):
        expected = reference.vector_conv(
            x, w, given, rounding, strides=window.strides, pads=window.pads,
            dilations=window.dilations, groups=window.groups,
        )  # fmt: skip
    else:
        expected = reference.vector_matmul(x, w, given, rounding)
    assert found.dtype == expected.dtype
    assert_array_equal(found.reshape(expected.shape), expected)


def test_layers_say_multiply_accumulates_without_the_zeros_of_a_tail() -> None:
    params = operands(*CONV)
    call = relax.BlockBuilder().normalize(vector_conv(WHAT, WINDOW, params))
    binding = bound(function_of(params, lambda emit: emit(vector_conv(WHAT, WINDOW, params))))
    (step,) = binding.workload.steps
    assert binding.workload.vectors == "v4-4/8u/6/10-wide"
    assert step.layer.macs == int(macs_of(call)) == 6 * 5 * 6 * (2 * 3) * 7


@pytest.mark.parametrize(
    ("what", "shapes", "words"),
    [
        (replace(WHAT, x_scale_bits=0, w_scale_bits=0), MATMUL, "scales of its vectors are float"),
        (replace(WHAT, x_scale_bits=13), MATMUL, "scales of activations have 13 bits"),
        (WHAT, ((2, 5, 3, 8), (7, 3, 8), (7,)), "vectors have 8 integers, its vector units take 4"),
    ],
)
def test_what_the_array_does_not_take_has_a_reason(what, shapes, words: str) -> None:
    params = operands(*shapes)
    if not what.is_exact:
        params[1], params[3] = (tensor("s", *p.ty.shape.values) for p in (params[1], params[3]))
    call = relax.BlockBuilder().normalize(vector_matmul(what, params))
    assert words in str(refusal(call, machine()))


def test_bias_activation_and_limits_follow_and_a_residual_does_not() -> None:
    params = operands(*CONV)
    normalised = relax.BlockBuilder().normalize
    call = normalised(vector_conv(WHAT, WINDOW, params))
    shape = [int(size) for size in call.ty.shape.values]
    assert refusal(call, machine()) is None
    result, bias = tensor("r", *shape), tensor("b", 1, 6, 1, 1)
    add = normalised(relax.op.add(result, bias))
    assert accepts_epilogue(call, add, [])
    assert accepts_epilogue(call, normalised(relax.op.nn.relu(result)), [add])
    other = normalised(relax.op.add(result, tensor("o", *shape)))
    assert not accepts_epilogue(call, other, [])


def test_placed_products_are_regions_of_their_own() -> None:
    rng = np.random.default_rng(0)
    weights = rng.integers(-8, 8, MATMUL[1]).astype(np.int8)
    scales = rng.integers(0, 64, MATMUL[1][:-1]).astype(np.uint16)
    a, s, *_ = operands(*MATMUL)
    constants = [relax.const(v) for v in (weights, scales, np.ones(7, np.float32))]
    builder = relax.BlockBuilder()
    with builder.function("main", [a, s]):
        with builder.dataflow():
            one = builder.emit(vector_matmul(WHAT, [a, s, *constants]))
            other = builder.emit(vector_matmul(replace(WHAT, product_bits=9), [a, s, *constants]))
            made = builder.emit(relax.op.nn.relu(relax.op.add(one, other)))
            result = builder.emit_output(made)
        builder.emit_func_output(result)
    record = Placement()
    description = machine()
    steps = [
        place(lambda call: refusal(call, description), (), record, accepts_epilogue),
        fuse(None, accepts_epilogue),
        regions(),
    ]
    module = tvm.transform.Sequential(steps)(builder.get())
    assert len(record.on_array) == 2
    called = [b.value for b in bindings_of(module["main"]) if isinstance(b.value, relax.Call)]
    found = [(module[call.op], call) for call in called if isinstance(call.op, GlobalVar)]
    found = [(unit, call) for unit, call in found if unit.attrs[TARGET] == ARRAY]
    assert len(found) == 2
    names = set()
    for region, call in found:
        calls = [b.value for b in bindings_of(region) if isinstance(b.value, relax.Call)]
        inner = [module[each.op] for each in calls]
        assert [op_name(b.value) for b in bindings_of(inner[0])] == ["motet.vector_matmul"]
        binding = workload_of(region, lambda name: module[name], lambda _: "unit", (2, 3, 4))
        names.add(narrowed(binding, call.args).workload.vectors)
    assert names == {"v4-4/8u/6/10", "v4-4/8u/6/10-p9"}


def test_known_weights_narrow_the_programs_sums() -> None:
    shapes = ((1, 3, 40, 4), (2, 40, 4), (2,))
    params = operands(*shapes)
    binding = bound(function_of(params, lambda emit: emit(vector_matmul(WHAT, params))), (2, 3, 4))
    assert binding.workload.vectors.endswith("-wide")
    weights, scales = np.zeros(shapes[1], np.int8), np.full(shapes[1][:-1], 63, np.uint16)
    weights[0, 0, 0] = 7
    given = [*params[:2], relax.const(weights), relax.const(scales), params[4]]
    assert narrowed(binding, given).workload.vectors == "v4-4/8u/6/10"
    assert narrowed(binding, params).workload.vectors == binding.workload.vectors
