"""Products of vectors: the integers of the reference, on random and on adversarial data."""

from __future__ import annotations

import numpy as np
import pytest
from array_slow_vectors import SlowVectors
from array_vectors import compiled, machine, random_vectors, reference, run, words_of
from numpy.testing import assert_array_equal

from motet.runtime.errors import BundleError, CompileError, InputError
from motet.targets.quantized.vectors import Vectors
from motet.targets.systolic.formats import VectorFormat, VectorOperand
from motet.targets.systolic.instructions.assembly import assemble, disassemble
from motet.targets.systolic.instructions.encoding import decode, encode
from motet.targets.systolic.instructions.program import SystolicProgram
from motet.targets.systolic.sum_width import KnownWeights, require_width, sum_width
from motet.targets.systolic.workload.vector_layers import VectorConvolution, VectorProduct

SETTINGS = [
    "v4-4/8u/6/10-wide",
    "v4-4/4/4/4",
    "v4-8/8/6/10-wide",
    "v4-8/8/6/10-p6-wide",
    "v4-2u/3/2/12-p1",
]
LAYERS = {
    "strides and padding": VectorConvolution(
        2, 3, 6, 1, 9, 7, (3, 2), (2, 1), (1, 0, 2, 1), (1, 1), length=4
    ),
    "groups and dilation": VectorConvolution(
        1, 4, 6, 2, 6, 8, (2, 3), (1, 2), (0, 1, 1, 0), (2, 1), length=4
    ),
    "line": VectorConvolution(3, 2, 5, 1, 1, 17, (1, 5), (1, 3), (0, 2, 0, 2), length=4, depth=7),
    "one vector of a tail": VectorConvolution(1, 1, 9, 1, 5, 5, (1, 1), length=4, depth=3),
    "matrix": VectorProduct(1, 37, 19, 11, rhs_transposed=True, length=4),
    "computed operands": VectorProduct(3, 6, 7, 3, rhs_batched=True, rhs_transposed=True, length=4),
    "rows of batches": VectorProduct(2, 5, 4, 2, rhs_transposed=True, length=4, depth=7),
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", LAYERS)
def test_sums_are_the_references_in_small_memories(name: str, setting: str) -> None:
    layer, words = LAYERS[name], words_of(setting)
    x, w = random_vectors(np.random.default_rng(len(name)), words, layer)
    program = compiled(layer, words, machine(kilobytes=2), exact=True)
    assert_array_equal(run(program, x, w).output, reference(layer, words, x, w))


@pytest.mark.parametrize("dataflow", machine().pods[0].dataflows)
@pytest.mark.parametrize("name", ["groups and dilation", "matrix"])
def test_the_second_interpreter_agrees(name: str, dataflow: str) -> None:
    layer, words = LAYERS[name], words_of("v4-4/8u/6/10-p9")
    x, w = random_vectors(np.random.default_rng(3), words, layer)
    x.scales[0, 0] = 0
    rows = {"tile_rows": 5} if dataflow == "weight-stationary" else {}
    pins = {"layer": {"dataflow": dataflow, **rows}}
    description = machine(kilobytes=2, pods=2)
    program = compiled(layer, words, description, bias=True, clamp=(0.0, 9.0), constraints=pins)
    rng = np.random.default_rng(4)
    channels = layer.output_shape[1 if isinstance(layer, VectorConvolution) else -1]
    factor, bias = (rng.normal(size=channels).astype(np.float32) / 1e5 for _ in range(2))
    slow = SlowVectors(program)
    [expected] = slow.run([x.integers, x.scales, w.integers, w.scales, factor, bias])
    found = run(program, x, w, factor, bias)
    assert_array_equal(found.output, expected)
    assert found.gated == slow.gated > 0
    shape = (-1, 1, 1) if isinstance(layer, VectorConvolution) else (-1,)
    real = reference(layer, words, x, w, factor) + bias.reshape(shape)
    assert_array_equal(found.output, np.clip(real, 0, 9))


@pytest.mark.parametrize("setting", SETTINGS)
def test_adversarial_data(setting: str) -> None:
    layer, words = LAYERS["matrix"], words_of(setting)
    program = compiled(layer, words, machine(), exact=True)
    for what in ("zeros", "zero scales", "outlier", "least", "largest"):
        x, w = random_vectors(np.random.default_rng(1), words, layer)
        if what == "zeros":
            x.integers[...] = 0
        elif what == "zero scales":
            x.scales[...] = 0
        elif what == "outlier":
            x.integers[...], x.scales[...] = 0, 0
            x.integers[0, 3, 2, 1], x.scales[0, 3, 2] = words.inputs.largest, 1
        else:
            for side, values in ((words.inputs, x), (words.weights, w)):
                values.integers[...] = getattr(side, what)
                values.scales[...] = (1 << side.scale_bits) - 1
        found = run(program, x, w)
        assert_array_equal(found.output, reference(layer, words, x, w), err_msg=what)
        if what == "zero scales":
            assert found.gated == layer.product_shape.macs


def test_sums_at_the_edge_of_32_bits_are_whole_and_one_more_wraps() -> None:
    words = words_of("v4-8u/8u/2/1")
    each = 4 * 255 * 255 * 3
    depth = (2**31 - 1) // each
    assert sum_width(words, depth) == 32
    assert sum_width(words, depth + 1) == 33
    for more, wide in ((0, False), (1, False), (1, True)):
        layer = VectorProduct(1, 3, 2, depth + more, rhs_transposed=True, length=4)
        made = words_of(words.name + "-wide" * wide)
        program = compiled(layer, made, machine(kilobytes=64), exact=True)
        x, w = (
            Vectors(np.full((*shape, 4), 255, np.uint8), np.full(shape, scale, np.uint16))
            for shape, scale in ((layer.input_shape, 1), (layer.weight_shape, 3))
        )
        total = each * (depth + more)
        expected = total if wide or not more else total - 2**32
        assert_array_equal(run(program, x, w).output, np.full(layer.output_shape, expected))


def test_known_weights_narrow_sums_and_bound_every_one() -> None:
    rng = np.random.default_rng(0)
    words = words_of("v8-4/8u/6/10-p12")
    layer = VectorProduct(1, 16, 5, 9, rhs_transposed=True, length=8)
    for _ in range(20):
        x, w = random_vectors(rng, words, layer)
        w.integers[...] = w.integers * (rng.random(w.integers.shape) < 0.3)
        known = KnownWeights(w.integers[0], w.scales[0])
        x.scales[...] = 1023
        positive = (w.integers[0].astype(int) > 0) * 255
        x.integers[0, :5] = positive.astype(np.uint8)
        sums = reference(layer, words, x, w)
        width = sum_width(words, 9, known)
        assert int(np.abs(sums).max()).bit_length() + 1 <= width <= sum_width(words, 9)


def test_a_single_vector_of_each_magnitude_has_the_exact_width() -> None:
    words = words_of("v16-8/8/6/10-wide")
    assert sum_width(words, 1) == (16 * 128 * 128 * 63 * 1023).bit_length() + 1 == 35
    require_width(64, "its sums")
    with pytest.raises(CompileError, match=r"layer conv1: its sums take 65 bits.*product_bits"):
        require_width(65, "layer conv1: its sums")


def test_a_program_survives_bytes_and_text_and_a_flipped_byte_is_refused() -> None:
    layer, words = LAYERS["matrix"], words_of("v4-8/8u/6/10-p6-wide")
    program = compiled(layer, words, machine(), bias=True)
    data = encode(program)
    assert encode(decode(data)) == data
    assert encode(assemble(disassemble(program))) == data
    assert decode(data).number_format == program.number_format
    for at in range(0, len(data), 37):
        broken = bytearray(data)
        broken[at] ^= 0x10
        with pytest.raises(BundleError):
            decode(bytes(broken))


def test_what_the_bits_do_not_hold_is_refused_with_the_tensors_name() -> None:
    layer, words = LAYERS["rows of batches"], words_of("v4-4/8u/6/10-wide")
    program = compiled(layer, words, machine(), exact=True)
    x, w = random_vectors(np.random.default_rng(1), words, layer)
    w.integers[0, 0, 0, 0] = 8
    with pytest.raises(InputError, match=r"weight holds 8, which 4 bits \(-8 to 7\)"):
        run(program, x, w)
    w.integers[0, 0, 0, 0], w.scales[0, 0, 0] = 7, 64
    with pytest.raises(InputError, match="scales of weight holds 64, which 6 bits"):
        run(program, x, w)


def test_names_of_formats_say_all() -> None:
    inputs, weights = VectorOperand(8, 10, True), VectorOperand(4, 6)
    words = VectorFormat(16, weights, inputs, 12, 64)
    assert words.name == "v16-4/8u/6/10-p12-wide"
    assert words_of(words.name) == words
    made: SystolicProgram = compiled(LAYERS["line"], words_of("v4-4/8/6/10"), machine())
    assert made.format == "v4-4/8/6/10"
    for wrong in ("v16-9/8/6/10", "v129-8/8/6/10", "v4-4/4/4/4-p8", "v4-4/4/4", "v4-4/4/17/4"):
        with pytest.raises(KeyError):
            words_of(wrong)
