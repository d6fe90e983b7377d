"""Moves part of the spread of a product's input channels into its weights (exact in float).

Input channel j of a product with constant weights W is divided by

    s_j = max |X_j|^alpha / max |W_j|^(1 - alpha)

and the weights that it meets are multiplied by s_j; where several products read the same value,
W_j is that of all. The division goes into what computes the value: constants of a Mul, Add,
LayerNormalization or BatchNormalization, or weights and bias of a product, also through ReLU,
PReLU and such, which scale what they are given by a positive factor. Where that cannot be, or
others read the value, a Mul is put before the products. Depthwise convolutions, whose data has a
scale per channel anyway, and grouped ones stay as they are.

Source: Xiao et al., "SmoothQuant" (ICML 2023, arXiv 2211.10438), section 4, equation 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from motet.compiler.frontend.order import names_read
from motet.compiler.frontend.places import node_name
from motet.compiler.quantizing.folding import channel_axis, scaled
from motet.compiler.quantizing.products import OPERATORS, Product, constants_of
from motet.runtime.device import Array

Reals64 = NDArray[np.float64]

_HOMOGENEOUS = frozenset(
    ("Relu", "LeakyRelu", "PRelu", "Identity", "MaxPool", "AveragePool", "GlobalAveragePool")
)
"""f(s x) = s f(x) for s > 0, channel by channel."""


def smoothable(products: Sequence[Product]) -> dict[str, int]:
    """Values whose channels can be scaled, and along which axis channels are."""
    found: dict[str, int] = {}
    for product in products:
        values = product.weights.values
        plain = product.groups == 1 and values is not None and not product.is_depthwise
        if plain and (product.operator == "Conv" or (values is not None and values.ndim == 2)):
            found[product.data.tensor] = product.data.axes.reduction
    return found


def smoothed(
    model: onnx.ModelProto,
    products: Sequence[Product],
    maxima: Mapping[str, NDArray[np.float32]],
    alpha: float,
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """``model`` with scales moved; by product's name what took the division: a node, or "Mul".

    maxima: largest magnitudes of every channel of the values that ``smoothable`` names. alpha:
    0 to 1, how much of the spread of the data is moved.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for place, node in enumerate(copy.graph.node):
        node.name = node_name(node, place)
    smoother = _Smoother(copy.graph)
    places = smoothable(products)
    found: dict[str, str] = {}
    for tensor, top in maxima.items():
        readers = [p for p in products if p.data.tensor == tensor and p.groups == 1]
        readers = [p for p in readers if places.get(tensor) == p.data.axes.reduction]
        factors = _factors(top, readers, alpha)
        if readers and not np.all(factors == 1):
            taken = smoother.move(tensor, readers, factors)
            found |= {product.name: taken for product in readers}
    smoother.finish()
    return copy, found


def _factors(top: NDArray[np.float32], readers: Sequence[Product], alpha: float) -> Reals64:
    """s_j; 1 where the data or the weights are 0."""
    rows = np.zeros(len(top))
    for product in readers:
        weights, axis = product.weights.values, product.weights.axes.reduction
        assert weights is not None
        rest = tuple(other for other in range(weights.ndim) if other != axis)
        rows = np.maximum(rows, np.abs(weights).max(axis=rest))
    used = (top > 0) & (rows > 0)
    data, weights = np.where(used, top, 1).astype(np.float64), np.where(used, rows, 1)
    return np.where(used, data**alpha / weights ** (1 - alpha), 1.0)


@dataclass
class _Smoother:
    graph: onnx.GraphProto
    constants: dict[str, Array] = field(init=False)
    ahead: list[tuple[onnx.NodeProto, list[onnx.NodeProto]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        graph = self.graph
        self.constants = constants_of(graph)
        self.nodes = {node.name: node for node in graph.node}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.outputs = {info.name for info in graph.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in names_read(node):
                self.readers.setdefault(name, []).append(node)
        self.taken = {each.name for each in graph.initializer} | set(self.readers)
        self.taken |= set(self.makers) | set(self.nodes)

    def move(self, tensor: str, readers: Sequence[Product], factors: Reals64) -> str:
        """Divides the channels of ``tensor``, multiplies weights; what took the division."""
        nodes = [self.nodes[product.name] for product in readers]
        for product, node in zip(readers, nodes, strict=True):
            weights = self._constant(node, 1)  # which may make another value, and be scaled so
            shape = [1] * weights.ndim
            shape[product.weights.axes.reduction] = -1
            grown = (weights * factors.reshape(shape)).astype(np.float32)
            node.input[1] = self._stored(node.input[1], grown)
        first = readers[0]
        behind = first.data.rank - 1 - first.data.axes.reduction
        edits: list[Callable[[], None]] = []
        if self._alone(tensor, nodes) and (maker := self._into(tensor, 1 / factors, behind, edits)):
            for edit in edits:
                edit()
            return maker
        self._before(tensor, nodes, 1 / factors, behind)
        return "Mul"

    def _alone(self, tensor: str, nodes: Sequence[onnx.NodeProto]) -> bool:
        """Whether nobody but ``nodes`` reads ``tensor``."""
        others = [node for node in self.readers.get(tensor, []) if node not in nodes]
        return not others and tensor not in self.outputs

    def _into(
        self, tensor: str, scale: Reals64, behind: int, edits: list[Callable[[], None]]
    ) -> str | None:
        """The node that makes ``tensor`` times ``scale`` once ``edits`` are made; None: none can.

        behind: axes behind that of channels.
        """
        node = self.makers.get(tensor)
        if node is None or node.domain or len([name for name in node.output if name]) != 1:
            return None
        if node.op_type in _HOMOGENEOUS:
            kept = node.op_type in ("Relu", "LeakyRelu", "PRelu", "Identity")
            pools = behind > 0 and not kept
            return self._onward(node.input[0], scale, behind, edits) if kept or pools else None
        return self._maker(node, scale, behind, edits)

    def _maker(
        self, node: onnx.NodeProto, scale: Reals64, behind: int, edits: list[Callable[[], None]]
    ) -> str | None:
        if node.op_type in ("Mul", "Add") and len(set(node.input)) == 2:
            return self._arithmetic(node, scale, behind, edits)
        last = node.op_type in ("Gemm", "MatMul", "LayerNormalization")
        at_end = last == (behind == 0)
        scaled_inputs = {
            "LayerNormalization": (1, 2), "BatchNormalization": (1, 2), "Conv": (1, 2),
            "Gemm": (1, 2), "MatMul": (1,),
        }.get(node.op_type, ())  # fmt: skip
        given = [place for place in scaled_inputs if place < len(node.input) and node.input[place]]
        if not given or not at_end or any(node.input[p] not in self.constants for p in given):
            return None
        first = self._constant(node, 1)
        axis = channel_axis(node, first.ndim) if node.op_type in OPERATORS else 0
        per_channel = node.op_type in OPERATORS or first.ndim == 1
        if not per_channel or first.dtype != np.float32 or first.shape[axis] != len(scale):
            return None
        edits.append(lambda: self._scale_inputs(node, given, scale))
        return str(node.name)

    def _scale_inputs(self, node: onnx.NodeProto, places: Sequence[int], scale: Reals64) -> None:
        for place in places:
            values = self._constant(node, place)
            whole = place == 1 and not node.op_type.endswith("Normalization")
            made = scaled(values, scale, node) if whole else (values * scale).astype(np.float32)
            node.input[place] = self._stored(node.input[place], made)

    def _arithmetic(
        self, node: onnx.NodeProto, scale: Reals64, behind: int, edits: list[Callable[[], None]]
    ) -> str | None:
        place = next((i for i, name in enumerate(node.input) if name in self.constants), None)
        if place is None:
            return None
        values = self._constant(node, place)
        if values.dtype != np.float32:
            return None
        along = scale.reshape(-1, *(1,) * behind)
        fits = values.ndim <= along.ndim or values.shape[-along.ndim] in (1, len(scale))
        if not fits:
            return None
        edits.append(
            lambda: node.input.__setitem__(
                place, self._stored(node.input[place], (values * along).astype(np.float32))
            )
        )
        if node.op_type == "Mul":
            return str(node.name)
        return self._onward(node.input[1 - place], scale, behind, edits)

    def _onward(
        self, tensor: str, scale: Reals64, behind: int, edits: list[Callable[[], None]]
    ) -> str | None:
        if len(self.readers.get(tensor, [])) != 1 or tensor in self.outputs:
            return None
        return self._into(tensor, scale, behind, edits)

    def _constant(self, node: onnx.NodeProto, place: int) -> Array:
        return self.constants[node.input[place]]

    def _before(
        self, tensor: str, nodes: Sequence[onnx.NodeProto], scale: Reals64, behind: int
    ) -> None:
        along = scale.reshape(-1, *(1,) * behind).astype(np.float32)
        stored, name = self._stored(f"{tensor}_smoothing", along), self._fresh(f"{tensor}_smooth")
        made = helper.make_node("Mul", [tensor, stored], [name], name=name)
        for node in nodes:
            node.input[0] = name
        self.ahead.append((made, list(nodes)))

    def finish(self) -> None:
        """Puts new nodes before those that read them."""
        for made, nodes in self.ahead:
            place = next(i for i, each in enumerate(self.graph.node) if each in nodes)
            self.graph.node.insert(place, made)

    def _stored(self, name: str, values: Array) -> str:
        fresh = self._fresh(name)
        self.graph.initializer.append(numpy_helper.from_array(values, fresh))
        self.constants[fresh] = values
        return fresh

    def _fresh(self, name: str) -> str:
        fresh, count = name, 1
        while fresh in self.taken:
            fresh, count = f"{name}_{count}", count + 1
        self.taken.add(fresh)
        return fresh
