"""Transposed convolutions as products over views, against their definition."""

import numpy as np
from array_emission import Emission, machine, random_arguments
from array_slow_interpreter import SlowInterpreter
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.targets.systolic.emit.dispatch import emit_step, step_mapping
from motet.targets.systolic.instructions.isa import Activation, empty_instructions
from motet.targets.systolic.instructions.program import Role, Tensor
from motet.targets.systolic.workload.graph import single
from motet.targets.systolic.workload.layers import TransposedConvolution
from motet.targets.systolic.workload.products import products_of


@st.composite
def layers(draw):
    groups = draw(st.integers(1, 3))
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    stride = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    dilation = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    size = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    extra = tuple(draw(st.integers(0, s - 1)) for s in stride)
    full = [
        (size[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 + extra[i] for i in range(2)
    ]
    before = [draw(st.integers(0, min(3, full[i] - 1))) for i in range(2)]
    after = [draw(st.integers(0, min(3, full[i] - 1 - before[i]))) for i in range(2)]
    return TransposedConvolution(
        draw(st.integers(1, 2)),
        groups * draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 3)),
        groups,
        *size,
        kernel,
        stride,
        (*before, *after),
        dilation,
        extra,
    )


def transposed(layer, image, weight):
    """Every input value spread over the outputs that it reaches."""
    height, width = layer.out_size
    top, left, bottom, right = layer.padding
    full = np.zeros((layer.batch, layer.out_channels, height + top + bottom, width + left + right))
    inputs, outputs = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    for group in range(layer.groups):
        own = slice(group * inputs, (group + 1) * inputs)
        made = full[:, group * outputs : (group + 1) * outputs]
        for y, x in np.ndindex(layer.in_height, layer.in_width):
            for ky, kx in np.ndindex(layer.kernel):
                row = y * layer.stride[0] + ky * layer.dilation[0]
                column = x * layer.stride[1] + kx * layer.dilation[1]
                if row < full.shape[2] and column < full.shape[3]:
                    made[:, :, row, column] += image[:, own, y, x] @ weight[own, :, ky, kx]
    return full[:, :, top : top + height, left : left + width]


@settings(max_examples=150, deadline=None)
@given(layers(), st.integers(0, 2**31))
def test_phases_are_products_that_write_every_output_once(layer, seed):
    random = np.random.default_rng(seed)
    image, weight = (
        random.integers(-5, 6, shape).astype(np.float32)
        for shape in (layer.input_shape, layer.weight_shape)
    )
    tensors = [
        Tensor("input", layer.input_shape, Role.INPUT),
        Tensor("weight", layer.weight_shape, Role.WEIGHT),
        Tensor("output", layer.output_shape, Role.OUTPUT),
    ]
    products = products_of(layer, (0, 1), 2)
    machine = SlowInterpreter("fp32", tensors, [], 1, 1, 1)
    machine.run(empty_instructions(0), [image, weight])
    made = np.full(layer.output_shape, np.nan).ravel()
    for views in products:
        groups, m, n, k = views.shape
        for group in range(groups):
            at = {"group": group, "row": 0, "column": 0, "operand": 0, "pod": 0, "flags": 0}
            machine.views = [views.input, views.weight]
            left = machine._read_view(at, m, k)
            right = machine._read_view({**at, "operand": 1}, k, n)
            place = machine._addresses(views.output, at, m, n)
            assert np.isnan(made[place]).all()
            made[place] = left @ right
    np.testing.assert_array_equal(
        made.reshape(layer.output_shape), transposed(layer, image, weight)
    )


@settings(max_examples=50, deadline=None)
@given(layers())
def test_views_stay_inside_their_padded_tensors(layer):
    for views in products_of(layer, (0, 1), 2):
        for view in (views.input, views.weight, views.output):
            assert view.first_address >= 0
            assert view.last_address < np.prod(view.padded_shape)


def choose(*arguments, **options):
    return step_mapping(*arguments, **options).mapping


@settings(max_examples=25, deadline=None)
@given(layers(), st.sampled_from([1, 2, 3]), st.booleans(), st.booleans())
def test_programs_compute_it(layer, pods, bias, residual):
    workload = single(layer, bias=bias, residual=residual, activation=Activation.TANH)
    array = machine(pods=pods, scratchpad=2048, sums=256)
    arguments = random_arguments(workload, "fp32", 0)
    made = Emission(workload, array, mapping=choose, emit=emit_step).run(arguments)
    expected = transposed(layer, *arguments[:2])
    if bias:
        expected += arguments[2][:, None, None]
    if residual:
        expected += arguments[-1]
    np.testing.assert_allclose(made, np.tanh(expected), rtol=2e-5, atol=2e-5)
