"""Canonical vectors: the same integers, scales and sums as tensors in their own shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.targets.quantized.accumulators import dropped_bits
from motet.targets.quantized.notation import setting
from motet.targets.quantized.products import convolution, matmul
from motet.targets.quantized.scales import quantized
from motet.targets.quantized.types import Axes, QuantType
from motet.targets.quantized.vectors import (
    Rounding,
    canonical,
    joined,
    quantize_vectors,
    vector_conv,
    vector_matmul,
)

SETTINGS = st.sampled_from(["4/8/6/10", "8/8/6/10", "4/4/4/4", "3/6/2/9"])
SEEDS = st.integers(0, 2**32 - 1)
WIDTHS = st.sampled_from([None, 8])


@settings(max_examples=60, deadline=None)
@given(SETTINGS, st.integers(1, 50), st.sampled_from([4, 16]), WIDTHS, st.booleans(), SEEDS)
def test_matmul(text: str, depth: int, v: int, width: int | None, stored: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    chosen = setting(text, v)
    x = rng.standard_normal((2, 3, depth)) * np.exp(rng.standard_normal((2, 3, 1)) * 3)
    left = quantized(x, chosen.activations, Axes(2))
    w = rng.standard_normal((depth, 5) if stored else (2, depth, 5))
    kind = chosen.weights if stored else chosen.activations
    right = quantized(w, kind, Axes(0, 1) if stored else Axes(1))
    wanted = matmul(left, right, width)
    rounding = Rounding(dropped_bits(kind, chosen.activations, width), width)
    a, b = canonical(left), canonical(right)
    np.testing.assert_array_equal(vector_matmul(a, b, None, rounding), wanted.sums)
    factor = wanted.worth.reshape(-1 if stored else ())
    np.testing.assert_array_equal(vector_matmul(a, b, factor, rounding), wanted.real())


@settings(max_examples=60, deadline=None)
@given(
    SETTINGS, st.integers(1, 2), st.integers(1, 2), st.booleans(),
    st.tuples(*[st.integers(0, 2)] * 4), WIDTHS, SEEDS,
)  # fmt: skip
def test_convolution(
    text: str, step: int, groups: int, flat: bool, pads: tuple[int, ...], width: int | None,
    seed: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    chosen = setting(text, 4)
    spatial, per = (1 if flat else 2), (8 if groups > 1 else int(rng.integers(1, 14)))
    pads = pads[:2] if flat else pads
    x = rng.standard_normal((2, groups * per, 7, 6)[: 2 + spatial])
    w = rng.standard_normal((4, per, 3, 2)[: 2 + spatial])
    left = quantized(x, chosen.activations, Axes(1))
    right = quantized(w, chosen.weights, Axes(1, 0))
    geometry = {"strides": (step,) * spatial, "pads": pads, "dilations": (2, 1)[:spatial]}
    wanted = convolution(left, right, **geometry, groups=groups, product_bits=width)  # type: ignore[arg-type]
    rounding = Rounding(dropped_bits(chosen.weights, chosen.activations, width), width)
    a, b = canonical(left), canonical(right)
    made = vector_conv(a, b, None, rounding, **geometry, groups=groups)  # type: ignore[arg-type]
    np.testing.assert_array_equal(made, wanted.sums)
    factor = wanted.worth.reshape(-1)
    real = vector_conv(a, b, factor, rounding, **geometry, groups=groups)  # type: ignore[arg-type]
    assert real.dtype == np.float32
    np.testing.assert_array_equal(real, wanted.real())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.sampled_from([4, 7, 16]), st.integers(0, 2), st.booleans(), SEEDS)
def test_quantising(size: int, v: int, axis: int, paper: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = [2, 3]
    shape.insert(axis, size)
    x = (rng.standard_normal(shape) * (rng.random(shape) > 0.3)).astype(np.float32)
    kind = QuantType(6, True, "vector", v, 5)
    gamma = np.float32(0.01)
    wanted = quantized(x, kind, Axes(axis), gamma=gamma, paper=paper)
    made = quantize_vectors(x, axis, kind, gamma, paper=paper)
    assert made.integers.shape == (2, 3, -(-size // v), v)
    assert made.scales.dtype == np.uint16
    np.testing.assert_array_equal(joined(made.integers, axis, size), wanted.values)
    tail = made.integers.reshape(2, 3, -1)[..., size:]
    assert not tail.any()


def test_one_level_is_products_of_reals() -> None:
    rng = np.random.default_rng(3)
    kind = QuantType(8, True, "vector", 16)
    left = quantized(rng.standard_normal((3, 40)), kind, Axes(1))
    right = quantized(rng.standard_normal((40, 5)), QuantType(4), Axes(0))
    made = vector_matmul(canonical(left), canonical(right), np.float32(2))
    wanted = 2 * (left.dequantized().astype(np.float64) @ right.dequantized())
    np.testing.assert_allclose(made, wanted, rtol=1e-5, atol=1e-5)


def test_one_scale_is_that_of_every_vector() -> None:
    rng = np.random.default_rng(4)
    tensor = quantized(rng.standard_normal((3, 40)), QuantType(8, granularity="tensor"), Axes(1))
    made = canonical(tensor, 16)
    assert made.integers.shape == (3, 3, 16)
    np.testing.assert_array_equal(made.scales, np.full((3, 3), tensor.gamma))
    with pytest.raises(ValueError, match="one scale"):
        canonical(tensor)
