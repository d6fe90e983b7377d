"""Brings products of bytes into signed bytes, which is what the array multiplies (exact in int32).

1. ``conv(x - zero, w) = conv(y, w) - (zero - 128) * sum(w)`` of unsigned bytes ``x``, with signed
   ``y = x - 128``; where the convolution pads, ``y`` is padded before, with ``zero - 128``. Signed
   bytes with a zero point are as ``y``.
2. The left operands of matrix products by constants likewise.

The constant joins a bias in int32. Products by weights that signed bytes do not hold stay.
"""

from __future__ import annotations

import numpy as np
from tvm import IRModule, relax, transform

from motet.passes.dead_code import dead_code
from motet.passes.op_kinds import op_name
from motet.passes.rewrite import rewrite_functions
from motet.passes.shift_zero_points import UNSIGNED, ZeroPointShifter
from motet.runtime.device import Array


class _Signer(ZeroPointShifter):
    """``signed``: what unsigned bytes became."""

    convolutions = ("relax.nn.conv1d", "relax.nn.conv2d")

    def __init__(self) -> None:
        super().__init__()
        self.signed: dict[relax.Expr, relax.Var] = {}

    def _block(self, block: relax.BindingBlock) -> relax.BindingBlock:
        self.signed = {}  # a dataflow variable ends with its block
        return super()._block(block)

    def convolution(self, variable: relax.Var, call: relax.Call, weights: Array) -> relax.Expr:
        """Rule 1."""
        found = self.as_signed(call.args[0])
        if found is None or str(weights.dtype) != "int8":
            return call
        (data, zero), attrs = found, call.attrs
        padding = [int(p) for p in attrs.padding]
        if zero and any(padding):
            half = len(padding) // 2
            around = [n for ends in zip(padding[:half], padding[half:], strict=True) for n in ends]
            data = self.made(relax.op.nn.pad(data, [0] * 4 + around, "constant", float(zero)))
            padding = [0] * len(padding)
        convolve = getattr(relax.op.nn, op_name(call).rpartition(".")[2])
        changed = convolve(
            data, call.args[1], attrs.strides, padding, attrs.dilation, int(attrs.groups),
            attrs.data_layout, attrs.kernel_layout, attrs.out_layout, attrs.out_dtype,
        )  # fmt: skip
        sums = -zero * weights.astype(np.int64).sum(axis=tuple(range(1, weights.ndim)))
        shift = sums.reshape([1, -1] + [1] * (weights.ndim - 2))
        return self.moved(variable, call, changed, shift)

    def matrix_product(self, variable: relax.Var, call: relax.Call, weights: Array) -> relax.Expr:
        """Rule 2."""
        found = self.as_signed(call.args[0])
        if found is None or str(weights.dtype) != "int8" or weights.ndim != 2:
            return call
        changed = relax.op.matmul(found[0], call.args[1], out_dtype="int32")
        return self.moved(variable, call, changed, -found[1] * weights.astype(np.int64).sum(axis=0))

    def as_signed(self, expr: relax.Expr) -> tuple[relax.Expr, int] | None:
        """Signed bytes and their zero point; None where ``expr`` is such already, or no bytes."""
        data, zero = self.centred(expr) or (expr, 0)
        dtype = str(data.ty.dtype)
        if dtype == "uint8":
            return self.made_signed(data), zero - UNSIGNED
        return (data, zero) if dtype == "int8" and data is not expr else None

    def made_signed(self, data: relax.Expr) -> relax.Var:
        """Unsigned bytes less 128, computed once."""
        if data not in self.signed:
            wide = self.made(relax.op.astype(data, "int16"))
            below = self.made(relax.op.subtract(wide, relax.const(UNSIGNED, "int16")))
            self.signed[data] = self.made(relax.op.astype(below, "int8"))
        return self.signed[data]


@transform.module_pass(opt_level=0, name="signed_operands")
def signed_operands(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Apply to every function of ``mod``."""
    return dead_code(rewrite_functions(mod, _Signer))
