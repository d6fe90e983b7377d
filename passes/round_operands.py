"""Rounds what convolutions and matrix products of the host read to bfloat16 (approximate).

``y = x w`` becomes ``bf16(x) bf16(w)``, rounded to nearest, halves to even; products and sums
stay in float32. Weights are rounded once, here. Any other value is rounded where it is made,
behind the operator that computes it, so that it costs a few instructions of that operator's
kernel; all its readers see the rounded value. Operators that only move data, and maxima,
commute with rounding: what they read is rounded in their place. Each operand keeps 8 of 24
significant bits: a relative error of 2^-9 at most. Where attention is one kernel, its queries,
keys and values are rounded; the probabilities between its two products, which are never
stored, are not.
"""

from __future__ import annotations

import numpy as np
from tvm import IRModule, relax, transform
from tvm.ir.expr import GenericConst

from motet.passes.graph import bindings_of, map_functions
from motet.passes.names import HOST, names_of, target_of, with_names
from motet.passes.op_kinds import Kind, kind_of, op_name
from motet.passes.rewrite import Rewriter
from motet.passes.split_to_slices import split_to_slices
from motet.runtime.element_types import numpy_dtype
from motet.targets.operators.attention import NAME as ATTENTION
from motet.targets.operators.narrow import round_to

_PRODUCTS = frozenset(
    ["relax.matmul", ATTENTION]
    + [f"relax.nn.conv{rank}d{kind}" for rank in (1, 2, 3) for kind in ("", "_transpose")]
)
_ATTENDED = 3
"""Operands of attention that it multiplies; a mask may follow."""
_COMMUTES = frozenset(f"relax.nn.max_pool{rank}d" for rank in (1, 2, 3))
_COMPUTES = frozenset(("relax.image.resize2d", "relax.nn.pad"))
"""Injective operators that make values of their own."""


def _is_float(expr: relax.Expr) -> bool:
    return isinstance(expr.ty, relax.TensorType) and str(expr.ty.dtype) == "float32"


def _is_product(expr: relax.Expr) -> bool:
    return op_name(expr) in _PRODUCTS and target_of(expr) == HOST and _is_float(expr)


def _commutes(expr: relax.Expr) -> bool:
    name = op_name(expr)
    moves = kind_of(expr) in (Kind.INJECTIVE, Kind.VIEW) and name not in _COMPUTES
    return (moves or name in _COMMUTES) and target_of(expr) == HOST


def _operands(call: relax.Call) -> list[relax.Expr]:
    """What is rounded of a product, or moved; not attention's mask, which is added."""
    if op_name(call) == ATTENTION:
        return list(call.args[:_ATTENDED])
    whole = [a.fields if isinstance(a, relax.Tuple) else [a] for a in call.args]
    return [part for fields in whole for part in fields if _is_float(part)]


def _is_operand(call: relax.Call, number: int) -> bool:
    return op_name(call) != ATTENTION or number < _ATTENDED


class _Rounder(Rewriter):
    """rounded: the variables whose values are to be rounded; passed: those that are, if what
    they are made of is.
    """

    def __init__(self, function: relax.Function) -> None:
        super().__init__()
        self.rounded, self.passed = set[relax.Var](), set[relax.Var]()
        for binding in reversed(list(bindings_of(function))):
            self._see(binding)
        bound = {b.var for b in bindings_of(function) if not isinstance(b.value, relax.If)}
        self.given = {variable for variable in self.rounded if variable not in bound}
        self.constants: dict[GenericConst, relax.Expr] = {}
        self.copies: dict[relax.Var, relax.Expr] = {}

    def _see(self, binding: relax.Binding) -> None:
        passes = binding.var in self.rounded and _commutes(binding.value)
        if passes:
            self.rounded.discard(binding.var)
            self.passed.add(binding.var)
        if passes or _is_product(binding.value):
            self.rounded |= {x for x in _operands(binding.value) if isinstance(x, relax.Var)}

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        if isinstance(value, relax.Call) and (variable in self.passed or _is_product(value)):
            value = self._reading_rounded(value)
        if variable not in self.rounded:
            return value
        if isinstance(value, relax.Var):
            return self._copy(value)
        return self._rounding(self.emit(value), names_of(value))

    def _reading_rounded(self, call: relax.Call) -> relax.Call:
        args = [self._read(a) if _is_operand(call, i) else a for i, a in enumerate(call.args)]
        changed = relax.Call(call.op, args, call.attrs, call.ty_args)
        return with_names(self._builder.normalize(changed), names_of(call))

    def _read(self, expr: relax.Expr) -> relax.Expr:
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self._read(field) for field in expr.fields])
        if isinstance(expr, GenericConst) and _is_float(expr):
            if expr not in self.constants:
                rounded = expr.value.numpy().astype(numpy_dtype("bfloat16")).astype(np.float32)
                self.constants[expr] = relax.const(rounded, "float32")
            return self.constants[expr]
        return self._copy(expr) if expr in self.given else expr

    def _copy(self, variable: relax.Var) -> relax.Expr:
        """A value that no operator here makes, rounded beside itself."""
        if variable not in self.copies:
            self.copies[variable] = self.emit(self._rounding(variable, ()))
        return self.copies[variable]

    def _rounding(self, value: relax.Expr, names: tuple[str, ...]) -> relax.Call:
        call = self._builder.normalize(round_to(value, "bfloat16", saturate=False))
        return with_names(call, names)

    def _block(self, block: relax.BindingBlock) -> relax.BindingBlock:
        outer, self.copies = self.copies, {}  # read in the block that they are made in
        rewritten = super()._block(block)
        self.copies = outer
        return rewritten


def _rewritten(function: relax.Function) -> relax.Function:
    return _Rounder(function).function(function)


@transform.module_pass(opt_level=0, name="round_operands")
def round_operands(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Apply to every function of ``mod``."""
    return map_functions(split_to_slices(mod), _rewritten)
