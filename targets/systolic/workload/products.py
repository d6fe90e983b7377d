"""Product layers as matrices: the views of input, weight and output that the array works on.

Every view is ``groups`` matrices; the product of a group is output[m, n] = sum over k of
input[m, k] x weight[k, n].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from motet.targets.systolic.instructions.addressing import NO_PADDING, Loop, View, merged
from motet.targets.systolic.workload.layers import (
    Convolution,
    Layer,
    MatrixProduct,
    ProductShape,
    TransposedConvolution,
)
from motet.targets.systolic.workload.transposed import transposed_products
from motet.targets.systolic.workload.vector_layers import VectorConvolution


@dataclass(frozen=True)
class ProductViews:
    """One matrix product per group.

    run: output rows that belong together (a line of the image), where tiles like to end.
    """

    shape: ProductShape
    input: View
    weight: View
    output: View
    run: int = 1


def product_views(layer: Layer, inputs: Sequence[int], output: int) -> ProductViews:
    """The product that ``layer`` is, over tensors ``inputs`` (input, weight) and ``output``."""
    if isinstance(layer, VectorConvolution):
        return _vector_convolution(layer, inputs, output)
    if isinstance(layer, Convolution):
        return _convolution(layer, inputs, output)
    assert isinstance(layer, MatrixProduct)
    return _matrix_product(layer, inputs, output)


def products_of(layer: Layer, inputs: Sequence[int], output: int) -> list[ProductViews]:
    """The products that ``layer`` is, one after the other: several for a transposed convolution.

    Each writes outputs of its own; together they write all.
    """
    if isinstance(layer, TransposedConvolution):
        return [ProductViews(*phase) for phase in transposed_products(layer, inputs, output)]
    return [product_views(layer, inputs, output)]


def _convolution(layer: Convolution, inputs: Sequence[int], output: int) -> ProductViews:
    groups, _, n, k = shape = layer.product_shape
    plane = layer.out_size[0] * layer.out_size[1]
    return ProductViews(
        shape,
        _im2col(layer, inputs[0]),
        view(inputs[1], layer.weight_shape, Loop(groups, n * k), (Loop(k, 1),), (Loop(n, k),)),
        view(
            output,
            layer.output_shape,
            Loop(groups, n * plane),
            (Loop(layer.batch, groups * n * plane), Loop(plane, 1)),
            (Loop(n, plane),),
        ),
        run=layer.out_size[1],
    )


def _vector_convolution(
    layer: VectorConvolution, inputs: Sequence[int], output: int
) -> ProductViews:
    """Channels lie last; columns go through the taps of a channel before the next channel's.

    So a tile sees one channel's window several times, as in ``_im2col``, and loads it once.
    Padding is around lines of all positions' channels.
    """
    made = _convolution(layer, inputs, output)
    channels, every = layer.in_channels // layer.groups, layer.in_channels
    top, left, bottom, right = layer.padding
    line = (layer.in_width + left + right) * every
    out_height, out_width = layer.out_size
    shape = (layer.batch, layer.in_height, layer.in_width * every)
    rows = (
        Loop(layer.batch, (layer.in_height + top + bottom) * line),
        Loop(out_height, layer.stride[0] * line),
        Loop(out_width, layer.stride[1] * every),
    )
    height, width = layer.kernel
    taps = (
        Loop(channels, 1),
        Loop(height, layer.dilation[0] * line),
        Loop(width, layer.dilation[1] * every),
    )
    padding = (top, left * every, bottom, right * every)
    size = height * width * channels
    weights = (Loop(channels, 1), Loop(height, width * channels), Loop(width, channels))
    outputs = layer.out_channels // layer.groups
    return replace(
        made,
        input=view(inputs[0], shape, Loop(layer.groups, channels), rows, taps, padding),
        weight=view(
            inputs[1],
            layer.weight_shape,
            Loop(layer.groups, outputs * size),
            weights,
            (Loop(outputs, size),),
        ),
    )


def _im2col(layer: Convolution, tensor: int) -> View:
    """Row (b, y, x), column (c, ky, kx), over the padded input."""
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
    return view(tensor, layer.input_shape, group, rows, columns, layer.padding)


def _matrix_product(layer: MatrixProduct, inputs: Sequence[int], output: int) -> ProductViews:
    groups, m, n, k = shape = layer.product_shape
    across, along = (1, k) if layer.rhs_transposed else (n, 1)
    return ProductViews(
        shape,
        view(inputs[0], layer.input_shape, Loop(groups, m * k), (Loop(m, k),), (Loop(k, 1),)),
        view(
            inputs[1],
            layer.weight_shape,
            Loop(groups, k * n),
            (Loop(k, across),),
            (Loop(n, along),),
        ),
        view(output, layer.output_shape, Loop(groups, m * n), (Loop(m, n),), (Loop(n, 1),)),
    )


def view(
    tensor: int,
    shape: tuple[int, ...],
    group: Loop,
    rows: Sequence[Loop],
    columns: Sequence[Loop],
    padding: tuple[int, int, int, int] = NO_PADDING,
    offset: int = 0,
) -> View:
    """A view with its loops merged."""
    return View(tensor, shape, group, merged(rows), merged(columns), padding, offset)
