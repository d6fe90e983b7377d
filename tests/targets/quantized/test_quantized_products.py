"""Integer products: exact against products of what the integers are worth, and their width."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.targets.quantized.accumulators import (
    accumulator_bits,
    largest_sum,
    rounded_products,
)
from motet.targets.quantized.notation import setting
from motet.targets.quantized.products import convolution, matmul
from motet.targets.quantized.scales import quantized
from motet.targets.quantized.types import Axes, QuantTensor, QuantType


def scaled(tensor: QuantTensor) -> np.ndarray:
    """values x integer scales, exact: the tensor without gamma."""
    values = tensor.values.astype(np.int64)
    if tensor.scales is None:
        return values
    axis = tensor.axes.reduction
    wide = np.repeat(tensor.scales.astype(np.int64), tensor.type.vector, axis=axis)
    return values * np.take(wide, np.arange(values.shape[axis]), axis=axis)


SETTINGS = st.sampled_from(["4/8/6/10", "8/8/6/10", "4/4/4/4", "8/8", "3/6/2/9"])


@settings(max_examples=80, deadline=None)
@given(SETTINGS, st.integers(1, 70), st.sampled_from([4, 16, 7]), st.integers(0, 2**32 - 1))
def test_matmul_is_exact(text: str, depth: int, v: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    chosen = setting(text, v)
    x = rng.standard_normal((2, 3, depth)) * np.exp(rng.standard_normal((2, 3, 1)) * 3)
    w = rng.standard_normal((depth, 5))
    left = quantized(x, chosen.activations, Axes(2))
    right = quantized(w, chosen.weights, Axes(0, 1))
    made = matmul(left, right)
    np.testing.assert_array_equal(made.sums, scaled(left) @ scaled(right))
    real = left.dequantized().astype(np.float64) @ right.dequantized().astype(np.float64)
    np.testing.assert_allclose(made.real(), real, rtol=1e-5, atol=1e-5 * np.abs(real).max())


@settings(max_examples=60, deadline=None)
@given(
    SETTINGS,
    st.integers(1, 3),
    st.tuples(st.integers(1, 2), st.integers(1, 3)),
    st.tuples(*[st.integers(0, 2)] * 4),
    st.integers(1, 2),
    st.integers(0, 2**32 - 1),
)
def test_convolution_is_exact(
    text: str,
    kernel: int,
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
    dilation: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    chosen = setting(text, 4)
    x = rng.standard_normal((2, 10, 7, 8))
    w = rng.standard_normal((3, 10, kernel, kernel))
    data = quantized(x, chosen.activations, Axes(1))
    weights = quantized(w, chosen.weights, Axes(1, 0))
    made = convolution(
        data, weights, strides=stride, pads=pads, dilations=(dilation, dilation)
    )  # fmt: skip
    expected = _convolved(scaled(data), scaled(weights), stride, pads, dilation)
    np.testing.assert_array_equal(made.sums, expected)


def _convolved(
    x: np.ndarray, w: np.ndarray, stride: tuple[int, int], pads: tuple[int, ...], d: int
) -> np.ndarray:
    """Output by output."""
    x = np.pad(x, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    reach = (w.shape[2] - 1) * d + 1
    rows = range(0, x.shape[2] - reach + 1, stride[0])
    columns = range(0, x.shape[3] - reach + 1, stride[1])
    return np.stack(
        [
            np.stack(
                [np.einsum("nchw,ochw->no", x[:, :, r : r + reach : d, c : c + reach : d], w)
                 for c in columns], -1)
            for r in rows
        ], -2)  # fmt: skip


def test_groups_are_convolutions_of_their_own() -> None:
    rng = np.random.default_rng(0)
    chosen = setting("4/8/6/10", 4)
    x, w = rng.standard_normal((1, 16, 5, 5)), rng.standard_normal((6, 8, 3, 3))
    data = quantized(x, chosen.activations, Axes(1))
    weights = quantized(w, chosen.weights, Axes(1, 0))
    made = convolution(
        data, weights, strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1), groups=2
    )  # fmt: skip
    for g in range(2):
        part = _convolved(
            scaled(data)[:, 8 * g : 8 * g + 8], scaled(weights)[3 * g : 3 * g + 3], (1, 1),
            (1, 1, 1, 1), 1,
        )  # fmt: skip
        np.testing.assert_array_equal(made.sums[:, 3 * g : 3 * g + 3], part)
    with pytest.raises(ValueError, match="straddle"):
        convolution(
            quantized(x, setting("4/8/6/10", 5).activations, Axes(1)),
            quantized(w, setting("4/8/6/10", 5).weights, Axes(1, 0)),
            strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), groups=2,
        )  # fmt: skip


def test_widths_of_sums() -> None:
    wide = setting("8/8/6/10")
    assert accumulator_bits(wide.weights, wide.activations, [16]) == 35
    assert accumulator_bits(wide.weights, wide.activations, [16] * 288) == 44
    narrow = setting("4/8/6/10")
    assert accumulator_bits(narrow.weights, narrow.activations, [16] * 2) == 32
    assert accumulator_bits(narrow.weights, narrow.activations, [16] * 3) == 33


def test_the_largest_sum_is_reached() -> None:
    chosen = setting("4/8/6/10", 4)
    x = np.full((1, 10), 1.0)
    left = quantized(x, chosen.activations, Axes(1))
    right = quantized(x.T, chosen.weights, Axes(0, 1))
    made = matmul(left, right)
    assert made.sums[0, 0] == largest_sum(chosen.weights, chosen.activations, [4, 4, 2], None)


@given(st.integers(0, 2**30), st.integers(1, 12))
def test_products_of_scales_round_to_even(product: int, dropped: int) -> None:
    made = rounded_products(np.array([product]), dropped, None)[0]
    assert made == round(Fraction(product, 1 << dropped))


def test_rounded_products_are_worth_more() -> None:
    rng = np.random.default_rng(1)
    chosen = setting("8/8/6/10")
    left = quantized(rng.standard_normal((8, 256)), chosen.activations, Axes(1))
    right = quantized(rng.standard_normal((256, 8)), chosen.weights, Axes(0, 1))
    exact, short = matmul(left, right), matmul(left, right, product_bits=8)
    assert np.abs(short.sums).max() < np.abs(exact.sums).max() / 200
    np.testing.assert_allclose(short.real(), exact.real(), atol=0.02 * np.abs(exact.real()).max())


def test_floats_have_no_integer_sum() -> None:
    one = quantized(np.ones((1, 4)), QuantType(8), Axes(1))
    with pytest.raises(ValueError, match="no integer product"):
        matmul(one, quantized(np.ones((4, 1)), QuantType(8), Axes(0)))
