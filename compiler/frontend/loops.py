"""``Loop`` and ``SequenceMap``, unrolled at import; ``Scan`` is in ``scans``.

An iteration is converted like the rest of the graph, so whatever follows from its number
is computed at import. The calls of an iteration carry the names of their node and of the
loop. Equal iterations give equal kernels, which are compiled once.
"""

from __future__ import annotations

import onnx

from .control_flow import Site, Walk, scalar, truth
from .guarded_loops import guarded
from .loop_bodies import Body, empty_stack, stacked
from .node import Node
from .types import numpy_name
from .values import TensorSequence, Value


def loop(walk: Walk, site: Site) -> list[Value]:
    """Outputs of ``Loop``: the carried values, then what the iterations gave, stacked."""
    view, body = site.view, Body(walk, site)
    limit = _limit(view)
    carried = [view.value(index) for index in range(2, len(view.inputs))]
    condition = view.value(1) if view.has(1) else scalar(True, "bool")
    collected: list[list[Value]] = [[] for _ in range(body.outputs - 1 - len(carried))]
    if limit is not None and _only_counts(body.graph):
        body.check_count(limit if truth(condition) is not False else 0)
    step = 0
    while limit is None or step < limit:
        known = truth(condition)
        if known is None:
            return guarded(body, range(step, limit or 0), condition, carried, collected)
        if not known:
            break
        condition, *results = body.run([body.number(step), scalar(True, "bool"), *carried])
        carried = results[: len(carried)]
        for values, value in zip(collected, results[len(carried) :], strict=True):
            values.append(value)
        step += 1
    if collected and not step:
        sample = body.tried([body.number(0), scalar(True, "bool"), *carried])
        return carried + [empty_stack(walk, site, v, 0) for v in sample[1 + len(carried) :]]
    return carried + [stacked(walk, site, values, 0) for values in collected]


def _limit(view: Node) -> int | None:
    """The greatest number of iterations; None where none is given."""
    if not view.has(0):
        return None
    return max(0, int(view.needed_constant(0, "trip count").reshape(())))


def _only_counts(graph: onnx.GraphProto) -> bool:
    """Whether the body passes its condition on, so that the trip count alone decides."""
    makers = {output: node for node in graph.node for output in node.output}
    name = graph.output[0].name
    while name in makers and makers[name].op_type in ("Identity", "Cast"):
        name = makers[name].input[0]
    return bool(name == graph.input[1].name)


def sequence_map(walk: Walk, site: Site) -> list[Value]:
    """Outputs of ``SequenceMap``: its body on every item, other tensors the same for all."""
    view, body = site.view, Body(walk, site)
    count = len(view.sequence(0).items)
    body.check_count(count)

    def argument(value: Value, index: int) -> Value:
        if not isinstance(value, TensorSequence):
            return value
        if len(value.items) != count:
            view.refuse(f"its sequences have {count} and {len(value.items)} items")
        return value.items[index]

    values = [view.value(index) for index in range(len(view.inputs))]
    results = [body.run([argument(v, index) for v in values]) for index in range(count)]
    dtypes = [numpy_name(info.type.tensor_type.elem_type) for info in body.graph.output]
    return [
        TensorSequence(tuple(result[index] for result in results), dtype)
        for index, dtype in enumerate(dtypes)
    ]
