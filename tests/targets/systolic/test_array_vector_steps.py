"""Pooling, elementwise, softmax and layer norm on the vector engine, against their definitions
in numpy, on arrays so small that everything is cut into tiles."""

from dataclasses import replace

import numpy as np
import pytest
from array_emission import Emission, machine, random_arguments, surrounded
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.runtime.errors import CompileError
from motet.targets.systolic.emit.dispatch import emit_step
from motet.targets.systolic.instructions.isa import Activation
from motet.targets.systolic.instructions.program import Element, Role, Tensor
from motet.targets.systolic.mappings.vector_mapping import choose_vector_mapping
from motet.targets.systolic.workload.graph import Requantise, Workload, single
from motet.targets.systolic.workload.layers import Elementwise, LayerNorm, Pooling, Softmax

MACHINES = st.builds(
    machine,
    pods=st.sampled_from([1, 1, 2, 3]),
    scratchpad=st.sampled_from([2048, 4096, 16384]),
    sums=st.sampled_from([128, 512, 2048]),
)


def run(workload, array, name="fp32", *, resident=False, seed=0):
    """Result, and arguments with the step's inputs first."""
    whole = surrounded(workload) if resident else workload
    arguments = random_arguments(whole, name, seed)
    if resident:
        array = replace_scratchpad(array)
    made = Emission(
        whole, array, name, resident=resident, mapping=choose_vector_mapping, emit=emit_step
    ).run(arguments)
    return made, [arguments[-1], *arguments[:-1]] if resident else arguments


def replace_scratchpad(array):
    """With room for resident tensors."""
    return machine(
        pods=array.pods[0].count, scratchpad=262144, sums=array.pods[0].accumulator_words
    )


def close(made, expected):
    np.testing.assert_allclose(made, expected, rtol=2e-5, atol=2e-5)


@st.composite
def poolings(draw):
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (2, 3)]))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding = tuple(draw(st.integers(0, max(0, reach[i % 2] - 1))) for i in range(4))
    sizes = [
        max(1, reach[i] - padding[i] - padding[i + 2]) + draw(st.integers(0, 7)) for i in range(2)
    ]
    return Pooling(
        draw(st.sampled_from(["max", "average"])),
        draw(st.integers(1, 2)),
        draw(st.integers(1, 5)),
        *sizes,
        kernel,
        (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        padding,
        dilation,
        draw(st.booleans()),
    )


def pooled(layer, image):
    """Pooling by its definition."""
    top, left, bottom, right = layer.padding
    ends = ((0, 0), (0, 0), (top, bottom), (left, right))
    fill = -np.inf if layer.kind == "max" else 0
    padded = np.pad(image.astype(np.float64), ends, constant_values=fill)
    ones = np.pad(np.ones_like(image, np.float64), ends)
    made = np.empty(layer.output_shape)
    for y in range(layer.out_size[0]):
        for x in range(layer.out_size[1]):
            rows, columns = (
                slice(at * s, at * s + (k - 1) * d + 1, d)
                for at, s, k, d in zip(
                    (y, x), layer.stride, layer.kernel, layer.dilation, strict=True
                )
            )
            window = padded[:, :, rows, columns]
            if layer.kind == "max":
                made[:, :, y, x] = window.max((2, 3))
            else:
                held = ones[:, :, rows, columns].sum((2, 3))
                count = np.prod(layer.kernel) if layer.count_padding else np.maximum(held, 1)
                made[:, :, y, x] = window.sum((2, 3)) / count
    return made


@settings(max_examples=60, deadline=None)
@given(poolings(), MACHINES, st.booleans(), st.booleans())
def test_pooling(layer, array, resident, bias):
    workload = single(layer, bias=bias, activation=Activation.TANH if bias else Activation.NONE)
    made, arguments = run(workload, array, resident=resident)
    expected = pooled(layer, arguments[0])
    if bias:
        expected = np.tanh(expected + arguments[1][:, None, None])
    close(made, expected)


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["max", "average"]), st.integers(1, 3), st.integers(1, 30),
    st.integers(1, 14), MACHINES, st.booleans(),
)  # fmt: skip
def test_global_pooling(kind, batch, channels, size, array, resident):
    layer = Pooling(kind, batch, channels, size, size, (size, size), (size, size))
    made, arguments = run(single(layer, bias=True), array, resident=resident)
    close(made, pooled(layer, arguments[0]) + arguments[1][:, None, None])


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("name", ["int8", "int4"])
def test_pooling_in_integers(kind, name):
    layer = Pooling(kind, 1, 5, 9, 8, (3, 3), (2, 2), (1, 1, 1, 1))
    made, (image,) = run(single(layer), machine(), name)
    np.testing.assert_array_equal(made, np.rint(pooled(layer, image).astype(np.float32)))


def test_one_dimensional_pooling_longer_than_the_accumulators():
    layer = Pooling("average", 1, 2, 1, 3000, (1, 5), (1, 2), (0, 2, 0, 2))
    made, (image,) = run(single(layer), machine(sums=128, scratchpad=1024))
    close(made, pooled(layer, image))


JOINED = {"add": np.add, "multiply": np.multiply, "maximum": np.maximum}


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["identity", "add", "multiply", "maximum"]),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    MACHINES,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["fp32", "int8"]),
)  # fmt: skip
def test_elementwise(kind, shape, array, vector, residual, resident, name):
    vector = vector and kind in ("add", "multiply")
    layer = Elementwise(kind, tuple(shape), vector)
    workload = single(layer, residual=residual, clamp=(-20.0, 30.0))
    made, arguments = run(workload, array, name, resident=resident)
    wide = [a.astype(np.float32 if name == "fp32" else np.int64) for a in arguments]
    expected = wide[0] if kind == "identity" else JOINED[kind](wide[0], wide[1])
    if residual:
        expected = expected + wide[-1]
    close(made, np.clip(expected, -20, 30))


def test_activation_with_a_parameter_after_an_addition():
    workload = single(Elementwise("add", (5, 7)), activation=Activation.LEAKY_RELU)
    (step,) = workload.steps
    step = replace(step, epilogue=replace(step.epilogue, alpha=0.25))
    made, (a, b) = run(Workload(workload.tensors, (step,)), machine())
    close(made, np.where(a + b < 0, 0.25 * (a + b), a + b))


def test_addition_is_requantised_per_column():
    workload = single(Elementwise("add", (6, 9)))
    (step,) = workload.steps
    tensors = (*workload.tensors, Tensor("scale", (9,), Role.WEIGHT, Element.FP32))
    epilogue = replace(step.epilogue, requantise=Requantise(len(tensors) - 1, -3))
    made, (a, b, scale) = run(
        Workload(tensors, (replace(step, epilogue=epilogue),)), machine(), "int8"
    )
    total = (a.astype(np.int32) + b).astype(np.float32)
    np.testing.assert_array_equal(made, np.clip(np.rint(total * scale) - 3, -128, 127))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 300), MACHINES, st.booleans())
def test_softmax(rows, columns, array, resident):
    made, (x,) = run(single(Softmax(rows, columns)), array, resident=resident)
    powers = np.exp(x - x.max(1, keepdims=True))
    close(made, powers / powers.sum(1, keepdims=True))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 300), MACHINES, st.booleans(), st.booleans())
def test_layer_norm(rows, columns, array, shifted, resident):
    layer = LayerNorm(rows, columns, 1e-5, shifted)
    made, arguments = run(single(layer), array, resident=resident)
    x = arguments[0].astype(np.float64)
    centred = x - x.mean(1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5) * arguments[1]
    close(made, expected + arguments[2] if shifted else expected)


def test_bf16_softmax_is_rounded_once():
    made, (x,) = run(single(Softmax(9, 50)), machine(), "bf16")
    powers = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(made, powers / powers.sum(1, keepdims=True), rtol=2**-8)


@pytest.mark.parametrize("layer", [Softmax(4, 4), LayerNorm(4, 4, 1e-5)])
def test_float_steps_in_integers_are_refused(layer):
    with pytest.raises(CompileError, match=r"step 'layer'.*float format"):
        run(single(layer), machine(), "int8")


def test_activation_in_integers_is_refused():
    workload = single(Elementwise("identity", (4, 4)), activation=Activation.TANH)
    with pytest.raises(CompileError, match="TANH needs fp32 or bf16"):
        run(workload, machine(), "int8")
