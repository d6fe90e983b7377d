"""ResNet-50 comes within 5% of the array's peak; the figure does not depend on the machine."""

from __future__ import annotations

import pytest

pytest.importorskip("tvm")

from motet.benchmarks.array_resnet50 import measure


def test_the_convolutions_reach_95_percent_of_the_peak():
    result = measure(1, "single-32x32", "int8")
    assert 0.95 <= result.peak_over_convolutions < 1
    assert 0.95 <= result.utilisation < result.peak_over_convolutions
