"""Finds the first node of a graph whose value differs from the reference.

1. Of the values that the bundle's own program computes and that are values of the graph
   (``node_values``), the first in the graph's order that differs is taken.
2. Between it and what agrees may lie nodes whose values did not survive (fused, folded, or
   views). These suspects are cut out, compiled apart with every value as an output, and
   run on the reference's values: the first that differs there is the node.
3. Where none differs there, the fault needs the unit as it was fused, or is the work of a
   pass over more of the graph: the unit is named, and the suspects with it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from motet import api
from motet.check import Difference, compare
from motet.node_graph import GraphNode, NodeGraph
from motet.node_values import Compared, NodeChecker, NodeComparison, Values, inner_tolerance
from motet.runtime.bundle import Bundle
from motet.runtime.device import Array
from motet.runtime.errors import MotetError
from motet.runtime.program import Operator

CompilePart = Callable[[Path], Bundle]

OWN_RUN = "the bundle's own run"
APART = "compiled apart"
VANISHES = "compiled apart its nodes agree"


@dataclass(frozen=True)
class Input:
    """An input of the node found. state: why it is not to blame."""

    name: str
    node: str | None
    operator: str | None
    state: str


@dataclass(frozen=True)
class FirstDifference:
    """The node found, and what stands around it.

    unit: the operator of the program that it is part of; suspects: names of the nodes
    between the values that agree and the one that differed in the bundle's own run;
    found_by: ``OWN_RUN``, ``APART`` or ``VANISHES``; read_by: nodes that read the output.
    """

    node: str
    operator: str
    difference: Difference
    unit: Operator | None
    inputs: tuple[Input, ...]
    read_by: tuple[tuple[str, str], ...]
    suspects: tuple[str, ...]
    found_by: str
    note: str = ""


def first_difference(
    checker: NodeChecker,
    compared: NodeComparison,
    inputs: Values,
    target: str,
    tolerance: tuple[float | None, float | None] = (None, None),
    operators: Sequence[str] = (),
) -> FirstDifference | None:
    """The first node that differs; None where all that was compared agrees.

    compared: of ``checker`` on ``inputs``; target: what suspects are compiled for;
    tolerance: atol and rtol as given; operators: files of the user's own.
    """
    first = next((row for row in compared.rows if not row.difference.passed), None)
    if first is None:
        return None
    graph = checker.graph
    agreeing = {row.difference.output for row in compared.rows if row.difference.passed}
    suspects = suspects_of(graph, first, agreeing)
    found = _described(graph, first, agreeing, suspects, OWN_RUN)
    if len(suspects) == 1:
        return found
    try:
        compile_part = partial(api.compile, target=target, operators=operators)
        rows = _compared_apart(checker, suspects, inputs, compile_part, tolerance)
    except MotetError as error:
        return replace(found, note=f"its suspects could not be compiled apart: {error}")
    part = next((row for row in rows if not row.difference.passed), None)
    if part is None:
        return replace(found, found_by=VANISHES)
    agreeing |= {row.difference.output for row in rows if row.difference.passed}
    unit = first.unit if part.node.name in (first.unit.onnx_nodes if first.unit else ()) else None
    return _described(graph, replace(part, unit=unit), agreeing, suspects, APART)


def suspects_of(graph: NodeGraph, first: Compared, agreeing: set[str]) -> list[GraphNode]:
    """The node of ``first`` and all before it, back to values that agree, in order."""
    found, waiting = {first.node.index: first.node}, [first.node]
    while waiting:
        for name in waiting.pop().reads:
            node = graph.producer.get(name)
            if node is not None and name not in agreeing and node.index not in found:
                found[node.index] = node
                waiting.append(node)
    return [found[index] for index in sorted(found)]


def _described(
    graph: NodeGraph, row: Compared, agreeing: set[str], suspects: Sequence[GraphNode], how: str
) -> FirstDifference:
    readers = graph.consumers.get(row.difference.output, ())
    return FirstDifference(
        node=row.node.name,
        operator=row.node.operator,
        difference=row.difference,
        unit=row.unit,
        inputs=tuple(_input(graph, name, agreeing) for name in row.node.reads),
        read_by=tuple((node.name, node.operator) for node in readers),
        suspects=tuple(node.name for node in suspects),
        found_by=how,
    )


def _input(graph: NodeGraph, name: str, agreeing: set[str]) -> Input:
    node = graph.producer.get(name)
    if node is None:
        is_weight = any(tensor.name == name for tensor in graph.model.graph.initializer)
        return Input(name, None, None, "weight" if is_weight else "input of the model")
    state = "agrees" if name in agreeing else "not computed by itself"
    return Input(name, node.name, node.operator, state)


def _compared_apart(
    checker: NodeChecker,
    suspects: Sequence[GraphNode],
    inputs: Values,
    compile_part: CompilePart,
    tolerance: tuple[float | None, float | None],
) -> list[Compared]:
    """The suspects' values, compiled by themselves, against the reference; in order."""
    made = {name for node in suspects for name in node.outputs if name}
    edge = [n for node in suspects for n in node.reads if n not in made]
    given = {name: array for name, array in inputs.items() if name in edge}
    computed = [name for name in edge if name in checker.graph.producer]
    shown = [
        name
        for node in suspects
        for name in checker.graph.read_outputs(node)
        if node.operator != "Constant"
    ]
    want = checker.reference([*computed, *shown], inputs)
    known = {name: want[name] for name in computed if name in want}
    part = _Part(checker.graph, suspects, given, known, {n: want[n] for n in shown if n in want})
    values = part.run(compile_part)
    rows = []
    for name, value in values.items():
        allowed = inner_tolerance(want[name].dtype.name, *tolerance)
        found = compare(checker.session.name, name, value, want[name], allowed)
        rows.append(Compared(checker.graph.producer[name], found, None))
    return sorted(rows, key=lambda row: row.node.index)


class _Part:
    """Some nodes of a graph as a model of their own, on values of what they read."""

    def __init__(
        self,
        graph: NodeGraph,
        nodes: Sequence[GraphNode],
        given: Values,
        computed: Values,
        outputs: Values,
    ) -> None:
        self.graph = graph
        self.nodes = nodes
        # Integers that other nodes computed are shapes, axes and counts: better known early.
        self.fixed = {n: a for n, a in computed.items() if a.dtype.kind == "i" and a.ndim < 2}
        self.given = {**given, **{n: a for n, a in computed.items() if n not in self.fixed}}
        self.outputs = outputs

    def run(self, compile_part: CompilePart) -> Mapping[str, Array]:
        """Compile and run it."""
        from onnx import save

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "part.onnx"
            save(self._model(), str(path))
            session = api.load(compile_part(path))
        return session.run(None, self.given)

    def _model(self) -> Any:
        from onnx import helper, numpy_helper

        own = {tensor.name: tensor for tensor in self.graph.model.graph.initializer}
        read = dict.fromkeys(name for node in self.nodes for name in node.reads)
        weights = [own[name] for name in read if name in own]
        weights += [numpy_helper.from_array(array, name) for name, array in self.fixed.items()]
        graph = helper.make_graph(
            [_named(node) for node in self.nodes],
            "part",
            [_info(name, array) for name, array in self.given.items()],
            [_info(name, array) for name, array in self.outputs.items()],
            weights,
        )
        model = self.graph.model
        return helper.make_model(
            graph, opset_imports=model.opset_import, ir_version=model.ir_version
        )


def _named(node: GraphNode) -> Any:
    """The node under the name it has in the whole graph."""
    proto = type(node.proto)()
    proto.CopyFrom(node.proto)
    proto.name = node.name
    return proto


def _info(name: str, array: Array) -> Any:
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, kind, array.shape)
