"""Turns inference batch-norm into arithmetic (exact up to rounding).

    scale = gamma / sqrt(variance + epsilon)        y = x scale + (beta - mean scale)

Scale and shift have one value per channel, so only one multiplication and one
addition touch every element. For parameters that are computed; with constant ones
``fold_batch_norm`` does better. The running statistics pass through unchanged.
Batch-norm in training mode is left alone.
"""

from __future__ import annotations

import numpy as np
from tvm import IRModule, relax, transform

from motet.passes.names import names_of, target_of, with_names
from motet.passes.op_kinds import op_name
from motet.passes.rewrite import Rewriter, rewrite_functions


def is_inference_norm(expr: relax.Expr | None) -> bool:
    """Whether ``expr`` is a batch-norm that uses the running statistics."""
    return expr is not None and op_name(expr) == "relax.nn.batch_norm" and not expr.attrs.training


class _Decomposer(Rewriter):
    """Binds the three results where the batch-norm stood; its items read them."""

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        if not is_inference_norm(value):
            return value
        return relax.Tuple([self.normalized(value), value.args[3], value.args[4]])

    def normalized(self, norm: relax.Call) -> relax.Expr:
        names, target = names_of(norm), target_of(norm)

        def emit(call: relax.Call) -> relax.Var:
            return self.emit(with_names(call, names, target))

        data, gamma, beta, mean, variance = norm.args
        attrs, dtype = norm.attrs, str(norm.args[4].ty.dtype)
        epsilon = relax.const(np.array(attrs.epsilon, dtype), dtype)
        deviation = emit(relax.op.sqrt(emit(relax.op.add(variance, epsilon))))
        one = relax.const(np.ones((), dtype), dtype)
        scale = emit(relax.op.divide(gamma if attrs.scale else one, deviation))
        shift = emit(relax.op.multiply(mean, scale))
        zero = relax.const(np.zeros((), dtype), dtype)
        shift = emit(relax.op.subtract(beta if attrs.center else zero, shift))
        axis, rank = int(attrs.axis), int(data.ty.ndim)
        others = [other for other in range(rank) if other != axis % rank]
        if others:
            scale, shift = (emit(relax.op.expand_dims(v, others)) for v in (scale, shift))
        return emit(relax.op.add(emit(relax.op.multiply(data, scale)), shift))


@transform.module_pass(opt_level=0, name="decompose_batch_norm")
def decompose_batch_norm(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Apply to every function of ``mod``."""
    return rewrite_functions(mod, _Decomposer)
