"""Joins x (1 + erf(x / sqrt 2)) / 2, as exporters write it out, into one ``gelu``.

The factors may stand in any order, and the division may be a multiplication. Exact up to
rounding: the two constants must be the float32 ones, to 1e-6. As one call it is an activation,
which fuses behind a matrix product, on the array too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from tvm import IRModule, relax, transform

from motet.passes.graph import constant_array
from motet.passes.names import merged_names, target_of, with_names
from motet.passes.op_kinds import op_name
from motet.passes.rewrite import MatchingRewriter, rewrite_functions


class _Joiner(MatchingRewriter):
    """What the joined calls read is left behind, dead."""

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        if op_name(value) != "relax.multiply":
            return value
        matched: list[relax.Expr] = []
        data = self.gated(value, matched)
        if data is None:
            return value
        joined = self._builder.normalize(relax.op.nn.gelu(self.read(data)))
        return with_names(joined, merged_names([*reversed(matched), value]), target_of(value))

    def gated(self, product: relax.Call, matched: list[relax.Expr]) -> relax.Var | None:
        """X where ``product`` is its gelu; ``matched`` takes the calls inside, last first."""
        factors = list(self.factors(product, matched))
        half = [factor for factor in factors if _is(factor, 0.5)]
        others = [factor for factor in factors if not _is(factor, 0.5)]
        if len(half) != 1 or len(others) != 2:
            return None
        for gate, data in (others, reversed(others)):
            if isinstance(data, relax.Var) and self.is_gate(gate, data, matched):
                return data
        return None

    def factors(self, product: relax.Call, matched: list[relax.Expr]) -> Iterator[relax.Expr]:
        for factor in product.args:
            inner = self.defined(factor)
            if op_name(inner) == "relax.multiply":
                matched.append(inner)
                yield from inner.args
            else:
                yield factor

    def is_gate(self, gate: relax.Expr, data: relax.Var, matched: list[relax.Expr]) -> bool:
        """Whether ``gate`` is 1 + erf(data / sqrt 2)."""
        total = self.defined(gate)
        if op_name(total) != "relax.add" or not any(_is(term, 1.0) for term in total.args):
            return False
        error = self.defined(next(term for term in total.args if not _is(term, 1.0)))
        if op_name(error) != "relax.erf":
            return False
        scaled = self.defined(error.args[0])
        matched += [total, error, scaled]
        if op_name(scaled) == "relax.divide":
            return bool(scaled.args[0].same_as(data)) and _is(scaled.args[1], math.sqrt(2))
        if op_name(scaled) != "relax.multiply":
            return False
        has_data = any(factor.same_as(data) for factor in scaled.args)
        return has_data and any(_is(factor, math.sqrt(0.5)) for factor in scaled.args)

    def defined(self, expr: relax.Expr) -> relax.Expr:
        """The call that a variable is bound to; any other expression as it is."""
        return self.values.get(expr, expr) if isinstance(expr, relax.Var) else expr


def _is(expr: relax.Expr, number: float) -> bool:
    """Whether ``expr`` is one constant value near ``number``."""
    array = constant_array(expr)
    if array is None or array.size != 1 or array.dtype.kind != "f" or array.ndim > 1:
        return False
    return math.isclose(float(array.reshape(())), number, rel_tol=1e-6)


@transform.module_pass(opt_level=0, name="join_gelu")
def join_gelu(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Apply to every function of ``mod``."""
    return rewrite_functions(mod, _Joiner)
