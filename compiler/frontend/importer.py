"""The walk over an ONNX graph: every node folded, evaluated as shape data, or converted.

Each node is converted inside a block of its own. The bindings of that block get the
node's name in their spans (``motet.passes.names``) and are appended to the function's,
so that every call knows its ONNX node, whatever a converter emitted on the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from tvm import relax

from motet.passes.names import span_of
from motet.runtime.errors import ModelError, MotetError, UnsupportedOperatorError

from . import functions, limits, shape_data
from .completion import broadcastable, completed
from .domains import Opsets, domain_of, full_name
from .fold import constant_node, fold
from .node import LEAVES, Node, RefusedNodeError
from .operators import converter_of
from .origins import value_needed
from .types import type_proto
from .values import Constant, Symbolic, Tensor, Value

Scope = dict[str, Value]
_MAX_DEPTH = 32
# Operators whose results depend on more than their inputs, or that hold graphs.
_SHAPE_OPERATORS = ("Shape", "Size")


class GraphImporter:
    """Turns checked graphs into Relax bindings.

    Parameters
    ----------
    model: how messages call the model (its file).
    opsets: versions of the operator sets that the model imports.
    dataflow: whether the function is one dataflow block (no ``If`` inside).
    """

    def __init__(self, model: str, opsets: Opsets, dataflow: bool) -> None:
        self.model = model
        self.opsets = opsets
        self.dataflow = dataflow
        self.builder = relax.BlockBuilder()
        self.bindings: list[Any] = []
        self.parameters: Mapping[str, relax.Var] = {}

    def function(
        self,
        graph: onnx.GraphProto,
        params: Mapping[str, relax.Var],
        constants: Mapping[str, Constant],
    ) -> tuple[list[Any], list[Value]]:
        """Bindings of the whole graph, and the values of its outputs, in ONNX order."""
        scope: Scope = {name: Tensor(var) for name, var in params.items()}
        scope.update(constants)
        self.parameters = params
        self.builder.begin_scope(list(params.values()))
        outputs = self.graph(graph, scope)
        for index, value in enumerate(outputs):
            if isinstance(value, Symbolic):  # shape data that leaves the graph
                with _Recorded(self, graph.output[index].name):
                    view = Node(self.builder, "Shape", self.opsets.default, {}, [value], 1)
                    outputs[index] = Tensor(view.x())
        self.builder.end_scope()
        return self.bindings, outputs

    def graph(self, graph: onnx.GraphProto, scope: Scope) -> list[Value]:
        """Convert the nodes of ``graph`` in ``scope``; returns its outputs."""
        for initializer in graph.initializer:
            if initializer.name not in scope:
                scope[initializer.name] = Constant(onnx.numpy_helper.to_array(initializer))
        for index, node in enumerate(graph.node):
            self.node(node, scope, node.name or f"{node.op_type}_{index}", self.opsets)
        return [scope[output.name] for output in graph.output]

    def node(
        self, node: onnx.NodeProto, scope: Scope, name: str, opsets: Opsets, depth: int = 0
    ) -> None:
        """Convert one node and put its outputs into ``scope``."""
        operator = full_name(domain_of(node), node.op_type)
        try:
            outputs = self._outputs(node, scope, name, opsets, depth)
        except MotetError:
            raise
        except RefusedNodeError as error:
            message = f"{self.model}: node '{name}' ({operator}) cannot be lowered: {error}"
            if error.needs is not None:
                raise value_needed(message, error.needs, self.builder, self.parameters) from error
            raise UnsupportedOperatorError(message) from error
        except Exception as error:  # TVM raises every kind
            lines = str(error).strip().splitlines()
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

    def _outputs(
        self, node: onnx.NodeProto, scope: Scope, name: str, opsets: Opsets, depth: int
    ) -> Sequence[Value]:
        domain = domain_of(node)
        if not domain and node.op_type == "Constant":
            array = constant_node(node)
            if array is None:
                raise RefusedNodeError("a Constant of strings or of a sparse tensor")
            return [Constant(array)]
        inputs = [scope[i] if i else None for i in node.input]
        arrays = [v.array if isinstance(v, Constant) else None for v in inputs]
        known = all(a is not None or v is None for a, v in zip(arrays, inputs, strict=True))
        if known and not domain:
            folded = fold(node, arrays, opsets.default)
            if folded is not None:
                return [Constant(array) for array in folded]
        if not domain and node.op_type == "If":
            return self._branches(node, scope, name, inputs)
        version = opsets.version(domain)
        view = Node(
            self.builder,
            node.op_type,
            version,
            attributes_of(node),
            inputs,
            len(node.output),
            domain,
        )
        return self._converted(node, view, name, depth)

    def _converted(
        self, node: onnx.NodeProto, view: Node, name: str, depth: int
    ) -> Sequence[Value]:
        """Outputs of a node by shape arithmetic, converter, TVM's, or function body."""
        if not view.domain and node.op_type in _SHAPE_OPERATORS:
            with _Recorded(self, name):
                value = shape_data.shape_of(view)
            return [value] if value is not None else []
        if not view.domain and any(isinstance(v, Symbolic) for v in view.inputs):
            values = shape_data.evaluate(view)
            if values is not None:
                return values
        convert = converter_of(view.domain, node.op_type)
        if convert is None:
            return self._body(node, view, name, depth)
        with _Recorded(self, name) as recorded:
            view.inputs = tuple(broadcastable(view))
            result = convert(view)
            return recorded.values(result, view)

    def _body(self, node: onnx.NodeProto, view: Node, name: str, depth: int) -> Sequence[Value]:
        """Outputs of a node through the function body that onnx defines for it."""
        if depth > _MAX_DEPTH:
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
            _drop_absent(bound, scope)
            self.node(bound, scope, name, opsets, depth + 1)
        return self._present(node, [scope.get(output) for output in function.output])

    def _present(self, node: onnx.NodeProto, values: Sequence[Value | None]) -> list[Value]:
        """Outputs of a body; one that the node does not ask for may be absent."""
        result: list[Value] = []
        for output, value in zip(node.output, values, strict=False):
            if value is None and output:
                raise RefusedNodeError(f"its function body does not compute '{output}'")
            result.append(Constant(np.zeros(0)) if value is None else value)
        return result

    def _branches(
        self,
        node: onnx.NodeProto,
        scope: Scope,
        name: str,
        inputs: Sequence[Value | None],
    ) -> Sequence[Value]:
        """Outputs of ``If``: the taken branch where it is known, else a Relax If."""
        branches = attributes_of(node)
        condition = inputs[0]
        if isinstance(condition, Constant):
            taken = branches["then_branch" if condition.array.any() else "else_branch"]
            return self.graph(taken, dict(scope))
        with _Recorded(self, name) as recorded:
            view = Node(self.builder, "If", self.opsets.default, {}, inputs, len(node.output))
            flag = view.x(0)
            if len(flag.ty.shape) != 0:
                flag = self.builder.emit(relax.op.reshape(flag, []))
        then_body = self._branch(branches["then_branch"], scope, name)
        else_body = self._branch(branches["else_branch"], scope, name)
        with _Recorded(self, name) as recorded:
            result = self.builder.emit(relax.If(flag, then_body, else_body))
            return recorded.values(result, view)

    def _branch(self, graph: onnx.GraphProto, scope: Scope, name: str) -> relax.SeqExpr:
        """A branch as a sequence expression with the bindings of its own nodes."""
        outer, self.bindings = self.bindings, []
        outputs = self.graph(graph, dict(scope))
        with _Recorded(self, name):
            view = Node(self.builder, "If", self.opsets.default, {}, outputs, len(outputs))
            exprs = [view.x(i) for i in range(len(outputs))]
            body = self.builder.emit(relax.Tuple(exprs) if len(exprs) > 1 else exprs[0])
        inner, self.bindings = self.bindings, outer
        return relax.SeqExpr([relax.BindingBlock(inner)], body)


class _Recorded:
    """A block around one node; on leaving, its bindings are named and kept."""

    def __init__(self, importer: GraphImporter, name: str) -> None:
        self.importer = importer
        self.name = name

    def __enter__(self) -> _Recorded:
        builder = self.importer.builder
        begin = builder._begin_dataflow_block
        (begin if self.importer.dataflow else builder._begin_binding_block)()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        block = self.importer.builder._end_block()
        if kind is None:
            span = span_of([self.name])
            self.importer.bindings.extend(_named(b, span) for b in block.bindings)

    def values(self, result: Any, node: Node) -> list[Value]:
        """The converter's result as values, one per output, each bound to a variable."""
        if isinstance(result, (Constant, Symbolic, Tensor)):
            return [result]
        if isinstance(result, list):
            return [v for item in result for v in self.values(item, node)]
        if isinstance(result, relax.Tuple):
            return [self._leaf(field, node) for field in result.fields]
        if not isinstance(result, LEAVES):
            result = self.importer.builder.emit(result)
        if isinstance(result.ty, relax.TupleType):
            fields = range(len(result.ty.fields))
            return [self._leaf(relax.TupleGetItem(result, i), node) for i in fields]
        return [self._leaf(result, node)]

    def _leaf(self, expr: relax.Expr, node: Node) -> Value:
        if not isinstance(expr, LEAVES):
            expr = self.importer.builder.emit(expr)
        expr = completed(self.importer.builder, expr, node)
        limits.check_type(expr.ty, f"{self.importer.model}: the output of node '{self.name}'")
        return Tensor(expr)


def _named(binding: Any, span: Any) -> Any:
    """``binding`` with ``span`` on its call."""
    value = binding.value
    if not isinstance(binding, relax.VarBinding) or not isinstance(value, relax.Call):
        return binding
    call = relax.Call(value.op, value.args, value.attrs, value.ty_args, span)
    relax.expr._update_type(call, value.ty)
    return relax.VarBinding(binding.var, call)


def _drop_absent(node: onnx.NodeProto, scope: Scope) -> None:
    """Optional inputs that the caller left out become empty names."""
    for index, name in enumerate(node.input):
        if name and name not in scope:
            node.input[index] = ""


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
