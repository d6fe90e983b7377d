"""Drops what nothing reads (exact). One walk from the results back.

TVM's own pass takes a time that grows with the square of what it removes.
"""

from __future__ import annotations

from tvm import IRModule, relax, tirx, transform
from tvm.ir import Op

from motet.passes.graph import (
    bindings_of,
    block_like,
    map_functions,
    symbols_in,
    variables_in,
)
from motet.passes.typing import with_type


def is_pure(value: relax.Expr) -> bool:
    """Whether computing ``value`` has no effect beside its result."""
    if isinstance(value, relax.If):
        return all(is_pure(binding.value) for binding in bindings_in(value))
    if isinstance(value, relax.Call):
        return isinstance(value.op, Op) and bool(value.op.get_attr("FPurity"))
    return True


def bindings_in(choice: relax.If) -> list[relax.Binding]:
    """The bindings of both branches."""
    return [*bindings_of(choice.true_branch), *bindings_of(choice.false_branch)]


def _is_shape_cast(binding: relax.Binding) -> bool:
    """Whether ``binding`` gives the dimensions of a shape to symbols."""
    return isinstance(binding, relax.MatchCast) and isinstance(binding.ty, relax.ShapeType)


class _Remover:
    """Rewrites one function; ``live`` is what is read after the binding at hand.

    A tensor read as a shape counts as read where one of the symbols is used that the shape
    gets: in a type, or as a value. ``symbols`` are those, kept only where it matters.
    """

    def __init__(self) -> None:
        self.live: set[relax.Var] = set()
        self.symbols: set[tirx.Var] | None = None

    def function(self, function: relax.Function) -> relax.Function:
        if any(_is_shape_cast(binding) for binding in bindings_of(function)):
            self.symbols = set()
        return relax.Function(
            function.params,
            self.sequence(function.body),
            function.ret_ty,
            function.is_pure,
            function.attrs,
            function.span,
        )

    def sequence(self, body: relax.SeqExpr) -> relax.SeqExpr:
        self.read(body.body)
        blocks = [self.block(block) for block in reversed(body.blocks[:])]
        kept = [block for block in reversed(blocks) if block.bindings]
        return with_type(relax.SeqExpr(kept, body.body), body.ty)

    def block(self, block: relax.BindingBlock) -> relax.BindingBlock:
        backwards = reversed(block.bindings[:])
        # Lazily: what a binding reads is live before the next one is judged.
        kept = [self.trimmed(binding) for binding in backwards if self.stays(binding)]
        return block_like(block, kept[::-1])

    def read(self, expr: relax.Expr) -> None:
        """Take down what ``expr`` reads."""
        self.live.update(variables_in(expr))
        if self.symbols is not None:
            self.symbols |= symbols_in(expr)

    def stays(self, binding: relax.Binding) -> bool:
        if self.symbols is not None and _is_shape_cast(binding):
            bound = set(relax.analysis.tir_vars_in_type(binding.ty))
            return binding.var in self.live or not bound.isdisjoint(self.symbols)
        if isinstance(binding, relax.MatchCast) or binding.var in self.live:
            return True
        return not is_pure(binding.value)

    def trimmed(self, binding: relax.Binding) -> relax.Binding:
        value = binding.value
        if not isinstance(value, relax.If):
            self.read(value)
            return binding
        branches = (self.sequence(value.true_branch), self.sequence(value.false_branch))
        self.read(value.cond)
        return relax.VarBinding(binding.var, with_type(relax.If(value.cond, *branches), value.ty))


@transform.module_pass(opt_level=0, name="dead_code")
def dead_code(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Apply to every function of ``mod``."""
    return map_functions(mod, lambda function: _Remover().function(function))
