"""Builds the unit that asks for a problem: the operator as networks have it.

A convolution comes with what networks have behind it (``unit_convolutions``), a matrix product
by a constant with bias; a pooling, a recurrence and attention alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from tvm import relax

from motet.runtime.errors import SpecError
from motet.targets.host.blocked import blocked_layout
from motet.targets.host.cost_model.unit_convolutions import (
    blocked_conv,
    blocked_conv_integer,
    measurable_integer,
    padding_of,
)
from motet.targets.host.cost_model.unit_function import Unit, float_unit, size_of
from motet.targets.host.kernels.attending.family import FAMILY_NAME as ATTENTION
from motet.targets.host.kernels.blocked_conv.integer import FAMILY_NAME as BLOCKED_CONV_INTEGER
from motet.targets.host.kernels.blocked_conv.integer_family import TILED_NAME, counted
from motet.targets.host.options import KernelOptions
from motet.targets.host.space import Problem
from motet.targets.operators.attention import Attention, attention
from motet.targets.operators.recurrence import Recurrence, recurrence


def unit_of(problem: Problem) -> Unit:
    """The unit that asks for ``problem``; ``SpecError`` for one that is not ``measurable``."""
    if not measurable(problem):
        raise SpecError(f"kernels such as {problem.key} cannot be measured by themselves")
    return _BUILDERS[problem.family](problem)


def measurable(problem: Problem) -> bool:
    """Whether ``unit_of`` has a unit for it."""
    sizes = dict(problem.sizes)
    plain = sizes.get("bits", 32) == 32 and sizes.get("item_bytes", 4) == 4
    whole = sizes.get("channels", 1) > 0
    odd = sizes.get("paired", 0) or sizes.get("lengths", 0)
    if problem.family == BLOCKED_CONV_INTEGER and not measurable_integer(problem):
        return False
    return problem.family in _BUILDERS and plain and whole and not odd


def _matmul(problem: Problem) -> Unit:
    """A product, of which the right operand may be a constant; then with bias.

    The right operand is read as it lies, or transposed, or as another operator gives it.
    """
    p = problem
    batch, rows, columns, depth = (size_of(p, n) for n in ("batch", "rows", "columns", "depth"))
    lead = [] if p["batch"] == 1 else [batch]
    x, y = [*lead, rows, depth], [*lead, depth, columns]
    moved = p["computed"] and not p["transposed"] and bool(lead)
    if p["transposed"]:
        y = [*lead, columns, depth]
    elif moved:
        y = [depth, batch, columns]

    def build(left: Any, right: Any, *bias: Any) -> Any:
        if p["transposed"]:
            right = relax.op.permute_dims(right, [0, 2, 1] if lead else [1, 0])
        elif moved:
            right = relax.op.permute_dims(right, [1, 0, 2])
        elif p["computed"]:
            right = relax.op.nn.relu(right)
        found = relax.op.matmul(left, right)
        return relax.op.add(found, bias[0]) if bias else found

    shapes = [x, y, [columns]] if p["constant"] else [x, y]
    known = frozenset({1, 2} if p["constant"] else ())
    return Unit(float_unit(shapes, build), known, KernelOptions())


def _pool(problem: Problem) -> Unit:
    """Maximum or average of windows, alone."""
    p = problem
    layout = blocked_layout(p["block"])
    pool = relax.op.nn.max_pool2d if p["maximum"] else relax.op.nn.avg_pool2d
    plane = [p["height"], p["width"]]
    x = [size_of(p, "batch"), p["channels"], *plane]
    if p["block"]:
        x = [x[0], p["channels"] // p["block"], *plane, p["block"]]

    def build(data: Any) -> Any:
        return pool(
            data,
            [p["kernel_h"], p["kernel_w"]],
            [p["stride_h"], p["stride_w"]],
            padding_of(p),
            [p["dilation_h"], p["dilation_w"]],
            layout=layout,
            out_layout=layout,
        )

    return Unit(float_unit([x], build), frozenset(), KernelOptions())


_CELLS = {4: "LSTM", 3: "GRU", 1: "RNN"}


def _recurrence(problem: Problem) -> Unit:
    """All steps, whose recurrent weights are constant."""
    p = problem
    cell, hidden = _CELLS[p["gates"]], p["hidden"]
    steps, batch = size_of(p, "steps"), size_of(p, "batch")
    states = ["h", "c"] if cell == "LSTM" else ["h"]
    names = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
    what = Recurrence(
        cell,
        ("projected", "recurrent", *states),
        tuple((name, 0.0, 0.0) for name in names[cell]),
        linear_before_reset=cell == "GRU" and p["together"] == p["gates"],
    )
    width = p["gates"] * hidden
    state = [batch, hidden]
    shapes: list[list[int | str]] = [[steps, batch, width], [hidden, width], *[state] * len(states)]
    function = float_unit(shapes, lambda *operands: recurrence(what, operands))
    return Unit(function, frozenset({1}), KernelOptions())


def _attention(problem: Problem) -> Unit:
    """Attention of heads that lie as projections leave them, scaled as usual; a mask is one
    value for each key.
    """
    p = problem
    batch, heads, queries, keys = (size_of(p, n) for n in ("batch", "heads", "queries", "keys"))
    what = Attention("BSHD", "BSHD", "BSHD", "BSHD", 1 / math.sqrt(p["depth"]))
    shapes = [
        [batch, queries, heads, p["depth"]], [batch, keys, heads, p["depth"]],
        [batch, keys, heads, p["width"]],
    ]  # fmt: skip
    mask: list[list[int | str]] = [[1, 1, 1, keys]] if p["mask"] else []
    function = float_unit([*shapes, *mask], lambda *operands: attention(what, operands))
    return Unit(function, frozenset(), KernelOptions())


_BUILDERS: Mapping[str, Callable[[Problem], Unit]] = {
    "blocked_conv": blocked_conv,
    BLOCKED_CONV_INTEGER: blocked_conv_integer,
    TILED_NAME: lambda problem: blocked_conv_integer(counted(problem)),
    "matmul": _matmul,
    "pool": _pool,
    "recurrence": _recurrence,
    ATTENTION: _attention,
}
