"""Computes equal calls once (exact), without losing a name.

Two calls are equal when they have the same operator, attributes and operands, up to
earlier merges; the later one reads the result of the first. TVM's own pass keeps the
ONNX names of one call only; here the call that stays carries the names of all.
A branch of an ``If`` sees what was computed before the ``If``, never the reverse.
"""

from __future__ import annotations

from collections.abc import Hashable

from tvm import IRModule, relax, transform
from tvm.ir.expr import GenericConst
from tvm_ffi import structural_equal, structural_hash

from motet.passes.dead_code import is_pure
from motet.passes.graph import map_functions
from motet.passes.names import merged_names, names_of, target_of, with_names
from motet.passes.rewrite import Rewriter

_Known = dict[Hashable, list[tuple[relax.Var, relax.Expr]]]


def _operand_key(expr: relax.Expr) -> Hashable:
    """Equal for equal operands; weights are told apart only when all else is equal."""
    if isinstance(expr, relax.Var):
        variable: Hashable = expr
        return variable
    if isinstance(expr, relax.Tuple):
        return tuple(_operand_key(field) for field in expr.fields[:])
    if isinstance(expr, GenericConst):
        return str(expr.ty)
    return int(structural_hash(expr))


def _key(expr: relax.Expr) -> Hashable:
    if isinstance(expr, relax.TupleGetItem):
        return expr.tuple_value, int(expr.index)
    operands = tuple(_operand_key(argument) for argument in expr.args[:])
    return str(expr.op.name), operands, int(structural_hash(expr.attrs))


class _Sharer(Rewriter):
    def __init__(self) -> None:
        super().__init__()
        self.known: _Known = {}
        self.names: dict[relax.Var, tuple[str, ...]] = {}

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        if not isinstance(value, (relax.Call, relax.TupleGetItem)) or not is_pure(value):
            return value
        bucket = self.known.setdefault(_key(value), [])
        for variable_before, call in bucket:
            if structural_equal(call, value):
                earlier = self.read(variable_before)
                known = self.names.get(earlier, names_of(call))
                self.names[earlier] = tuple(dict.fromkeys((*known, *merged_names((value,)))))
                return earlier
        bucket.append((variable, value))
        return value

    def _block(self, block: relax.BindingBlock) -> relax.BindingBlock:
        shared = super()._block(block)
        if isinstance(block, relax.DataflowBlock):
            self.known = {
                key: [(v, call) for v, call in bucket if not isinstance(v, relax.DataflowVar)]
                for key, bucket in self.known.items()
            }
        return shared

    def _choice(self, choice: relax.If) -> relax.Expr:
        outer = {key: list(bucket) for key, bucket in self.known.items()}
        branches = []
        for branch in (choice.true_branch, choice.false_branch):
            self.known = {key: list(bucket) for key, bucket in outer.items()}
            branches.append(self._sequence(branch))
        self.known = outer
        return self._chosen(choice, branches)


class _Namer(Rewriter):
    """Gives the calls that stayed all their names."""

    def __init__(self, names: dict[relax.Var, tuple[str, ...]]) -> None:
        super().__init__()
        self.names = names

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        if variable not in self.names or not isinstance(value, relax.Call):
            return value
        return with_names(value, self.names[variable], target_of(value))


def _share(function: relax.Function) -> relax.Function:
    sharer = _Sharer()
    shared = sharer.function(function)
    return _Namer(sharer.names).function(shared) if sharer.names else shared


@transform.module_pass(opt_level=0, name="common_subexpressions")
def common_subexpressions(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Apply to every function of ``mod``."""
    return map_functions(mod, _share)
