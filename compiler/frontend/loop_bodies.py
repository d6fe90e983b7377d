"""The graph that a loop repeats, and what its iterations give, stacked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from tvm import relax

from . import joining
from .control_flow import Site, Walk, branch
from .types import with_type_of
from .values import Constant, EmptyOptional, Symbolic, TensorSequence, Value, shape_value

MAX_UNROLLED = 20_000
"""Nodes that the loops of a model may be unrolled to."""


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

    def number(self, step: int) -> Constant:
        """The iteration number, in the shape that the body declares for it."""
        declared = self.graph.input[0].type.tensor_type.shape.dim if self.graph.input else ()
        return Constant(np.full([1] * len(declared), step, np.int64))

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
        whole = recorded.values(joining.stacked(site.view, tensors, axis), site.view)[0]
        return with_type_of(values[0], whole)


def _is_scalar(value: Value) -> bool:
    shape = value.array.shape if isinstance(value, Constant) else value.dims.shape  # type: ignore[union-attr]
    return shape == ()


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
