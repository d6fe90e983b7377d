"""Operators that hold graphs: ``If``; ``Loop``, ``Scan`` and ``SequenceMap`` are in ``loops``.

The branch of an ``If`` is taken at import where its condition is known. Where it is not,
both branches become those of a Relax ``If``, whose results must have one rank: a result
that is equal in both, or known to be equal, passes beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx
from tvm import relax

from motet.runtime.errors import MotetError, ValueNeededError

from .completion import cast_to
from .node import Node
from .places import Place
from .recording import Builds, Recorded
from .shape_data import same
from .types import with_type_of
from .values import Constant, EmptyOptional, Symbolic, Tensor, TensorSequence, Value, as_dim

Scope = dict[str, Value]


class BranchesNeededError(Exception):
    """The function holds an ``If``, so it cannot be one dataflow block."""


class Walk(Builds, Protocol):
    """Who converts graphs: the importer."""

    def graph(self, graph: onnx.GraphProto, scope: Scope, place: Place) -> list[Value]:
        """Convert the nodes of ``graph`` in ``scope``; returns its outputs."""

    def entered(self, graph: onnx.GraphProto, scope: Mapping[str, Value]) -> Scope:
        """A scope inside ``graph``: what is known outside, and its own initialisers."""


@dataclass(frozen=True)
class Site:
    """A node that holds graphs, and where it stands.

    view: the node as converters see it; scope: the values around it.
    """

    view: Node
    name: str
    scope: Scope
    place: Place

    def record(self, walk: Walk) -> Recorded:
        """A block for what is emitted for the node itself."""
        return Recorded(walk, self.place.names(self.name))


@dataclass(frozen=True)
class Branch:
    """One side of a run-time choice: what it binds, and its results."""

    bindings: list[Any]
    values: list[Value]


def choose(walk: Walk, site: Site) -> list[Value]:
    """Outputs of ``If``: of the taken branch where it is known, else of a Relax ``If``."""
    condition = site.view.value(0)
    place = site.place.branch(site.name)

    def side(name: str) -> list[Value]:
        graph = site.view.attr(name)
        return walk.graph(graph, walk.entered(graph, site.scope), place)

    known = truth(condition)
    if known is not None:
        return side("then_branch" if known else "else_branch")
    then = _fitting(walk, site, condition, lambda: side("then_branch"))
    otherwise = _fitting(walk, site, condition, lambda: side("else_branch"))
    return joined(walk, site, condition, then, otherwise)


def _fitting(
    walk: Walk, site: Site, condition: Value, convert: Callable[[], list[Value]]
) -> Branch:
    """A branch; one that cannot be converted may be one that these inputs never take."""
    try:
        return branch(walk, convert)
    except ValueNeededError:
        raise
    except MotetError as error:
        site.view.refuse(
            f"its condition is for the run to tell, and a branch fails: {error}", condition
        )


def truth(condition: Value) -> bool | None:
    """What a condition is, where it is known."""
    return bool(condition.array.any()) if isinstance(condition, Constant) else None


def branch(walk: Walk, convert: Callable[[], list[Value]]) -> Branch:
    """What ``convert`` emits, kept apart from the bindings so far."""
    outer, walk.bindings = walk.bindings, []
    try:
        values = convert()
        return Branch(walk.bindings, values)
    finally:
        walk.bindings = outer


def joined(
    walk: Walk, site: Site, condition: Value, then: Branch, otherwise: Branch
) -> list[Value]:
    """The results of a choice at run time between two branches.

    Raises ``RefusedNodeError`` where they differ in more than their elements.
    """
    pairs = [
        pair
        for one, other in zip(then.values, otherwise.values, strict=True)
        for pair in _pairs(site.view, condition, one, other)
    ]
    chosen = [pair for pair in pairs if not _equal(*pair)]
    made = _choice(walk, site, condition, then, otherwise, chosen)
    results = map(with_type_of, (one for one, _ in chosen), made)
    merged = iter([pair[0] if _equal(*pair) else next(results) for pair in pairs])
    return [_rebuilt(value, merged) for value in then.values]


def _pairs(view: Node, condition: Value, one: Value, other: Value) -> list[tuple[Value, Value]]:
    """The tensors of two results of one kind, side by side."""
    if isinstance(one, EmptyOptional) != isinstance(other, EmptyOptional):
        view.refuse(
            "its branches give an optional with and without a value: its condition must be known",
            condition,
        )
    if not isinstance(one, TensorSequence) and not isinstance(other, TensorSequence):
        return [(one, other)]
    if not isinstance(one, TensorSequence) or not isinstance(other, TensorSequence):
        view.refuse("its branches give a sequence and none: its condition must be known", condition)
    if len(one.items) != len(other.items):
        view.refuse(
            f"its branches give sequences of {len(one.items)} and {len(other.items)}: "
            "its condition must be known at compile time",
            condition,
        )
    return list(zip(one.items, other.items, strict=True))


def _rebuilt(value: Value, tensors: Any) -> Value:
    if isinstance(value, TensorSequence):
        return TensorSequence(tuple(next(tensors) for _ in value.items), value.dtype)
    result: Value = next(tensors)
    return result


def _equal(one: Value, other: Value) -> bool:
    """Whether both branches give the same, whatever the condition is."""
    if isinstance(one, Constant) and isinstance(other, Constant):
        a, b = one.array, other.array
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(one, Symbolic) and isinstance(other, Symbolic):
        pairs = zip(one.dims.flat, other.dims.flat, strict=False)
        return one.dims.shape == other.dims.shape and all(same(a, b) for a, b in pairs)
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return bool(one.expr.same_as(other.expr))
    return one == other if type(one) is type(other) else False


def _choice(
    walk: Walk,
    site: Site,
    condition: Value,
    then: Branch,
    otherwise: Branch,
    pairs: Sequence[tuple[Value, Value]],
) -> list[Value]:
    """A Relax ``If`` that gives one of each of ``pairs``."""
    if not pairs:
        return []
    if walk.dataflow:
        raise BranchesNeededError
    sides = [
        _closed(walk, site, then, [pair[0] for pair in pairs]),
        _closed(walk, site, otherwise, [pair[1] for pair in pairs]),
    ]
    for one, other in zip(*(tensors for _, tensors in sides), strict=True):
        _check_alike(site.view, condition, one, other)
    with site.record(walk) as recorded:
        flag = site.view.tensor(condition)
        if site.view.rank(flag) != 0:
            flag = walk.builder.emit(relax.op.reshape(flag, []))
        result = walk.builder.emit(relax.If(flag, *(body for body, _ in sides)))
        values = recorded.values(result, site.view)
        return [
            _with_known(site.view, value, one, other)
            for value, one, other in zip(values, *(tensors for _, tensors in sides), strict=True)
        ]


def _with_known(view: Node, value: Value, one: relax.Expr, other: relax.Expr) -> Value:
    """``value`` with the dimensions that are the same in both branches."""
    if not isinstance(value, Tensor):
        return value
    dims = [
        a if same(a, b) else joined_dim
        for a, b, joined_dim in zip(
            view.shape(one), view.shape(other), view.shape(value.expr), strict=True
        )
    ]
    return Tensor(cast_to(view, value.expr, dims))


def _closed(
    walk: Walk, site: Site, side: Branch, values: Sequence[Value]
) -> tuple[relax.SeqExpr, list[relax.Expr]]:
    """A branch as a sequence expression, and the tensors that it gives."""
    outer, walk.bindings = walk.bindings, list(side.bindings)
    with site.record(walk):
        tensors = [site.view.tensor(value) for value in values]
        result = walk.builder.emit(relax.Tuple(tensors) if len(tensors) > 1 else tensors[0])
    bindings, walk.bindings = walk.bindings, outer
    return relax.SeqExpr([relax.BindingBlock(bindings)], result), tensors


def _check_alike(view: Node, condition: Value, one: relax.Expr, other: relax.Expr) -> None:
    """Refuse branches whose results the run time could not put in one place."""
    shapes = [view.shape(expr) for expr in (one, other)]
    if view.dtype(one) == view.dtype(other) and len(shapes[0]) == len(shapes[1]):
        return
    shown = " and ".join(
        f"{view.dtype(expr)} {[str(as_dim(d)) for d in shape]}"
        for expr, shape in zip((one, other), shapes, strict=True)
    )
    view.refuse(
        f"its result is {shown.replace(chr(39), '')}, as its condition decides at run time: "
        "the condition must be known at compile time",
        condition,
    )


def scalar(value: bool | int, dtype: str) -> Constant:
    """A known scalar."""
    return Constant(np.array(value, dtype))
