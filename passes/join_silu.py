"""Joins x sigmoid(x) into one ``silu`` (exact up to rounding).

ONNX had no operator for it until Swish, so most networks write it in two. Where nothing else
reads the sigmoid, the two become one call: an activation, which fuses behind a convolution,
where the product of two values that both come from it does not.
"""

from __future__ import annotations

from tvm import IRModule, relax, transform

from motet.passes.names import merged_names, target_of, with_names
from motet.passes.op_kinds import op_name
from motet.passes.rewrite import MatchingRewriter, rewrite_functions


class _Joiner(MatchingRewriter):
    """The sigmoid is left behind, dead."""

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        if op_name(value) != "relax.multiply":
            return value
        for gate, data in (value.args, reversed(value.args)):
            sigmoid = self.values.get(gate) if isinstance(gate, relax.Var) else None
            if sigmoid is None or op_name(sigmoid) != "relax.sigmoid" or self.uses[gate] != 1:
                continue
            if self.read(sigmoid.args[0]).same_as(data):
                joined = self._builder.normalize(relax.op.nn.silu(data))
                return with_names(joined, merged_names([sigmoid, value]), target_of(value))
        return value


@transform.module_pass(opt_level=0, name="join_silu")
def join_silu(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Apply to every function of ``mod``."""
    return rewrite_functions(mod, _Joiner)
