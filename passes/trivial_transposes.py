"""Turns transposes that move no data into reshapes, which cost nothing (exact).

A ``permute_dims`` keeps every value in its place in memory where the axes of more than one
value stay in their order: [1, C, 1, 1] to [1, 1, 1, C], as between a pooled image and a
matrix product. Axes of an open size count as more than one value.
"""

from __future__ import annotations

from tvm import IRModule, relax, transform
from tvm.tirx import IntImm

from motet.passes.names import names_of, target_of, with_names
from motet.passes.op_kinds import op_name
from motet.passes.rewrite import Rewriter, rewrite_functions


class _Reshaper(Rewriter):
    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        if op_name(value) != "relax.permute_dims" or not _moves_nothing(value):
            return value
        reshaped = relax.op.reshape(value.args[0], value.ty.shape)
        return with_names(self._builder.normalize(reshaped), names_of(value), target_of(value))


def _moves_nothing(call: relax.Call) -> bool:
    source = call.args[0].ty
    if not isinstance(source.shape, relax.ShapeExpr):
        return False
    sizes = list(source.shape.values)
    axes = call.attrs.axes
    order = list(range(len(sizes)))[::-1] if axes is None else [int(a) % len(sizes) for a in axes]
    moved = [axis for axis in order if not _is_one(sizes[axis])]
    return moved == sorted(moved)


def _is_one(size: object) -> bool:
    return isinstance(size, IntImm) and int(size) == 1


@transform.module_pass(opt_level=0, name="trivial_transposes")
def trivial_transposes(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Apply to every function of ``mod``."""
    return rewrite_functions(mod, _Reshaper)
