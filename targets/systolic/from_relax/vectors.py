"""Products of vectors with a scale each (``targets/operators/vectors``) as layers of the array."""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm import relax
from tvm.ir.expr import GenericConst

from motet.targets.operators import vectors as operators
from motet.targets.systolic.formats import VectorFormat, VectorOperand, of_vectors
from motet.targets.systolic.from_relax.anchor import Anchor, ProductOfVectors
from motet.targets.systolic.from_relax.values import RefusedError, Shape, name_of, shape_of
from motet.targets.systolic.sum_width import KnownWeights, require_width, sum_width
from motet.targets.systolic.workload.vector_layers import VectorConvolution, VectorProduct

_INTEGERS, _SCALES = ("int8", "uint8"), ("uint16",)


def is_vector_product(call: relax.Call) -> bool:
    """Whether ``call`` is a product of vectors."""
    return name_of(call) in _LAYERS


def vector_product(call: relax.Call) -> Anchor:
    """The layer of a product of vectors with integer scales; raises ``RefusedError``."""
    what = operators.VectorProduct.of(call)
    if not what.is_exact:
        raise RefusedError("scales of its vectors are float32: the array sums integers")
    for index in (0, 2):
        integers = shape_of(call.args[index], _INTEGERS)
        if shape_of(call.args[index + 1], _SCALES) != integers[:-1]:
            raise RefusedError("it has not one scale for each vector")
    layer = _LAYERS[name_of(call)](call, what)
    words = _words(call, what)
    width = sum_width(words, layer.product_shape.k, _known(call))
    require_width(width, "its sums")
    factor = None if what.out_dtype == "int64" else 4
    made = ProductOfVectors(with_sums(words, width), factor)
    return Anchor(layer, (0, 2), product=made)


def with_sums(words: VectorFormat, bits: int) -> VectorFormat:
    """``words`` with accumulators for sums of ``bits``."""
    return VectorFormat(
        words.length, words.weights, words.inputs, words.product_bits, 32 if bits <= 32 else 64
    )


def _words(call: relax.Call, what: operators.VectorProduct) -> VectorFormat:
    unsigned = [str(call.args[index].ty.dtype) == "uint8" for index in (0, 2)]
    inputs = VectorOperand(what.x_bits, what.x_scale_bits, unsigned[0])
    weights = VectorOperand(what.w_bits, what.w_scale_bits, unsigned[1])
    full = what.x_scale_bits + what.w_scale_bits
    product = what.product_bits if what.product_bits and what.product_bits < full else None
    length = shape_of(call.args[0], _INTEGERS)[-1]
    made = VectorFormat(length, weights, inputs, product)
    try:
        of_vectors(made)
    except ValueError as error:
        raise RefusedError(str(error)) from None
    return made


def _known(call: relax.Call) -> KnownWeights | None:
    """The weights, where they are constants."""
    integers, scales = call.args[2:4]
    if not isinstance(integers, GenericConst) or not isinstance(scales, GenericConst):
        return None
    return KnownWeights(integers.value.numpy(), scales.value.numpy())


def _convolution(call: relax.Call, what: operators.VectorProduct) -> VectorConvolution:
    window = operators.Window.of(call)
    data, weights = (shape_of(call.args[index], _INTEGERS) for index in (0, 2))
    space = len(window.strides)
    if space not in (1, 2):
        raise RefusedError(f"it is a {space}-D convolution")
    if weights[-1] != data[-1]:
        raise RefusedError("its operands have vectors of different lengths")
    batch, *sizes, channels, length = data

    def two(values: tuple[int, ...] | list[int], one: int = 1) -> tuple[int, int]:
        return (values[-2] if space == 2 else one, values[-1])

    (height, width), before = two(sizes), two(window.pads[:space], 0)
    after = two(window.pads[space:], 0)
    return VectorConvolution(
        batch=batch,
        in_channels=channels,
        out_channels=weights[0],
        groups=window.groups,
        in_height=height,
        in_width=width,
        kernel=two(list(weights[1:-2])),
        stride=two(window.strides),
        padding=(*before, *after),
        dilation=two(window.dilations),
        length=length,
        depth=what.depth,
    )


def _matrix_product(call: relax.Call, what: operators.VectorProduct) -> VectorProduct:
    left, right = (shape_of(call.args[index], _INTEGERS) for index in (0, 2))
    (*batches, m, k, length), (*others, n, _, other) = left, right
    if length != other:
        raise RefusedError("its operands have vectors of different lengths")
    batch, batched = math.prod(batches), math.prod(others) > 1
    if batched and _bare(batches) != _bare(others):
        raise RefusedError(f"the batch dimensions {batches} and {others} broadcast")
    return VectorProduct(
        batch, m, n, k, rhs_batched=batched, rhs_transposed=True, length=length, depth=what.depth
    )


def _bare(sizes: list[int]) -> Shape:
    start = next((i for i, size in enumerate(sizes) if size != 1), len(sizes))
    return tuple(sizes[start:])


_LAYERS: dict[str, Callable[..., VectorConvolution | VectorProduct]] = {
    operators.VECTOR_CONV: _convolution,
    operators.VECTOR_MATMUL: _matrix_product,
}
