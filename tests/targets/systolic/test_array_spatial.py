"""Depthwise convolutions as lines on the array, against their definition."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from array_emission import Emission, machine, random_arguments, surrounded
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.runtime.errors import CompileError
from motet.targets.systolic.architecture import Dram, Interconnect, Memory, VectorUnit
from motet.targets.systolic.emit.dispatch import emit_step
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.emit.spatial import emit_spatial
from motet.targets.systolic.instructions.isa import Activation, Opcode
from motet.targets.systolic.instructions.program import Element, Role, Tensor
from motet.targets.systolic.mappings.line_plan import along, line_cycles
from motet.targets.systolic.mappings.spatial_mapping import choose_spatial_mapping
from motet.targets.systolic.mappings.vector_mapping import choose_vector_mapping
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.workload.graph import Requantise, Workload, single
from motet.targets.systolic.workload.layers import Convolution

MACHINES = st.builds(
    machine,
    pods=st.sampled_from([1, 1, 2, 3]),
    scratchpad=st.sampled_from([2048, 4096, 16384]),
    sums=st.sampled_from([128, 512]),
)


def mapping(step, *arguments, **options):
    spatial = isinstance(step.layer, Convolution)
    choose = choose_spatial_mapping if spatial else choose_vector_mapping
    return choose(step, *arguments, **options)


def emit(context):
    return (emit_spatial if isinstance(context.step.layer, Convolution) else emit_step)(context)


def run(workload, array, name="fp32", *, resident=False, seed=0):
    whole = surrounded(workload) if resident else workload
    if resident:
        sums = array.pods[0].accumulator_words
        array = machine(pods=array.pods[0].count, scratchpad=131072, sums=sums)
    arguments = random_arguments(whole, name, seed)
    emission = Emission(whole, array, name, resident=resident, mapping=mapping, emit=emit)
    made = emission.run(arguments)
    return made, [arguments[-1], *arguments[:-1]] if resident else arguments, emission


@st.composite
def depthwise(draw):
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (1, 2), (2, 3)]))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding = tuple(draw(st.integers(0, max(0, reach[i % 2] - 1))) for i in range(4))
    sizes = [
        max(1, reach[i] - padding[i] - padding[i + 2]) + draw(st.integers(0, 9)) for i in range(2)
    ]
    channels = draw(st.integers(2, 6))
    return Convolution(
        draw(st.integers(1, 2)),
        channels,
        channels * draw(st.integers(1, 2)),
        channels,
        *sizes,
        kernel,
        (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        padding,
        dilation,
    )


def convolved(layer, image, weight):
    """Depthwise convolution by its definition."""
    top, left, bottom, right = layer.padding
    padded = np.pad(image.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    padded = np.repeat(padded, layer.out_channels // layer.in_channels, axis=1)
    made = np.zeros(layer.output_shape)
    height, width = layer.out_size
    for ky, kx in np.ndindex(layer.kernel):
        y, x = ky * layer.dilation[0], kx * layer.dilation[1]
        down, across = layer.stride
        part = padded[:, :, y : y + (height - 1) * down + 1 : down]
        part = part[:, :, :, x : x + (width - 1) * across + 1 : across]
        made += part * weight[:, 0, ky, kx, None, None]
    return made


@settings(max_examples=80, deadline=None)
@given(depthwise(), MACHINES, st.booleans(), st.booleans(), st.booleans())
def test_depthwise(layer, array, resident, bias, residual):
    workload = single(layer, bias=bias, residual=residual, clamp=(-1.5, 2.0))
    made, arguments, _ = run(workload, array, resident=resident)
    expected = convolved(layer, *arguments[:2])
    if bias:
        expected += arguments[2][:, None, None]
    if residual:
        expected += arguments[-1]
    np.testing.assert_allclose(made, np.clip(expected, -1.5, 2.0), rtol=2e-5, atol=2e-5)


@settings(max_examples=20, deadline=None)
@given(depthwise(), MACHINES, st.sampled_from(["int8", "int4"]))
def test_requantised_per_channel(layer, array, name):
    workload = single(layer)
    (step,) = workload.steps
    count, channels = len(workload.tensors), layer.out_channels
    tensors = (
        *workload.tensors,
        Tensor("bias", (channels,), Role.WEIGHT, Element.INT32),
        Tensor("scale", (channels,), Role.WEIGHT, Element.FP32),
    )
    epilogue = replace(step.epilogue, bias=count, requantise=Requantise(count + 1, 3))
    workload = Workload(tensors, (replace(step, epilogue=epilogue),))
    made, (image, weight, bias, scale), _ = run(workload, array, name)
    sums = (convolved(layer, image, weight) + bias[:, None, None]).astype(np.float32)
    low, high = (-8, 7) if name == "int4" else (-128, 127)
    expected = np.clip(np.rint(sums * scale[:, None, None]) + 3, low, high)
    np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("alpha", [0.0, 0.25])
def test_activation_after_a_residual(alpha):
    layer = Convolution(1, 3, 3, 3, 6, 7, (3, 3), padding=(1, 1, 1, 1))
    kind = Activation.LEAKY_RELU if alpha else Activation.TANH
    workload = single(layer, residual=True, activation=kind)
    (step,) = workload.steps
    step = replace(step, epilogue=replace(step.epilogue, alpha=alpha))
    made, (image, weight, residual), _ = run(Workload(workload.tensors, (step,)), machine())
    x = convolved(layer, image, weight) + residual
    expected = np.where(x < 0, alpha * x, x) if alpha else np.tanh(x)
    np.testing.assert_allclose(made, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("kernel", "padding"), [((5, 1), (2, 0, 2, 0)), ((1, 5), (0, 2, 0, 2))])
def test_filters_of_one_line_are_one_convolution_each(kernel, padding):
    """FuSeConv's 1xK and Kx1: as many folds as lines and positions give, none more."""
    layer = Convolution(1, 4, 4, 4, 8, 8, kernel, padding=padding)
    made, arguments, emission = run(single(layer), machine())
    np.testing.assert_allclose(made, convolved(layer, *arguments), rtol=2e-5, atol=2e-5)
    folds = emission.instructions[emission.instructions["opcode"] == Opcode.CONV1D]
    assert len(folds) == 4 * 8 // 4 * 2
    assert (folds["depth"] == 5).all()


def test_input_is_read_from_dram_once():
    layer = Convolution(1, 6, 6, 6, 9, 9, (3, 3), padding=(1, 1, 1, 1))
    *_, emission = run(single(layer), machine(scratchpad=16384))
    loads = emission.instructions[emission.instructions["opcode"] == Opcode.LOAD]
    of_input = [emission.views.views[one["operand"]].tensor == 0 for one in loads]
    assert (loads["rows"] * loads["columns"])[of_input].sum() == 6 * 9 * 9


def test_a_line_that_does_not_fit_is_refused():
    layer = Convolution(1, 2, 2, 2, 4, 5000, (3, 3), padding=(1, 1, 1, 1))
    with pytest.raises(CompileError, match=r"step 'layer'.*does not fit"):
        run(single(layer), machine(scratchpad=1024))


@pytest.mark.parametrize("kernel", [(1, 3), (3, 1), (3, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_with_quick_memories_cycles_are_those_of_the_folds(kernel, stride):
    padding = tuple(2 * [size // 2 for size in kernel])
    layer = Convolution(1, 32, 32, 32, 16, 16, kernel, (stride, stride), padding)
    array = machine(scratchpad=65536, sums=4096)
    pod = msgspec.structs.replace(
        array.pods[0],
        vector=VectorUnit(lanes=64),
        scratchpad=Memory(bytes=65536, ports=8, port_bytes=4096),
        accumulators=Memory(bytes=16384, ports=8, port_bytes=4096),
    )
    array = msgspec.structs.replace(
        array,
        pods=(pod,),
        dram=Dram(bytes_per_second=1e15, latency_cycles=1),
        interconnect=Interconnect(link_bytes=4096),
    )
    *_, emission = run(single(layer), array)
    least = line_cycles(along(layer, 4, 4)[0], 4, 4)
    cycles = simulate(emission.program, array).cycles
    assert least <= cycles <= 1.02 * least + 100


def depthwise_mapping(**pins):
    layer = Convolution(1, 8, 8, 8, 12, 12, (3, 3), padding=(1, 1, 1, 1))
    return compile_workload(single(layer), machine(), constraints={"layer": pins}).mappings["layer"]


def test_depthwise_takes_the_quicker_dataflow_unless_one_is_given():
    assert depthwise_mapping().dataflow == "spatial-output-stationary"
    assert depthwise_mapping(dataflow="output-stationary").dataflow == "output-stationary"
    assert depthwise_mapping(tile_rows=3).tile_rows == 3


def test_a_tile_larger_than_the_array_is_refused():
    with pytest.raises(CompileError, match=r"at most 4 lines x 4 positions"):
        depthwise_mapping(dataflow="spatial-output-stationary", tile_rows=5)
