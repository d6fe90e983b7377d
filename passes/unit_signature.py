"""What makes two units equal for costs: operators, attributes, shapes and types, no names.

Values of constants do not count, single values included. The key is text of the calls in
order, operands numbered as they first appear, hashed: equal in every process.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from tvm import relax
from tvm.ir.expr import GenericConst

from motet.passes.graph import bindings_of
from motet.passes.op_kinds import op_name


class _Writer:
    """Numbers variables and symbols as they come."""

    def __init__(self) -> None:
        self.variables: dict[relax.Var, str] = {}
        self.symbols: dict[str, str] = {}

    def binding(self, binding: relax.Binding) -> str:
        value = self.value(binding.value)
        self.variables[binding.var] = f"v{len(self.variables)}"
        return f"{value} -> {self.type_of(binding.var)}"

    def value(self, value: relax.Expr) -> str:
        if isinstance(value, relax.Call):
            operands = ", ".join(self.operand(argument) for argument in value.args[:])
            attributes = repr(value.attrs) if value.attrs is not None else ""
            return f"{op_name(value) or value.op}({operands}){attributes}"
        if isinstance(value, relax.If):
            branches = (value.true_branch, value.false_branch)
            inner = "; ".join(self.binding(b) for branch in branches for b in bindings_of(branch))
            return f"if({self.operand(value.cond)}; {inner})"
        return f"{type(value).__name__}({self.operand(value)})"

    def operand(self, expr: relax.Expr) -> str:
        if isinstance(expr, relax.Var):
            known = expr in self.variables
            name = self.variables.setdefault(expr, f"p{len(self.variables)}")
            return name if known else f"{name}: {self.type_of(expr)}"
        if isinstance(expr, GenericConst):
            return f"constant {self.type_of(expr)}"
        if isinstance(expr, relax.Tuple):
            return f"({', '.join(self.operand(item) for item in expr.fields)})"
        if isinstance(expr, relax.TupleGetItem):
            return f"{self.operand(expr.tuple_value)}[{expr.index}]"
        return self.numbered(expr)

    def type_of(self, expr: relax.Expr) -> str:
        return self.numbered(expr.ty)

    def numbered(self, printed: object) -> str:
        """The text of a type or a dimension, its symbols by number."""
        for symbol in _symbols(printed):
            self.symbols.setdefault(symbol, f"s{len(self.symbols)}")
        return _WORD.sub(lambda found: self.symbols.get(found[0], found[0]), str(printed))


_WORD = re.compile(r"\b[A-Za-z_]\w*\b")


def _symbols(printed: object) -> list[str]:
    if not isinstance(printed, relax.Type):
        return []
    return [str(symbol.name) for symbol in relax.analysis.tir_vars_in_type(printed)]


def signature_of(bindings: Sequence[relax.Binding]) -> str:
    """32 hexadecimal digits; equal for units that compute alike on tensors of equal types."""
    writer = _Writer()
    text = "\n".join(writer.binding(binding) for binding in bindings)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
