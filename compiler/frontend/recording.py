"""What is emitted for a node: recorded in a block of its own, named, and kept.

The bindings of the block get the node's names in their spans (``motet.passes.names``), so
that every call knows its ONNX nodes, whatever a converter emitted on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from tvm import relax

from motet.passes.names import span_of

from . import limits
from .completion import completed
from .node import LEAVES, Node
from .values import Constant, EmptyOptional, Symbolic, Tensor, TensorSequence, Value


class Builds(Protocol):
    """Who builds a function.

    model: how messages call the model; dataflow: whether the function is one dataflow
    block; bindings: of the function (or of the branch of an ``If``) so far.
    """

    model: str
    dataflow: bool
    builder: relax.BlockBuilder
    bindings: list[Any]


class Recorded:
    """A block around one node; on leaving, its bindings are named and kept.

    names: of the node, and of the loops that it is repeated by.
    """

    def __init__(self, target: Builds, names: Sequence[str]) -> None:
        self.target = target
        self.names = tuple(names)

    def __enter__(self) -> Recorded:
        builder = self.target.builder
        begin = builder._begin_dataflow_block
        (begin if self.target.dataflow else builder._begin_binding_block)()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        block = self.target.builder._end_block()
        if kind is None:
            span = span_of(self.names)
            self.target.bindings.extend(_named(b, span) for b in block.bindings)

    def values(self, result: Any, node: Node) -> list[Value]:
        """The converter's result as values, one per output, each bound to a variable."""
        if isinstance(result, (Constant, Symbolic, Tensor, EmptyOptional)):
            return [result]
        if isinstance(result, TensorSequence):
            items = [value for item in result.items for value in self.values(item, node)]
            return [TensorSequence(tuple(items), result.dtype)]
        if isinstance(result, list):
            return [v for item in result for v in self.values(item, node)]
        if isinstance(result, relax.Tuple):
            return [self._leaf(field, node) for field in result.fields]
        if not isinstance(result, LEAVES):
            result = self.target.builder.emit(result)
        if isinstance(result.ty, relax.TupleType):
            fields = range(len(result.ty.fields))
            return [self._leaf(relax.TupleGetItem(result, i), node) for i in fields]
        return [self._leaf(result, node)]

    def _leaf(self, expr: relax.Expr, node: Node) -> Value:
        if not isinstance(expr, LEAVES):
            expr = self.target.builder.emit(expr)
        expr = completed(self.target.builder, expr, node)
        limits.check_type(expr.ty, f"{self.target.model}: the output of node '{self.names[0]}'")
        return Tensor(expr)


def _named(binding: Any, span: Any) -> Any:
    """``binding`` with ``span`` on its call."""
    value = binding.value
    if not isinstance(binding, relax.VarBinding) or not isinstance(value, relax.Call):
        return binding
    call = relax.Call(value.op, value.args, value.attrs, value.ty_args, span)
    relax.expr._update_type(call, value.ty)
    return relax.VarBinding(binding.var, call)
