"""The operand tables of the layers: how convolutions and matrix products become matrices.

Every operand is ``groups`` matrices; the product of a group is
output[m, n] = input[m, k] weight[k, n] + bias[n].
"""

from __future__ import annotations

from collections.abc import Sequence

from motet.targets.systolic.addressing import AddressGenerator, Loop, merged
from motet.targets.systolic.isa import Operand, Role
from motet.targets.systolic.layers import Convolution, Layer, MatrixProduct

NO_PADDING = (0, 0, 0, 0)


def operands_of(layer: Layer) -> tuple[Operand, ...]:
    """Input, weight, bias (where the layer has one) and output, in this order."""
    if isinstance(layer, Convolution):
        first = (_convolution_input(layer), _convolution_weight(layer))
        last = _convolution_output(layer)
    else:
        first = (_left(layer), _right(layer))
        last = _product_output(layer)
    return (*first, *([_bias(layer)] if layer.bias else []), last)


def _convolution_input(layer: Convolution) -> Operand:
    """im2col: row (b, y, x), column (c, ky, kx), over the padded input."""
    top, left, bottom, right = layer.padding
    width = layer.in_width + left + right
    plane = (layer.in_height + top + bottom) * width
    channels = layer.in_channels // layer.groups
    out_height, out_width = layer.out_size
    rows = (
        Loop(layer.batch, layer.in_channels * plane),
        Loop(out_height, layer.stride[0] * width),
        Loop(out_width, layer.stride[1]),
    )
    columns = (
        Loop(channels, plane),
        Loop(layer.kernel[0], layer.dilation[0] * width),
        Loop(layer.kernel[1], layer.dilation[1]),
    )
    group = Loop(layer.groups, channels * plane)
    return _operand(Role.INPUT, layer.input_shape, group, rows, columns, layer.padding)


def _convolution_weight(layer: Convolution) -> Operand:
    groups, _, n, k = layer.product_shape
    group, rows, columns = Loop(groups, n * k), (Loop(k, 1),), (Loop(n, k),)
    return _operand(Role.WEIGHT, layer.weight_shape, group, rows, columns)


def _convolution_output(layer: Convolution) -> Operand:
    groups, _, n, _ = layer.product_shape
    plane = layer.out_size[0] * layer.out_size[1]
    rows = (Loop(layer.batch, groups * n * plane), Loop(plane, 1))
    group, columns = Loop(groups, n * plane), (Loop(n, plane),)
    return _operand(Role.OUTPUT, layer.output_shape, group, rows, columns)


def _bias(layer: Layer) -> Operand:
    """One value a column, the same for all rows: a row stride of zero."""
    groups, m, n, _ = layer.product_shape
    shared = isinstance(layer, MatrixProduct)
    shape, stride = ((n,), 0) if shared else ((groups * n,), n)
    return _operand(Role.BIAS, shape, Loop(groups, stride), (Loop(m, 0),), (Loop(n, 1),))


def _left(layer: MatrixProduct) -> Operand:
    groups, m, _, k = layer.product_shape
    group, rows, columns = Loop(groups, m * k), (Loop(m, k),), (Loop(k, 1),)
    return _operand(Role.INPUT, layer.input_shape, group, rows, columns)


def _right(layer: MatrixProduct) -> Operand:
    groups, _, n, k = layer.product_shape
    group, rows, columns = Loop(groups, k * n), (Loop(k, n),), (Loop(n, 1),)
    return _operand(Role.WEIGHT, layer.weight_shape, group, rows, columns)


def _product_output(layer: MatrixProduct) -> Operand:
    groups, m, n, _ = layer.product_shape
    group, rows, columns = Loop(groups, m * n), (Loop(m, n),), (Loop(n, 1),)
    return _operand(Role.OUTPUT, layer.output_shape, group, rows, columns)


def _operand(
    role: Role,
    shape: tuple[int, ...],
    group: Loop,
    rows: Sequence[Loop],
    columns: Sequence[Loop],
    padding: tuple[int, int, int, int] = NO_PADDING,
) -> Operand:
    return Operand(role, shape, padding, AddressGenerator(group, merged(rows), merged(columns)))
