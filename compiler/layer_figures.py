"""Multiply-accumulates and parameters of a model's layers, by ONNX node: as papers count them.

MACs are those of convolutions, matrix products, attention and recurrences, one per output
element and element of the reduction; padding counts, biases and activations do not. They are
counted on the imported graph, equal calls as often as the model has them; of an ``If`` both
branches, of a loop all iterations. Parameters are the elements of weights: initialisers and
constants of floats, and of 8-bit integers, with at least one dimension; not a batch-norm's
running mean and variance. A weight that several nodes read is the first one's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import onnx
from tvm import IRModule, relax, tirx

from motet.compiler.compile import CompileOptions
from motet.compiler.dimensions import dimension_of
from motet.compiler.frontend.checks import check_model
from motet.compiler.frontend.load import ImportedModel
from motet.compiler.frontend.order import names_read
from motet.compiler.frontend.places import node_name
from motet.compiler.frontend.reading import read_model
from motet.compiler.importing import imported
from motet.compiler.spec import BundleSpec, ModelSpec
from motet.passes.canonicalize import tidy
from motet.passes.graph import bindings_of
from motet.passes.macs import macs_of
from motet.passes.names import names_of
from motet.runtime.shapes import Dimension

_TRAINED = frozenset(
    getattr(onnx.TensorProto, name)
    for name in ("FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16", "INT8", "UINT8", "INT4", "UINT4")
)
_NO_WEIGHTS = ("Resize", "Upsample", "Pad", "Clip", "Range", "Expand", "Tile")
"""Operators whose constants are no weights."""


@dataclass(frozen=True)
class LayerFigures:
    """Of one ONNX node. macs: an int, or an expression over symbolic sizes."""

    node: str
    operator: str
    macs: Dimension
    parameters: int


@dataclass(frozen=True)
class ModelFigures:
    """Of a model: its layers that have any, in the order of the graph, and their sums."""

    model: str
    layers: tuple[LayerFigures, ...]
    macs: Dimension
    parameters: int


@dataclass
class _Sums:
    macs: dict[str, tirx.PrimExpr] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    operators: dict[str, str] = field(default_factory=dict)


def layer_figures(spec: BundleSpec, options: CompileOptions | None = None) -> list[ModelFigures]:
    """The figures of every model of ``spec``.

    Raises what reading the models raises: ``SpecError``, ``ModelError``.
    """
    models = imported(spec, (options or CompileOptions()).progress)
    by_name = {model.name: model for model in spec.models}
    return [_figures(model, by_name[model.name]) for model in models]


def _figures(model: ImportedModel, spec: ModelSpec) -> ModelFigures:
    read = read_model(model.path)
    graph = check_model(read, spec.shapes, spec.values).graph
    sums = _Sums()
    _count_weights(graph, sums)
    total = _count_macs(tidy(model.module), model.name, sums)
    zero = tirx.IntImm("int64", 0)
    layers = tuple(
        LayerFigures(
            name,
            operator,
            dimension_of(sums.macs.get(name, zero)),
            sums.parameters.get(name, 0),
        )
        for name, operator in sums.operators.items()
        if name in sums.macs or sums.parameters.get(name)
    )
    return ModelFigures(
        model.name, layers, dimension_of(total), sum(layer.parameters for layer in layers)
    )


def _count_macs(mod: IRModule, entry: str, sums: _Sums) -> tirx.PrimExpr:
    """Adds to ``sums``, by the first node that a call carries; the sum of all."""
    total = tirx.IntImm("int64", 0)
    for binding in bindings_of(mod[entry]):
        call = binding.value
        names = names_of(call)
        if not isinstance(call, relax.Call) or not names:
            continue
        macs = macs_of(call)
        if isinstance(macs, tirx.IntImm) and macs.value == 0:
            continue
        name = next((one for one in names if one in sums.operators), names[0])
        sums.operators.setdefault(name, "")
        sums.macs[name] = sums.macs.get(name, 0) + macs
        total = total + macs
    return total


def _count_weights(graph: onnx.GraphProto, sums: _Sums) -> None:
    """Parameters by the node that reads them first; nodes of branches and loops are theirs."""
    done: set[str] = set()
    known = _weights(graph)
    for index, node in enumerate(graph.node):
        name = node_name(node, index)
        sums.operators[name] = str(node.op_type)
        inner = sum(sum(_weights(body).values()) for body in _bodies(node))
        read = [one for one in _trained(node) if one in known and one not in done]
        done.update(read)
        sums.parameters[name] = inner + sum(known[one] for one in dict.fromkeys(read))


def _weights(graph: onnx.GraphProto) -> Mapping[str, int]:
    """Elements of the graph's initialisers and constants that are weights, by name."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            tensors[node.output[0]] = value
    return {
        name: math.prod(tensor.dims)
        for name, tensor in tensors.items()
        if tensor.data_type in _TRAINED and tensor.dims
    }


def _trained(node: onnx.NodeProto) -> list[str]:
    """The inputs of a node that may be weights."""
    if node.op_type in _NO_WEIGHTS:
        return []
    if node.op_type == "BatchNormalization":
        return list(node.input[1:3])
    return list(names_read(node))


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a node holds, those inside them included."""
    for attribute in node.attribute:
        for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield body
            for inner in body.node:
                yield from _bodies(inner)
