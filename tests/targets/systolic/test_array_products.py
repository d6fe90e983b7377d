"""Convolutions and matrix products as instructions, against their definitions in numpy.

Arrays are so small that everything is cut into tiles; the shared harness also holds the program
against the checker, and the synchronised queues against the sequential order.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from array_emission import Emission, machine, random_arguments, surrounded
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.runtime.errors import CompileError
from motet.targets.systolic.emit.context import StepContext, ViewTable
from motet.targets.systolic.emit.dispatch import emit_step, step_mapping
from motet.targets.systolic.emit.products import emit_product
from motet.targets.systolic.formats import FORMATS
from motet.targets.systolic.instructions.isa import Activation, Flag, Opcode
from motet.targets.systolic.instructions.program import Element, Role, Tensor
from motet.targets.systolic.workload.graph import Epilogue, Requantise, Workload, single
from motet.targets.systolic.workload.layers import Convolution, MatrixProduct

DATAFLOWS = ("weight-stationary", "output-stationary", "input-stationary")


def emission(workload, array, name="fp32", *, resident=False, **pins):
    def mapping(step, *given, scratchpad_words):
        constraints = {"layer": pins} if pins else None
        return step_mapping(
            step, *given, scratchpad_words=scratchpad_words, constraints=constraints
        ).mapping

    return Emission(workload, array, name, resident=resident, mapping=mapping, emit=emit_step)


def product(layer, x, w):
    """The layer's output in the accumulators' type: a tap at a time, or one einsum."""
    if isinstance(layer, MatrixProduct):
        right = w.swapaxes(1, 2) if layer.rhs_transposed else w
        return np.matmul(x, np.broadcast_to(right, (layer.batch, *right.shape[1:])))
    top, left, bottom, right = layer.padding
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    (height, width), (sy, sx) = layer.out_size, layer.stride
    out = np.zeros((layer.batch, layer.groups, layer.out_channels // layer.groups, height, width))
    x = x.reshape(layer.batch, layer.groups, -1, *x.shape[2:])
    w = w.reshape(layer.groups, -1, *w.shape[1:])
    for ky in range(layer.kernel[0]):
        for kx in range(layer.kernel[1]):
            y0, x0 = ky * layer.dilation[0], kx * layer.dilation[1]
            part = x[..., y0 : y0 + (height - 1) * sy + 1 : sy, x0 : x0 + (width - 1) * sx + 1 : sx]
            out += np.einsum("bgcyx,gnc->bgnyx", part, w[..., ky, kx])
    return out.reshape(layer.output_shape)


def by_channel(layer, vector):
    return vector if isinstance(layer, MatrixProduct) else vector[:, None, None]


@st.composite
def convolutions(draw):
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    return Convolution(
        draw(st.integers(1, 2)),
        groups * draw(st.integers(1, 4)),
        groups * draw(st.integers(1, 7)),
        groups,
        reach[0] + draw(st.integers(0, 6)),
        reach[1] + draw(st.integers(0, 6)),
        kernel,
        (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        tuple(draw(st.integers(0, 2)) for _ in range(4)),
        dilation,
    )


MATRIX_PRODUCTS = st.builds(
    MatrixProduct,
    st.integers(1, 3),
    st.integers(1, 13),
    st.integers(1, 13),
    st.integers(1, 13),
    st.booleans(),
    st.booleans(),
)
LAYERS = st.one_of(convolutions(), MATRIX_PRODUCTS)


@st.composite
def grids(draw):
    """An array of several pods and pins that use all of them in some grid."""
    pods = draw(st.sampled_from([1, 2, 3, 4]))
    inner = draw(st.sampled_from([i for i in (1, 2, 3, 4) if pods % i == 0]))
    split = draw(st.sampled_from(["rows", "columns", "groups"]))
    return machine(pods=pods, scratchpad=32768, sums=4096), {
        "pods": pods,
        "inner_pods": inner,
        "split": split,
    }


@settings(deadline=None, max_examples=30)
@given(
    LAYERS,
    st.sampled_from(DATAFLOWS),
    st.sampled_from([2048, 8192]),
    st.sampled_from([128, 1024]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, (0.0, 1.0)]),
    st.sampled_from([Activation.NONE, Activation.TANH, Activation.LEAKY_RELU]),
)
def test_chosen_mapping_computes_product(
    layer, dataflow, scratchpad, sums, bias, residual, clamp, activation
):
    workload = single(layer, bias=bias, residual=residual, clamp=clamp, activation=activation)
    step = workload.steps[0]
    workload = replace(
        workload, steps=(replace(step, epilogue=replace(step.epilogue, alpha=0.25)),)
    )
    arguments = random_arguments(workload, "fp32", 1)
    made = emission(workload, machine(scratchpad=scratchpad, sums=sums), dataflow=dataflow)
    assert {int(d) for d in made.instructions["dataflow"]} <= {0, DATAFLOWS.index(dataflow) + 1}
    expected = product(layer, *arguments[:2])
    if bias:
        expected = expected + by_channel(layer, arguments[2])
    if residual:
        expected = expected + arguments[-1]
    if activation is Activation.TANH:
        expected = np.tanh(expected)
    if activation is Activation.LEAKY_RELU:
        expected = np.where(expected < 0, 0.25 * expected, expected)
    if clamp:
        expected = np.clip(expected, *clamp)
    np.testing.assert_allclose(made.run(arguments), expected, rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(
    LAYERS,
    st.sampled_from(DATAFLOWS),
    grids(),
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
    st.booleans(),
    st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 3)),
)
def test_any_mapping_computes_product_exactly(layer, dataflow, grid, tile, by_rows, slots):
    """Integers: every grid of pods, tile, order and number of slots gives the same bits."""
    array, pins = grid
    workload = quantised(layer)
    arguments = random_arguments(workload, "int8", 2)
    names = ("tile_rows", "tile_depth", "tile_columns")
    pins |= dict(zip(names, tile, strict=True)) | {"rows_outermost": by_rows, "dataflow": dataflow}
    names = ("input_slots", "weight_slots", "accumulator_slots")
    pins |= dict(zip(names, slots, strict=True))
    made = emission(workload, array, "int8", **pins)
    np.testing.assert_array_equal(made.run(arguments), quantised_result(layer, arguments))


def quantised(layer):
    """int32 bias, an int8 residual, scales per channel, zero point 3, limits."""
    workload = single(layer, bias=True, residual=True)
    step, tensors = workload.steps[0], list(workload.tensors)
    channels = tensors[2].shape
    tensors[2] = Tensor("bias", channels, Role.WEIGHT, Element.INT32)
    tensors.append(Tensor("scale", channels, Role.WEIGHT, Element.FP32))
    epilogue = Epilogue(2, 3, Requantise(len(tensors) - 1, 3), clamp=(-100.0, 90.0))
    return Workload(tuple(tensors), (replace(step, epilogue=epilogue),))


def quantised_result(layer, arguments):
    x, w, bias, residual, scale = arguments
    sums = product(layer, x.astype(np.int64), w.astype(np.int64))
    sums = sums + by_channel(layer, bias) + residual
    scaled = sums.astype(np.int32).astype(np.float32) * by_channel(layer, scale)
    return np.clip(np.rint(scaled) + 3, -100, 90).astype(np.int8)


@settings(deadline=None, max_examples=25)
@given(LAYERS, st.sampled_from(DATAFLOWS), st.sampled_from([1, 2, 4]), st.booleans())
def test_resident_input_and_output(layer, dataflow, pods, residual):
    workload = surrounded(single(layer, bias=True, residual=residual))
    array = machine(pods=pods, scratchpad=65536, sums=2048)
    made = emission(workload, array, resident=True, dataflow=dataflow)
    of_step = made.instructions[made.instructions["step"] == 1]
    products = of_step[of_step["opcode"] == Opcode.MATMUL]
    assert (products["flags"] & Flag.RESIDENT).all()
    assert not (of_step["opcode"] == Opcode.STORE).any()
    arguments = random_arguments(workload, "fp32", 3)
    expected = product(layer, arguments[-1], arguments[0])
    expected = expected + by_channel(layer, arguments[1])
    if residual:
        expected = expected + arguments[2]
    np.testing.assert_allclose(made.run(arguments), expected, rtol=1e-4, atol=1e-4)


def test_bf16_rounds_once_at_the_end():
    layer = MatrixProduct(1, 9, 10, 11)
    workload = single(layer, bias=True)
    arguments = random_arguments(workload, "bf16", 4)
    made = emission(workload, machine(), "bf16").run(arguments)
    expected = arguments[0] @ arguments[1] + arguments[2]
    np.testing.assert_allclose(made, expected, rtol=2**-8)
    assert not (made.view(np.uint32) & 0xFFFF).any()


def test_pods_that_split_rows_share_weights_by_one_multicast():
    workload = single(MatrixProduct(1, 32, 8, 8))
    made = emission(workload, machine(pods=4), pods=4, split="rows", inner_pods=1, tile_rows=8)
    loads = made.instructions[made.instructions["opcode"] == Opcode.LOAD]
    weights = loads[loads["operand"] == made.views.number(_view_of(made, 1))]
    assert (weights["target_pods"] == 4).all()
    assert len(weights) == 4
    assert len(set(weights["pod"].tolist())) > 1, "one DMA engine does all the work"


def _view_of(made, tensor):
    return next(view for view in made.views.views if view.tensor == tensor)


def test_limits_alone_take_no_vector_instruction():
    workload = single(MatrixProduct(1, 9, 9, 9), bias=True, clamp=(0.0, 6.0))
    made = emission(workload, machine())
    assert not (made.instructions["opcode"] == Opcode.VECTOR).any()


def test_residual_and_activation_are_one_pass():
    workload = single(MatrixProduct(1, 4, 4, 4), residual=True, activation=Activation.GELU)
    made = emission(workload, machine())
    assert (made.instructions["opcode"] == Opcode.VECTOR).sum() == 1


def test_mapping_too_large_for_free_memory_is_refused():
    workload = single(MatrixProduct(1, 64, 64, 64))
    array = machine(scratchpad=65536, sums=8192)
    mapping = step_mapping(
        workload.steps[0], workload, array, emission(workload, array).format, {}
    ).mapping
    with pytest.raises(CompileError, match=r"'layer'.*words of scratchpad.*smaller tiles"):
        emit_with(workload, array, mapping, words=64)


def emit_with(workload, array, mapping, words):
    step, sums = workload.steps[0], array.pods[0].accumulator_words
    return emit_product(
        StepContext(
            0, step, workload, array, FORMATS["fp32"], mapping, ViewTable(), {},
            range(words), range(sums),
        )
    )  # fmt: skip


def test_activation_of_integers_is_refused():
    workload = single(MatrixProduct(1, 4, 4, 4), activation=Activation.TANH)
    with pytest.raises(CompileError, match="TANH needs fp32 or bf16, not int8"):
        emission(workload, machine(), "int8")


def test_large_layer_is_emitted_fast():
    """Half a million instructions in seconds: the loops are compiled."""
    workload = single(Convolution(1, 256, 256, 1, 56, 56, (3, 3), padding=(1, 1, 1, 1)), bias=True)
    array = machine(scratchpad=1 << 20, sums=1 << 16)
    start = time.perf_counter()
    made = emission(workload, array, dataflow="weight-stationary", tile_rows=112)
    assert len(made.instructions) > 500_000
    assert time.perf_counter() - start < 10
