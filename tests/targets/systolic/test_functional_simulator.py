"""Values: programs on the simulated array against numpy and onnx's reference."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systolic_cases import ARRAYS, array, convolutions, expected, operand_values, products

from motet.runtime.errors import BundleError, InputError, ProgramError
from motet.targets.systolic.codegen import compile_layer
from motet.targets.systolic.description import load_description
from motet.targets.systolic.functional import BoundProgram, OnChipMemories
from motet.targets.systolic.isa import Opcode
from motet.targets.systolic.layers import Convolution, MatrixProduct
from motet.targets.systolic.program import SystolicProgram
from motet.targets.systolic.simulated_device import SimulatedArray


def run(layer, description, values=None):
    device = SimulatedArray(description)
    device.load("layer", compile_layer(layer, description).encode())
    output = np.full(layer.output_shape, np.nan, np.float32)
    device.invoke("layer", operand_values(layer) if values is None else values, output)
    return output


@settings(max_examples=120, deadline=None)
@given(layer=convolutions(), description=st.sampled_from(ARRAYS))
def test_convolutions_are_exact_on_integers(layer, description):
    output = run(layer, description)
    np.testing.assert_array_equal(output, expected(layer, operand_values(layer)))


@settings(max_examples=120, deadline=None)
@given(layer=products(), description=st.sampled_from(ARRAYS))
def test_products_are_exact_on_integers(layer, description):
    output = run(layer, description)
    np.testing.assert_array_equal(output, expected(layer, operand_values(layer)))


@pytest.mark.parametrize("name", ["tiny-4x4", "gemmini-16x16", "single-32x32", "tpu-128x128"])
def test_against_onnx_reference(name):
    onnx = pytest.importorskip("onnx")
    layer = Convolution(
        2, 6, 9, 3, 11, 13, (3, 2), (2, 1), (1, 0, 2, 1), (1, 2), bias=True, clamp=(0.0, 6.0)
    )
    rng = np.random.default_rng(1)
    values = [rng.standard_normal(v.shape).astype(np.float32) for v in operand_values(layer)]
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        conv (float[2,6,11,13] x, float[9,2,3,2] w, float[9] b, float lo, float hi)
            => (float[N,C,H,W] z) {
            y = Conv<strides=[2,1], pads=[1,0,2,1], dilations=[1,2], group=3>(x, w, b)
            z = Clip(y, lo, hi)
        }"""
    )
    from onnx.reference import ReferenceEvaluator

    feeds = dict(zip("xwb", values, strict=True), lo=np.float32(0), hi=np.float32(6))
    (wanted,) = ReferenceEvaluator(model).run(None, feeds)
    np.testing.assert_allclose(run(layer, load_description(name), values), wanted, 1e-5, 1e-5)


def test_partial_sums_add_up_in_tile_order():
    """One row of elements: each tile is one product, so the fp32 sum is sequential."""
    layer = MatrixProduct(1, 5, 3, 40, bias=True)
    rng = np.random.default_rng(2)
    x, w, b = (rng.standard_normal(v.shape).astype(np.float32) for v in operand_values(layer))
    wanted = np.broadcast_to(b, (1, 5, 3)).copy()
    for k in range(40):
        wanted += x[:, :, k : k + 1] * w[:, k : k + 1, :]
    np.testing.assert_array_equal(run(layer, array(rows=1, columns=3), [x, w, b]), wanted)


@pytest.mark.parametrize(
    ("m", "n", "k"),
    [(700, 40, 40), (5000, 1, 40), (1, 200, 300), (700, 33, 129), (3000, 130, 3), (129, 65, 257)],
)
@pytest.mark.parametrize("side", [32, 128])
def test_tiles_of_many_blocks(m, n, k, side):
    layer = MatrixProduct(1, m, n, k)
    output = run(layer, array(side, side, 2**22, 2**22))
    np.testing.assert_array_equal(output, expected(layer, operand_values(layer)))


def test_every_matmul_matters():
    """Without one instruction, exactly that tile's contribution is missing."""
    layer, description = MatrixProduct(1, 6, 8, 12), array()
    program = compile_layer(layer, description)
    x, w = operand_values(layer)
    matmuls = np.flatnonzero(program.instructions["opcode"] == Opcode.MATMUL)
    assert len(matmuls) == 6
    kept = np.delete(program.instructions, matmuls[1])
    output = np.empty(layer.output_shape, np.float32)
    broken = SystolicProgram(kept, program.operands, program.macs)
    BoundProgram(broken, OnChipMemories(description)).run([x, w], output)
    wanted = x @ w
    wanted[:, :, :4] -= x[:, :, 4:8] @ w[:, 4:8, :4]
    np.testing.assert_array_equal(output, wanted)


def test_infinities_and_nans_pass_through_the_output_stage():
    layer = MatrixProduct(1, 3, 2, 1, clamp=(0.0, float("inf")))
    x = np.array([[[np.nan], [np.inf], [-np.inf]]], np.float32)
    output = run(layer, array(), [x, np.ones((1, 1, 2), np.float32)])
    np.testing.assert_array_equal(output[0, :, 0], [np.nan, np.inf, 0.0])


def test_arrays_of_the_units_own_shapes():
    layer, description = MatrixProduct(6, 4, 5, 7, bias=True), array()
    values = operand_values(layer)
    output = np.empty((2, 3, 4, 5), np.float32)
    device = SimulatedArray(description)
    device.load("layer", compile_layer(layer, description).encode())
    shaped = [values[0].reshape(2, 3, 4, 7), values[1].reshape(7, 5), values[2].reshape(1, 1, 5)]
    device.invoke("layer", shaped, output)
    np.testing.assert_array_equal(output.reshape(6, 4, 5), expected(layer, values))


def test_many_threads_share_a_device():
    description = load_description("tiny-4x4")
    layer = Convolution(1, 4, 8, 1, 12, 12, (3, 3), padding=(1, 1, 1, 1))
    device = SimulatedArray(description)
    device.load("layer", compile_layer(layer, description).encode())
    wrong = []

    def work(seed):
        values = operand_values(layer, seed)
        wanted = expected(layer, values)
        for _ in range(10):
            output = np.empty(layer.output_shape, np.float32)
            device.invoke("layer", values, output)
            if not np.array_equal(output, wanted):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_loading_a_name_again_replaces_the_program():
    description = array()
    device = SimulatedArray(description)
    small, large = MatrixProduct(1, 2, 2, 2), MatrixProduct(1, 8, 8, 8)
    for layer in (small, large):
        device.load("layer", compile_layer(layer, description).encode())
        output = np.empty(layer.output_shape, np.float32)
        device.invoke("layer", operand_values(layer), output)
        np.testing.assert_array_equal(output, expected(layer, operand_values(layer)))
        assert device.counts("layer").macs == layer.macs


def test_what_the_device_refuses():
    layer, description = MatrixProduct(1, 4, 4, 4), array()
    device = SimulatedArray(description)
    encoded = compile_layer(layer, description).encode()
    with pytest.raises(BundleError):
        device.load("layer", encoded[:-1])
    device.load("layer", encoded)
    x, w = operand_values(layer)
    output = np.empty(layer.output_shape, np.float32)
    with pytest.raises(InputError, match="'other'"):
        device.invoke("other", [x, w], output)
    with pytest.raises(InputError, match="'other'"):
        device.counts("other")
    with pytest.raises(InputError, match="2 inputs, 1 were given"):
        device.invoke("layer", [x], output)
    with pytest.raises(InputError, match=r"input must be float32 with 16 values"):
        device.invoke("layer", [x[:, :2], w], output)
    with pytest.raises(InputError, match=r"weight must be float32"):
        device.invoke("layer", [x, w.astype(np.float64)], output)
    with pytest.raises(InputError, match="output must be C-contiguous"):
        device.invoke("layer", [x, w], output.transpose(0, 2, 1))
    device.invoke("layer", [x, w], output)
    np.testing.assert_array_equal(output, x @ w)


def test_a_program_of_a_larger_array_is_refused():
    encoded = compile_layer(MatrixProduct(1, 8, 8, 8), array(8, 8)).encode()
    with pytest.raises(ProgramError, match="8x8 weight tile does not fit the 4x4 array"):
        SimulatedArray(array()).load("layer", encoded)
