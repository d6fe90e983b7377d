"""Elementwise calls that a convolution may compute as it reads its input."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax

from motet.passes.graph import static_shape
from motet.passes.names import HOST, target_of
from motet.passes.op_kinds import op_name

_CHEAP = frozenset(
    ("relax.add", "relax.subtract", "relax.multiply", "relax.maximum", "relax.minimum",
     "relax.negative", "relax.clip", "relax.nn.relu", "relax.nn.leakyrelu")
)  # fmt: skip


def is_blocked_convolution(call: relax.Expr) -> bool:
    """Whether ``call`` is a convolution of the host whose input comes in blocks of channels."""
    return (
        op_name(call) == "relax.nn.conv2d"
        and target_of(call) == HOST
        and str(call.attrs.data_layout) not in ("NCHW", "NHWC")
    )


def is_cheap_map(calls: Sequence[relax.Call], result: relax.Var) -> bool:
    """Whether ``calls`` are arithmetic that maps one tensor of the size of ``result``, whose
    other operands have a value per channel or one for all.
    """
    whole = static_shape(result)
    if whole is None or not all(op_name(call) in _CHEAP for call in calls):
        return False
    outer = 0
    for call in calls:
        for operand in call.args:
            shape = static_shape(operand) if isinstance(operand.ty, relax.TensorType) else ()
            if shape is None:
                return False
            outer += shape == whole
    # Between n calls n - 1 tensors of that size pass; one more comes from outside.
    return outer == len(calls)
