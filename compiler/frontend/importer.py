"""The walk over an ONNX graph: every node folded, evaluated as shape data, or converted.

Each node is converted inside a block of its own (``recording``), so that every call
knows its ONNX node. Nodes that hold graphs are converted by ``control_flow``, ``loops``
and ``scans``, which come back here for each graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from tvm import relax

from motet.runtime.errors import ModelError, MotetError, UnsupportedOperatorError

from . import functions, graph_operators, narrow, shape_data
from .completion import broadcastable
from .control_flow import BranchesNeededError, Scope, Site
from .domains import Opsets, domain_of, full_name
from .fold import constant_node, fold
from .loop_bodies import MAX_UNROLLED
from .node import Node, RefusedNodeError
from .operators import converter_of
from .origins import value_needed
from .places import Place
from .recording import Recorded
from .types import type_proto
from .values import Constant, Symbolic, Tensor, Value

_MAX_DEPTH = 32
# TVM puts it before types that it prints.
_TVM_HINT = "# Metadata omitted. Use show_meta=True in script() method to show it."
# Operators whose results depend on more than their inputs, or that hold graphs.
_SHAPE_OPERATORS = ("Shape", "Size")


class GraphImporter:
    """Turns checked graphs into Relax bindings.

    Parameters
    ----------
    model: how messages call the model (its file).
    opsets: versions of the operator sets that the model imports.
    dataflow: whether the function is one dataflow block; ``BranchesNeededError`` where it
        cannot be, because it holds an ``If``.
    array: reads an initialiser.
    """

    def __init__(
        self,
        model: str,
        opsets: Opsets,
        dataflow: bool,
        array: Callable[[onnx.TensorProto], NDArray[Any]],
    ) -> None:
        self.model = model
        self.opsets = opsets
        self.dataflow = dataflow
        self._array = array
        self._unrolled = 0
        self.builder = relax.BlockBuilder()
        self.bindings: list[Any] = []
        self.parameters: Mapping[str, relax.Var] = {}

    def function(
        self,
        graph: onnx.GraphProto,
        given: Mapping[str, Value],
        params: Mapping[str, relax.Var],
        elements: Mapping[relax.Var, str] = MappingProxyType({}),
    ) -> tuple[list[Any], list[Value]]:
        """Bindings of the whole graph, and the values of its outputs, in ONNX order.

        given: values of the graph's inputs; params: the function's parameters by name;
        elements: narrow element types of parameters, which hold their bits.
        """
        self.parameters = params
        self.builder.begin_scope(list(params.values()))
        scope: Scope = {}
        for name, value in given.items():
            with Recorded(self, [name]):
                scope[name] = narrow.received(self.builder, value, elements)
        outputs = self.graph(graph, self.entered(graph, scope), Place(self.opsets))
        for index, value in enumerate(outputs):
            with Recorded(self, [graph.output[index].name]):
                if isinstance(value, Symbolic):  # shape data that leaves the graph
                    view = Node(self.builder, "Shape", self.opsets.default, {}, [value], 1)
                    value = Tensor(view.x())
                outputs[index] = narrow.sent(self.builder, value)
        self.builder.end_scope()
        return self.bindings, outputs

    def entered(self, graph: onnx.GraphProto, scope: Mapping[str, Value]) -> Scope:
        """A scope inside ``graph``: what is known outside, and its own initialisers."""
        return {**scope, **{t.name: Constant(self._array(t)) for t in graph.initializer}}

    def graph(self, graph: onnx.GraphProto, scope: Scope, place: Place) -> list[Value]:
        """Convert the nodes of ``graph`` in ``scope``; returns its outputs."""
        for index, node in enumerate(graph.node):
            if place.bodies:
                node = _with_present(node, scope)
            self.node(node, scope, place.name(node, index), place)
        return [scope[output.name] for output in graph.output]

    def node(self, node: onnx.NodeProto, scope: Scope, name: str, place: Place) -> None:
        """Convert one node and put its outputs into ``scope``."""
        operator = full_name(domain_of(node), node.op_type)
        try:
            self._count(place)
            outputs = self._outputs(node, scope, name, place)
        except (MotetError, BranchesNeededError):
            raise
        except RefusedNodeError as error:
            message = f"{self.model}: node '{name}' ({operator}) cannot be lowered: {error}"
            if error.needs is not None:
                raise value_needed(message, error.needs, self.builder, self.parameters) from error
            raise UnsupportedOperatorError(message) from error
        except Exception as error:  # TVM raises every kind
            lines = str(error).replace(_TVM_HINT, "").strip().splitlines()
            cause = next((line.strip() for line in reversed(lines) if line.strip()), "")
            raise ModelError(
                f"{self.model}: node '{name}' ({operator}) could not be imported: "
                f"{type(error).__name__}: {cause}"
            ) from error
        for output, value in zip(node.output, outputs, strict=False):
            if output:
                scope[output] = value
        missing = [output for output in node.output[len(outputs) :] if output]
        if missing:
            raise UnsupportedOperatorError(
                f"{self.model}: node '{name}' ({operator}) cannot be lowered: "
                f"its output '{missing[0]}' is not supported"
            )

    def _count(self, place: Place) -> None:
        """Refuse more nodes in loops than the bound."""
        self._unrolled += bool(place.loops)
        if self._unrolled > MAX_UNROLLED:
            raise RefusedNodeError(
                f"loop '{place.loops[-1]}' is unrolled, and loops of more than {MAX_UNROLLED} "
                "nodes in all are not: run it over shorter inputs, or for fewer iterations"
            )

    def _outputs(
        self, node: onnx.NodeProto, scope: Scope, name: str, place: Place
    ) -> Sequence[Value]:
        domain = domain_of(node)
        if not domain and node.op_type == "Constant":
            array = constant_node(node)
            if array is None:
                raise RefusedNodeError("a Constant of strings or of a sparse tensor")
            return [Constant(array)]
        inputs = [scope[i] if i else None for i in node.input]
        version = place.opsets.version(domain)
        view = Node(
            self.builder,
            node.op_type,
            version,
            attributes_of(node),
            inputs,
            len(node.output),
            domain,
            name,
        )
        if all(value is None or isinstance(value, Constant) for value in inputs):
            folded = self._folded(node, view, place)
            if folded is not None:
                return folded
        if not domain and node.op_type in graph_operators.CONVERTERS:
            return graph_operators.CONVERTERS[node.op_type](self, Site(view, name, scope, place))
        return self._converted(node, view, name, place)

    def _folded(self, node: onnx.NodeProto, view: Node, place: Place) -> list[Value] | None:
        """Outputs of a node of constants that is computed at once, else None."""
        arrays = [v.array if isinstance(v, Constant) else None for v in view.inputs]
        folded = None if view.domain else fold(node, arrays, place.opsets.default)
        if folded is None:
            return None
        concerned = narrow.is_concerned(view.inputs, view.attributes)
        types = narrow.output_types(node, view, place.opsets) if concerned else []
        return narrow.recast([Constant(array) for array in folded], types)

    def _converted(
        self, node: onnx.NodeProto, view: Node, name: str, place: Place
    ) -> Sequence[Value]:
        """Outputs of a node by shape arithmetic, converter, TVM's, or function body."""
        if not view.domain and node.op_type in _SHAPE_OPERATORS:
            with Recorded(self, place.names(name)):
                value = shape_data.shape_of(view)
            return [value] if value is not None else []
        concerned = narrow.is_concerned(view.inputs, view.attributes)
        symbolic = any(isinstance(v, Symbolic) for v in view.inputs)
        if not view.domain and symbolic and not concerned:
            values = shape_data.evaluate(view)
            if values is not None:
                return values
        convert = converter_of(view.domain, node.op_type, view.opset)
        if convert is None:
            return self._body(node, view, name, place)
        with Recorded(self, place.names(name)) as recorded:
            view.inputs = tuple(broadcastable(view))
            if not concerned:
                return recorded.values(convert(view), view)
            types = narrow.output_types(node, view, place.opsets)
            view.inputs = tuple(narrow.carried(view))
            return narrow.typed(view, recorded.values(convert(view), view), types)

    def _body(self, node: onnx.NodeProto, view: Node, name: str, place: Place) -> Sequence[Value]:
        """Outputs of a node through the function body that onnx defines for it."""
        if place.bodies > _MAX_DEPTH:
            raise RefusedNodeError("its function body refers to itself")
        types = [type_proto(value) for value in view.inputs]
        found = functions.body_of(node, view.opset, types)
        if found is None:
            raise RefusedNodeError("neither a converter nor a function body exists")
        function, opsets = found
        scope: Scope = {
            formal: value
            for formal, value in zip(function.input, view.inputs, strict=False)
            if value is not None
        }
        for inner in function.node:
            bound = functions.bound_node(inner, node, view.opset)
            self.node(_with_present(bound, scope), scope, name, place.body(name, opsets))
        return self._present(node, [scope.get(output) for output in function.output])

    def _present(self, node: onnx.NodeProto, values: Sequence[Value | None]) -> list[Value]:
        """Outputs of a body; one that the node does not ask for may be absent."""
        result: list[Value] = []
        for output, value in zip(node.output, values, strict=False):
            if value is None and output:
                raise RefusedNodeError(f"its function body does not compute '{output}'")
            result.append(Constant(np.zeros(0)) if value is None else value)
        return result


def _with_present(node: onnx.NodeProto, scope: Scope) -> onnx.NodeProto:
    """``node`` of a function body with empty names for inputs that the caller left out."""
    if all(name in scope for name in node.input if name):
        return node
    result = onnx.NodeProto()
    result.CopyFrom(node)
    result.input[:] = [name if name in scope else "" for name in node.input]
    return result


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes by name, byte strings decoded, repeated ones as lists."""
    result: dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif not isinstance(value, (int, float, str)) and hasattr(value, "extend"):
            value = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in value]
        result[attribute.name] = value
    return result
