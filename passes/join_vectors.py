"""Products of vectors with a scale each (VS-Quant) in integers.

A convolution or matrix product whose operands are dequantised vectors, all of V elements along
the axis that it sums over, becomes one operator of ``targets/operators/vectors``:

1. Both operands have integer scales: exact sums of ``sw sa (qw . qa)``, then one factor
   ``gamma_w gamma_a`` in float32. Exact but for the float sums that it replaces, which round
   after every addition (Dai et al., "VS-Quant", MLSys 2021, section 5).
2. One has float32 scales: so have both, and sums are float32.
3. One has vectors and the other one scale in all, without zero point (weights: or one an output
   channel): its vectors are cut to the same length, with scales of 1 and that scale as gamma.

Weights, their scales and the factor become constants. What follows stays as it is. Other
products stay float: vectors along another axis or of two lengths, vectors that straddle the
groups of a convolution, sums that 63 bits do not hold; ``Joined`` says which, and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from tvm import IRModule, relax, transform
from tvm_ffi import structural_equal

from motet.passes.dead_code import dead_code
from motet.passes.graph import map_functions, sizes_of
from motet.passes.names import merged_names, names_of, with_names
from motet.passes.op_kinds import op_name
from motet.passes.options import JoinVectorsOptions
from motet.passes.rewrite import MatchingRewriter
from motet.passes.vector_forms import Look, Vectors, Whole
from motet.runtime.device import Array
from motet.targets.operators.vectors import VectorProduct, Window, vector_conv, vector_matmul
from motet.targets.quantized.accumulators import rounded_products
from motet.targets.quantized.vectors import cut

_CONVOLUTIONS = {"relax.nn.conv1d": ("NCW", "OIW"), "relax.nn.conv2d": ("NCHW", "OIHW")}
_SUM_BITS = 63
_OPEN = 1 << 20
"""Elements that a sum of an open extent is taken to have at most."""


@dataclass
class Joined:
    """What the pass did: how many products it joined, and why not others that have vectors."""

    count: int = 0
    refused: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """In a line; empty where no product has vectors."""
        if not self.count and not self.refused:
            return ""
        rest = f", {len(self.refused)} stay float" if self.refused else ""
        return f"{self.count} products of vectors in integers{rest}"


class _StaysFloatError(Exception):
    """Why a product that has vectors is not joined."""


def join_vectors(options: JoinVectorsOptions, told: Joined | None = None) -> transform.Pass:
    """The pass. told: filled with what it did."""
    done = Joined() if told is None else told

    @transform.module_pass(opt_level=0, name="join_vectors")
    def apply(mod: IRModule, _context: transform.PassContext) -> IRModule:
        def joined(function: relax.Function) -> relax.Function:
            return _Joiner(options, done).function(function)

        return dead_code(map_functions(mod, joined))

    return apply


class _Joiner(MatchingRewriter):
    def __init__(self, options: JoinVectorsOptions, told: Joined) -> None:
        super().__init__()
        self.options, self.told = options, told
        self.look = Look(lambda e: self.values.get(e) if isinstance(e, relax.Var) else None)
        self.names: tuple[str, ...] = ()

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        name = op_name(value)
        if name not in _CONVOLUTIONS and name != "relax.matmul":
            return value
        if str(value.ty.dtype) != "float32":
            return value
        product = self.values[variable]
        try:
            made = self._product(product) if name == "relax.matmul" else self._conv(product)
        except _StaysFloatError as reason:
            self.told.refused.append(f"{', '.join(names_of(value))}: {reason}")
            return value
        if made is None:
            return value
        self.told.count += 1
        return with_names(self._builder.normalize(made), self.names)

    def _conv(self, call: relax.Call) -> relax.Call | None:
        attrs = call.attrs
        if (str(attrs.data_layout), str(attrs.kernel_layout)) != _CONVOLUTIONS[op_name(call)]:
            return None
        shape = sizes_of(call.args[1].ty)
        found = None if shape is None else self._operands(call, 1, 1, 0, int(attrs.groups))
        if found is None or shape is None:
            return None
        x, w = found
        rank = len(shape) - 2
        window = Window(
            _ints(attrs.strides, rank), _ints(attrs.padding, 2 * rank),
            _ints(attrs.dilation, rank), int(attrs.groups),
        )  # fmt: skip
        what = self._what(x, w, shape[1], int(np.prod(shape[2:])))
        return vector_conv(what, window, self._parts(what, x, w, 0))

    def _product(self, call: relax.Call) -> relax.Call | None:
        left, right = (int(each.ty.ndim) for each in call.args)
        if left < 2 or right < 2:
            return None
        found = self._operands(call, left - 1, right - 2, right - 2)
        if found is None:
            return None
        a, b = found
        if right > 2 and not _same_batch(*call.args):
            raise _StaysFloatError("its operands' batches differ")
        depth = b.size if b.size is not None else a.size
        what = self._what(a, b, depth or 0, 1)
        return vector_matmul(what, self._parts(what, a, b, right - 2))

    def _operands(
        self, call: relax.Call, axis: int, other: int, outputs: int, groups: int = 1
    ) -> tuple[Vectors, Vectors] | None:
        """Both operands as vectors of one length; None where neither has any.

        axis, other: what the left and the right one are summed over. outputs: the axis of the
        right one's others that outputs have.
        """
        x, w = call.args
        data, weights = self.look.vectors(x, axis), self.look.vectors(w, other)
        self.names = names_of(call)
        if data is None and weights is None:
            self._require_none(x, w)
            return None
        if data is None:
            assert weights is not None
            data = self._from_whole(x, axis, weights.vector, groups)
        else:
            _check_data(data, groups)
            weights = weights or self._from_whole(w, other, data.vector)
            _check_lengths(data, weights)
        stored = weights.calls if weights.is_stored else ()
        self.names = merged_names((*stored, call))
        fits = weights.channel in (None, outputs)
        if data.scale_bits and weights.scale_bits and fits:
            return data, weights
        return self._float_scales(data), self._float_scales(weights)

    def _require_none(self, *tensors: relax.Expr) -> None:
        """Refuses operands with vectors along another axis than the sum's."""
        for tensor in tensors:
            axes = range(int(tensor.ty.ndim))
            if any(self.look.vectors(tensor, axis) is not None for axis in axes):
                raise _StaysFloatError("its vectors lie along another axis than it sums over")

    def _from_whole(self, tensor: relax.Expr, axis: int, vector: int, groups: int = 1) -> Vectors:
        """Rule 3."""
        found = self.look.whole(tensor)
        if found is None:
            raise _StaysFloatError("one of its operands is no vectors of integers")
        if found.channel == axis:
            raise _StaysFloatError("an operand has scales along the axis that it sums over")
        size = sizes_of(tensor.ty)
        extent = None if size is None else size[axis]
        rest = [each for each in range(int(tensor.ty.ndim)) if each != axis]
        channel = None if found.channel is None else rest.index(found.channel)
        if isinstance(found.integers, np.ndarray):
            integers: relax.Expr | Array = cut(found.integers, axis, vector)
            assert isinstance(integers, np.ndarray)
            ones: relax.Expr | Array = np.ones(integers.shape[:-1], np.uint16)
        else:
            integers = self._cut(found, axis, vector, groups)
            ones = self._filled(list(integers.ty.shape.values)[:-1], 1, "uint16")
        scale = found.scale.reshape(-1)
        return Vectors(integers, ones, scale, channel, found.bits, 1, vector, extent, found.calls)

    def _cut(self, found: Whole, axis: int, vector: int, groups: int) -> relax.Var:
        """Computed integers in vectors, each group's apart."""
        assert not isinstance(found.integers, np.ndarray)
        x = self.read(found.integers)
        rank = int(x.ty.ndim)
        order = [*(each for each in range(rank) if each != axis), axis]
        if order != sorted(order):
            x = self._made(relax.op.permute_dims(x, order))
        *rest, extent = x.ty.shape.values
        size = getattr(extent, "value", None)
        if size is None:
            raise _StaysFloatError("the extent of its sum is open, and its data has one scale")
        each = int(size) // groups
        missing = -each % vector
        if missing:
            x = self._made(relax.op.reshape(x, relax.ShapeExpr([*rest, groups, each])))
            zeros = self._filled([*rest, groups, missing], 0, str(x.ty.dtype))
            x = self._made(relax.op.concat([x, zeros], rank))
        count = groups * ((each + missing) // vector)
        return self._made(relax.op.reshape(x, relax.ShapeExpr([*rest, count, vector])))

    def _filled(self, shape: Sequence[Any], value: int, dtype: str) -> relax.Expr:
        """One value everywhere; a constant where the shape is known."""
        sizes = [getattr(size, "value", size) for size in shape]
        if all(isinstance(size, int) for size in sizes):
            return relax.const(np.full(sizes, value, dtype), dtype)
        held = relax.const(np.array(value, dtype), dtype)
        return self._made(relax.op.full(relax.ShapeExpr(list(shape)), held, dtype))

    def _float_scales(self, found: Vectors) -> Vectors:
        """The same with float32 scales: rule 2."""
        if not found.scale_bits:
            return found
        if isinstance(found.gamma, np.ndarray) and found.gamma.size == 1:
            gamma: relax.Expr | Array = found.gamma.reshape(())
        elif isinstance(found.gamma, np.ndarray):
            gamma = found.gamma.reshape(_along(found.channel or 0, found.rest + 1))
        else:
            assert found.gamma is not None
            gamma = found.gamma
        if isinstance(found.scales, np.ndarray) and isinstance(gamma, np.ndarray):
            made = np.multiply(found.scales.astype(np.float32), gamma, dtype=np.float32)
            return replace(found, scales=made, gamma=None, channel=None, scale_bits=0)
        wide = self._made(relax.op.astype(self._held(found.scales), "float32"))
        steps = self._made(relax.op.multiply(wide, self._held(gamma)))
        return replace(found, scales=steps, gamma=None, channel=None, scale_bits=0)

    def _what(self, x: Vectors, w: Vectors, depth: int, taps: int) -> VectorProduct:
        """Types of the product; refuses sums that are too wide."""
        bits = self.options.product_bits if x.scale_bits and w.scale_bits else None
        what = VectorProduct(x.bits, w.bits, x.scale_bits, w.scale_bits, bits, "float32", depth)
        elements = (depth or _OPEN) * taps
        if what.is_exact and _sum_bits(what, x, w, elements) > _SUM_BITS:
            raise _StaysFloatError(f"its sums do not fit {_SUM_BITS} bits")
        return what

    def _parts(self, what: VectorProduct, x: Vectors, w: Vectors, outputs: int) -> list[relax.Expr]:
        """The operands of the new call; ``outputs``: the axis of ``w`` that outputs have."""
        count = w.integers.shape[outputs] if isinstance(w.integers, np.ndarray) else 0
        return [
            *(self._held(part) for part in (x.integers, x.scales, w.integers, w.scales)),
            self._factor(x, w, count, what.dropped),
        ]

    def _factor(self, x: Vectors, w: Vectors, count: int, dropped: int) -> relax.Expr:
        """gamma_w gamma_x 2^dropped: one, or ``count`` of them."""
        gammas = [each.gamma for each in (x, w) if each.gamma is not None]
        known = np.asarray(np.float32(1))
        for gamma in gammas:
            if isinstance(gamma, np.ndarray):
                flat = gamma.reshape(()) if gamma.size == 1 else gamma
                known = np.multiply(known, flat, dtype=np.float32)
        known = np.multiply(known, np.float32(2.0**dropped), dtype=np.float32)
        if count:
            known = np.ascontiguousarray(np.broadcast_to(known, (count,)))
        factor: relax.Expr = relax.const(known)
        for gamma in gammas:
            if not isinstance(gamma, np.ndarray):
                factor = self._made(relax.op.multiply(factor, self.read(gamma)))
        return factor

    def _held(self, part: relax.Expr | Array) -> relax.Expr:
        if isinstance(part, np.ndarray):
            return relax.const(np.ascontiguousarray(part), part.dtype.name)
        return self.read(part)

    def _made(self, call: relax.Call) -> relax.Var:
        return self.emit(with_names(call, self.names) if self.names else call)


def _check_data(data: Vectors, groups: int) -> None:
    if data.is_stored:
        raise _StaysFloatError("its left operand is constant")
    if groups > 1 and (data.size is None or data.size // groups % data.vector):
        raise _StaysFloatError("vectors straddle the groups of the convolution")


def _check_lengths(data: Vectors, weights: Vectors) -> None:
    if data.vector != weights.vector:
        raise _StaysFloatError(
            f"its operands have vectors of {data.vector} and {weights.vector} elements"
        )


def _same_batch(a: relax.Expr, b: relax.Expr) -> bool:
    left, right = (list(each.ty.shape.values)[:-2] for each in (a, b))
    return len(left) == len(right) and all(
        structural_equal(one, other) for one, other in zip(left, right, strict=True)
    )


def _sum_bits(what: VectorProduct, x: Vectors, w: Vectors, elements: int) -> int:
    """Bits of the largest magnitude of a sum over ``elements``."""
    scales = ((1 << what.x_scale_bits) - 1) * ((1 << what.w_scale_bits) - 1)
    if what.dropped:
        one = rounded_products(np.array([scales]), what.dropped, what.product_bits)
        scales = int(one[0])
    sizes = [1 << (each.bits - 1 if each.is_signed else each.bits) for each in (x, w)]
    return (scales * sizes[0] * sizes[1] * elements).bit_length()


def _along(axis: int, rank: int) -> list[int]:
    shape = [1] * rank
    shape[axis] = -1
    return shape


def _ints(values: Sequence[int], count: int) -> tuple[int, ...]:
    """An attribute of ``count`` numbers that may be written shorter."""
    found = [int(value) for value in values]
    return tuple(found * (count // len(found)))
