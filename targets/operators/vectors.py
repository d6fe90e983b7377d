"""Vectors of few bits with a scale each (VS-Quant), and products of them, as Relax operators.

*Vectors* of a tensor are its elements along one axis, V at a time: that axis becomes two at the
end, ``G = ceil(size / V)`` vectors of ``V`` elements, the last one filled with zeros. So feature
maps (N, C, H, W) are (N, H, W, G, V), and every product sums over the last two axes of both
operands. What the integers are is defined in ``targets/quantized``.

- ``motet.quantize_vectors(x, gamma)``: the pair of integers (int8 or uint8) [*rest, G, V] and
  scales (uint16) [*rest, G]; ``gamma`` (float32, one) is what scale 1 is worth. Without
  ``gamma`` scales are float32 (one level).
- ``motet.vector_conv(x, x_scales, w, w_scales, factor)``: data (N, *space, groups Gg, V),
  weights (O, *taps, Gg, V), factor (O,) float32; padding is zeros.
- ``motet.vector_matmul(a, a_scales, b, b_scales, factor)``: (*batch, M, G, V) by (*batch, N, G,
  V), or by (N, G, V); factor (N,) float32, or () where b is computed. The result is
  (*batch, M, N).

Integer scales (uint16): ``sums``, exact, of round(sw sa) (sum of qw qa) over all vectors, where
rounding to ``product_bits`` drops ``dropped`` low bits (0: none). The result is ``sums`` as they
are (``out_dtype`` int64, factor unread) or float32: sums to the nearest float32, times factor,
two roundings. Float scales: float32 sums of float(sum of qw qa) (sw sa), in any order, times
factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Op

from motet.targets.quantized.types import QuantType

from .registering import register

QUANTIZE_VECTORS = "motet.quantize_vectors"
VECTOR_CONV, VECTOR_MATMUL = "motet.vector_conv", "motet.vector_matmul"
PRODUCTS = (VECTOR_CONV, VECTOR_MATMUL)


@dataclass(frozen=True)
class Quantizing:
    """How ``quantize_vectors`` quantises.

    axis: of x, along which vectors lie.
    kind: bits, sign, V and bits of the scales; of granularity "vector".
    paper: integers are of x / s and scales may round to 0, as in the paper.
    """

    axis: int
    kind: QuantType
    paper: bool = False

    @classmethod
    def of(cls, call: Any) -> Quantizing:
        """From the attributes of a call."""
        read = {key: int(call.attrs[key]) for key in call.attrs.keys()}  # noqa: SIM118
        kind = QuantType(
            read["bits"], bool(read["signed"]), "vector", read["vector"],
            read["scale_bits"] or None, bool(read["symmetric"]),
        )  # fmt: skip
        return cls(read["axis"], kind, bool(read["paper"]))

    def attributes(self) -> Any:
        """As the attributes of a call."""
        kind = self.kind
        return tvm.ir.make_node(
            "ir.DictAttrs", axis=self.axis, bits=kind.bits, signed=int(kind.signed),
            vector=kind.vector, scale_bits=kind.scale_bits or 0, symmetric=int(kind.symmetric),
            paper=int(self.paper),
        )  # fmt: skip


@dataclass(frozen=True)
class VectorProduct:
    """What a product of vectors computes, beside its operands.

    x_bits, w_bits: bits of the integers: of int8 those of two's complement (-2^(bits - 1)
        may occur), of uint8 all are magnitude.
    x_scale_bits, w_scale_bits: of the scales, 0: float32.
    product_bits: bits that a product of two scales is rounded to; None: all.
    out_dtype: "float32", or "int64" for the sums themselves.
    depth: elements along the reduction of a group (of all G V of an operand, those behind
        them are zeros); 0: all of them count.
    """

    x_bits: int
    w_bits: int
    x_scale_bits: int
    w_scale_bits: int
    product_bits: int | None = None
    out_dtype: str = "float32"
    depth: int = 0

    @property
    def is_exact(self) -> bool:
        """Whether scales, and so sums, are integers."""
        return self.x_scale_bits > 0

    @property
    def dropped(self) -> int:
        """Low bits of a product of two scales that rounding drops."""
        if self.product_bits is None:
            return 0
        return max(0, self.x_scale_bits + self.w_scale_bits - self.product_bits)

    def attributes(self, **more: Any) -> Any:
        """As the attributes of a call."""
        return tvm.ir.make_node(
            "ir.DictAttrs", x_bits=self.x_bits, w_bits=self.w_bits,
            x_scale_bits=self.x_scale_bits, w_scale_bits=self.w_scale_bits,
            product_bits=self.product_bits or 0, out_dtype=self.out_dtype, depth=self.depth,
            **more,
        )  # fmt: skip

    @classmethod
    def of(cls, call: Any) -> VectorProduct:
        """From the attributes of a call."""
        attrs = call.attrs
        return cls(
            int(attrs["x_bits"]), int(attrs["w_bits"]),
            int(attrs["x_scale_bits"]), int(attrs["w_scale_bits"]),
            int(attrs["product_bits"]) or None, str(attrs["out_dtype"]),
            int(attrs["depth"]),
        )  # fmt: skip


@dataclass(frozen=True)
class Window:
    """Of a convolution: each one number a spatial axis; ``pads`` before all, then after all."""

    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int = 1

    @classmethod
    def of(cls, call: Any) -> Window:
        """From the attributes of a call of ``vector_conv``."""
        attrs = call.attrs
        read = [tuple(int(v) for v in attrs[key]) for key in ("strides", "pads", "dilations")]
        return cls(read[0], read[1], read[2], int(attrs["groups"]))

    def extent(self, axis: int, size: Any, taps: Any) -> Any:
        """Outputs along a spatial axis."""
        padded = size + self.pads[axis] + self.pads[axis + len(self.strides)]
        return (padded - (taps - 1) * self.dilations[axis] - 1) // self.strides[axis] + 1


def quantize_vectors(
    what: Quantizing, x: relax.Expr, gamma: relax.Expr | None = None
) -> relax.Call:
    """The pair of integers and scales of ``x``."""
    assert (gamma is None) == (what.kind.scale_bits is None), "gamma belongs to integer scales"
    operands = [x] if gamma is None else [x, gamma]
    return relax.Call(Op.get(QUANTIZE_VECTORS), operands, what.attributes())


def vector_conv(what: VectorProduct, window: Window, operands: Sequence[relax.Expr]) -> relax.Call:
    """A convolution of vectors; operands as the module says."""
    attributes = what.attributes(
        strides=list(window.strides), pads=list(window.pads),
        dilations=list(window.dilations), groups=window.groups,
    )  # fmt: skip
    return relax.Call(Op.get(VECTOR_CONV), list(operands), attributes)


def vector_matmul(what: VectorProduct, operands: Sequence[relax.Expr]) -> relax.Call:
    """A matrix product of vectors; operands as the module says."""
    return relax.Call(Op.get(VECTOR_MATMUL), list(operands), what.attributes())


def _infer_vectors(call: relax.Call, _builder: relax.BlockBuilder) -> Any:
    what, shape = Quantizing.of(call), list(call.args[0].ty.shape.values)
    vectors = (shape.pop(what.axis) + what.kind.vector - 1) // what.kind.vector
    integers = [*shape, vectors, tvm.tirx.IntImm("int64", what.kind.vector)]
    scales = "float32" if what.kind.scale_bits is None else "uint16"
    return relax.TupleType(
        [
            relax.TensorType(integers, str(what.kind.element)),
            relax.TensorType([*shape, vectors], scales),
        ]
    )


def _infer_conv(call: relax.Call, _builder: relax.BlockBuilder) -> Any:
    window, what = Window.of(call), VectorProduct.of(call)
    data, weights = (list(call.args[at].ty.shape.values) for at in (0, 2))
    space = [
        window.extent(axis, size, taps)
        for axis, (size, taps) in enumerate(zip(data[1:-2], weights[1:-2], strict=True))
    ]
    return relax.TensorType([data[0], weights[0], *space], what.out_dtype)


def _infer_matmul(call: relax.Call, _builder: relax.BlockBuilder) -> Any:
    a, b = (list(call.args[at].ty.shape.values) for at in (0, 2))
    return relax.TensorType([*a[:-2], b[-3]], VectorProduct.of(call).out_dtype)


register(QUANTIZE_VECTORS, "vectors of few bits with a scale each", _infer_vectors)
register(VECTOR_CONV, "a convolution of vectors of integers", _infer_conv)
register(VECTOR_MATMUL, "a matrix product of vectors of integers", _infer_matmul)
