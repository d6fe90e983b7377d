"""From single Relax calls to the array's layers, and what may follow one.

An *anchor* is a call that is a layer of its own; a *follower* is a call that becomes a
part of an anchor's epilogue. All values are float32; shapes are known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from tvm import relax
from tvm.tirx import FloatImm, IntImm

from motet.targets.systolic.from_relax.anchor import Anchor
from motet.targets.systolic.from_relax.integers import (
    SUMS,
    is_integer_product,
    require_bytes,
)
from motet.targets.systolic.from_relax.moves import concatenation, permutation, slicing, upsampling
from motet.targets.systolic.from_relax.pooling import global_pooling, pooling
from motet.targets.systolic.from_relax.products import (
    convolution_1d,
    convolution_2d,
    matrix_product,
    transposed_1d,
    transposed_2d,
)
from motet.targets.systolic.from_relax.values import (
    RefusedError,
    ints,
    name_of,
    shape_of,
    tensors_of,
)
from motet.targets.systolic.from_relax.vectors import is_vector_product, vector_product
from motet.targets.systolic.instructions.isa import Activation
from motet.targets.systolic.workload.graph import Epilogue
from motet.targets.systolic.workload.layers import (
    Elementwise,
    Layer,
    LayerNorm,
    MatrixProduct,
    Product,
    Softmax,
)


def anchor_of(call: relax.Call, rhs_transposed: bool = False) -> Anchor:
    """The layer that ``call`` is; raises ``RefusedError`` or ``CompileError``.

    rhs_transposed: a matrix product's right side is read through a transpose of its
        last two axes, which its shape shows already done.
    """
    name = name_of(call)
    if is_vector_product(call):
        return vector_product(call)
    convert = _ANCHORS.get(name)
    if convert is None:
        raise RefusedError(_why_not(name))
    is_integer = is_integer_product(call)
    if is_integer:
        require_bytes(call)
    else:
        _require_floats(call)
    if name == "relax.matmul":
        return Anchor(matrix_product(call, rhs_transposed), (0, 1), is_integer=is_integer)
    made = replace(convert(call), is_integer=is_integer)
    if math.prod(made.layer.output_shape) != math.prod(shape_of(call, SUMS)):
        raise RefusedError(f"its output {list(shape_of(call))} is rounded up beyond its input")
    return made


def _require_floats(call: relax.Call) -> None:
    for value in (*tensors_of(call), call):
        shape_of(value)
    if getattr(call.attrs, "out_dtype", None) not in (None, "", "void", "float32"):
        raise RefusedError(f"its output is {call.attrs.out_dtype}, not float32")


def _why_not(name: str) -> str:
    if "conv3d" in name:
        return f"{name} is a 3-D convolution"
    if not name.startswith("relax."):
        return f"it is {name}"
    return f"the array has no {name}"


def _softmax(call: relax.Call) -> Anchor:
    *rows, columns = shape_of(call)
    if int(call.attrs.axis) not in (-1, len(rows)):
        raise RefusedError(f"{name_of(call)} over another axis than the last")
    return Anchor(Softmax(math.prod(rows), columns), (0,))


def _layer_norm(call: relax.Call) -> Anchor:
    shape, attrs = shape_of(call), call.attrs
    axes = sorted(axis % len(shape) for axis in ints(attrs.axes))
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


_ANCHORS: dict[str, Callable[[relax.Call], Anchor]] = {
    "relax.matmul": lambda call: Anchor(matrix_product(call), (0, 1)),
    "relax.nn.conv2d": convolution_2d,
    "relax.nn.conv1d": convolution_1d,
    "relax.nn.conv2d_transpose": transposed_2d,
    "relax.nn.conv1d_transpose": transposed_1d,
    "relax.nn.max_pool2d": lambda call: pooling(call, "max"),
    "relax.nn.max_pool1d": lambda call: pooling(call, "max"),
    "relax.nn.avg_pool2d": lambda call: pooling(call, "average"),
    "relax.nn.avg_pool1d": lambda call: pooling(call, "average"),
    "relax.nn.adaptive_avg_pool2d": lambda call: global_pooling(call, "average"),
    "relax.nn.adaptive_avg_pool1d": lambda call: global_pooling(call, "average"),
    "relax.mean": lambda call: global_pooling(call, "average"),
    "relax.max": lambda call: global_pooling(call, "max"),
    "relax.permute_dims": permutation,
    "relax.concat": concatenation,
    "relax.strided_slice": slicing,
    "relax.image.resize2d": upsampling,
    "relax.nn.softmax": _softmax,
    "relax.nn.layer_norm": _layer_norm,
    **{name: lambda call: _binary(call, _BINARY[name_of(call)]) for name in _BINARY},
    **dict.fromkeys((*_ACTIVATIONS, *_CLAMPS), _unary),
}
