"""Concatenations and slices that become parts: the same values, and which need no copy."""

import numpy as np
import pytest
from array_emission import machine
from array_workload_values import evaluate
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.instructions.checker import check_program
from motet.targets.systolic.instructions.program import Role, Tensor
from motet.targets.systolic.simulation.functional import Interpreter
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.workload.graph import Epilogue, Step, Workload
from motet.targets.systolic.workload.join_parts import with_parts
from motet.targets.systolic.workload.layers import Convolution, Elementwise, Pooling
from motet.targets.systolic.workload.moves import Concat, Permute, Slice


class Network:
    """A workload in the making over images of [1, channels, 4, 4]."""

    def __init__(self):
        self.tensors, self.steps = [], []

    def input(self, shape):
        self.tensors.append(Tensor("", shape, Role.INPUT))
        return len(self.tensors) - 1

    def add(self, layer, *inputs, epilogue=None):
        self.tensors.append(Tensor("", layer.output_shape, Role.INTERNAL))
        name = f"step{len(self.steps)}"
        end = epilogue or Epilogue()
        self.steps.append(Step(name, layer, inputs, len(self.tensors) - 1, end))
        return len(self.tensors) - 1

    def channels(self, tensor):
        return self.tensors[tensor].elements // 16

    def relu(self, x):
        shape = (1, self.channels(x), 4, 4)
        return self.add(Elementwise("identity", shape), x, epilogue=Epilogue(clamp=(0.0, np.inf)))

    def pool(self, x):
        layer = Pooling("max", 1, self.channels(x), 4, 4, (3, 3), padding=(1, 1, 1, 1))
        return self.add(layer, x)

    def convolution(self, x):
        count = self.channels(x)
        layer = Convolution(1, count, 2, 1, 4, 4, (3, 3), padding=(1, 1, 1, 1))
        return self.add(layer, x, self.input(layer.weight_shape))

    def concat(self, *inputs):
        return self.add(Concat(1, tuple(self.tensors[x].elements for x in inputs)), *inputs)

    def slice(self, x, begin, count):
        shape = (1, self.channels(x), 4, 4)
        return self.add(Slice(shape, (0, begin, 0, 0), (1, count, 4, 4), (1,) * 4), x)

    def turned(self, x):
        return self.add(Permute((self.channels(x), 16), (1, 0)), x)

    def workload(self, *results):
        tensors = list(self.tensors)
        read = {x for step in self.steps for x in step.reads}
        results = results or [s.output for s in self.steps if s.output not in read]
        for x in results:
            tensors[x] = Tensor("", tensors[x].shape, Role.OUTPUT)
        return Workload(tuple(tensors), tuple(self.steps))


def agree(workload, array):
    """The values with parts are those without; the steps that are left."""
    joined = with_parts(workload)
    program = compile_workload(joined, array).program
    check_program(program, array)
    random = np.random.default_rng(0)
    given = [t for t in workload.tensors if t.role in (Role.INPUT, Role.WEIGHT)]
    arguments = [random.uniform(-1, 1, t.shape).astype(np.float32) for t in given]
    outputs = [t for t in joined.tensors if t.role is Role.OUTPUT]
    made = [np.empty(t.shape, np.float32) for t in outputs]
    Interpreter(program).run(arguments, made)
    for mine, truth, again in zip(
        made, evaluate(workload, arguments), evaluate(joined, arguments), strict=True
    ):
        np.testing.assert_allclose(mine, truth, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(again, truth)
    assert simulate(program, array).cycles > 0
    return [type(step.layer) for step in joined.steps]


OPERATIONS = ("relu", "pool", "convolution", "concat", "concat", "concat", "slice", "turned")


@st.composite
def networks(draw):
    made = Network()
    values = [made.input((1, draw(st.integers(1, 3)), 4, 4))]
    for _ in range(draw(st.integers(2, 8))):
        which, x = draw(st.sampled_from(OPERATIONS)), draw(st.sampled_from(values))
        if which == "concat":
            chosen = draw(st.lists(st.sampled_from(values), min_size=2, max_size=3))
            values.append(made.concat(*chosen))
        elif which == "slice":
            count = draw(st.integers(1, made.channels(x)))
            values.append(made.slice(x, draw(st.integers(0, made.channels(x) - count)), count))
        else:
            values.append(getattr(made, which)(x))
    return made.workload()


@settings(max_examples=40, deadline=None)
@given(networks(), st.integers(1, 3), st.sampled_from([4096, 16384, 65536]))
def test_networks_mean_the_same_with_parts(workload, pods, scratchpad):
    agree(workload, machine(pods=pods, scratchpad=scratchpad))


def test_a_block_of_branches_needs_no_copy():
    net = Network()
    x = net.input((1, 3, 4, 4))
    joined = net.concat(net.convolution(x), net.pool(x), net.relu(x))
    net.convolution(joined)
    kinds = agree(net.workload(), machine())
    assert kinds == [Convolution, Pooling, Elementwise, Convolution]


def test_concatenating_again_and_again_needs_no_copy():
    net = Network()
    found = [net.relu(net.input((1, 3, 4, 4)))]
    joined = found[0]
    for _ in range(4):
        found.append(net.convolution(joined))
        joined = net.concat(*found)
    assert agree(net.workload(), machine(scratchpad=65536)) == [Elementwise, *[Convolution] * 4]


def test_halves_are_read_in_place():
    net = Network()
    x = net.relu(net.input((1, 4, 4, 4)))
    first, second = net.slice(x, 0, 2), net.slice(x, 2, 2)
    net.concat(net.convolution(second), first)
    assert agree(net.workload(), machine()) == [Elementwise, Convolution, Elementwise]


def test_inputs_and_results_are_copied():
    net = Network()
    x = net.input((1, 4, 4, 4))
    kept = net.relu(x)
    joined = net.concat(x, kept, net.pool(x))
    assert agree(net.workload(kept, joined), machine()) == [
        Elementwise, Pooling, Elementwise, Elementwise,
    ]  # fmt: skip
    alone = Network()
    alone.concat(alone.input((1, 4, 4, 4)), alone.input((1, 2, 4, 4)))
    assert agree(alone.workload(), machine()) == [Concat]


@pytest.mark.parametrize("twice", [False, True])
def test_a_padded_view_of_half_an_image_is_copied(twice):
    net = Network()
    x = net.relu(net.input((1, 4, 4, 4)))
    odd = net.add(Slice((256 // 4,), (8,), (16,), (1,)), x)
    pooled = net.pool(odd)
    net.concat(pooled, pooled) if twice else net.relu(pooled)
    kinds = agree(net.workload(), machine())
    assert kinds[:3] == [Elementwise, Slice, Pooling]
    assert kinds[3:] == [Concat if twice else Elementwise]
