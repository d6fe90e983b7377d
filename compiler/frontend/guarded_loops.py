"""Loops whose condition only the run knows, where a trip count bounds them.

Each iteration that may take place is the branch of a Relax ``If``; the other branch passes
the carried values on, so they must keep their ranks. What the iterations give is stacked
for all of them, and cut where the run stopped: its length is one that the run finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tvm import relax

from . import late, loop_bodies
from .control_flow import Site, Walk, branch, joined, scalar, truth
from .loop_bodies import Body, stacked
from .types import with_type_of
from .values import Constant, Tensor, Value


@dataclass(frozen=True)
class _State:
    """What one iteration hands to the next.

    condition: whether it takes place; count: how many have; carried: the loop's values.
    """

    condition: Value
    count: Value
    carried: list[Value]

    def values(self) -> list[Value]:
        """In one list."""
        return [self.condition, self.count, *self.carried]


def guarded(
    body: Body,
    steps: range,
    condition: Value,
    carried: list[Value],
    collected: list[list[Value]],
) -> list[Value]:
    """Outputs of a loop that may stop before any of ``steps``.

    collected: what iterations before ``steps`` gave; more is appended.
    """
    walk, site = body.walk, body.site
    _check(body, steps, condition)
    state = _State(_flag(walk, site, condition), scalar(steps.start, "int64"), carried)
    for step in steps:
        then = branch(walk, lambda step=step, state=state: _iteration(body, step, state))  # type: ignore[misc]
        last = truth(then.values[0]) is False
        if last:  # known to stop: what the condition would say then is of no use
            then.values[0] = state.condition
        given = then.values[2 + len(carried) :]
        over = branch(walk, lambda state=state, given=given: _passed(walk, site, state, given))  # type: ignore[misc]
        flag, count, *results = joined(walk, site, state.condition, then, over)
        state = _State(flag, count, results[: len(carried)])
        for values, value in zip(collected, results[len(carried) :], strict=True):
            values.append(value)
        if last:
            break
    return [*state.carried, *_cut(walk, site, state.count, collected)]


def _check(body: Body, steps: range, condition: Value) -> None:
    nodes = len(body.graph.node)
    if not steps or len(steps) * nodes > loop_bodies.MAX_UNROLLED:
        body.site.view.refuse(
            "its condition decides at run time how often it runs: it must be known at compile "
            f"time, or a trip count of at most {loop_bodies.MAX_UNROLLED // max(1, nodes)} "
            "must bound it",
            condition,
        )


def _flag(walk: Walk, site: Site, condition: Value) -> Value:
    """A condition as a scalar; some models declare vectors of one."""
    if not isinstance(condition, Tensor) or site.view.rank(condition.expr) == 0:
        return condition
    with site.record(walk) as recorded:
        return recorded.values(relax.op.reshape(condition.expr, []), site.view)[0]


def _iteration(body: Body, step: int, state: _State) -> list[Value]:
    """An iteration that takes place: the next state, and what it gives."""
    given = body.run([body.number(step), scalar(True, "bool"), *state.carried])
    condition = given[0] if truth(given[0]) is not True else state.condition
    count = scalar(step + 1, "int64")
    return [_flag(body.walk, body.site, condition), count, *given[1:]]


def _passed(walk: Walk, site: Site, state: _State, given: Sequence[Value]) -> list[Value]:
    """An iteration that does not: the same state; what it would give is cut off later."""
    return [*state.values(), *(_filler(walk, site, value) for value in given)]


def _filler(walk: Walk, site: Site, value: Value) -> Value:
    """Any value of the same type and shape."""
    if not isinstance(value, Tensor):
        return value
    shape = site.view.shape(value.expr)
    dtype = site.view.dtype(value.expr)
    if all(isinstance(dim, int) for dim in shape):
        return with_type_of(value, Constant(np.zeros(shape, dtype)))
    with site.record(walk) as recorded:
        zeros = recorded.values(relax.op.zeros(relax.ShapeExpr(shape), dtype), site.view)[0]
    return with_type_of(value, zeros)


def _cut(walk: Walk, site: Site, count: Value, collected: list[list[Value]]) -> list[Value]:
    """The stacked outputs, as far as iterations took place."""
    whole = [stacked(walk, site, values, 0) for values in collected]
    if not whole or isinstance(count, Constant):
        return whole
    view = site.view
    with site.record(walk) as recorded:
        vector = late.vector_of(view, view.tensor(count))
        (length,) = late.bind(view, vector, ["iterations"])
        return [
            with_type_of(one, recorded.values(late.first(view, view.tensor(one), length), view)[0])
            for one in whole
        ]
