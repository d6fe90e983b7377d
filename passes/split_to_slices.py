"""Turns splits into slices, one per part that is read (exact).

The array has no values of several tensors; a slice that is a stretch of one needs no copy
there. A split of an open size, or one that something else than its parts reads, stays.
"""

from __future__ import annotations

from tvm import IRModule, relax, transform
from tvm.tirx import IntImm

from motet.passes.graph import static_shape
from motet.passes.names import names_of, target_of, with_names
from motet.passes.op_kinds import op_name
from motet.passes.rewrite import MatchingRewriter, rewrite_functions


class _Slicer(MatchingRewriter):
    """Splits whose parts are all replaced are left behind, dead."""

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        if not isinstance(value, relax.TupleGetItem):
            return value
        whole = value.tuple_value
        split = self.values.get(whole) if isinstance(whole, relax.Var) else None
        if split is None or op_name(split) != "relax.split":
            return value
        bounds = _bounds(split)
        if bounds is None:
            return value
        axis, ends = int(split.attrs.axis), bounds[int(value.index)]
        data = self.read(split.args[0])
        sliced = relax.op.strided_slice(data, [axis], [ends[0]], [ends[1]])
        return with_names(self._builder.normalize(sliced), names_of(split), target_of(split))


def _bounds(split: relax.Call) -> list[tuple[int, int]] | None:
    """Where each part begins and ends; None where that is not known."""
    shape = static_shape(split.args[0])
    if shape is None:
        return None
    size, cuts = shape[int(split.attrs.axis)], split.attrs.indices_or_sections
    if isinstance(cuts, (int, IntImm)):
        part = -(-size // int(cuts))
        starts = [part * i for i in range(int(cuts))]
    else:
        starts = [0, *(int(cut) for cut in cuts)]
    ends = [*starts[1:], size]
    known = all(0 <= begin < end <= size for begin, end in zip(starts, ends, strict=True))
    return list(zip(starts, ends, strict=True)) if known else None


@transform.module_pass(opt_level=0, name="split_to_slices")
def split_to_slices(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Apply to every function of ``mod``."""
    return rewrite_functions(mod, _Slicer)
