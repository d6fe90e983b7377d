"""Layers that move values: permutations, concatenations and slices, against numpy."""

import numpy as np
import pytest
from array_emission import machine
from hypothesis import given, settings
from hypothesis import strategies as st
from test_array_vector_steps import MACHINES, run

from motet.runtime.errors import CompileError
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.simulation.costs import instruction_costs
from motet.targets.systolic.simulation.machine import pod_table
from motet.targets.systolic.workload.graph import single
from motet.targets.systolic.workload.moves import Concat, Permute, Slice, Upsample

SHAPES = st.lists(st.integers(1, 7), min_size=1, max_size=5)


@st.composite
def permutations(draw):
    shape = draw(SHAPES)
    return Permute(tuple(shape), tuple(draw(st.permutations(range(len(shape))))))


@st.composite
def slices(draw):
    shape, begins, lengths, steps = draw(SHAPES), [], [], []
    for extent in shape:
        step = draw(st.sampled_from([1, 1, 1, 2, -1]))
        length = draw(st.integers(1, -(-extent // abs(step))))
        room = extent - (length - 1) * abs(step) - 1
        begin = draw(st.integers(0, room))
        begins.append(begin if step > 0 else extent - 1 - begin)
        lengths.append(length)
        steps.append(step)
    return Slice(tuple(shape), tuple(begins), tuple(lengths), tuple(steps))


def sliced(layer, x):
    picked = [
        np.arange(length) * step + begin
        for begin, length, step in zip(layer.begins, layer.lengths, layer.steps, strict=True)
    ]
    return x.reshape(layer.shape)[np.ix_(*picked)]


@settings(max_examples=40, deadline=None)
@given(permutations(), MACHINES, st.booleans(), st.sampled_from(["fp32", "fp32", "bf16", "int8"]))
def test_permutations_agree_with_numpy(layer, array, resident, name):
    made, (x, *_) = run(single(layer), array, name, resident=resident)
    wanted = x.reshape(layer.shape).transpose(layer.axes)
    np.testing.assert_array_equal(made.reshape(layer.output_shape), wanted)


@settings(max_examples=40, deadline=None)
@given(slices(), MACHINES, st.booleans())
def test_slices_agree_with_numpy(layer, array, resident):
    made, (x, *_) = run(single(layer), array, resident=resident)
    np.testing.assert_array_equal(made.reshape(layer.output_shape), sliced(layer, x))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.lists(st.integers(1, 30), min_size=1, max_size=4), MACHINES)
def test_concatenations_agree_with_numpy(outer, sizes, array):
    layer = Concat(outer, tuple(sizes))
    made, arguments = run(single(layer), array)
    wanted = np.concatenate(
        [a.reshape(shape) for a, shape in zip(arguments, layer.input_shapes, strict=True)], 1
    )
    np.testing.assert_array_equal(made.reshape(wanted.shape), wanted)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 5), st.integers(1, 6), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3),
    MACHINES, st.booleans(),
)  # fmt: skip
def test_upsampling_agrees_with_numpy(planes, height, width, down, across, array, resident):
    layer = Upsample(planes, height, width, (down, across))
    made, (x, *_) = run(single(layer), array, resident=resident)
    wanted = x.reshape(planes, height, width).repeat(down, 1).repeat(across, 2)
    np.testing.assert_array_equal(made.reshape(wanted.shape), wanted)


def test_a_value_that_is_repeated_is_read_once():
    """By a tile: those that cut a line read its values again."""
    program = compile_workload(single(Upsample(3, 4, 4, (2, 2))), machine()).program
    costs = instruction_costs(program, pod_table(machine(), "fp32"))
    assert 48 <= costs["values"].sum() < 64


def test_six_axes_that_lie_apart_are_the_most():
    pixels = Permute((2, 3, 2, 2, 3, 2), (0, 3, 1, 4, 2, 5))
    made, (x, *_) = run(single(pixels), machine(sums=128))
    np.testing.assert_array_equal(made.reshape(pixels.output_shape), x.transpose(pixels.axes))
    with pytest.raises(CompileError, match="more than six axes"):
        Permute((2,) * 7, (6, 5, 4, 3, 2, 1, 0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Permute((2, 3), (0, 0)),
        lambda: Permute((2, 0), (1, 0)),
        lambda: Concat(1, (3, 0)),
        lambda: Slice((4,), (2,), (2,), (2,)),
        lambda: Slice((4,), (-1,), (2,), (1,)),
    ],
)
def test_what_cannot_be_is_refused(make):
    with pytest.raises(CompileError):
        make()


def test_stretches_are_recognised():
    assert Slice((1, 8, 4, 4), (0, 2, 0, 0), (1, 3, 4, 4), (1,) * 4).is_stretch
    assert Slice((2, 8), (1, 2), (1, 3), (1, 1)).is_stretch
    assert not Slice((2, 8), (0, 2), (2, 3), (1, 1)).is_stretch
    assert not Slice((2, 8), (0, 0), (1, 3), (1, 2)).is_stretch
