"""How each Relax operator computes, which decides what may be fused with what.

The kinds follow TVM's operator patterns (Chen et al., OSDI 2018, section 3):
elementwise operators compute an output element from the elements at its place,
injective ones from one element elsewhere, anchors from many.
"""

from __future__ import annotations

from enum import Enum

from tvm import relax
from tvm.ir import Op

from motet.targets.host.user_kernel import kernel_name, kernel_of


class Kind(Enum):
    """What an operator may be fused with."""

    ELEMENTWISE = "elementwise"
    """Joins the unit of an operand of its own shape."""
    INJECTIVE = "injective"
    """Starts a unit; elementwise operators may follow."""
    ANCHOR = "anchor"
    """Starts a unit: convolution, product, pooling, reduction, normalisation."""
    VIEW = "view"
    """Moves no data: the same bytes in another shape."""
    OPAQUE = "opaque"
    """A unit of its own."""


_ELEMENTWISE = """
    abs acos acosh add asin asinh astype atan atanh bitwise_and bitwise_not bitwise_or
    bitwise_xor ceil clip cos cosh dequantize divide equal erf exp floor floor_divide floor_mod
    greater greater_equal isfinite isinf isnan left_shift less less_equal log logical_and
    logical_not logical_or logical_xor maximum minimum mod multiply negative nn.gelu nn.gelu_tanh
    nn.leakyrelu nn.prelu nn.relu nn.selu nn.silu nn.softplus not_equal power
    quantize right_shift round rsqrt sigmoid sign sin sinh sqrt square subtract tan tanh trunc where
"""
_INJECTIVE = """
    broadcast_to concat flip gather_elements gather_nd image.resize2d nn.pad permute_dims
    repeat stack strided_slice take tile
"""
_ANCHOR = """
    matmul max mean min nn.adaptive_avg_pool1d nn.adaptive_avg_pool2d nn.adaptive_avg_pool3d
    nn.avg_pool1d nn.avg_pool2d nn.avg_pool3d nn.conv1d nn.conv1d_transpose
    nn.conv2d nn.conv2d_transpose nn.conv3d nn.conv3d_transpose nn.group_norm nn.instance_norm
    nn.layer_norm nn.log_softmax nn.max_pool1d nn.max_pool2d nn.max_pool3d nn.rms_norm
    nn.softmax prod std sum variance
"""
_VIEW = "expand_dims flatten nn.batch_flatten reshape squeeze"

KINDS: dict[str, Kind] = {
    f"relax.{name}": kind
    for kind, names in (
        (Kind.ELEMENTWISE, _ELEMENTWISE),
        (Kind.INJECTIVE, _INJECTIVE),
        (Kind.ANCHOR, _ANCHOR),
        (Kind.VIEW, _VIEW),
    )
    for name in names.split()
} | {
    f"motet.{name}": kind
    for kind, names in (
        (Kind.ELEMENTWISE, "decode encode reinterpret round_to"),
        (Kind.ANCHOR, "vector_conv vector_matmul"),
    )
    for name in names.split()
}


def op_name(expr: relax.Expr) -> str:
    """``relax.nn.conv2d`` for a call of that operator, else an empty string."""
    if isinstance(expr, relax.Call) and isinstance(expr.op, Op):
        return str(expr.op.name)
    return ""


def kind_of(expr: relax.Expr) -> Kind:
    """The kind of an expression; what is not a call of a known operator is opaque."""
    return KINDS.get(op_name(expr), Kind.OPAQUE)


def label(call: relax.Call) -> str:
    """How reports call an operator: without ``relax.``; a user's kernel by its own name."""
    return op_name(call).removeprefix("relax.") if kernel_of(call) is None else kernel_name(call)
