"""Turns gathers at one constant place into slices (exact).

Exporters write ``qkv[0]``, ``qkv[1]``, ``qkv[2]`` as gathers with a constant index. A slice
that is a stretch of memory needs no copy.
"""

from __future__ import annotations

from tvm import IRModule, relax, transform

from motet.passes.graph import constant_array, static_shape
from motet.passes.names import names_of, target_of, with_names
from motet.passes.op_kinds import op_name
from motet.passes.rewrite import Rewriter, rewrite_functions


class _Slicer(Rewriter):
    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        if op_name(value) != "relax.take":
            return value
        shape, place = static_shape(value.args[0]), constant_array(value.args[1])
        if shape is None or place is None or place.size != 1 or value.attrs.axis is None:
            return value
        axis = int(value.attrs.axis) % len(shape)
        index = int(place.reshape(()))
        index += shape[axis] if index < 0 else 0
        if not 0 <= index < shape[axis]:
            return value
        names, target = names_of(value), target_of(value)
        cut = relax.op.strided_slice(value.args[0], [axis], [index], [index + 1])
        whole = self.emit(with_names(cut, names, target))
        return with_names(self._typed(relax.op.reshape(whole, value.ty.shape)), names, target)


@transform.module_pass(opt_level=0, name="take_to_slices")
def take_to_slices(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Apply to every function of ``mod``."""
    return rewrite_functions(mod, _Slicer)
