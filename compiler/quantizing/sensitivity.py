"""How much each product alone, quantised, errs the outputs: what mixed precision is chosen by.

With one product quantised, all that it reads is still the float network's, so its result's
error is found apart: the product of the quantised operands less that of the exact ones, both
on observed values. The network is compiled once with an input added to every product's
result, zeros but in a trial; a trial is then a run with one product's error there, and its
noise the square of what the outputs move by. Nothing is compiled between trials, and
however many settings are tried, three networks are compiled: values, products, trials.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from motet.compiler.calibration.histograms import Method
from motet.compiler.calibration.values import ValueObserver
from motet.compiler.quantizing.choices import Choice, Static
from motet.compiler.quantizing.products import Operand, Product
from motet.runtime.device import Array
from motet.runtime.errors import InputError
from motet.targets.quantized.notation import Setting
from motet.targets.quantized.scales import quantized

if TYPE_CHECKING:
    from motet.compiler.quantizing.quantizer import Quantizer

Values = Mapping[str, Array]

RUNS = 4
"""Runs of calibration data (batches, where the batch size is open) that trials are made on."""


@dataclass(frozen=True)
class Sensitivity:
    """A product under every rung of a ladder.

    choices: what it becomes; None: it stays float32. noises: sum of squares by which the
    outputs move when only this product is quantised. macs: multiplications of a run.
    """

    product: Product
    choices: tuple[Choice | None, ...]
    noises: tuple[float, ...]
    macs: int


@dataclass(frozen=True)
class Sensitivities:
    """Of all products, in the order of the graph. signal: sum of squares of the outputs.

    samples: elements of the inputs' leading axes that trials were made on.
    """

    rows: tuple[Sensitivity, ...]
    signal: float
    samples: int


def sensitivities(
    quantizer: Quantizer,
    rungs: Sequence[Setting | None],
    *,
    method: Method = "max",
    percentile: float = 99.99,
    paper: bool = False,
    corrected: bool = False,
    runs: int = RUNS,
) -> Sensitivities:
    """Each product of ``quantizer`` under each of ``rungs`` (None: float32), alone.

    corrected: biases will take up what a product's channels are off by in the mean.

    Trials are made on the first ``runs`` runs that have the first one's shapes. Raises what
    compiling raises.
    """
    products = quantizer.products
    columns = [
        [None] * len(products) if r is None else quantizer.choices(r, {}, method, percentile)
        for r in rungs
    ]
    choices = list(zip(*columns, strict=True))
    found = _Measured(quantizer, choices, paper, corrected)
    for inputs in _alike(quantizer.data, runs):
        found.add(inputs)
    rows = zip(products, choices, found.noises, found.macs, strict=True)
    return Sensitivities(
        tuple(Sensitivity(p, c, tuple(n), macs) for p, c, n, macs in rows),
        found.signal,
        found.samples,
    )


def _alike(data: object, count: int) -> Iterator[Values]:
    """The first ``count`` runs of the shapes that the first has."""
    first: dict[str, tuple[int, ...]] = {}

    def fits(inputs: Values) -> bool:
        shapes = {name: array.shape for name, array in inputs.items()}
        first.update({} if first else shapes)
        return shapes == first

    return islice(filter(fits, data), count)  # type: ignore[call-overload]


class _Measured:
    """Noises of trials, over the runs that are added."""

    def __init__(
        self,
        quantizer: Quantizer,
        choices: Sequence[Sequence[Choice | None]],
        paper: bool,
        corrected: bool,
    ) -> None:
        self._quantizer, self._choices = quantizer, choices
        self._paper, self._corrected = paper, corrected
        self._products = _ProductsApart(quantizer.model, quantizer.products)
        self._trials: ValueObserver | None = None
        self.noises = np.zeros((len(choices), len(choices[0])))
        self.macs = [0] * len(choices)
        self.signal, self.samples = 0.0, 0

    def add(self, inputs: Values) -> None:
        """Try every product under every rung on one run's inputs."""
        values = self._quantizer.operands.run(inputs)
        exact = self._products.run(self._exact(values))
        shapes = [result.shape for result in exact]
        if self._trials is None:
            self._trials = self._compiled(inputs, shapes)
            self.macs = list(map(_macs, self._quantizer.products, exact))
        zeros = {_name(i): np.zeros(shape, np.float32) for i, shape in enumerate(shapes)}
        wanted = self._trials.run({**inputs, **zeros})
        self.signal += _power(wanted)
        self.samples += max((a.shape[0] for a in inputs.values() if a.ndim), default=1)
        for rung in range(self.noises.shape[1]):
            moved = self._products.run(self._rounded(values, rung))
            for index, result in enumerate(moved):
                if self._choices[index][rung] is not None:
                    error = {_name(index): self._error(index, result, exact[index])}
                    found = self._trials.run({**inputs, **zeros, **error})
                    self.noises[index, rung] += _power(wanted, found)

    def _error(self, index: int, result: Array, exact: Array) -> Array:
        product, error = self._quantizer.products[index], result - exact
        if not self._corrected or product.weights.values is None:
            return error
        channel = 1 if product.operator == "Conv" else error.ndim - 1
        others = tuple(axis for axis in range(error.ndim) if axis != channel)
        centred: Array = error - error.mean(axis=others, keepdims=True)
        return centred

    def _compiled(self, inputs: Values, shapes: Sequence[tuple[int, ...]]) -> ValueObserver:
        model = _with_errors(self._quantizer.model, self._quantizer.products, shapes)
        sizes = {name: array.shape for name, array in inputs.items()}
        sizes |= {_name(index): shape for index, shape in enumerate(shapes)}
        outputs = [info.name for info in model.graph.output]
        return ValueObserver(model, outputs, sizes)

    def _exact(self, values: Values) -> list[tuple[Array, Array]]:
        return [
            (values[p.data.tensor], _stored_or(p.weights, values))
            for p in self._quantizer.products
        ]  # fmt: skip

    def _rounded(self, values: Values, rung: int) -> list[tuple[Array, Array]]:
        """Each product's operands as integers of a rung are worth; floats where it has none."""
        pairs = []
        for (data, weights), choices in zip(self._exact(values), self._choices, strict=True):
            choice = choices[rung]
            if choice is not None:
                data, weights = self._pair(choice, data, weights)
            pairs.append((data, weights))
        return pairs

    def _pair(self, choice: Choice, data: Array, weights: Array) -> tuple[Array, Array]:
        worth = self._worth(choice.product.data, choice.data, data)
        if choice.weights_static is None:
            return worth, choice.made(paper=self._paper).dequantized()
        return worth, self._worth(choice.product.weights, choice.weights_static, weights)

    def _worth(self, operand: Operand, static: Static, reals: Array) -> Array:
        return quantized(
            reals, static.type, operand.axes, gamma=static.gamma, zero=static.zero,
            paper=self._paper, name=operand.tensor,
        ).dequantized()  # fmt: skip


class _ProductsApart:
    """All products of a model side by side, each with its two operands as inputs."""

    def __init__(self, model: onnx.ModelProto, products: Sequence[Product]) -> None:
        self._model, self._products = model, products
        self._compiled: ValueObserver | None = None

    def run(self, operands: Sequence[tuple[Array, Array]]) -> list[Array]:
        """The products' results, without what is added to them."""
        given = {
            _name(index, what): array
            for index, pair in enumerate(operands)
            for what, array in zip(("data", "weights"), pair, strict=True)
        }
        if self._compiled is None:
            self._compiled = self._compile(given)
        found = self._compiled.run(given)
        return [found[_name(index, "result")] for index in range(len(operands))]

    def _compile(self, given: Values) -> ValueObserver:
        nodes = [self._node(index, one) for index, one in enumerate(self._products)]
        infos = [_info(name, array.shape) for name, array in given.items()]
        outputs = [_info(node.output[0], None) for node in nodes]
        graph = helper.make_graph(nodes, "products", infos, outputs)
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        model.graph.CopyFrom(graph)
        return ValueObserver(model, [node.output[0] for node in nodes])

    def _node(self, index: int, product: Product) -> onnx.NodeProto:
        node = onnx.NodeProto()
        node.CopyFrom(self._model.graph.node[product.place])
        del node.input[:], node.output[:]
        node.input.extend([_name(index, "data"), _name(index, "weights")])
        node.output.append(_name(index, "result"))
        return node


def _with_errors(
    model: onnx.ModelProto, products: Sequence[Product], shapes: Sequence[tuple[int, ...]]
) -> onnx.ModelProto:
    """A copy of ``model`` in which an input is added to every product's result."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    places = {product.place: index for index, product in enumerate(products)}
    nodes = []
    for place, node in enumerate(result.graph.node):
        nodes.append(node)
        if place in places:
            index, output = places[place], node.output[0]
            node.output[0] = _name(index, "exact")
            addends = [node.output[0], _name(index)]
            nodes.append(helper.make_node("Add", addends, [output], _name(index, "sum")))
            result.graph.input.append(_info(_name(index), shapes[index]))
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del result.graph.node[:]
    result.graph.node.extend(kept)
    return result


def _power(wanted: Values, less: Values | None = None) -> float:
    """Sum of squares of the float outputs, or of their differences."""
    total = []
    for name, array in wanted.items():
        if array.dtype.kind == "f":
            reals = array.astype(np.float64)
            reals = reals if less is None else reals - less[name]
            total.append(float(np.vdot(reals, reals)))
    if less is None and not total:
        raise InputError("sensitivity is that of float outputs, and the model has none")
    return math.fsum(total)


def _stored_or(operand: Operand, values: Values) -> Array:
    return values[operand.tensor] if operand.values is None else operand.values


def _macs(product: Product, result: Array) -> int:
    """Multiplications of a product whose result is like ``result``."""
    weights = product.weights.values
    depth = product.weights.size
    if product.operator == "Conv" and weights is not None:
        depth = math.prod(weights.shape[1:])
    return result.size * depth


def _info(name: str, shape: Sequence[int] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def _name(index: int, what: str = "error") -> str:
    return f"motet.product{index}.{what}"
