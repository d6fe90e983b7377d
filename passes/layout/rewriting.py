"""Carries feature maps in the blocked layout from one convolution to the next (exact).

A vector of the host then is one position's block of channels, in every convolution and
pooling and in what stands between them (``demand`` says where). Transformations remain only
where other operators come in: two calls, ``permute_dims`` and a free ``reshape``. Every value
is bound in its plain form as well, which ``dead_code`` drops where nobody reads it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import IRModule, relax, transform

from motet.passes.dead_code import dead_code
from motet.passes.graph import constant_array, map_functions
from motet.passes.layout.demand import (
    Demand,
    cuts_channels,
    is_convolution,
    reduces_planes,
)
from motet.passes.layout.forms import blocked, blocked_operand, feature_map, shape_of, unblocked
from motet.passes.names import names_of, target_of, with_names
from motet.passes.op_kinds import op_name
from motet.passes.rewrite import Rewriter
from motet.passes.shift_zero_points import zero_points_shifted
from motet.targets.host.kernels.blocked_conv.integer_groups import fit_fours


def exact_weights(call: relax.Call) -> relax.Expr:
    """The weights of a convolution; int8 ones as int16 where products of bytes would not fit
    what the host multiplies and adds at once.
    """
    weights, array = call.args[1], constant_array(call.args[1])
    if array is None or array.dtype != np.int8 or fit_fours(array):
        return weights
    return relax.const(array.astype(np.int16))


class _Layout(Rewriter):
    """Rewrites one function; ``forms`` are the blocked forms of plain values so far."""

    def __init__(self, block: int, any_bytes: bool) -> None:
        super().__init__()
        self.size, self.any_bytes = block, any_bytes
        self.layout = f"NCHW{block}c"
        self.forms: dict[relax.Expr, relax.Expr] = {}
        self.names: Sequence[str] = ()

    def function(self, function: relax.Function) -> relax.Function:
        self.demand = Demand(function, self.size)
        return super().function(function)

    def _block(self, block: relax.BindingBlock) -> relax.BindingBlock:
        outer, self.forms = self.forms, {}  # a dataflow variable ends with its block
        rewritten = super()._block(block)
        self.forms = outer
        return rewritten

    def made(self, call: relax.Call) -> relax.Var:
        """``call`` bound, under the ONNX names of the call that is rewritten."""
        return self.emit(with_names(call, self.names))

    def blocked(self, value: relax.Expr) -> relax.Expr:
        """The blocked form of a plain feature map; transformed at most once."""
        if value not in self.forms:
            self.forms[value] = blocked(value, self.size, self.made)
        return self.forms[value]

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        if not isinstance(value, relax.Call):
            return value
        self.names = names_of(value)
        if is_convolution(value, self.size):
            return self.convolution(variable, value)
        if self.demand.takes_blocked(value) and value.args[0] in self.forms:
            return self.pooled(variable, value)
        if self.demand.keeps_layout(value) and self.demand.is_blocked(variable):
            return self.keep(variable, self.elsewhere(value))
        return value

    def keep(self, variable: relax.Var, call: relax.Call) -> relax.Expr:
        """Bind a blocked ``call``; the plain form is what ``variable`` becomes."""
        form = self.made(call)
        self.forms[variable] = form
        return with_names(self._typed(unblocked(form, self.size, self.made)), self.names)

    def convolution(self, variable: relax.Var, call: relax.Call) -> relax.Expr:
        data, attrs = call.args[0], call.attrs
        writes_blocked = self.demand.is_blocked(variable)
        if not writes_blocked and data not in self.forms:
            return call
        reads_blocked = (feature_map(data) or (0, 1))[1] % self.size == 0
        changed = relax.op.nn.conv2d(
            self.blocked(data) if reads_blocked else data,
            call.args[1] if self.any_bytes else exact_weights(call),
            attrs.strides, attrs.padding, attrs.dilation, int(attrs.groups),
            self.layout if reads_blocked else "NCHW", "OIHW",
            self.layout if writes_blocked else "NCHW", attrs.out_dtype or None,
        )  # fmt: skip
        if writes_blocked:
            return self.keep(variable, changed)
        return with_names(self._typed(changed), self.names, target_of(call))

    def pooled(self, variable: relax.Var, call: relax.Call) -> relax.Expr:
        data, attrs, name = self.forms[call.args[0]], call.attrs, op_name(call)
        if reduces_planes(call):
            return self.reduced(variable, call)
        if name == "relax.nn.adaptive_avg_pool2d":
            return self.keep(
                variable,
                relax.op.nn.adaptive_avg_pool2d(data, attrs.output_size, self.layout, self.layout),
            )
        pool = relax.op.nn.max_pool2d if name == "relax.nn.max_pool2d" else relax.op.nn.avg_pool2d
        return self.keep(
            variable,
            pool(
                data, attrs.pool_size, attrs.strides, attrs.padding, attrs.dilation,
                bool(attrs.ceil_mode), bool(attrs.count_include_pad), self.layout, self.layout,
            ),
        )  # fmt: skip

    def reduced(self, variable: relax.Var, call: relax.Call) -> relax.Expr:
        """A reduction over planes leaves channels in their order: its plain form is a view."""
        data, keeps = self.forms[call.args[0]], bool(call.attrs.keepdims)
        reduce = getattr(relax.op, op_name(call).removeprefix("relax."))
        if keeps:
            return self.keep(variable, reduce(data, [2, 3], True))
        shape = relax.ShapeExpr(shape_of(call) or [])
        return with_names(
            self._typed(relax.op.reshape(self.made(reduce(data, [2, 3], False)), shape)), self.names
        )

    def elsewhere(self, call: relax.Call) -> relax.Call:
        """The blocked form of a call that keeps the layout of its operands."""
        name, attrs = op_name(call), call.attrs
        if name == "relax.concat":
            return relax.op.concat([self.blocked(part) for part in call.args[0]], 1)
        cut = cuts_channels(call, self.size)
        if cut is not None:
            return relax.op.strided_slice(self.blocked(call.args[0]), [1], [cut[0]], [cut[1]])
        if name == "relax.nn.pad":
            width = [*(int(p) for p in attrs.pad_width), 0, 0]
            return relax.op.nn.pad(
                self.blocked(call.args[0]), width, attrs.pad_mode, float(attrs.pad_value)
            )
        if name == "relax.image.resize2d":
            return self.resized(call)
        if name == "relax.nn.prelu":
            return self.prelu(call)
        return self.elementwise(call)

    def resized(self, call: relax.Call) -> relax.Call:
        attrs = call.attrs
        return relax.op.image.resize2d(
            self.blocked(call.args[0]), call.args[1], [float(r) for r in attrs.roi], self.layout,
            attrs.method, attrs.coordinate_transformation_mode, attrs.rounding_method,
            float(attrs.cubic_alpha), int(attrs.cubic_exclude), float(attrs.extrapolation_value),
            attrs.out_dtype or None,
        )  # fmt: skip

    def operand(self, value: relax.Expr, channels: int) -> relax.Expr:
        if not isinstance(value.ty, relax.TensorType):
            return value
        if value in self.forms:
            return self.forms[value]
        shape = feature_map(value)
        if shape is not None and shape[1] == channels and isinstance(value, relax.Var):
            return self.blocked(value)
        return blocked_operand(value, channels, self.size, self.made)

    def elementwise(self, call: relax.Call) -> relax.Call:
        channels = (feature_map(call) or (0, 0))[1]
        operands = [self.operand(a, channels) for a in call.args]
        return relax.Call(call.op, operands, call.attrs, call.ty_args)

    def prelu(self, call: relax.Call) -> relax.Call:
        """With the slopes of channels as a tensor that broadcasts."""
        data, slope = call.args
        channels = (feature_map(call) or (0, 0))[1]
        x = self.operand(data, channels)
        count = (shape_of(slope) or [1])[0]
        column = self.made(relax.op.reshape(slope, relax.ShapeExpr([count, 1, 1])))
        slopes = self.operand(column, channels)
        zero = relax.const(0, "float32")
        positive = self.made(relax.op.greater(x, zero))
        return relax.op.where(positive, x, self.made(relax.op.multiply(x, slopes)))


def layout(block: int, any_bytes: bool = False) -> transform.Pass:
    """The pass, for blocks of ``block`` channels: the lanes of the host's vectors.

    any_bytes: whether the host multiplies any bytes exactly (VNNI).
    """

    @transform.module_pass(opt_level=0, name="layout")
    def run(mod: IRModule, _context: transform.PassContext) -> IRModule:
        return map_functions(mod, lambda function: _Layout(block, any_bytes).function(function))

    return transform.Sequential([zero_points_shifted(any_bytes), run, dead_code])
