"""Figures of tensors by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from motet.compiler.quantizing.figures import TensorFigures, joint
from motet.targets.quantized.scales import quantized
from motet.targets.quantized.types import Axes, QuantType


def test_what_lies_beyond_the_largest_integer_is_clipped() -> None:
    kind = QuantType(4, signed=False, granularity="tensor")
    figures = TensorFigures(kind)
    x = np.array([0.0, 0.3, 15, 15.4, 15.6, 30], np.float32)
    figures.add(x, quantized(x, kind, Axes(0), gamma=np.float32([1])))
    assert figures.clipped == 2
    assert figures.clipped_share == pytest.approx(1 / 3)
    assert figures.noise == pytest.approx(0.3**2 + 0.4**2 + 0.6**2 + 15**2, rel=1e-5)


def test_the_range_of_the_values_themselves_clips_nothing() -> None:
    x = np.random.default_rng(0).random((4, 64)).astype(np.float32)
    for signed in (True, False):
        kind = QuantType(8, signed, granularity="tensor")
        figures = TensorFigures(kind)
        figures.add(x, quantized(x, kind, Axes(1)))
        assert figures.clipped == 0
        assert figures.sqnr_db > 40


def test_shares_of_noise_add_up() -> None:
    one = TensorFigures(QuantType(8), signal=100.0, noise=1.0)
    exact = TensorFigures(QuantType(8), signal=5.0)
    assert joint([one, exact]) == pytest.approx(20)
    assert joint([one, one]) == pytest.approx(20 - 10 * math.log10(2))
    assert joint([exact]) == math.inf


def test_scales_are_counted_in_bins() -> None:
    kind = QuantType(4, vector=4, scale_bits=4)
    x = np.array([[7, 0, 0, 0, 0, 0, 0, 0, 2.8, 0, 0, 0]], np.float32)
    figures = TensorFigures(kind)
    figures.add(x, quantized(x, kind, Axes(1, 0)))
    assert (figures.vectors, figures.zero_scales) == (3, 1)
    assert figures.scales[[0, 6, 15]].tolist() == [1, 1, 1]  # 2.8 / 7 of 15 is 6
