"""The products of an ONNX graph that can be quantised, and along which axes.

A convolution sums over its input channels (axis 1 of data and weights), a Gemm and a MatMul
over the axis that their operands share. Weights are what is constant; a MatMul of two computed
values, as in attention, is a product of activations. A depthwise convolution has one channel
to sum over and thus no vectors: beside vectors its weights and its data have a scale per
channel each, which leave the sum. The data of a grouped convolution whose groups are no whole
number of vectors has one scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from motet.compiler.frontend.places import node_name
from motet.compiler.vector_functions import ONE_LEVEL, PAPER, TWO_LEVELS
from motet.runtime.device import Array
from motet.runtime.errors import CompileError, ModelError
from motet.targets.quantized.types import Axes

OPERATORS = ("Conv", "Gemm", "MatMul")

_QUANTISES = frozenset(
    ("QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger",
     ONE_LEVEL, TWO_LEVELS, PAPER)
)  # fmt: skip
"""Operators of quantised models, beside those named QLinear..."""
_MOVES = frozenset(("Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze"))
"""Operators that may stand between stored weights and a product."""


@dataclass(frozen=True)
class Operand:
    """What a product reads.

    tensor: its ONNX name. rank: of the tensor; size: along the reduction. axes: which axis
    vectors lie along, and which has channels with a scale each. values: of a constant, else None.
    """

    tensor: str
    rank: int
    size: int
    axes: Axes
    values: Array | None = None


@dataclass(frozen=True)
class Product:
    """A node that can be quantised.

    name: of the ONNX node, as everywhere in Motet. place: its index in the graph. data: the left
    operand, computed. weights: the right one. groups: of a convolution.
    """

    name: str
    operator: str
    place: int
    data: Operand
    weights: Operand
    groups: int = 1

    @property
    def is_depthwise(self) -> bool:
        """Whether each output sums over one channel."""
        return self.operator == "Conv" and self.data.axes.channel == 1

    @property
    def channels(self) -> int | None:
        """Input channels of a group that an output sums over; None for computed weights."""
        values = self.weights.values
        return None if values is None else int(values.shape[self.weights.axes.reduction])


def constants_of(graph: onnx.GraphProto) -> dict[str, Array]:
    """The float32 constants of a graph by name: stored, or moved about from stored ones."""
    found = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and not node.domain:
            tensor = next((a.t for a in node.attribute if a.name == "value"), None)
            if tensor is not None:
                found[node.output[0]] = numpy_helper.to_array(tensor)
        elif node.op_type in _MOVES and all(name in found for name in node.input if name):
            found[node.output[0]] = _moved(node, found)
    return found


def _moved(node: onnx.NodeProto, constants: Mapping[str, Array]) -> Array:
    inputs = [name for name in node.input if name]
    infos = [onnx.helper.make_empty_tensor_value_info(name) for name in inputs]
    output = onnx.helper.make_empty_tensor_value_info(node.output[0])
    graph = onnx.helper.make_graph([node], "moved", infos, [output])
    model = onnx.helper.make_model(graph)
    (value,) = ReferenceEvaluator(model).run(None, {name: constants[name] for name in inputs})
    return np.asarray(value)


Shapes = Mapping[str, tuple[int, ...]]

Refusals = dict[str, str]
"""Products that stay as they are, by node name: why."""


def computed_operands(model: onnx.ModelProto) -> list[str]:
    """Names of computed values that products read: what must be observed."""
    constants = constants_of(model.graph)
    names = [
        name
        for node in model.graph.node
        if node.op_type in OPERATORS and not node.domain
        for name in node.input[:2]
        if name not in constants
    ]
    return list(dict.fromkeys(names))


def require_finite_weights(model: onnx.ModelProto) -> None:
    """Raises ``CompileError`` where weights of a product hold NaN or infinity."""
    constants = constants_of(model.graph)
    for place, node in enumerate(model.graph.node):
        if node.op_type not in OPERATORS or node.domain:
            continue
        for name in node.input[:2]:
            values = constants.get(name)
            if values is not None and values.dtype.kind == "f" and not np.isfinite(values).all():
                raise CompileError(
                    f"node {node_name(node, place)!r}: its weights {name!r} hold NaN or infinity: "
                    "the model cannot be quantised, nor does it compute anything"
                )


def require_floats(model: onnx.ModelProto, label: str) -> None:
    """Raises ``ModelError`` where ``model`` quantises values already."""
    for place, node in enumerate(model.graph.node):
        if node.op_type in _QUANTISES or node.op_type.startswith("QLinear"):
            raise ModelError(
                f"{label} is quantised already (node {node_name(node, place)!r} is a "
                f"{node.op_type}): start from the float model"
            )


def products_of(model: onnx.ModelProto, shapes: Shapes) -> tuple[list[Product], Refusals]:
    """The products of ``model``'s main graph, and why others are none.

    shapes: of computed values that products read, as observed; those without one were not
    float32.
    """
    constants = constants_of(model.graph)
    found, refused = list[Product](), Refusals()
    for place, node in enumerate(model.graph.node):
        if node.op_type not in OPERATORS or node.domain:
            continue
        reason = _refusal(node, constants, shapes)
        if reason:
            refused[node_name(node, place)] = reason
        else:
            found.append(_FINDERS[node.op_type](node, place, constants, shapes))
    return found, refused


def _refusal(node: onnx.NodeProto, constants: Mapping[str, Array], shapes: Shapes) -> str:
    data, weights = node.input[:2]
    if data in constants:
        return "its left operand is constant"
    if data not in shapes or (weights not in constants and weights not in shapes):
        return "an operand is not float32"
    if weights in constants and constants[weights].dtype != np.float32:
        return f"its weights are {constants[weights].dtype}"
    if node.op_type != "MatMul":
        return "" if weights in constants else "its weights are computed"
    if len(shapes[data]) < 2 or (weights in constants and constants[weights].ndim < 2):
        return "an operand is a vector"
    return "" if weights in constants or len(shapes[weights]) >= 2 else "an operand is a vector"


def _convolution(
    node: onnx.NodeProto, place: int, constants: Mapping[str, Array], shapes: Shapes
) -> Product:
    data, weights = node.input[:2]
    groups = next((int(a.i) for a in node.attribute if a.name == "group"), 1)
    # A depthwise convolution sums over places alone, so that channels may have scales.
    alone = groups > 1 and constants[weights].shape[1] == 1
    return Product(
        node_name(node, place), "Conv", place,
        _computed(data, shapes, Axes(2, 1) if alone else Axes(1)),
        _stored(weights, constants, Axes(1, 0)),
        groups,
    )  # fmt: skip


def _gemm(
    node: onnx.NodeProto, place: int, constants: Mapping[str, Array], shapes: Shapes
) -> Product:
    turned = {a.name: bool(a.i) for a in node.attribute if a.name in ("transA", "transB")}
    data, weights = node.input[:2]
    depth = 1 if turned.get("transB") else 0
    return Product(
        node_name(node, place), "Gemm", place,
        _computed(data, shapes, Axes(0 if turned.get("transA") else 1)),
        _stored(weights, constants, Axes(depth, 1 - depth)),
    )  # fmt: skip


def _matmul(
    node: onnx.NodeProto, place: int, constants: Mapping[str, Array], shapes: Shapes
) -> Product:
    data, weights = node.input[:2]
    left = _computed(data, shapes, Axes(len(shapes[data]) - 1))
    if weights in constants:
        rank = constants[weights].ndim
        right = _stored(weights, constants, Axes(rank - 2, rank - 1))
    else:
        right = _computed(weights, shapes, Axes(len(shapes[weights]) - 2))
    return Product(node_name(node, place), "MatMul", place, left, right)


def _computed(tensor: str, shapes: Shapes, axes: Axes) -> Operand:
    shape = shapes[tensor]
    return Operand(tensor, len(shape), shape[axes.reduction], axes)


def _stored(tensor: str, constants: Mapping[str, Array], axes: Axes) -> Operand:
    values = constants[tensor]
    return Operand(tensor, values.ndim, values.shape[axes.reduction], axes, values)


_Finder = Callable[[onnx.NodeProto, int, Mapping[str, Array], Shapes], Product]
_FINDERS: dict[str, _Finder] = {"Conv": _convolution, "Gemm": _gemm, "MatMul": _matmul}
