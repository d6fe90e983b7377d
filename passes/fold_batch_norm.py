"""Folds inference batch-norm into the convolution before it (exact up to rounding).

Rule 1, ``batch_norm(conv(x, W) [+ b])`` with constant parameters, where nothing else
reads the convolution: with s = gamma / sqrt(variance + epsilon)

    W'[o, ...] = W[o, ...] s[o]        b'[o] = (b[o] - mean[o]) s[o] + beta[o]

Rule 2, any other batch-norm with constant parameters becomes ``x * s + t`` with
t = beta - mean s. Scales are computed in float64 and rounded once.

Source: Jacob et al., CVPR 2018 (arXiv 1712.05877), section 3.2, equation 14.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from tvm import IRModule, relax, transform
from tvm.relax.expr_functor import PyExprMutator, mutator

from motet.passes.graph import constant_array, definitions, map_functions, use_counts
from motet.passes.names import merged_names, with_names
from motet.passes.op_kinds import op_name
from motet.runtime.device import Array

# Output channels lie first in the weights of these (OIW, OIHW, OIDHW).
_CONVOLUTIONS = {
    f"relax.nn.conv{n}d": layout for n, layout in ((1, "OIW"), (2, "OIHW"), (3, "OIDHW"))
}


@dataclass(frozen=True)
class _Scaling:
    """Per channel: ``scale`` and ``shift`` in float64, and the channel axis."""

    scale: Array
    shift: Array
    axis: int

    def along_axis(self, values: Array, rank: int, dtype: str) -> relax.Expr:
        shape = [1] * rank
        shape[self.axis] = -1
        return relax.const(values.reshape(shape).astype(dtype), dtype)


def _scaling(call: relax.Call) -> _Scaling | None:
    arrays = [constant_array(argument) for argument in call.args[1:5]]
    if any(array is None for array in arrays) or call.attrs.training:
        return None
    gamma, beta, mean, variance = (np.asarray(array, dtype=np.float64) for array in arrays)
    scale = gamma / np.sqrt(variance + float(call.attrs.epsilon))
    return _Scaling(scale, beta - mean * scale, int(call.attrs.axis))


@mutator
class _Folder(PyExprMutator):
    """Rewrites ``batch_norm(...)[0]``; the batch-norm itself is dead afterwards."""

    def __init__(self, mod: IRModule, function: relax.Function) -> None:
        super().__init__(mod)
        self.uses: Counter[relax.Var] = use_counts(function)
        self.values = definitions(function)

    def visit_tuple_getitem_(self, item: relax.TupleGetItem) -> relax.Expr:
        norm = self.values.get(item.tuple_value)
        if op_name(norm) != "relax.nn.batch_norm" or item.index != 0:
            return super().visit_tuple_getitem_(item)
        scaling = _scaling(norm)
        if scaling is None:
            return super().visit_tuple_getitem_(item)
        return self._into_convolution(norm, scaling) or self._as_scaling(norm, scaling)

    def _into_convolution(self, norm: relax.Call, scaling: _Scaling) -> relax.Expr | None:
        conv, bias = self._convolution_before(norm.args[0])
        weight = constant_array(conv.args[1]) if conv is not None else None
        if conv is None or weight is None or scaling.axis != 1:
            return None
        rank, dtype = weight.ndim, norm.args[0].ty.dtype
        per_output = scaling.scale.reshape((-1,) + (1,) * (rank - 1))
        shift = scaling.shift + (0.0 if bias is None else bias * scaling.scale)
        data = self.visit_expr(conv.args[0])
        new_weight = relax.const((weight * per_output).astype(weight.dtype))
        names = merged_names((conv, norm))
        new_conv = relax.Call(conv.op, [data, new_weight], conv.attrs, conv.ty_args)
        product = self.builder_.emit(with_names(new_conv, names))
        add = relax.op.add(product, scaling.along_axis(shift, rank, str(dtype)))
        return with_names(add, names)

    def _convolution_before(self, expr: relax.Expr) -> tuple[relax.Call | None, Array | None]:
        """The convolution that ``expr`` comes from and its bias, if nothing else reads it."""
        value, bias = self.values.get(expr), None
        if self.uses[expr] != 1:
            return None, None
        if op_name(value) == "relax.add":
            bias = _channel_bias(value)
            if bias is None or self.uses[value.args[0]] != 1:
                return None, None
            value = self.values.get(value.args[0])
        layout = _CONVOLUTIONS.get(op_name(value))
        if layout is None or value.attrs.kernel_layout != layout:
            return None, None
        return value, bias

    def _as_scaling(self, norm: relax.Call, scaling: _Scaling) -> relax.Expr:
        data = self.visit_expr(norm.args[0])
        rank, dtype, names = int(data.ty.ndim), str(data.ty.dtype), merged_names((norm,))
        scale = scaling.along_axis(scaling.scale, rank, dtype)
        scaled = self.builder_.emit(with_names(relax.op.multiply(data, scale), names))
        shift = scaling.along_axis(scaling.shift, rank, dtype)
        return with_names(relax.op.add(scaled, shift), names)


def _channel_bias(add: relax.Call) -> Array | None:
    """The bias of ``conv + constant`` as [channels], where it is one per channel."""
    values, rank = constant_array(add.args[1]), int(add.ty.ndim)
    if values is None or values.size == 0:
        return None
    shape = (1,) * (rank - values.ndim) + values.shape
    per_channel = all(size == 1 for axis, size in enumerate(shape) if axis != 1)
    return values.reshape(-1).astype(np.float64) if per_channel else None


@transform.module_pass(opt_level=0, name="fold_batch_norm")
def fold_batch_norm(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Apply the rules to every function of ``mod``."""
    folded = map_functions(mod, lambda function: _Folder(mod, function).visit_expr(function))
    return relax.transform.DeadCodeElimination()(folded)
