"""Computes float16 operators of the host in float32, and keeps values between them so.

Instead of ``y = half(f(half(g(half(x)))))`` it computes ``y = half(f(g(float(x))))``:
constants are widened once, inputs where they come in, and results narrowed where something
else reads them: the caller, an operator that is opaque, or one of the array. CPUs multiply
float32, and onnxruntime's provider for them does the same.

A value between operators has more digits than the model states, so this is an approximation
of rounding after every operator, and a closer one of exact arithmetic (what C calls excess
precision, ``FLT_EVAL_METHOD``, ISO C 5.2.4.2.2). A cast to float16 that the model writes still
rounds. Operators that only move data do so in half the bytes where nothing before them
computed.
"""

from __future__ import annotations

from tvm import IRModule, relax, transform
from tvm.ir.expr import GenericConst

from motet.passes.dead_code import dead_code
from motet.passes.graph import bindings_of
from motet.passes.names import HOST, names_of, target_of, with_names
from motet.passes.op_kinds import Kind, kind_of, op_name
from motet.passes.rewrite import Rewriter, rewrite_functions
from motet.passes.split_to_slices import split_to_slices

_HALF, _WIDE = "float16", "float32"

_ROUNDING = frozenset(
    ("motet.decode", "motet.encode", "motet.reinterpret", "motet.round_to",
     "relax.dequantize", "relax.quantize")
)  # fmt: skip
"""Operators that read the bits of their operands, or round by a rule of their type."""


def _is_half(expr: relax.Expr) -> bool:
    return isinstance(expr.ty, relax.TensorType) and str(expr.ty.dtype) == _HALF


def _parts(call: relax.Call) -> list[relax.Expr]:
    """The operands, those in a tuple one by one."""
    whole = [a.fields if isinstance(a, relax.Tuple) else [a] for a in call.args]
    return [part for fields in whole for part in fields]


class _Widener(Rewriter):
    """wide: the float32 value of float16 variables; a constant's is folded by its first reader."""

    def __init__(self) -> None:
        super().__init__()
        self.wide: dict[relax.Var, relax.Expr] = {}
        self.constants: dict[GenericConst, relax.Expr] = {}

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        if isinstance(value, relax.Var) and value in self.wide:
            self.wide[variable] = self.wide[value]
        if not isinstance(value, relax.Call) or not self._is_widened(value):
            return value
        if op_name(value) == "relax.astype":
            return self.widened(value.args[0])
        wide = self._in_float32(value)
        if not _is_half(variable):
            return wide
        result = self.emit(wide)
        half = _cast(result, _HALF, value)
        self.wide[variable] = result
        if not isinstance(variable, relax.DataflowVar):
            return half
        narrowed = self.emit(half)
        self.wide[narrowed] = result
        return narrowed

    def _is_widened(self, call: relax.Call) -> bool:
        halves = [part for part in _parts(call) if _is_half(part)]
        if not halves or target_of(call) != HOST or op_name(call) in _ROUNDING:
            return False
        is_computed = any(half in self.wide for half in halves)
        if op_name(call) == "relax.astype":
            return is_computed and str(call.ty.dtype) == _WIDE
        if str(getattr(call.attrs, "out_dtype", "") or "") == _HALF:
            return False
        kind = kind_of(call)
        if kind in (Kind.INJECTIVE, Kind.VIEW):
            return is_computed
        return kind is not Kind.OPAQUE and isinstance(call.ty, relax.TensorType)

    def _in_float32(self, call: relax.Call) -> relax.Call:
        args = [self.widened(argument) for argument in call.args]
        wide = self._builder.normalize(relax.Call(call.op, args, call.attrs, call.ty_args))
        return with_names(wide, names_of(call))

    def widened(self, expr: relax.Expr) -> relax.Expr:
        """``expr`` in float32 where it is float16; a tuple with its fields so."""
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self.widened(field) for field in expr.fields])
        if not _is_half(expr):
            return expr
        if isinstance(expr, GenericConst):
            if expr not in self.constants:
                values = expr.value.numpy().astype(_WIDE)
                self.constants[expr] = relax.const(values, _WIDE)
            return self.constants[expr]
        if expr not in self.wide:
            self.wide[expr] = self.emit(relax.op.astype(expr, _WIDE))
        return self.wide[expr]

    def _sequence(self, body: relax.SeqExpr) -> relax.SeqExpr:
        known = dict(self.wide)
        sequence = super()._sequence(body)
        self.wide = known  # what a branch computed is not seen outside it
        return sequence

    def _block(self, block: relax.BindingBlock) -> relax.BindingBlock:
        rewritten = super()._block(block)
        self.wide = {
            half: wide
            for half, wide in self.wide.items()
            if not isinstance(wide, relax.DataflowVar)
        }
        return rewritten


def _cast(value: relax.Expr, dtype: str, origin: relax.Call) -> relax.Call:
    """``value`` in ``dtype``, named like ``origin``; the emitter gives it its type."""
    cast = relax.op.astype(value, dtype)
    return relax.Call(cast.op, cast.args, cast.attrs, cast.ty_args, origin.span)


@transform.module_pass(opt_level=0, name="widen_halves")
def widen_halves(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Apply to every function of ``mod``."""
    if not any(_has_halves(function) for _, function in mod.functions_items()):
        return mod
    return dead_code(rewrite_functions(split_to_slices(mod), _Widener))


def _has_halves(function: object) -> bool:
    return isinstance(function, relax.Function) and any(
        isinstance(b.value, relax.Call) and any(_is_half(part) for part in _parts(b.value))
        for b in bindings_of(function)
    )
