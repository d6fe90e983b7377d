"""Cycles of a layer by the closed forms, whatever its mapping: compute alone, no memory.

A grouped layer is its groups one after the other. Depthwise 1-D convolutions (a filter of one
row or one column) run under the spatially tiled dataflow; there is no other layer for it.
"""

from __future__ import annotations

from motet.targets.systolic.closed_form import conv1d_cycles, fuseconv_1d_cycles, gemm_cycles
from motet.targets.systolic.workload.layers import Convolution, MatrixProduct

SPATIAL = "spatial-output-stationary"


def layer_cycles(
    layer: Convolution | MatrixProduct, rows: int, columns: int, dataflow: str, mode: str
) -> int:
    """Cycles of a layer on one ``rows`` x ``columns`` array; ``mode`` is one of ``MODES``.

    Raises ``ValueError`` where there is no form: a spatial dataflow of another layer than a
    depthwise 1-D convolution or in mode "scalesim", and what ``gemm_cycles`` refuses.
    """
    if dataflow == SPATIAL:
        return _spatial(layer, rows, columns, mode)
    groups, m, n, k = layer.product_shape
    return groups * gemm_cycles(m, n, k, rows, columns, dataflow, mode)


def is_line_convolution(layer: Convolution | MatrixProduct) -> bool:
    """Whether ``layer`` is a depthwise 1-D convolution without dilation."""
    return (
        isinstance(layer, Convolution)
        and layer.is_depthwise
        and 1 in layer.kernel
        and layer.dilation == (1, 1)
    )


def _spatial(layer: Convolution | MatrixProduct, rows: int, columns: int, mode: str) -> int:
    if not isinstance(layer, Convolution) or not is_line_convolution(layer):
        raise ValueError("the spatial dataflow computes depthwise 1-D convolutions only")
    along = 1 if layer.kernel[0] == 1 else 0
    taps, stride = layer.kernel[along], layer.stride[along]
    if mode == "double-buffered":
        outputs = layer.out_size[along]
        lines = layer.batch * layer.out_channels * layer.out_size[1 - along]
        return conv1d_cycles(lines, outputs, taps, stride, rows, columns)
    if mode == "fuseconv":
        size, padding = (layer.in_height, layer.in_width), layer.padding
        width = size[along] + padding[along] + padding[along + 2]
        lines = layer.batch * layer.out_channels * size[1 - along]
        return fuseconv_1d_cycles(lines, width, taps, stride, rows, columns)
    raise ValueError(f"no closed form for dataflow {SPATIAL!r} in mode {mode!r}")
