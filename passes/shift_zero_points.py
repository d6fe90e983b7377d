"""Moves zero points from a product's input into its bias (exact in int32).

1. ``conv(x - zero, w) = conv(x, w) - zero * sum(w)`` of unsigned bytes where nothing is padded,
   since every output then sums all of its kernel. The input stays bytes, which the host's
   integer kernels multiply as they are, and which several convolutions and sums may read.
2. Where the machine multiplies unsigned by signed bytes whatever they are (VNNI), also of padded
   convolutions, by int8 weights: a zero point other than 0 is what their input is padded with
   before. Depthwise convolutions are as in rule 1: they sum one channel.
3. There, signed bytes become unsigned ones: ``x - zero = (x + 128) - (zero + 128)``; and so do the
   left operands of matrix products by constant int8 matrices:
   ``(x - zero) w = x w - zero * sum_k(w)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import IRModule, relax, transform

from motet.passes.dead_code import dead_code
from motet.passes.graph import constant_array
from motet.passes.names import HOST, names_of, target_of, with_names
from motet.passes.op_kinds import op_name
from motet.passes.rewrite import MatchingRewriter, rewrite_functions
from motet.runtime.device import Array

UNSIGNED = 128
"""What makes signed bytes unsigned."""


class ZeroPointShifter(MatchingRewriter):
    """``shifted`` are variables that are a product plus a constant.

    any_bytes: whether products of unsigned by signed bytes are exact and cheap (rules 2 and 3).
    """

    convolutions: tuple[str, ...] = ("relax.nn.conv2d",)

    def __init__(self, any_bytes: bool = False) -> None:
        super().__init__()
        self.any_bytes = any_bytes
        self.shifted: dict[relax.Var, tuple[relax.Var, Array]] = {}
        self.unsigned: dict[relax.Expr, relax.Var] = {}
        self.names: Sequence[str] = ()

    def _block(self, block: relax.BindingBlock) -> relax.BindingBlock:
        self.unsigned = {}  # a dataflow variable ends with its block
        return super()._block(block)

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        """What ``variable`` is bound to instead of ``value``."""
        name = op_name(value)
        if name == "relax.add":
            return self.with_bias(value)
        if name not in (*self.convolutions, "relax.matmul") or str(value.ty.dtype) != "int32":
            return value
        weights = constant_array(value.args[1])
        if weights is None or target_of(value) != HOST:
            return value
        self.names = names_of(value)
        if name == "relax.matmul":
            return self.matrix_product(variable, value, weights)
        if str(value.attrs.kernel_layout) not in ("OIHW", "OIW"):
            return value
        return self.convolution(variable, value, weights)

    def made(self, call: relax.Call) -> relax.Var:
        """``call`` bound, under the ONNX names of the call that is rewritten."""
        return self.emit(with_names(self._builder.normalize(call), self.names))

    def convolution(self, variable: relax.Var, call: relax.Call, weights: Array) -> relax.Expr:
        """Rules 1 and 2."""
        padding = [int(p) for p in call.attrs.padding]
        bytes_ = self.any_bytes and str(weights.dtype) == "int8" and weights.shape[1] > 1
        found = self.as_unsigned(call.args[0]) if bytes_ else self.centred(call.args[0])
        if found is None or (any(padding) and not bytes_):
            return call
        data, zero = found
        if str(data.ty.dtype) != "uint8":
            return call
        if zero and any(padding):
            top, left, bottom, right = padding
            width = [0, 0, 0, 0, top, bottom, left, right]
            data = self.made(relax.op.nn.pad(data, width, "constant", float(zero)))
            padding = [0] * 4
        attrs = call.attrs
        changed = relax.op.nn.conv2d(
            data, call.args[1], attrs.strides, padding, attrs.dilation, int(attrs.groups),
            attrs.data_layout, attrs.kernel_layout, attrs.out_layout, attrs.out_dtype,
        )  # fmt: skip
        sums = -zero * weights.astype(np.int64).sum(axis=(1, 2, 3))
        return self.moved(variable, call, changed, sums.reshape(1, -1, 1, 1))

    def matrix_product(self, variable: relax.Var, call: relax.Call, weights: Array) -> relax.Expr:
        """Rule 3."""
        if not self.any_bytes or str(weights.dtype) != "int8" or weights.ndim != 2:
            return call
        found = self.as_unsigned(call.args[0])
        if found is None:
            return call
        changed = relax.op.matmul(found[0], call.args[1], out_dtype="int32")
        return self.moved(variable, call, changed, -found[1] * weights.astype(np.int64).sum(axis=0))

    def moved(
        self, variable: relax.Var, call: relax.Call, changed: relax.Call, shift: Array
    ) -> relax.Expr:
        """``changed`` plus ``shift``, which a bias behind takes in."""
        if not shift.any():
            return with_names(self._builder.normalize(changed), self.names)
        wrapped = np.ascontiguousarray(shift.astype(np.int32))
        sums = self.made(changed)
        self.shifted[variable] = (sums, wrapped)
        return self.added(sums, wrapped, call)

    def added(self, sums: relax.Var, bias: Array, named: relax.Call) -> relax.Call:
        """``sums`` and ``bias``, under the names of ``named``."""
        call = self._builder.normalize(relax.op.add(sums, relax.const(bias)))
        return with_names(call, names_of(named))

    def with_bias(self, value: relax.Call) -> relax.Call:
        """The sum with a constant takes in what was shifted out of a product."""
        data, constant = value.args
        bias = constant_array(constant)
        if bias is None or data not in self.shifted or bias.ndim < self.shifted[data][1].ndim:
            return value
        sums, shift = self.shifted[data]
        with np.errstate(over="ignore"):
            return self.added(sums, np.ascontiguousarray(bias + shift), value)

    def as_unsigned(self, expr: relax.Expr) -> tuple[relax.Expr, int] | None:
        """Unsigned bytes and their zero point, where ``expr`` is bytes or bytes less a zero
        point; None where there is nothing to do.
        """
        data, zero = self.centred(expr) or (expr, 0)
        dtype = str(data.ty.dtype)
        if dtype == "int8":
            return self.made_unsigned(data), zero + UNSIGNED
        return (data, zero) if dtype == "uint8" and data is not expr else None

    def made_unsigned(self, data: relax.Expr) -> relax.Var:
        """Signed bytes plus 128, computed once."""
        if data not in self.unsigned:
            wide = self.made(relax.op.astype(data, "int16"))
            above = self.made(relax.op.add(wide, relax.const(UNSIGNED, "int16")))
            self.unsigned[data] = self.made(relax.op.astype(above, "uint8"))
        return self.unsigned[data]

    def centred(self, expr: relax.Expr) -> tuple[relax.Expr, int] | None:
        """Bytes and their zero point, where ``expr`` is their difference."""
        difference = self.values.get(expr) if isinstance(expr, relax.Var) else None
        if difference is None or op_name(difference) != "relax.subtract":
            return None
        wide, zero = difference.args
        cast = self.values.get(wide) if isinstance(wide, relax.Var) else None
        array = constant_array(zero)
        if cast is None or op_name(cast) != "relax.astype" or array is None or array.size != 1:
            return None
        data = cast.args[0]
        return (self.read(data), int(array)) if str(data.ty.dtype) in ("uint8", "int8") else None


def zero_points_shifted(any_bytes: bool = False) -> transform.Pass:
    """The pass; ``any_bytes``: with rules 2 and 3, for machines with VNNI."""

    @transform.module_pass(opt_level=0, name="shift_zero_points")
    def run(mod: IRModule, _context: transform.PassContext) -> IRModule:
        return dead_code(rewrite_functions(mod, lambda: ZeroPointShifter(any_bytes)))

    return run


shift_zero_points = zero_points_shifted()
