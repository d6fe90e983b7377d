"""Closed-form cycles of whole layers."""

from __future__ import annotations

import pytest

from motet.targets.systolic.closed_form import conv1d_cycles, fuseconv_1d_cycles, gemm_cycles
from motet.targets.systolic.workload.layer_cycles import SPATIAL, is_line_convolution, layer_cycles
from motet.targets.systolic.workload.layers import Convolution, MatrixProduct

DEPTHWISE = Convolution(1, 8, 8, 8, 14, 16, (3, 3), (1, 1), (1, 1, 1, 1))
LINE = Convolution(2, 8, 8, 8, 14, 16, (1, 3), (2, 2), (0, 1, 0, 1))
COLUMN = Convolution(2, 8, 8, 8, 16, 14, (3, 1), (2, 2), (1, 0, 1, 0))
OUTPUT = "output-stationary"


def test_groups_follow_each_other():
    for mode in ("scalesim", "double-buffered", "fuseconv"):
        one = gemm_cycles(14 * 16, 1, 9, 4, 4, OUTPUT, mode)
        assert layer_cycles(DEPTHWISE, 4, 4, OUTPUT, mode) == 8 * one
    product = MatrixProduct(3, 5, 6, 7)
    assert layer_cycles(product, 4, 4, OUTPUT, "scalesim") == gemm_cycles(15, 6, 7, 4, 4, OUTPUT)


@pytest.mark.parametrize("layer", [LINE, COLUMN])
def test_lines_run_along_either_axis(layer):
    assert is_line_convolution(layer)
    native = conv1d_cycles(2 * 8 * 7, 8, 3, 2, 4, 4)
    assert layer_cycles(layer, 4, 4, SPATIAL, "double-buffered") == native
    published = fuseconv_1d_cycles(2 * 8 * 14, 18, 3, 2, 4, 4)
    assert layer_cycles(layer, 4, 4, SPATIAL, "fuseconv") == published


@pytest.mark.parametrize(
    ("layer", "mode", "says"),
    [
        (DEPTHWISE, "double-buffered", "depthwise 1-D"),
        (MatrixProduct(1, 1, 1, 1), "fuseconv", "depthwise 1-D"),
        (LINE, "scalesim", "no closed form"),
    ],
)
def test_what_has_no_form(layer, mode, says):
    assert is_line_convolution(layer) is (mode == "scalesim")
    with pytest.raises(ValueError, match=says):
        layer_cycles(layer, 4, 4, SPATIAL, mode)
