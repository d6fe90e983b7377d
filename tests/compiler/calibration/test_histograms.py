"""Streaming magnitudes against what NumPy says of all values at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from motet.compiler.calibration.histograms import BINS, Magnitudes
from motet.runtime.errors import CompileError
from motet.targets.quantized.scales import quantized
from motet.targets.quantized.types import Axes, QuantType

PIECES = st.lists(
    arrays(np.float32, st.integers(0, 50), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(PIECES, st.floats(0.0, 100.0))
def test_pieces_are_as_one(pieces: list[np.ndarray], percentile: float) -> None:
    seen = Magnitudes()
    for piece in pieces:
        seen.add(piece)
    everything = np.abs(np.concatenate([*pieces, np.zeros(0, np.float32)]))
    assert seen.count == everything.size
    assert seen.largest == (everything.max() if everything.size else 0)
    if not everything.size:
        return
    found = seen.limit("percentile", QuantType(8), percentile)
    width = seen.largest * 2 / BINS
    kept = np.percentile(everything, percentile, method="inverted_cdf")
    assert kept <= found * (1 + 1e-6)
    assert found <= kept + width * (1 + 1e-6)


def test_memory_is_that_of_one_piece() -> None:
    seen = Magnitudes()
    for step in range(40):
        seen.add(np.full(1000, 2.0**step, np.float32))
    assert seen.count == 40_000
    assert seen._bins.nbytes == BINS * 8
    assert seen.limit("percentile", QuantType(8), 50) <= 2.0**20 + 2.0**39 / BINS * 2


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("shape", ["normal", "laplace", "outlier"])
def test_the_least_error_is_found(bits: int, shape: str) -> None:
    """No limit on a fine grid errs by more than 2 % less, measured on the values themselves."""
    rng = np.random.default_rng(bits)
    x = rng.laplace(size=40_000) if shape == "laplace" else rng.standard_normal(40_000)
    if shape == "outlier":
        x[0] = 30
    x = x.astype(np.float32)
    seen = Magnitudes()
    seen.add(x)
    kind = QuantType(bits, granularity="tensor")

    def error(limit: float) -> float:
        made = quantized(x, kind, Axes(0), limit=np.float32(limit))
        return float(np.square(x - made.dequantized()).mean())

    best = min(map(error, np.linspace(0.05, 1, 200) * np.abs(x).max()))
    assert error(seen.limit("mse", kind)) <= 1.05 * best


def test_channels_and_clipping() -> None:
    seen = Magnitudes(axis=1)
    seen.add(np.array([[1, -2], [3, 0]], np.float32))
    seen.add(np.array([[0, -8]], np.float32))
    assert seen.channels is not None
    assert seen.channels.tolist() == [3, 8]
    assert (seen.least, seen.largest) == (-8, 8)
    assert seen.clipped(4.0) == pytest.approx(1 / 6)
    assert Magnitudes().limit("mse", QuantType(8)) == 0


def test_what_is_not_finite_is_named() -> None:
    with pytest.raises(CompileError, match="relu_3 is not finite"):
        Magnitudes("relu_3").add(np.array([1, np.inf], np.float32))
