"""Nodes after what they read: unsorted graphs are sorted, cyclic ones refused."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from motet.runtime.errors import ModelError


def sorted_nodes(
    graph: onnx.GraphProto, known: set[str], label: str
) -> list[onnx.NodeProto] | None:
    """Nodes in a stable topological order; None where they are in order already.

    Raises
    ------
    ModelError
        For a cycle (names a node on it), or an input that nothing computes.
    """
    produced = {output for node in graph.node for output in node.output if output}
    needs = [set(names_read(node)) for node in graph.node]
    for index, reads in enumerate(needs):
        missing = reads - produced - known
        if missing:
            raise ModelError(
                f"{label}: {_title(graph, index)} reads '{min(missing)}', which nothing computes"
            )
    ready, done, order = list(range(len(graph.node))), set(known), []
    while ready:
        waiting = []
        for index in ready:
            if needs[index] <= done:
                order.append(index)
                done.update(graph.node[index].output)
            else:
                waiting.append(index)
        if len(waiting) == len(ready):
            raise ModelError(
                f"{label}: the graph is cyclic: {_title(graph, _on_cycle(graph, needs, waiting))} "
                "needs its own output"
            )
        ready = waiting
    if order == list(range(len(order))):
        return None
    copies = []
    for index in order:
        copy = onnx.NodeProto()
        copy.CopyFrom(graph.node[index])
        copies.append(copy)
    return copies


def names_read(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node reads from its graph, also from inside its branches."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield from _free_names(attribute.g)


def _free_names(graph: onnx.GraphProto) -> set[str]:
    own = {t.name for t in graph.initializer} | {i.name for i in graph.input}
    own |= {output for node in graph.node for output in node.output}
    read = {name for node in graph.node for name in names_read(node)}
    return (read | {output.name for output in graph.output}) - own


def _on_cycle(graph: onnx.GraphProto, needs: list[set[str]], waiting: list[int]) -> int:
    """A node on a cycle: follow unmet inputs backwards until a node comes twice."""
    producer = {out: index for index in waiting for out in graph.node[index].output}
    seen: set[int] = set()
    index = waiting[0]
    while index not in seen:
        seen.add(index)
        index = next(producer[name] for name in sorted(needs[index]) if name in producer)
    return index


def _title(graph: onnx.GraphProto, index: int) -> str:
    node = graph.node[index]
    return f"node '{node.name or f'{node.op_type}_{index}'}' ({node.op_type})"
