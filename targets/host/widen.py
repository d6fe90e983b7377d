"""Half-precision reductions computed in fp32, as onnxruntime and accelerators do.

A sum of a thousand fp16 values rounded after every addition keeps 7 or 8 bits. The
operands are widened, the operator runs in fp32, and its result is rounded once; the
casts are fused into the kernel and cost no memory.
"""

from __future__ import annotations

from tvm import relax
from tvm.ir import Op
from tvm.relax.expr_functor import PyExprMutator, mutator

HALVES = ("float16", "bfloat16")

_REDUCING = frozenset(
    f"relax.{name}"
    for name in (
        *("mean", "sum", "prod", "std", "variance"),
        *("nn.softmax", "nn.log_softmax"),
        *("nn.layer_norm", "nn.group_norm", "nn.instance_norm", "nn.rms_norm"),
        *(f"nn.avg_pool{rank}d" for rank in (1, 2, 3)),
        *(f"nn.adaptive_avg_pool{rank}d" for rank in (1, 2, 3)),
    )
)


def _is_half(expr: relax.Expr) -> bool:
    return isinstance(expr.ty, relax.TensorType) and str(expr.ty.dtype) in HALVES


@mutator
class _Widener(PyExprMutator):
    def visit_call_(self, call: relax.Call) -> relax.Expr:
        visited = super().visit_call_(call)
        if not isinstance(visited.op, Op) or visited.op.name not in _REDUCING:
            return visited
        if not _is_half(call):
            return visited
        wide = [
            self.builder_.emit(relax.op.astype(a, "float32")) if _is_half(a) else a
            for a in visited.args
        ]
        result = self.builder_.emit(relax.Call(visited.op, wide, visited.attrs, visited.ty_args))
        return relax.op.astype(result, str(call.ty.dtype))


def widen(unit: relax.Function) -> relax.Function:
    """``unit`` with every half-precision reduction in fp32 between two casts."""
    return _Widener().visit_expr(unit)
