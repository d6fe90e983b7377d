"""Scales and integers against vectors worked by hand, laws, and onnx's own quantiser."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx.reference import ReferenceEvaluator

from motet.runtime.errors import CompileError, SpecError
from motet.targets.quantized.notation import setting
from motet.targets.quantized.scales import quantized
from motet.targets.quantized.types import Axes, QuantTensor, QuantType

WIDE = st.floats(-(2.0**40), 2.0**40, width=32)
MATRICES = arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 40)), elements=WIDE)


def sqnr(x: np.ndarray, made: QuantTensor) -> float:
    noise = np.square(x - made.dequantized(), dtype=np.float64).sum()
    return float(10 * np.log10(np.square(x, dtype=np.float64).sum() / noise))


def test_two_levels_by_hand() -> None:
    # Vectors of 4, N = 4 (to 7), M = 2 (to 3): s = 1, 1/7 and 2/7; gamma = 1/3.
    x = np.array([[7, -3.4, 0, 1, 0.4, -1, 0.6, 0, 2, 1.2, 0, 0]], np.float32)
    made = quantized(x, QuantType(4, vector=4, scale_bits=2), Axes(1, 0))
    assert made.gamma.shape == (1, 1)
    assert made.gamma[0, 0] == np.float32(1) / np.float32(3)
    assert made.scales is not None
    assert made.scales.tolist() == [[3, 1, 1]]  # round(0.43) = 0, kept at 1; round(0.86) = 1
    assert made.values.tolist() == [[7, -3, 0, 1, 1, -3, 2, 0, 6, 4, 0, 0]]


def test_the_paper_lets_small_scales_vanish() -> None:
    x = np.array([[7, -3.4, 0, 1, 0.4, -1, 0.6, 0]], np.float32)
    made = quantized(x, QuantType(4, vector=4, scale_bits=2), Axes(1, 0), paper=True)
    assert made.scales is not None
    assert made.scales.tolist() == [[3, 0]]
    assert made.values.tolist() == [[7, -3, 0, 1, 3, -7, 4, 0]]
    assert not made.dequantized()[0, 4:].any()


def test_tails_have_vectors_of_their_own() -> None:
    x = np.arange(1, 11, dtype=np.float32)[None]
    made = quantized(x, QuantType(8, vector=4), Axes(1))
    assert made.gamma.shape == (1, 3)
    np.testing.assert_array_equal(made.gamma[0], np.float32([4, 8, 10]) / np.float32(127))


def test_figures_of_normal_data() -> None:
    """N = 8, M = 6, V = 16: about 44.4 dB with q from the step, 39.2 with q from s."""
    x = np.random.default_rng(0).standard_normal((64, 4096)).astype(np.float32)
    kind = QuantType(8, vector=16, scale_bits=6)
    ours = sqnr(x, quantized(x, kind, Axes(1)))
    papers = sqnr(x, quantized(x, kind, Axes(1), paper=True))
    assert ours == pytest.approx(44.4, abs=0.5)
    assert papers == pytest.approx(39.2, abs=0.5)
    assert ours > papers + 5


@pytest.mark.parametrize("signed", [True, False])
def test_zeros_are_zeros(signed: bool) -> None:
    x = np.zeros((3, 20), np.float32)
    made = quantized(x, QuantType(4, signed, vector=8, scale_bits=4), Axes(1, 0))
    assert made.scales is not None
    assert not made.scales.any()
    assert not made.dequantized().any()


@pytest.mark.parametrize(("bad", "word"), [(np.nan, "NaN"), (-np.inf, "infinity")])
def test_what_has_no_integer_is_named(bad: float, word: str) -> None:
    x = np.array([[1, bad]], np.float32)
    with pytest.raises(CompileError, match=f"conv1.weight holds {word}"):
        quantized(x, QuantType(8), Axes(1), name="conv1.weight")


def test_unsigned_types_hold_nothing_negative() -> None:
    made = quantized(np.array([[-9.0, 1, 2, 3]]), QuantType(4, False, vector=4), Axes(1))
    assert made.values.tolist() == [[0, 5, 10, 15]]


@settings(max_examples=200, deadline=None)
@given(MATRICES, st.integers(2, 8), st.sampled_from([4, 5, 16]), st.integers(2, 10))
def test_errors_are_bounded_by_half_a_step(x: np.ndarray, bits: int, v: int, m: int) -> None:
    kind = QuantType(bits, vector=v, scale_bits=m)
    made = quantized(x, kind, Axes(1, 0))
    steps = np.repeat(made.steps(), v, axis=1)[:, : x.shape[1]].astype(np.float64)
    reach = steps * kind.largest  # what lies beyond was clipped: the scale was rounded down
    bound = np.maximum(steps / 2, np.abs(x) - reach) + np.abs(x) * 2.0**-20 + 2.0**-126
    assert (np.abs(x - made.dequantized().astype(np.float64)) <= bound).all()
    assert np.abs(made.values.astype(int)).max() <= kind.largest


@settings(max_examples=100, deadline=None)
@given(MATRICES, st.sampled_from([-3, 1, 8]))
def test_powers_of_two_only_move_gamma(x: np.ndarray, power: int) -> None:
    x = np.where(np.abs(x) < 2.0**-30, np.float32(0), x)
    kind = QuantType(6, vector=8, scale_bits=6)
    one, other = (quantized(y, kind, Axes(1, 0)) for y in (x, np.ldexp(x, power)))
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.scales, other.scales)


@settings(max_examples=60, deadline=None)
@given(MATRICES)
def test_vectors_are_quantised_as_onnx_quantises_blocks(x: np.ndarray) -> None:
    """One level, all blocks whole: QuantizeLinear of opset 21 with the same scales."""
    x = np.pad(x, ((0, 0), (0, -x.shape[1] % 8)))
    made = quantized(x, QuantType(8, vector=8), Axes(1, 0))
    model = _blocked_quantizer(x.shape, made.gamma.shape, 8)
    (q,) = ReferenceEvaluator(model).run(None, {"x": x, "scale": made.gamma})
    np.testing.assert_array_equal(q, made.values)


def _blocked_quantizer(shape: tuple[int, ...], scales: tuple[int, ...], block: int) -> object:
    from onnx import TensorProto, helper

    node = helper.make_node("QuantizeLinear", ["x", "scale"], ["q"], axis=1, block_size=block,
                            output_dtype=TensorProto.INT8)  # fmt: skip
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("scale", TensorProto.FLOAT, scales),
        ],
        [helper.make_tensor_value_info("q", TensorProto.INT8, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def test_settings_are_read_and_written() -> None:
    found = setting("4/8/6/10", vector=32)
    assert (found.weights.bits, found.activations.bits) == (4, 8)
    assert (found.weights.scale_bits, found.activations.scale_bits) == (6, 10)
    assert str(found) == "4/8/6/10 V=32"
    assert str(setting("8/8")) == "8/8 per channel"
    assert str(setting("8/8", granularity="tensor")) == "8/8 per tensor"
    assert setting("4/4/-/-").weights.scale_bits is None
    assert found.unsigned().largest == 255


@pytest.mark.parametrize("text", ["4", "4/8/6", "a/b", "1/8", "4/9/6/6", "4/8/1/6", "4/8/17/6"])
def test_other_settings_are_refused(text: str) -> None:
    with pytest.raises(SpecError):
        setting(text)
