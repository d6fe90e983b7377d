"""What quantised models write around their operators, read as integers, scales and zero points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tvm import relax

from motet.passes.graph import constant_array
from motet.passes.op_kinds import op_name
from motet.runtime.device import Array

CallOf = Callable[[relax.Expr], "relax.Call | None"]
"""The call that a variable is bound to."""

_BYTES = frozenset(("int8", "uint8"))
_VIEWS = frozenset(("relax.reshape", "relax.expand_dims"))


@dataclass(frozen=True, eq=False)
class Scaled:
    """``(integers - zero) * scale`` of 8-bit integers.

    scale (float32), zero (int16): of no axes. What ``by_channel_of`` finds has others: a zero
    point for each index of axis 1, and a scale for each of the product's.
    """

    integers: relax.Expr
    scale: Array
    zero: Array
    dtype: str = ""

    @property
    def zero_float(self) -> np.float32:
        """The zero point as onnxruntime computes with it."""
        return np.float32(self.zero)

    def same(self, other: Scaled) -> bool:
        """Whether equal integers mean equal values."""
        types = str(self.integers.ty.dtype) == other.dtype
        return types and (self.scale, self.zero) == (other.scale, other.zero)

    def unshifted(self) -> Scaled:
        """The same without its zero point."""
        return replace(self, zero=np.zeros_like(self.zero))

    def rounded(self, real: relax.Expr) -> relax.Call:
        """``real``, which counts steps of ``scale``, rounded, shifted and saturated."""
        zero = relax.const(self.zero.astype(self.dtype))
        return relax.op.quantize(real, relax.const(np.float32(1)), zero, -1, self.dtype)

    def mean_factor(self, result: Scaled, counted: Sequence[int]) -> np.float32:
        """What a sum of this one's integers is multiplied by: the mean in ``result``'s steps."""
        return ratio(self.scale, result.scale * np.float32(np.prod(counted)))


def ratio(over: Array, under: Array) -> np.float32:
    """The quotient, rounded to float32."""
    with np.errstate(all="ignore"):
        return np.float32(over / under)


def _one(expr: relax.Expr) -> Array | None:
    array = constant_array(expr)
    return None if array is None or array.size != 1 else array.reshape(())


def dequantized_of(call: relax.Expr | None) -> Scaled | None:
    """The operand of a dequantisation from 8 bits with one scale, to float32."""
    if call is None or op_name(call) != "relax.dequantize" or str(call.ty.dtype) != "float32":
        return None
    return _with_parameters(call, call.args[0], str(call.args[0].ty.dtype))


def scaled_result(call: relax.Expr) -> Scaled | None:
    """The parameters of a quantisation from float32 to 8 bits with one scale."""
    if op_name(call) != "relax.quantize" or str(call.args[0].ty.dtype) != "float32":
        return None
    return _with_parameters(call, call, str(call.ty.dtype))


def _with_parameters(call: relax.Call, integers: relax.Expr, dtype: str) -> Scaled | None:
    scale, zero = _one(call.args[1]), _one(call.args[2])
    if scale is None or zero is None or dtype not in _BYTES or str(scale.dtype) != "float32":
        return None
    return Scaled(integers, scale, zero.astype(np.int16), dtype)


def by_channel_of(call: relax.Expr | None, product: relax.Call) -> Scaled | None:
    """The operand of a dequantisation from 8 bits with a scale per channel, which the depthwise
    convolution ``product`` reads; None for any other product, which sums over channels.
    """
    if call is None or op_name(call) != "relax.dequantize" or not _is_depthwise(product):
        return None
    integers, dtype = call.args[0], str(call.args[0].ty.dtype)
    scale, zero = (constant_array(argument) for argument in call.args[1:])
    rank = int(integers.ty.ndim)
    if scale is None or zero is None or int(call.attrs.axis) % rank != 1:
        return None
    if dtype not in _BYTES or str(scale.dtype) != "float32" or str(call.ty.dtype) != "float32":
        return None
    outputs, channels = int(product.args[1].ty.shape.values[0]), int(product.attrs.groups)
    repeated = np.repeat(np.broadcast_to(scale, (channels,)), outputs // channels)
    centre = zero.reshape(-1)[:1] if (zero == zero.flat[0]).all() else zero
    return Scaled(
        integers, _along(repeated, 1, rank), _along(centre.astype(np.int16), 1, rank), dtype
    )


def _is_depthwise(product: relax.Call) -> bool:
    """Whether every output of a convolution sums over one channel."""
    if not op_name(product).startswith("relax.nn.conv"):
        return False
    data, weights = (getattr(argument.ty.shape, "values", None) for argument in product.args)
    if data is None or weights is None or not hasattr(data[1], "value"):
        return False
    return int(weights[1]) == 1 and int(data[1]) == int(product.attrs.groups)


@dataclass(frozen=True, eq=False)
class Weights:
    """The right operand of a product: centred constant integers, with scales that broadcast
    against the product; or what is computed, with one scale.
    """

    values: Array | Scaled
    scale: Array

    def factor(self, x: Scaled, result: Scaled) -> Array:
        """``x_scale * w_scale / y_scale``, rounded after each step as in onnxruntime."""
        with np.errstate(all="ignore"):
            return np.asarray(x.scale * self.scale / result.scale, np.float32)

    def worth(self, x: Scaled) -> Array:
        """``x_scale * w_scale``: what 1 of the product's integers is worth."""
        with np.errstate(all="ignore"):
            return np.asarray(x.scale * self.scale, np.float32)


def weights_of(product: relax.Call, call_of: CallOf) -> Weights | None:
    """The constant weights of a convolution or product, in 8 bits but for the zero point."""
    call, swapped = call_of(product.args[1]), False
    is_matmul = op_name(product) == "relax.matmul"
    if (
        call is not None
        and is_matmul
        and op_name(call) == "relax.permute_dims"
        and int(call.args[0].ty.ndim) == 2
    ):
        call, swapped = call_of(call.args[0]), True
    if call is None or op_name(call) != "relax.dequantize":
        return None
    values, scale, zero = (constant_array(argument) for argument in call.args)
    if values is None or scale is None or zero is None or str(values.dtype) not in _BYTES:
        return None
    if is_matmul and values.ndim != 2:
        return None
    axis = int(call.attrs.axis) % values.ndim
    outputs = (0 if swapped else 1) if is_matmul else 0
    if max(scale.size, zero.size) > 1 and axis != outputs:
        return None
    centred = _centred(values, _along(zero, outputs, values.ndim))
    held = centred.T if swapped else centred
    place, rank = (1, 2) if is_matmul else (1, values.ndim)
    return Weights(np.ascontiguousarray(held), _along(scale, place, rank))


def fits_int32(product: relax.Call, x: Scaled, weights: Weights) -> bool:
    """Whether the sums of ``product`` fit int32, whatever ``x`` is. Open sizes are taken to."""
    held = weights.values
    if isinstance(held, Scaled):
        depth = getattr(product.args[0].ty.shape.values[-1], "value", 1)
        total = int(depth) * _magnitude(held)
    else:
        outputs = 1 if op_name(product) == "relax.matmul" else 0
        axes = tuple(axis for axis in range(held.ndim) if axis != outputs)
        total = int(np.abs(held.astype(np.int64)).sum(axis=axes).max(initial=0))
    return total * _magnitude(x) <= np.iinfo(np.int32).max


def _magnitude(x: Scaled) -> int:
    """The largest that a centred integer can be, without its sign."""
    info, zero = np.iinfo(str(x.integers.ty.dtype)), x.zero.astype(np.int64)
    return int(np.maximum(info.max - zero, zero - info.min).max())


def _along(values: Array, axis: int, rank: int) -> Array:
    if values.size == 1:
        return values.reshape(())
    shape = [1] * rank
    shape[axis] = -1
    return values.reshape(shape)


def _centred(values: Array, zero: Array) -> Array:
    wide = values.astype(np.int16) - zero.astype(np.int16)
    narrow = wide.min(initial=0) >= -128 and wide.max(initial=0) <= 127
    return wide.astype(np.int8) if narrow else wide


@dataclass(frozen=True, eq=False)
class Bias:
    """int32 values that broadcast against the sums; None where there is no bias."""

    values: Array | None

    @classmethod
    def none(cls) -> Bias:
        """No bias."""
        return cls(None)


def bias_of(
    added: relax.Call, product: relax.Call, x: Scaled, weights: Weights, call_of: CallOf
) -> Bias | None:
    """The int32 bias that ``added`` adds to ``product``; None where it adds something else."""
    for side in added.args:
        call = call_of(side)
        if call is None or call.same_as(product):
            continue
        if op_name(call) in _VIEWS:
            call = call_of(call.args[0])
        if call is None or op_name(call) != "relax.dequantize":
            return None
        return _integer_bias(call, product, x, weights)
    return None


def _integer_bias(
    call: relax.Call, product: relax.Call, x: Scaled, weights: Weights
) -> Bias | None:
    values, scale, zero = (constant_array(argument) for argument in call.args)
    if values is None or scale is None or zero is None or str(values.dtype) != "int32":
        return None
    if zero.any() or values.ndim != 1:
        return None
    expected = np.asarray(x.scale * weights.scale).reshape(-1)
    if scale.size not in (1, values.size) or not np.allclose(scale, expected, rtol=1e-5, atol=0):
        return None
    rank = int(product.ty.ndim)
    return Bias(_along(values, -1 if op_name(product) == "relax.matmul" else 1, rank))
