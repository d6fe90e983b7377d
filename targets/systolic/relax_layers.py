"""From Relax to the array's layers; the only file of the array that knows tvm.

A *unit* is a Relax function for one array program: its parameters are tensors
(activations and weights alike) and its body is one block, the *anchor* (conv1d,
conv2d or matmul) and then, optionally, an addition of a bias per output channel
and a clamp (relu or clip), in this order. The bias goes into the accumulators'
start, the clamp into the output stage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tvm import relax
from tvm.ir import Op
from tvm.tirx import FloatImm, IntImm

from motet.runtime.errors import CompileError
from motet.targets.systolic.codegen import check_compiles
from motet.targets.systolic.description import ArrayDescription
from motet.targets.systolic.layers import Convolution, Layer, MatrixProduct

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LayerBinding:
    """A unit as a layer of the array.

    Attributes
    ----------
    layer: what the array computes.
    params: for each operand that the program reads (input, weight, bias where there
        is one), the index of the unit's parameter that feeds it.
    output_shape: the unit's own output shape; as many values as the layer's.
    """

    layer: Layer
    params: tuple[int, ...]
    output_shape: Shape


class _RefusedError(Exception):
    """Why the array does not take a call; becomes ``refusal``'s answer."""


def refusal(call: relax.Call, description: ArrayDescription) -> str | None:
    """None where the array takes ``call`` as an anchor, else a short human reason."""
    try:
        check_compiles(_anchor_layer(call), description)
    except (_RefusedError, CompileError) as error:
        return str(error)
    return None


def accepts_epilogue(
    anchor: relax.Call, next_call: relax.Call, so_far: Sequence[relax.Call]
) -> bool:
    """Whether ``next_call``, a consumer of the unit so far, can be part of the unit.

    ``so_far`` are the calls absorbed after the anchor, in order: one bias at most,
    then one clamp at most.
    """
    if any(_clamp(call) is not None for call in so_far) or not _keeps_shape(anchor, next_call):
        return False
    if _clamp(next_call) is not None:
        return True
    if so_far or _name(next_call) != "relax.add":
        return False
    first, second = next_call.args
    return not first.same_as(second) and (_is_bias(anchor, first) or _is_bias(anchor, second))


def layer_of(unit: relax.Function) -> LayerBinding:
    """The layer that ``unit`` is; raises ``CompileError`` where it is not one."""
    try:
        return _bind(unit)
    except _RefusedError as error:
        raise CompileError(f"not a unit of the array: {error}") from error


def _bind(unit: relax.Function) -> LayerBinding:
    anchor, epilogue = _calls(unit)
    layer = _anchor_layer(anchor.value)
    params = [_param(unit, argument) for argument in anchor.value.args]
    running = anchor.var
    absorbed: list[Any] = []
    for binding in epilogue:
        call = binding.value
        if not any(argument.same_as(running) for argument in call.args):
            raise _RefusedError(f"{_name(call)} does not use the value before it")
        if not accepts_epilogue(anchor.value, call, absorbed):
            raise _RefusedError(f"{_name(call)} is neither its bias nor its clamp")
        clamp = _clamp(call)
        if clamp is not None:
            layer = replace(layer, clamp=clamp)
        else:
            bias = call.args[1] if call.args[0].same_as(running) else call.args[0]
            layer = replace(layer, bias=True)
            params.append(_param(unit, bias))
        absorbed.append(call)
        running = binding.var
    return LayerBinding(layer, tuple(params), _shape(anchor.value))


def _calls(unit: relax.Function) -> tuple[Any, list[Any]]:
    """The anchor's binding, and those after it; re-bound variables are left out."""
    body = unit.body
    if not isinstance(body, relax.SeqExpr) or len(body.blocks) != 1:
        raise _RefusedError("its body is not one block")
    bindings, result = list(body.blocks[0].bindings), body.body
    while (
        bindings and isinstance(bindings[-1].value, relax.Var) and result.same_as(bindings[-1].var)
    ):
        result = bindings.pop().value
    if not bindings or any(not isinstance(item.value, relax.Call) for item in bindings):
        raise _RefusedError("its body is not a chain of calls")
    if not result.same_as(bindings[-1].var):
        raise _RefusedError("it returns something else than its last value")
    return bindings[0], bindings[1:]


def _param(unit: relax.Function, argument: relax.Expr) -> int:
    for index, param in enumerate(unit.params):
        if param.same_as(argument):
            return index
    raise _RefusedError("an operand is not a parameter of the unit")


def _anchor_layer(call: relax.Call) -> Layer:
    """The layer of an anchor alone; raises ``_RefusedError`` or ``CompileError``."""
    name = _name(call)
    if name not in _ANCHORS:
        raise _RefusedError(_why_not(name))
    for argument in (*call.args, call):
        _shape(argument)
    if getattr(call.attrs, "out_dtype", None) not in (None, "", "void", "float32"):
        raise _RefusedError(f"its output is {call.attrs.out_dtype}, not float32")
    return _ANCHORS[name](call)


def _why_not(name: str) -> str:
    if "transpose" in name and "conv" in name:
        return f"{name} is a transposed convolution"
    if "conv3d" in name:
        return f"{name} is a 3-D convolution"
    return f"{name} is neither a convolution nor a matrix product"


def _convolution_2d(call: relax.Call) -> Convolution:
    attrs = call.attrs
    _require_layouts(attrs, "NCHW", "OIHW")
    batch, channels, height, width = _shape(call.args[0])
    out_channels, _, *kernel = _shape(call.args[1])
    top, left, bottom, right = _four_paddings(_ints(attrs.padding))
    return Convolution(
        batch=batch,
        in_channels=channels,
        out_channels=out_channels,
        groups=int(attrs.groups),
        in_height=height,
        in_width=width,
        kernel=(kernel[0], kernel[1]),
        stride=_pair(attrs.strides),
        padding=(top, left, bottom, right),
        dilation=_pair(attrs.dilation),
    )


def _convolution_1d(call: relax.Call) -> Convolution:
    """A 1-D convolution is one of height 1."""
    attrs = call.attrs
    _require_layouts(attrs, "NCW", "OIW")
    batch, channels, width = _shape(call.args[0])
    out_channels, _, kernel = _shape(call.args[1])
    paddings = _ints(attrs.padding)
    return Convolution(
        batch=batch,
        in_channels=channels,
        out_channels=out_channels,
        groups=int(attrs.groups),
        in_height=1,
        in_width=width,
        kernel=(1, kernel),
        stride=(1, _ints(attrs.strides)[0]),
        padding=(0, paddings[0], 0, paddings[-1]),
        dilation=(1, _ints(attrs.dilation)[0]),
    )


def _matrix_product(call: relax.Call) -> MatrixProduct:
    """Batch dimensions fold into rows, or are the same on both sides."""
    left, right = _shape(call.args[0]), _shape(call.args[1])
    if min(len(left), len(right)) < 2:
        raise _RefusedError("one side of the product is a vector")
    (*left_batch, m, k), (*right_batch, _, n) = left, right
    batch = math.prod(left_batch)
    if math.prod(right_batch) == 1:
        return MatrixProduct(batch, m, n, k)
    if _without_leading_ones(left_batch) != _without_leading_ones(right_batch):
        raise _RefusedError(f"the batch dimensions {left_batch} and {right_batch} broadcast")
    return MatrixProduct(batch, m, n, k, rhs_batched=True)


_ANCHORS: dict[str, Callable[[relax.Call], Layer]] = {
    "relax.nn.conv2d": _convolution_2d,
    "relax.nn.conv1d": _convolution_1d,
    "relax.matmul": _matrix_product,
}


def _require_layouts(attrs: Any, data: str, kernel: str) -> None:
    layouts = (attrs.data_layout, attrs.kernel_layout, attrs.out_layout or data)
    if layouts != (data, kernel, data):
        raise _RefusedError(f"its layouts are {', '.join(layouts)}, not {data}, {kernel}, {data}")


def _keeps_shape(anchor: relax.Call, call: relax.Call) -> bool:
    try:
        return _shape(anchor) == _shape(call)
    except _RefusedError:
        return False


def _is_bias(anchor: relax.Call, value: relax.Expr) -> bool:
    """Whether ``value`` broadcasts over the output as one number a channel."""
    try:
        output, shape = _shape(anchor), _shape(value)
    except _RefusedError:
        return False
    axis = len(output) - 1 if _name(anchor) == "relax.matmul" else 1
    wanted = [1] * len(output)
    wanted[axis] = output[axis]
    return [1] * (len(output) - len(shape)) + list(shape) == wanted


def _clamp(call: relax.Call) -> tuple[float, float] | None:
    """The limits of a relu or clip; None for any other call."""
    if _name(call) == "relax.nn.relu":
        return 0.0, math.inf
    if _name(call) != "relax.clip":
        return None
    limits = call.args[1:]
    if not all(isinstance(limit, (IntImm, FloatImm)) for limit in limits):
        return None
    low, high = (float(limit.value) for limit in limits)
    return (low, high) if low <= high else None


def _name(call: relax.Call) -> str:
    """The operator's name; for a call of anything else, what it calls."""
    return str(call.op.name) if isinstance(call.op, Op) else f"a call of {call.op}"


def _shape(value: relax.Expr) -> Shape:
    """The static shape of a float32 tensor; raises ``_RefusedError`` for anything else."""
    ty = value.ty
    if not isinstance(ty, relax.TensorType):
        raise _RefusedError("an operand is not a tensor")
    if ty.dtype != "float32":
        raise _RefusedError(f"a tensor is {ty.dtype}, not float32")
    if not isinstance(ty.shape, relax.ShapeExpr):
        raise _RefusedError("the shape of a tensor is unknown")
    if not all(isinstance(size, IntImm) for size in ty.shape.values):
        raise _RefusedError(f"the shape {list(ty.shape.values)} is symbolic")
    shape = tuple(int(size) for size in ty.shape.values)
    if 0 in shape:
        raise _RefusedError(f"a tensor of shape {list(shape)} is empty")
    return shape


def _ints(values: Any) -> list[int]:
    return [int(value) for value in values]


def _pair(values: Any) -> tuple[int, int]:
    numbers = _ints(values)
    return numbers[0], numbers[-1]


def _four_paddings(paddings: list[int]) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of TVM's one, two or four numbers."""
    if len(paddings) == 4:
        return paddings[0], paddings[1], paddings[2], paddings[3]
    return paddings[0], paddings[-1], paddings[0], paddings[-1]


def _without_leading_ones(batch: Sequence[int]) -> list[int]:
    sizes = list(batch)
    while sizes and sizes[0] == 1:
        sizes.pop(0)
    return sizes
