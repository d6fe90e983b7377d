"""From single Relax calls to the array's layers: geometry, operands, and what may follow.

With ``relax_workload`` the only part of the array that knows tvm. An *anchor* is a call
that is a layer of its own; a *follower* is a call that becomes a part of an anchor's
epilogue. All values are float32; shapes are known.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tvm import relax
from tvm.ir import Op
from tvm.tirx import FloatImm, IntImm

from motet.targets.systolic.instructions.isa import Activation
from motet.targets.systolic.workload.graph import Epilogue
from motet.targets.systolic.workload.layers import (
    Convolution,
    Elementwise,
    Layer,
    LayerNorm,
    MatrixProduct,
    Pooling,
    Product,
    Softmax,
    TransposedConvolution,
)

Shape = tuple[int, ...]


class RefusedError(Exception):
    """Why the array does not take a call."""


@dataclass(frozen=True)
class Anchor:
    """A call as a layer.

    operands: which arguments of the call the layer reads, in the layer's order.
    vectors: which of the operands are vectors over the last axis, kept in fp32 always.
    epilogue: what the call itself does to the layer's output (an activation alone is
        the identity with an epilogue); it names no tensors.
    """

    layer: Layer
    operands: tuple[int, ...]
    epilogue: Epilogue = field(default=Epilogue())
    vectors: tuple[int, ...] = ()


def anchor_of(call: relax.Call, rhs_transposed: bool = False) -> Anchor:
    """The layer that ``call`` is; raises ``RefusedError`` or ``CompileError``.

    rhs_transposed: a matrix product's right side is read through a transpose of its
        last two axes, which its shape shows already done.
    """
    name = name_of(call)
    convert = _ANCHORS.get(name)
    if convert is None:
        raise RefusedError(_why_not(name))
    for value in (*_tensors_of(call), call):
        shape_of(value)
    if getattr(call.attrs, "out_dtype", None) not in (None, "", "void", "float32"):
        raise RefusedError(f"its output is {call.attrs.out_dtype}, not float32")
    if name == "relax.matmul":
        return Anchor(_matrix_product(call, rhs_transposed), (0, 1))
    made = convert(call)
    if math.prod(made.layer.output_shape) != math.prod(shape_of(call)):
        raise RefusedError(f"its output {list(shape_of(call))} is rounded up beyond its input")
    return made


def _why_not(name: str) -> str:
    if "conv3d" in name:
        return f"{name} is a 3-D convolution"
    if not name.startswith("relax."):
        return f"it is {name}"
    return f"the array has no {name}"


def name_of(call: relax.Call) -> str:
    """The operator's name; for a call of anything else, what it calls."""
    return str(call.op.name) if isinstance(call.op, Op) else f"a call of {call.op}"


def shape_of(value: relax.Expr) -> Shape:
    """The static shape of a float32 tensor; raises ``RefusedError`` for anything else."""
    ty = value.ty
    if not isinstance(ty, relax.TensorType):
        raise RefusedError("an operand is not a tensor")
    if ty.dtype != "float32":
        raise RefusedError(f"a tensor is {ty.dtype}, not float32")
    if not isinstance(ty.shape, relax.ShapeExpr):
        raise RefusedError("the shape of a tensor is unknown")
    sizes = list(ty.shape.values)
    if not all(isinstance(size, IntImm) for size in sizes):
        text = ", ".join(str(int(s)) if isinstance(s, IntImm) else _symbol(s) for s in sizes)
        raise RefusedError(f"its shape [{text}] is symbolic")
    shape = tuple(int(size) for size in sizes)
    if 0 in shape:
        raise RefusedError(f"a tensor of shape {list(shape)} is empty")
    return shape


def _symbol(size: Any) -> str:
    """A symbolic dimension as people write it: ``N``, ``N * 2``."""
    return re.sub(r"T\.int64\((-?\d+)\)", r"\1", str(getattr(size, "name", size)))


def _tensors_of(call: relax.Call) -> list[relax.Expr]:
    """The operands that are tensors; limits and the like are scalars."""
    return [value for value in call.args if isinstance(value.ty, relax.TensorType)]


# Products


def _convolution_2d(call: relax.Call) -> Anchor:
    attrs = call.attrs
    _require_layouts(attrs, "NCHW", "OIHW")
    batch, channels, height, width = shape_of(call.args[0])
    out_channels, _, *kernel = shape_of(call.args[1])
    layer = Convolution(
        batch=batch,
        in_channels=channels,
        out_channels=out_channels,
        groups=int(attrs.groups),
        in_height=height,
        in_width=width,
        kernel=(kernel[0], kernel[1]),
        stride=_pair(attrs.strides),
        padding=_four(attrs.padding),
        dilation=_pair(attrs.dilation),
    )
    return Anchor(layer, (0, 1))


def _convolution_1d(call: relax.Call) -> Anchor:
    """A 1-D convolution is one of height 1."""
    attrs = call.attrs
    _require_layouts(attrs, "NCW", "OIW")
    batch, channels, width = shape_of(call.args[0])
    out_channels, _, kernel = shape_of(call.args[1])
    layer = Convolution(
        batch=batch,
        in_channels=channels,
        out_channels=out_channels,
        groups=int(attrs.groups),
        in_height=1,
        in_width=width,
        kernel=(1, kernel),
        stride=(1, _ints(attrs.strides)[0]),
        padding=_two(attrs.padding),
        dilation=(1, _ints(attrs.dilation)[0]),
    )
    return Anchor(layer, (0, 1))


def _transposed_2d(call: relax.Call) -> Anchor:
    attrs = call.attrs
    _require_layouts(attrs, "NCHW", "IOHW")
    batch, channels, height, width = shape_of(call.args[0])
    _, out_channels, *kernel = shape_of(call.args[1])
    layer = TransposedConvolution(
        batch=batch,
        in_channels=channels,
        out_channels=out_channels * int(attrs.groups),
        groups=int(attrs.groups),
        in_height=height,
        in_width=width,
        kernel=(kernel[0], kernel[1]),
        stride=_pair(attrs.strides),
        padding=_four(attrs.padding),
        dilation=_pair(attrs.dilation),
        output_padding=_pair(attrs.output_padding),
    )
    return Anchor(layer, (0, 1))


def _transposed_1d(call: relax.Call) -> Anchor:
    attrs = call.attrs
    _require_layouts(attrs, "NCW", "IOW")
    batch, channels, width = shape_of(call.args[0])
    _, out_channels, kernel = shape_of(call.args[1])
    layer = TransposedConvolution(
        batch=batch,
        in_channels=channels,
        out_channels=out_channels * int(attrs.groups),
        groups=int(attrs.groups),
        in_height=1,
        in_width=width,
        kernel=(1, kernel),
        stride=(1, _ints(attrs.strides)[0]),
        padding=_two(attrs.padding),
        dilation=(1, _ints(attrs.dilation)[0]),
        output_padding=(0, _ints(attrs.output_padding)[0]),
    )
    return Anchor(layer, (0, 1))


def _matrix_product(call: relax.Call, rhs_transposed: bool = False) -> MatrixProduct:
    """Batch dimensions fold into rows, or are the same on both sides."""
    left, right = shape_of(call.args[0]), shape_of(call.args[1])
    if min(len(left), len(right)) < 2:
        raise RefusedError("one side of the product is a vector")
    (*left_batch, m, k), (*right_batch, _, n) = left, right
    batch = math.prod(left_batch)
    if math.prod(right_batch) == 1:
        return MatrixProduct(batch, m, n, k, rhs_transposed=rhs_transposed)
    if _without_leading_ones(left_batch) != _without_leading_ones(right_batch):
        raise RefusedError(f"the batch dimensions {left_batch} and {right_batch} broadcast")
    return MatrixProduct(batch, m, n, k, rhs_batched=True, rhs_transposed=rhs_transposed)


# Pooling


def _pooling(call: relax.Call, kind: Literal["max", "average"]) -> Anchor:
    """Pooling over one axis (height 1) or two."""
    attrs = call.attrs
    shape = shape_of(call.args[0])
    _require_layout(attrs, "NCHW" if len(shape) == 4 else "NCW")
    is_line = len(shape) == 3
    batch, channels, *spatial = shape
    layer = Pooling(
        kind,
        batch,
        channels,
        1 if is_line else spatial[0],
        spatial[-1],
        kernel=(1, _ints(attrs.pool_size)[0]) if is_line else _pair(attrs.pool_size),
        stride=(1, _ints(attrs.strides)[0]) if is_line else _pair(attrs.strides),
        padding=_two(attrs.padding) if is_line else _four(attrs.padding),
        dilation=(1, _ints(attrs.dilation)[0]) if is_line else _pair(attrs.dilation),
        count_padding=kind == "average" and bool(attrs.count_include_pad),
    )
    (top, left, bottom, right), (height, width) = layer.padding, layer.kernel
    if max(top, bottom) >= height or max(left, right) >= width:
        raise RefusedError("a window of it may lie in the padding alone")
    return Anchor(layer, (0,))


def _global_pooling(call: relax.Call, kind: Literal["max", "average"]) -> Anchor:
    """All of the spatial axes: adaptive pooling to 1 x 1, or a reduction over them."""
    shape = shape_of(call.args[0])
    axes = getattr(call.attrs, "axis", None)
    if hasattr(call.attrs, "output_size"):
        _require_layout(call.attrs, "NCHW" if len(shape) == 4 else "NCW")
        if math.prod(shape_of(call)[2:]) != 1:
            raise RefusedError(f"it pools to {list(shape_of(call)[2:])}, not to one value")
    elif axes is None or sorted(a % len(shape) for a in _ints(axes)) != [*range(2, len(shape))]:
        raise RefusedError(f"{name_of(call)} over other axes than an image's")
    if len(shape) not in (3, 4):
        raise RefusedError(f"{name_of(call)} over {len(shape) - 2} spatial axes")
    batch, channels, *spatial = shape
    height, width = (1, *spatial)[-2:]
    return Anchor(Pooling(kind, batch, channels, height, width, (height, width)), (0,))


# Rows and values


def _softmax(call: relax.Call) -> Anchor:
    *rows, columns = shape_of(call)
    if int(call.attrs.axis) not in (-1, len(rows)):
        raise RefusedError(f"{name_of(call)} over another axis than the last")
    return Anchor(Softmax(math.prod(rows), columns), (0,))


def _layer_norm(call: relax.Call) -> Anchor:
    shape, attrs = shape_of(call), call.attrs
    axes = sorted(axis % len(shape) for axis in _ints(attrs.axes))
    if axes != list(range(len(shape) - len(axes), len(shape))):
        raise RefusedError(f"{name_of(call)} over other axes than the last")
    if not (attrs.scale and attrs.center):
        raise RefusedError(f"{name_of(call)} without its scale or shift")
    split = len(shape) - len(axes)
    rows, columns = math.prod(shape[:split]), math.prod(shape[split:])
    return Anchor(LayerNorm(rows, columns, float(attrs.epsilon)), (0, 1, 2), vectors=(1, 2))


def _binary(call: relax.Call, kind: Literal["add", "multiply", "maximum"]) -> Anchor:
    """Two tensors of one shape; or one, and a vector over its last axis, or one value."""
    shape = shape_of(call)
    shapes = [shape_of(operand) for operand in call.args]
    if shapes == [shape, shape]:
        return Anchor(Elementwise(kind, shape), (0, 1))
    if shape not in shapes:
        raise RefusedError(f"{name_of(call)} broadcasts both of its operands")
    whole = shapes.index(shape)
    operands = (whole, 1 - whole)
    small = shapes[1 - whole]
    if kind == "maximum":
        raise RefusedError(f"{name_of(call)} of a tensor and {list(small)}")
    if math.prod(small) == 1:
        layer = Elementwise(kind, (math.prod(shape), 1), vector=True)
        return Anchor(layer, operands, vectors=(1,))
    if small[-1] == shape[-1] == math.prod(small):
        rows = math.prod(shape[:-1])
        layer = Elementwise(kind, (rows, shape[-1]), vector=True)
        return Anchor(layer, operands, vectors=(1,))
    raise RefusedError(f"{name_of(call)} broadcasts {list(small)} to {list(shape)}")


def _unary(call: relax.Call) -> Anchor:
    """An activation or clamp alone: the identity, and that as its epilogue."""
    epilogue = follower(call)
    if epilogue is None:
        raise RefusedError(f"{name_of(call)} with limits that are not known")
    return Anchor(Elementwise("identity", shape_of(call)), (0,), epilogue)


_BINARY: dict[str, Literal["add", "multiply", "maximum"]] = {
    "relax.add": "add",
    "relax.multiply": "multiply",
    "relax.maximum": "maximum",
}

_ACTIVATIONS: dict[str, Activation] = {
    "relax.sigmoid": Activation.SIGMOID,
    "relax.tanh": Activation.TANH,
    "relax.erf": Activation.ERF,
    "relax.nn.gelu": Activation.GELU,
    "relax.nn.gelu_tanh": Activation.GELU_TANH,
    "relax.nn.silu": Activation.SILU,
    "relax.nn.leakyrelu": Activation.LEAKY_RELU,
    "relax.exp": Activation.EXP,
    "relax.sqrt": Activation.SQRT,
    "relax.rsqrt": Activation.RSQRT,
    "relax.abs": Activation.ABS,
    "relax.negative": Activation.NEGATE,
}
_CLAMPS = ("relax.nn.relu", "relax.nn.relu6", "relax.clip")


def follower(call: relax.Call) -> Epilogue | None:
    """The epilogue that a unary call is by itself: an activation or limits; None for others."""
    name = name_of(call)
    if name in _ACTIVATIONS:
        alpha = float(getattr(call.attrs, "alpha", 0.0) or 0.0)
        return Epilogue(activation=_ACTIVATIONS[name], alpha=alpha)
    clamp = _clamp(call)
    return None if clamp is None else Epilogue(clamp=clamp)


def _clamp(call: relax.Call) -> tuple[float, float] | None:
    name = name_of(call)
    if name == "relax.nn.relu":
        return 0.0, math.inf
    if name == "relax.nn.relu6":
        return 0.0, 6.0
    if name != "relax.clip":
        return None
    limits = call.args[1:]
    if not all(isinstance(limit, (IntImm, FloatImm)) for limit in limits):
        return None
    low, high = (float(limit.value) for limit in limits)
    return (low, high) if low <= high else None


def is_channel_vector(layer: Layer, output: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether ``shape`` broadcasts over a product's ``output`` as one number a channel."""
    if not isinstance(layer, Product):
        return False
    axis = len(output) - 1 if isinstance(layer, MatrixProduct) else 1
    wanted = [1] * len(output)
    wanted[axis] = output[axis]
    return [1] * (len(output) - len(shape)) + list(shape) == wanted


def swaps_last_axes(call: relax.Call) -> bool:
    """Whether a ``permute_dims`` exchanges the last two axes and leaves the others."""
    rank, axes = int(call.ty.ndim), call.attrs.axes
    order = list(range(rank))[::-1] if axes is None else [int(axis) % rank for axis in axes]
    return rank >= 2 and order == [*range(rank - 2), rank - 1, rank - 2]


_ANCHORS: dict[str, Callable[[relax.Call], Anchor]] = {
    "relax.matmul": lambda call: Anchor(_matrix_product(call), (0, 1)),
    "relax.nn.conv2d": _convolution_2d,
    "relax.nn.conv1d": _convolution_1d,
    "relax.nn.conv2d_transpose": _transposed_2d,
    "relax.nn.conv1d_transpose": _transposed_1d,
    "relax.nn.max_pool2d": lambda call: _pooling(call, "max"),
    "relax.nn.max_pool1d": lambda call: _pooling(call, "max"),
    "relax.nn.avg_pool2d": lambda call: _pooling(call, "average"),
    "relax.nn.avg_pool1d": lambda call: _pooling(call, "average"),
    "relax.nn.adaptive_avg_pool2d": lambda call: _global_pooling(call, "average"),
    "relax.nn.adaptive_avg_pool1d": lambda call: _global_pooling(call, "average"),
    "relax.mean": lambda call: _global_pooling(call, "average"),
    "relax.max": lambda call: _global_pooling(call, "max"),
    "relax.nn.softmax": _softmax,
    "relax.nn.layer_norm": _layer_norm,
    **{name: lambda call: _binary(call, _BINARY[name_of(call)]) for name in _BINARY},
    **dict.fromkeys((*_ACTIVATIONS, *_CLAMPS), _unary),
}


def _require_layouts(attrs: Any, data: str, kernel: str) -> None:
    layouts = (attrs.data_layout, attrs.kernel_layout, attrs.out_layout or data)
    if layouts != (data, kernel, data):
        raise RefusedError(f"its layouts are {', '.join(layouts)}, not {data}, {kernel}, {data}")


def _require_layout(attrs: Any, data: str) -> None:
    if attrs.layout != data or (attrs.out_layout or data) != data:
        raise RefusedError(f"its layout is {attrs.layout}, not {data}")


def _ints(values: Any) -> list[int]:
    return [int(value) for value in values]


def _pair(values: Any) -> tuple[int, int]:
    numbers = _ints(values)
    return numbers[0], numbers[-1]


def _two(paddings: Any) -> tuple[int, int, int, int]:
    """(0, left, 0, right) of one or two numbers."""
    numbers = _ints(paddings)
    return 0, numbers[0], 0, numbers[-1]


def _four(paddings: Any) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of TVM's one, two or four numbers."""
    numbers = _ints(paddings)
    if len(numbers) == 4:
        return numbers[0], numbers[1], numbers[2], numbers[3]
    return numbers[0], numbers[-1], numbers[0], numbers[-1]


def _without_leading_ones(batch: Sequence[int]) -> list[int]:
    sizes = list(batch)
    while sizes and sizes[0] == 1:
        sizes.pop(0)
    return sizes
