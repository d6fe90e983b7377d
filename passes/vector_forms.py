"""What the front end writes for vectors with a scale each, read as integers, scales and gamma.

The form is that of ``compiler/frontend/converters/vectors``, with any transpositions behind it,
and beside it the dequantisation of 8 bits with one scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tvm import relax
from tvm_ffi import structural_equal

from motet.passes.evaluate import evaluate
from motet.passes.graph import constant_array, sizes_of
from motet.passes.op_kinds import op_name
from motet.runtime.device import Array
from motet.targets.operators.vectors import QUANTIZE_VECTORS, Quantizing

ValueOf = Callable[[relax.Expr], "relax.Expr | None"]
"""What a variable is bound to."""

_BYTES = ("int8", "uint8")


@dataclass(frozen=True, eq=False)
class Vectors:
    """A tensor as vectors: ``integers x scales x gamma``.

    integers: (*rest, G, V), int8 or uint8; scales: (*rest, G), uint16 or float32; both an
    array where they are constant. gamma: float32 that scales of 1 are worth, one, or where
    ``channel`` is an axis of ``rest``, one for each of its indices; None: 1. bits: of an
    integer; scale_bits: of a scale, 0: float32. size: elements along the reduction; None:
    not known. calls: what said all this.
    """

    integers: relax.Expr | Array
    scales: relax.Expr | Array
    gamma: relax.Expr | Array | None
    channel: int | None
    bits: int
    scale_bits: int
    vector: int
    size: int | None
    calls: tuple[relax.Call, ...] = ()

    @property
    def rest(self) -> int:
        """How many axes stand before G and V."""
        held = self.integers
        return (held.ndim if isinstance(held, np.ndarray) else int(held.ty.ndim)) - 2

    @property
    def is_signed(self) -> bool:
        """Whether integers are int8."""
        held = self.integers
        return str(held.dtype if isinstance(held, np.ndarray) else held.ty.dtype) == "int8"

    @property
    def is_stored(self) -> bool:
        """Whether all is constant."""
        gamma = self.gamma is None or isinstance(self.gamma, np.ndarray)
        parts = (self.integers, self.scales)
        return gamma and all(isinstance(part, np.ndarray) for part in parts)


@dataclass(frozen=True, eq=False)
class Whole:
    """A tensor of 8 bits or fewer with one scale, or, stored, one for each index of an axis.

    integers: of the tensor's own shape. scale: float32, of one element or of ``channel``.
    """

    integers: relax.Expr | Array
    scale: Array
    channel: int | None
    bits: int
    calls: tuple[relax.Call, ...] = ()


@dataclass(frozen=True)
class Look:
    """Looks behind the variables of a function: ``value_of`` has what they are bound to."""

    value_of: ValueOf

    def call(self, expr: relax.Expr) -> relax.Call | None:
        """The call that a variable is bound to."""
        value = self.value_of(expr)
        return value if isinstance(value, relax.Call) else None

    def vectors(self, tensor: relax.Expr, axis: int) -> Vectors | None:
        """``tensor`` as vectors along ``axis``, with its other axes in order; else None."""
        order, step, calls = self._order(tensor)
        if step is None or axis >= len(order) or order[axis] != len(order) - 1:
            return None
        size: int | None = None
        if op_name(step) == "relax.strided_slice":
            calls.append(step)
            step = self.call(step.args[0])
        if step is None or op_name(step) != "relax.reshape":
            return None
        known = sizes_of(tensor.ty)
        size = None if known is None else known[axis]
        product = self.call(step.args[0])
        if product is None or op_name(product) != "relax.multiply" or not _merges(step):
            return None
        found = self._scaled(product)
        if found is None:
            return None
        rest = [each for each in order if each != len(order) - 1]
        return _turned(replace(found, size=size, calls=(*calls, product, *found.calls)), rest)

    def _order(self, tensor: relax.Expr) -> tuple[list[int], relax.Call | None, list[relax.Call]]:
        """The axes of ``tensor`` in what transpositions turned it from, and that."""
        order, step = list(range(int(tensor.ty.ndim))), self.call(tensor)
        calls: list[relax.Call] = []
        while step is not None and op_name(step) == "relax.permute_dims":
            calls.append(step)
            rank = len(order)
            axes = step.attrs.axes
            moved = [*reversed(range(rank))] if axes is None else [int(a) % rank for a in axes]
            order = [moved[each] for each in order]
            step = self.call(step.args[0])
        return order, step, calls

    def _scaled(self, product: relax.Call) -> Vectors | None:
        wide, each = (self.call(argument) for argument in product.args)
        if op_name(wide) != "relax.astype" or op_name(each) != "relax.expand_dims":
            return None
        assert wide is not None
        assert each is not None
        integers, steps = wide.args[0], each.args[0]
        rank, dtype = int(integers.ty.ndim), str(integers.ty.dtype)
        last = [int(axis) for axis in each.attrs.axis] in ([-1], [rank - 1])
        if dtype not in _BYTES or int(steps.ty.ndim) != rank - 1 or not last:
            return None
        length = getattr(integers.ty.shape.values[-1], "value", None)
        if length is None or str(steps.ty.dtype) != "float32":
            return None
        found = self._computed(integers, steps, int(length))
        return found if found is not None else self._stored(integers, steps, int(length))

    def _computed(self, integers: relax.Expr, steps: relax.Expr, length: int) -> Vectors | None:
        """Vectors of ``quantize_vectors``, or computed integers with float scales."""
        if constant_array(integers) is not None:
            return None
        call = self._quantizing(integers)
        if call is None:
            scales = constant_array(steps)
            held = steps if scales is None else scales
            return Vectors(integers, held, None, None, self._bits(integers), 0, length, None)
        kind = Quantizing.of(call).kind
        if kind.scale_bits is None and _is_same(self._quantizing(steps), call):
            return Vectors(integers, steps, None, None, kind.bits, 0, length, None, (call,))
        levels = kind.scale_bits
        made = self.call(steps)
        wide = self.call(made.args[0]) if made is not None else None
        if op_name(made) != "relax.multiply" or op_name(wide) != "relax.astype" or not levels:
            return None
        assert made is not None
        assert wide is not None
        if not _is_same(self._quantizing(wide.args[0]), call):
            return None
        known = constant_array(call.args[1])
        gamma = call.args[1] if known is None else known
        return Vectors(
            integers, wide.args[0], gamma, None, kind.bits, levels, length, None, (call,)
        )

    def _quantizing(self, integers: relax.Expr) -> relax.Call | None:
        part = self.value_of(integers)
        if not isinstance(part, relax.TupleGetItem):
            return None
        call = self.call(part.tuple_value)
        return call if op_name(call) == QUANTIZE_VECTORS else None

    def _stored(self, integers: relax.Expr, steps: relax.Expr, length: int) -> Vectors | None:
        """Constant integers with constant scales, of two levels where those are integers."""
        held = constant_array(integers)
        assert held is not None
        order, step, calls = self._order(steps)
        levels = None if step is None else _two_levels(step, order)
        if levels is None:
            scales = self.known(steps)
            if scales is None:
                return None
            return Vectors(held, scales, None, None, bits_of(held), 0, length, None)
        scales, gamma, channel = levels
        bits = max(1, int(scales.max(initial=0)).bit_length())
        assert step is not None
        return Vectors(
            held, scales, gamma, channel, bits_of(held), bits, length, None, (*calls, step)
        )

    def known(self, expr: relax.Expr) -> Array | None:
        """The value of a small expression of constants."""
        array = constant_array(expr)
        if array is not None:
            return array
        call = self.call(expr)
        if call is None or op_name(call) not in ("relax.permute_dims", "relax.dequantize"):
            return None
        operands = [self.known(argument) for argument in call.args]
        arrays = [each for each in operands if each is not None]
        return evaluate(call, arrays) if len(arrays) == len(operands) else None

    def whole(self, tensor: relax.Expr) -> Whole | None:
        """``tensor`` as integers with one scale and no zero point; else None."""
        order, call, calls = self._order(tensor)
        if call is None or op_name(call) != "relax.dequantize" or str(call.ty.dtype) != "float32":
            return None
        integers, held = call.args[0], constant_array(call.args[0])
        scale, zero = (constant_array(each) for each in call.args[1:])
        if scale is None or zero is None or zero.any() or str(integers.ty.dtype) not in _BYTES:
            return None
        inner = int(call.attrs.axis) % max(len(order), 1)
        channel = order.index(inner) if scale.size > 1 else None
        if held is not None:
            moved = np.ascontiguousarray(held.transpose(order))
            return Whole(moved, scale, channel, bits_of(held), (*calls, call))
        if scale.size > 1 or calls:
            return None
        return Whole(integers, scale, None, self._bits(integers), (call,))

    def _bits(self, integers: relax.Expr) -> int:
        """Bits of computed integers: 8, or those that a clip leaves."""
        call = self.call(integers)
        if op_name(call) != "relax.clip":
            return 8
        assert call is not None
        limits = [int(float(limit.value)) for limit in call.args[1:]]
        return bits_of(np.array(limits, str(integers.ty.dtype)))


def bits_of(values: Array) -> int:
    """The fewest bits, at least 2, that hold ``values``: in two's complement where one is
    negative or the type has a sign.
    """
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if values.dtype.kind == "u":
        return max(2, high.bit_length())
    return max(2, high.bit_length() + 1, (-low - 1).bit_length() + 1 if low < 0 else 2)


def _is_same(one: relax.Call | None, other: relax.Call) -> bool:
    return one is not None and bool(one.same_as(other))


def _merges(reshape: relax.Call) -> bool:
    """Whether a reshape makes the last two axes one and leaves the others."""
    before, after = (list(each.ty.shape.values) for each in (reshape.args[0], reshape))
    if len(before) != len(after) + 1:
        return False
    same = zip(before[:-2], after[:-1], strict=True)
    return all(structural_equal(one, other) for one, other in same)


def _two_levels(step: relax.Call, order: Sequence[int]) -> tuple[Array, Array, int | None] | None:
    """Integer scales, gamma, and the axis that gammas are of, in the axes of ``order``."""
    if op_name(step) != "relax.dequantize":
        return None
    integers, gamma, zero = (constant_array(argument) for argument in step.args)
    if integers is None or gamma is None or zero is None or zero.any():
        return None
    if integers.dtype.kind != "u" or integers.dtype.itemsize > 2:
        return None
    inner = int(step.attrs.axis) % integers.ndim
    channel = order.index(inner) if gamma.size > 1 else None
    scales = np.ascontiguousarray(integers.transpose(order)).astype(np.uint16)
    return scales, gamma.reshape(-1), channel


def _turned(found: Vectors, rest: Sequence[int]) -> Vectors | None:
    """Vectors whose other axes stand in another order; None where computed ones do."""
    if list(rest) == sorted(rest):
        return found
    if not isinstance(found.integers, np.ndarray) or not isinstance(found.scales, np.ndarray):
        return None
    count = len(rest)
    return replace(
        found,
        integers=found.integers.transpose(*rest, count, count + 1),
        scales=found.scales.transpose(*rest, count),
        channel=None if found.channel is None else [*rest, count].index(found.channel),
    )
