"""Rewriting a function binding by binding, in order.

TVM's ``PyExprMutator`` visits every node of every expression through Python and
normalises it anew; on a function of some thousand calls that takes seconds. Here only
what changes is built again: a ``Rewriter`` walks the bindings, puts replaced variables
in place, and asks its subclass what becomes of each value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tvm import IRModule, relax
from tvm.ir.expr import GenericConst
from tvm_ffi import structural_equal

from motet.passes.graph import block_like, definitions, map_functions, use_counts
from motet.passes.typing import with_type


class Rewriter:
    """Base of rewrites. One instance rewrites one function; ``value`` is overridden."""

    def __init__(self) -> None:
        self._replaced: dict[relax.Var, relax.Expr] = {}
        self._builder = relax.BlockBuilder()
        self._bindings: list[relax.Binding] = []
        self._in_dataflow = False

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        """What ``variable`` is bound to instead of ``value``; both have the same type.

        Replaced variables are already in place in ``value``. A constant or a variable as
        the answer is put wherever ``variable`` was read.
        """
        raise NotImplementedError

    def function(self, function: relax.Function) -> relax.Function:
        """``function`` rewritten."""
        body = self._sequence(function.body)
        return relax.Function(
            function.params, body, body.ty, function.is_pure, function.attrs, function.span
        )

    def emit(self, call: relax.Call) -> relax.Var:
        """Bind ``call`` to a new variable, before the binding that is being rewritten."""
        call = self._builder.normalize(call)
        kind = relax.DataflowVar if self._in_dataflow else relax.Var
        variable = kind("lv", call.ty)
        self._bindings.append(relax.VarBinding(variable, call))
        return variable

    def read(self, expr: relax.Expr) -> relax.Expr:
        """``expr`` with replaced variables in place; the same object where nothing is."""
        if isinstance(expr, relax.Var):
            return self._replaced.get(expr, expr)
        if isinstance(expr, relax.Tuple):
            before = expr.fields[:]
            fields = [self.read(item) for item in before]
            return relax.Tuple(fields) if _differ(fields, before) else expr
        if isinstance(expr, relax.Call):
            before = expr.args[:]
            args = [self.read(argument) for argument in before]
            if not _differ(args, before):
                return expr
            changed = relax.Call(expr.op, args, expr.attrs, expr.ty_args, expr.span)
            if _same_types(args, before):
                changed = with_type(changed, expr.ty)
            return self._builder.normalize(changed)
        if isinstance(expr, relax.TupleGetItem):
            whole = self.read(expr.tuple_value)
            if whole.same_as(expr.tuple_value):
                return expr
            return self._builder.normalize(relax.TupleGetItem(whole, expr.index))
        return expr

    def _sequence(self, body: relax.SeqExpr) -> relax.SeqExpr:
        blocks = [self._block(block) for block in body.blocks]
        result = self._typed(self.read(body.body))
        kept = [block for block in blocks if block.bindings]
        return with_type(relax.SeqExpr(kept, result), result.ty)

    def _block(self, block: relax.BindingBlock) -> relax.BindingBlock:
        outer = self._bindings, self._in_dataflow
        self._bindings = []
        self._in_dataflow = isinstance(block, relax.DataflowBlock)
        for binding in block.bindings[:]:
            self._binding(binding)
        rewritten = block_like(block, self._bindings)
        self._bindings, self._in_dataflow = outer
        return rewritten

    def _binding(self, binding: relax.Binding) -> None:
        old = binding.value
        if isinstance(old, relax.If):
            new: relax.Expr = self._choice(old)
        elif isinstance(binding, relax.MatchCast):
            self._bindings.append(
                relax.MatchCast(binding.var, self._typed(self.read(old)), binding.ty)
            )
            return
        else:
            new = self.value(binding.var, self.read(old))
        if new.same_as(old):
            self._bindings.append(binding)
        else:
            self._bind(binding.var, self._typed(new))

    def _bind(self, variable: relax.Var, value: relax.Expr) -> None:
        """Bind ``value``, or put it in the place of ``variable`` where it is a leaf.

        A variable of a dataflow block cannot be read outside it: the output of the block
        stays bound to it.
        """
        if _may_replace(variable, value):
            self._replaced[variable] = value
            return
        if not structural_equal(value.ty, variable.ty):
            typed = type(variable)(variable.name, value.ty)
            self._replaced[variable] = typed
            variable = typed
        self._bindings.append(relax.VarBinding(variable, value))

    def _choice(self, choice: relax.If) -> relax.Expr:
        branches = [self._sequence(b) for b in (choice.true_branch, choice.false_branch)]
        return self._chosen(choice, branches)

    def _chosen(self, choice: relax.If, branches: list[relax.SeqExpr]) -> relax.If:
        return with_type(relax.If(self.read(choice.cond), *branches), choice.ty)

    def _typed(self, expr: relax.Expr) -> relax.Expr:
        return self._builder.normalize(expr)


class MatchingRewriter(Rewriter):
    """A rewrite that looks behind the variables that a value reads.

    values: what every variable of the function is bound to, before the rewrite. uses: how
    often it is read. What only replaced values read is left behind, dead.
    """

    def __init__(self) -> None:
        super().__init__()
        self.values: Mapping[relax.Var, relax.Expr] = {}
        self.uses: Mapping[relax.Var, int] = {}

    def function(self, function: relax.Function) -> relax.Function:
        """``function`` rewritten."""
        self.values, self.uses = definitions(function), use_counts(function)
        return super().function(function)


def _differ(new: list[relax.Expr], old: list[relax.Expr]) -> bool:
    pairs = zip(new, old, strict=True)
    return any(one is not other and not one.same_as(other) for one, other in pairs)


def _same_types(new: list[relax.Expr], old: list[relax.Expr]) -> bool:
    """Whether calls of them have one type: what is new are variables of the types of old ones.

    Inference, which may read the values of constants, need not be asked again: it takes a
    millisecond for a convolution.
    """
    return all(
        one is other
        or (
            isinstance(one, relax.Var)
            and isinstance(other, relax.Var)
            and structural_equal(one.ty, other.ty)
        )
        for one, other in zip(new, old, strict=True)
    )


def _may_replace(variable: relax.Var, value: relax.Expr) -> bool:
    if isinstance(value, relax.DataflowVar):
        return isinstance(variable, relax.DataflowVar)
    return isinstance(value, (relax.Var, GenericConst, relax.ShapeExpr))


def rewrite_functions(mod: IRModule, rewriter: Callable[[], Rewriter]) -> IRModule:
    """A new module with every Relax function rewritten by a new ``rewriter``."""
    return map_functions(mod, lambda function: rewriter().function(function))
