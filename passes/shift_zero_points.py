"""Moves zero points from a convolution's input into its bias (exact in int32).

``conv(x - zero, w) = conv(x, w) - zero * sum(w)`` where nothing is padded, since every output
then sums all of its kernel. The input stays bytes, which the host's integer kernels multiply
as they are, and which several convolutions and sums may read.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from tvm import IRModule, relax, transform

from motet.passes.dead_code import dead_code
from motet.passes.graph import constant_array, definitions
from motet.passes.names import HOST, names_of, target_of, with_names
from motet.passes.op_kinds import op_name
from motet.passes.rewrite import Rewriter, rewrite_functions
from motet.runtime.device import Array


class _Shifter(Rewriter):
    """``shifted`` are variables that are a convolution plus a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.values: Mapping[relax.Var, relax.Expr] = {}
        self.shifted: dict[relax.Var, tuple[relax.Var, Array]] = {}

    def function(self, function: relax.Function) -> relax.Function:
        self.values = definitions(function)
        return super().function(function)

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        if op_name(value) == "relax.add":
            return self.with_bias(value)
        if op_name(value) != "relax.nn.conv2d" or str(value.ty.dtype) != "int32":
            return value
        found, weights = self.centred(value.args[0]), constant_array(value.args[1])
        if found is None or weights is None or any(int(p) for p in value.attrs.padding):
            return value
        if target_of(value) != HOST or str(value.attrs.kernel_layout) != "OIHW":
            return value
        data, zero = found
        call = relax.Call(value.op, [data, value.args[1]], value.attrs, value.ty_args)
        sums = self.emit(with_names(self._builder.normalize(call), names_of(value)))
        shift = -zero * weights.astype(np.int64).sum(axis=(1, 2, 3)).astype(np.int32)
        shift = np.ascontiguousarray(shift.astype(np.int32).reshape(1, -1, 1, 1))
        self.shifted[variable] = (sums, shift)
        return self.added(sums, shift, value)

    def added(self, sums: relax.Var, bias: Array, named: relax.Call) -> relax.Call:
        call = self._builder.normalize(relax.op.add(sums, relax.const(bias)))
        return with_names(call, names_of(named))

    def with_bias(self, value: relax.Call) -> relax.Call:
        """The sum with a constant takes in what was shifted out of a convolution."""
        data, constant = value.args
        bias = constant_array(constant)
        if bias is None or data not in self.shifted or bias.ndim != 4:
            return value
        sums, shift = self.shifted[data]
        with np.errstate(over="ignore"):
            return self.added(sums, np.ascontiguousarray(bias + shift), value)

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
        return (self.read(data), int(array)) if str(data.ty.dtype) == "uint8" else None


@transform.module_pass(opt_level=0, name="shift_zero_points")
def shift_zero_points(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Apply to every function of ``mod``."""
    return dead_code(rewrite_functions(mod, _Shifter))
