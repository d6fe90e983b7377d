"""What a span costs as it is, and merged: by ``unit_cost.estimate`` of the units of either.

A span is looked at alone: what it reads comes from outside. Where sizes are open a batch is
taken as 1 and any other as ``OPEN``: what counts is which of two is quicker.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum, inf

from tvm import IRModule, relax, tirx, transform
from tvm.relax.utils import copy_with_new_vars

from motet.passes.canonicalize import decompose
from motet.passes.dead_code import dead_code
from motet.passes.fold_batch_norm import fold_batch_norm
from motet.passes.graph import variables_in
from motet.passes.join_gelu import join_gelu
from motet.passes.join_silu import join_silu
from motet.passes.merging.convolution import Conv
from motet.passes.merging.emit import emit_merged
from motet.passes.merging.spans import Merged, Span
from motet.passes.unit_cost import Target, estimate
from motet.passes.unit_signature import signature_of
from motet.passes.unit_workloads import function_of
from motet.passes.units import Unit, units_of
from motet.runtime.errors import CompileError

OPEN = 64
_ENTRY = "span"
_NEUTRAL = (fold_batch_norm, decompose, join_silu, join_gelu, dead_code)


class SpanCosts:
    """Seconds of spans on one target; equal geometries are estimated once.

    values: what the variables of the spans' function are bound to.
    """

    def __init__(self, target: Target, values: Mapping[relax.Var, relax.Expr]) -> None:
        self._target, self._values = target, values
        self._known: dict[object, float] = {}
        self._units: dict[str, float] = {}

    def as_it_is(self, span: Span) -> float:
        """Seconds of all that the span computes now, activations included."""
        bindings = slice_of(self._values, span.result, span.source)
        key = signature_of(bindings)
        if key not in self._known:
            self._known[key] = self._seconds(function_of(bindings))
        return self._known[key]

    def merged(self, span: Span, merged: Merged) -> float:
        """Seconds of the convolution in its place, and of its strips."""
        layers = tuple(map(_key, merged.layers))
        key = str(span.source.ty), _key(merged.conv), merged.strip, layers
        if key not in self._known:
            self._known[key] = self._seconds(merged_function(span, merged))
        return self._known[key]

    def of_function(self, function: relax.Function) -> float:
        """Seconds of a whole entry function as it is."""
        return self._seconds(copy_with_new_vars(function))

    def _seconds(self, function: relax.Function) -> float:
        """Inf where the target cannot run it, or a weight is too large for it."""
        module = IRModule({_ENTRY: function})
        sizes = _sizes(function)
        if sizes:
            module = relax.transform.BindSymbolicVars(sizes, _ENTRY)(module)
        module = transform.Sequential(list(_NEUTRAL))(module)
        try:
            return fsum(map(self._unit, units_of(module[_ENTRY], _ENTRY).units))
        except CompileError:
            return inf

    def _unit(self, unit: Unit) -> float:
        if unit.signature not in self._units:
            self._units[unit.signature] = estimate(unit, self._target).seconds
        return self._units[unit.signature]


def _key(conv: Conv) -> object:
    return (
        conv.weight.shape, conv.stride, conv.padding, conv.dilation, conv.groups,
        conv.bias.shape if conv.has_bias else (),
    )  # fmt: skip


def _sizes(function: relax.Function) -> dict[object, int]:
    """A size for each open dimension of the parameters."""
    found: dict[object, int] = {}
    for param in function.params:
        values = list(getattr(param.ty.shape, "values", None) or ())
        batch = set(tirx.analysis.undefined_vars(values[0])) if values else set()
        for symbol in relax.analysis.tir_vars_in_type(param.ty):
            found.setdefault(symbol, 1 if symbol in batch else OPEN)
    return found


def slice_of(
    values: Mapping[relax.Var, relax.Expr], result: relax.Var, source: relax.Expr
) -> list[relax.Binding]:
    """The bindings that compute ``result`` from ``source``, in order."""
    order: dict[relax.Var, None] = {}

    def visit(variable: relax.Var) -> None:
        if variable in order or variable.same_as(source) or variable not in values:
            return
        for read in variables_in(values[variable]):
            visit(read)
        order[variable] = None

    visit(result)
    return [relax.VarBinding(variable, values[variable]) for variable in order]


def merged_function(span: Span, merged: Merged) -> relax.Function:
    """A function of the span's source that computes its result by ``merged``."""
    builder = relax.BlockBuilder()
    data = relax.Var("data", span.source.ty)
    with builder.function(_ENTRY, [data]):
        with builder.dataflow():
            result = emit_merged(builder.emit, data, span, merged)
            output = builder.emit_output(result)
        builder.emit_func_output(output)
    return builder.get()[_ENTRY]
