"""The choice of mappings: it fits, it keeps what is pinned, and the timing view agrees with it."""

from itertools import pairwise

import numpy as np
import pytest
from array_emission import machine
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.runtime.errors import CompileError
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.closed_form import gemm_cycles
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.formats import FORMATS
from motet.targets.systolic.instructions.program import Element, Role, Tensor
from motet.targets.systolic.mappings.choose import choose
from motet.targets.systolic.mappings.memory import operands, rings
from motet.targets.systolic.mappings.residency import may_be_resident
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.workload.graph import Step, Workload, single
from motet.targets.systolic.workload.layers import Convolution, MatrixProduct, Pooling

INT8 = FORMATS["int8"]
DATAFLOWS = ("weight-stationary", "output-stationary", "input-stationary")
RESNET_50 = {
    "conv1": Convolution(1, 3, 64, 1, 224, 224, (7, 7), (2, 2), (3, 3, 3, 3)),
    "3x3 of stage 2": Convolution(1, 64, 64, 1, 56, 56, (3, 3), (1, 1), (1, 1, 1, 1)),
    "1x1 up of stage 2": Convolution(1, 64, 256, 1, 56, 56, (1, 1)),
    "shortcut of stage 3": Convolution(1, 256, 512, 1, 56, 56, (1, 1), (2, 2)),
    "3x3 of stage 4": Convolution(1, 256, 256, 1, 14, 14, (3, 3), (1, 1), (1, 1, 1, 1)),
    "1x1 down of stage 5": Convolution(1, 2048, 512, 1, 7, 7, (1, 1)),
    "3x3 of stage 5": Convolution(1, 512, 512, 1, 7, 7, (3, 3), (1, 1), (1, 1, 1, 1)),
}


def chosen(layer, array, number_format=INT8, **options):
    workload = single(layer, bias=True)
    return choose(workload.steps[0], workload, array, number_format, **options)


@settings(deadline=None, max_examples=40)
@given(
    st.builds(MatrixProduct, *[st.integers(1, 300)] * 4),
    st.sampled_from([1, 3, 8]),
    st.sampled_from([512, 4096, 65536]),
    st.sampled_from([128, 1024, 16384]),
)
def test_choice_fits_and_uses_pods_of_the_array(layer, pods, scratchpad, sums):
    array = machine(pods=pods, scratchpad=scratchpad, sums=sums)
    mapping = chosen(layer, array).mapping
    step, pod = single(layer, bias=True).steps[0], array.pods[0]
    made = rings(operands(step, pod, INT8, ()), mapping, 0, 0)
    assert made.scratchpad_stop <= scratchpad
    assert made.accumulator_stop <= sums
    assert 1 <= mapping.pods <= pods
    assert mapping.pods % mapping.inner_pods == 0
    assert np.prod(mapping.grid) == mapping.pods
    assert len({*_pods_of(mapping)}) == mapping.pods


def _pods_of(mapping):
    """The pod of every place of the grid."""
    places = np.indices(mapping.grid).reshape(3, -1).T
    return (mapping.first_pod + places @ mapping.grid_strides).tolist()


@settings(deadline=None, max_examples=15)
@given(st.builds(MatrixProduct, *[st.integers(1, 200)] * 4))
def test_more_pods_are_never_estimated_slower(layer):
    cycles = [chosen(layer, machine(pods=pods, scratchpad=65536)).cycles for pods in (1, 2, 4, 8)]
    # Within 0.1 %: with more pods the way from memory to a pod takes a few cycles longer.
    assert all(more <= 1.001 * fewer for fewer, more in pairwise(cycles))


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_estimate_is_the_array_interval_of_large_layer(dataflow):
    """With all else fast, a layer takes what the double-buffered closed form says."""
    array = load_architecture("single-32x32")
    layer = MatrixProduct(1, 1024, 1024, 1024)
    made = chosen(layer, array, constraints={"dataflow": dataflow}).cycles
    exact = gemm_cycles(1024, 1024, 1024, 32, 32, dataflow, "double-buffered")
    assert exact <= made <= 1.02 * exact


@pytest.mark.parametrize("name", RESNET_50)
def test_resnet_50_reaches_95_percent_of_the_array(name):
    """Simulated with memory, int8 on single-32x32; the estimate is near."""
    array, layer = load_architecture("single-32x32"), RESNET_50[name]
    program = compile_workload(quantised(layer), array, "int8").program
    cycles = simulate(program, array).cycles
    assert layer.macs / array.elements / cycles >= 0.95
    assert chosen(layer, array).cycles == pytest.approx(cycles, rel=0.05)


def quantised(layer):
    workload = single(layer, bias=True)
    tensors = list(workload.tensors)
    tensors[2] = Tensor("bias", tensors[2].shape, Role.WEIGHT, Element.INT32)
    return Workload(tuple(tensors), workload.steps)


def test_many_pods_are_used_where_they_help():
    array = load_architecture("sosa-256x32x32")
    large = chosen(MatrixProduct(1, 8192, 1024, 1024), array)
    assert large.mapping.pods == 256
    one = chosen(MatrixProduct(1, 8192, 1024, 1024), array, pods=range(7, 8))
    assert one.mapping.pod_numbers == range(7, 8)
    assert one.cycles > 50 * large.cycles
    assert chosen(MatrixProduct(1, 1, 8, 8), array).mapping.pods == 1


def test_kinds_of_pods_are_compared():
    array = load_architecture("mixed-64x64-4x16x16")
    mapping = chosen(MatrixProduct(1, 1024, 512, 512), array).mapping
    assert mapping.first_pod in (0, 1)
    narrow = chosen(MatrixProduct(1, 1024, 512, 512), array, constraints={"first_pod": 1}).mapping
    assert narrow.first_pod == 1
    assert narrow.tile_columns <= 16


def test_pins_hold_and_the_rest_is_searched():
    array = machine(pods=4, scratchpad=65536, sums=4096)
    pins = {
        "dataflow": "output-stationary", "pods": 2, "split": "rows", "inner_pods": 1,
        "tile_depth": 10, "rows_outermost": False, "input_slots": 5, "accumulator_slots": 3,
    }  # fmt: skip
    mapping = chosen(MatrixProduct(1, 40, 40, 40), array, constraints=pins).mapping
    assert {key: getattr(mapping, key) for key in pins} == pins
    assert mapping.tile_rows == 4


def test_impossible_pins_are_named():
    pins = {"dataflow": "weight-stationary", "tile_columns": 5}
    with pytest.raises(CompileError, match=r"'layer'.*no mapping has .*tile_columns = 5; leave"):
        chosen(MatrixProduct(1, 40, 40, 40), machine(), constraints=pins)


@pytest.mark.parametrize(
    ("scratchpad", "sums", "small"), [(16, 4096, "scratchpad"), (4096, 4, "accumulators")]
)
def test_memory_that_is_too_small_is_named(scratchpad, sums, small):
    with pytest.raises(CompileError, match=rf"array 'test': no tiles fit: its {small} is too"):
        chosen(MatrixProduct(1, 40, 40, 40), machine(scratchpad=scratchpad, sums=sums))


def test_free_words_limit_tiles():
    array = machine(scratchpad=65536, sums=4096)
    layer = MatrixProduct(1, 400, 64, 64)
    step = single(layer).steps[0]
    mapping = choose(step, single(layer), array, INT8, scratchpad_words=600).mapping
    assert rings(operands(step, array.pods[0], INT8, ()), mapping, 0, 0).scratchpad_stop <= 600


def test_what_may_be_resident():
    shape = (1, 4, 8, 8)
    tensors = (
        Tensor("x", shape, Role.INPUT),
        Tensor("w", (4, 4, 1, 1), Role.WEIGHT),
        Tensor("streamed", shape, Role.INTERNAL),
        Tensor("weight of a product", shape, Role.INTERNAL),
        Tensor("of a depthwise", shape, Role.INTERNAL),
        Tensor("depthwise weight", (4, 1, 3, 3), Role.WEIGHT),
        Tensor("pooled", shape, Role.OUTPUT),
        Tensor("out", (1, 64, 64), Role.OUTPUT),
        Tensor("out2", shape, Role.OUTPUT),
    )
    conv = Convolution(1, 4, 4, 1, 8, 8, (1, 1))
    depthwise = Convolution(1, 4, 4, 4, 8, 8, (3, 3), padding=(1, 1, 1, 1))
    steps = (
        Step("a", conv, (0, 1), 2),
        Step("b", conv, (2, 1), 3),
        Step("c", conv, (2, 1), 4),
        Step("d", Pooling("max", 1, 4, 8, 8, (1, 1)), (2,), 6),
        Step("e", MatrixProduct(1, 64, 64, 4), (2, 3), 7),
        Step("f", depthwise, (4, 5), 8),
    )
    workload = Workload(tensors, steps)
    assert [may_be_resident(workload, n) for n in (0, 1, 2, 3, 4, 6)] == [
        False, False, True, False, True, False,
    ]  # fmt: skip
