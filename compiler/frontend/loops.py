"""``Loop`` and ``SequenceMap``, unrolled at import; ``Scan`` is in ``scans``.

An iteration is converted like the rest of the graph, so whatever follows from its number
is computed at import. The calls of an iteration carry the names of their node and of the
loop. Equal iterations give equal kernels, which are compiled once.

Where only the run decides whether an iteration takes place, but a trip count bounds them,
each is the branch of a Relax ``If``; the carried values must then keep their shapes, and
the loop must collect no outputs, whose length would depend on data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from tvm import relax

from .control_flow import Site, Walk, branch, joined, scalar, truth
from .node import Node
from .types import numpy_name, with_type_of
from .values import Constant, EmptyOptional, Symbolic, TensorSequence, Value, shape_value

MAX_UNROLLED = 20_000
"""Nodes that the loops of a model may be unrolled to."""
_MAX_STACKED = 16


class Body:
    """The graph that a loop repeats."""

    def __init__(self, walk: Walk, site: Site) -> None:
        self.walk = walk
        self.site = site
        self.graph: onnx.GraphProto = site.view.attr("body")
        self.outputs = len(self.graph.output)
        self._outside = walk.entered(self.graph, site.scope)
        self._place = site.place.loop(site.name)

    def check_count(self, iterations: int) -> None:
        """Refuse to unroll ``iterations`` where that alone exceeds the bound."""
        nodes = iterations * len(self.graph.node)
        if nodes > MAX_UNROLLED:
            self.site.view.refuse(
                f"{iterations} iterations of {len(self.graph.node)} nodes are {nodes} nodes, more "
                f"than the {MAX_UNROLLED} that loops are unrolled to: run it over shorter inputs"
            )

    def run(self, values: Sequence[Value]) -> list[Value]:
        """One iteration on the graph's inputs; its outputs."""
        names = [info.name for info in self.graph.input]
        if len(names) != len(values):
            self.site.view.refuse(f"its body takes {len(names)} inputs, not {len(values)}")
        scope = {**self._outside, **dict(zip(names, values, strict=True))}
        return self.walk.graph(self.graph, scope, self._place)

    def tried(self, values: Sequence[Value]) -> list[Value]:
        """Outputs of an iteration that never takes place: their types are what is asked."""
        return branch(self.walk, lambda: self.run(values)).values


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
            return _guarded(body, range(step, limit or 0), condition, carried)
        if not known:
            break
        condition, *results = body.run([_number(body, step), scalar(True, "bool"), *carried])
        carried = results[: len(carried)]
        for values, value in zip(collected, results[len(carried) :], strict=True):
            values.append(value)
        step += 1
    if collected and not step:
        sample = body.tried([_number(body, 0), scalar(True, "bool"), *carried])
        return carried + [empty_stack(walk, site, v, 0) for v in sample[1 + len(carried) :]]
    return carried + [stacked(walk, site, values, 0) for values in collected]


def _limit(view: Node) -> int | None:
    """The greatest number of iterations; None where none is given."""
    if not view.has(0):
        return None
    return max(0, int(view.needed_constant(0, "trip count").reshape(())))


def _number(body: Body, step: int) -> Constant:
    """The iteration number, in the shape that the body declares for it."""
    declared = body.graph.input[0].type.tensor_type.shape.dim if body.graph.input else ()
    return Constant(np.full([1] * len(declared), step, np.int64))


def _only_counts(graph: onnx.GraphProto) -> bool:
    """Whether the body passes its condition on, so that the trip count alone decides."""
    makers = {output: node for node in graph.node for output in node.output}
    name = graph.output[0].name
    while name in makers and makers[name].op_type in ("Identity", "Cast"):
        name = makers[name].input[0]
    return name == graph.input[1].name


def _guarded(body: Body, steps: range, condition: Value, carried: list[Value]) -> list[Value]:
    """The carried values after iterations that the run decides on, one after the other."""
    walk, site = body.walk, body.site
    nodes = len(steps) * len(body.graph.node)
    if body.outputs - 1 > len(carried) or not steps or nodes > MAX_UNROLLED:
        site.view.refuse(
            "its condition decides at run time how often it runs"
            + (", and so the length of its outputs" if body.outputs - 1 > len(carried) else "")
            + ": it must be known at compile time, or there must be a trip count of at most "
            f"{MAX_UNROLLED // max(1, len(body.graph.node))} and no collected output",
            condition,
        )
    for step in steps:
        before = [condition, *carried]

        def iteration(step: int = step, before: list[Value] = before) -> list[Value]:
            flag, *after = body.run([_number(body, step), scalar(True, "bool"), *before[1:]])
            return [before[0] if truth(flag) else flag, *after]

        then = branch(walk, iteration)
        last = truth(then.values[0]) is False
        if last:  # known to stop: what the condition would say then is of no use
            then.values[0] = condition
        over = branch(walk, lambda before=before: list(before))  # type: ignore[misc]
        condition, *carried = joined(walk, site, condition, then, over)
        if last:
            break
    return carried


def stacked(walk: Walk, site: Site, values: Sequence[Value], axis: int) -> Value:
    """Values of equal shape as one, along the new ``axis``."""
    arrays = [v.array for v in values if isinstance(v, Constant)]
    if len({a.shape for a in arrays}) == 1 and len(arrays) == len(values):
        return Constant(np.stack(arrays, axis))
    if all(isinstance(v, (Constant, Symbolic)) and _is_scalar(v) for v in values):
        items = [v.array.item() if isinstance(v, Constant) else v.dims.item() for v in values]  # type: ignore[union-attr]
        return shape_value(items, next(v.dtype for v in values if isinstance(v, Symbolic)))
    if any(isinstance(v, (TensorSequence, EmptyOptional)) for v in values):
        site.view.refuse("an output that collects sequences or optionals")
    with site.record(walk) as recorded:
        tensors = [site.view.tensor(value) for value in values]
        shapes = {tuple(map(str, site.view.shape(tensor))) for tensor in tensors}
        if len(shapes) > 1:
            site.view.refuse(
                f"its iterations give shapes {' and '.join(sorted(map(str, shapes)))}, "
                "which cannot be stacked"
            )
        whole = recorded.values(_stack(site.view, tensors, axis), site.view)[0]
        return with_type_of(values[0], whole)


def _is_scalar(value: Value) -> bool:
    shape = value.array.shape if isinstance(value, Constant) else value.dims.shape  # type: ignore[union-attr]
    return shape == ()


def _stack(view: Node, tensors: list[relax.Expr], axis: int) -> relax.Expr:
    """A stack of a few at a time: a kernel of a thousand operands takes long to compile."""
    whole = [
        view.emit(relax.op.stack(tensors[i : i + _MAX_STACKED], axis))
        for i in range(0, len(tensors), _MAX_STACKED)
    ]
    while len(whole) > 1:
        whole = [
            view.emit(relax.op.concat(whole[i : i + _MAX_STACKED], axis))
            for i in range(0, len(whole), _MAX_STACKED)
        ]
    return whole[0]


def empty_stack(walk: Walk, site: Site, sample: Value, axis: int) -> Value:
    """No values stacked; ``sample`` has the type that they would have."""
    with site.record(walk) as recorded:
        tensor = site.view.tensor(sample)
        shape = list(site.view.shape(tensor))
        shape.insert(axis if axis >= 0 else axis + len(shape) + 1, 0)
        dtype = site.view.dtype(tensor)
        if all(isinstance(dim, int) for dim in shape):
            return with_type_of(sample, Constant(np.zeros(shape, dtype)))
        zeros = relax.op.zeros(relax.ShapeExpr(shape), dtype)
        return with_type_of(sample, recorded.values(zeros, site.view)[0])


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


Outputs = Sequence[Any]
