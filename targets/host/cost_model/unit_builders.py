"""Builds the unit that asks for a problem: the operator as networks have it.

A convolution comes with bias and ReLU in the layout that the problem names, a matrix product
by a constant with bias; a pooling and a recurrence alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import relax, tirx

from motet.runtime.errors import SpecError
from motet.targets.host.blocked import blocked_layout
from motet.targets.host.options import KernelOptions
from motet.targets.host.space import Problem
from motet.targets.operators.recurrence import Recurrence, recurrence

SYMBOLIC = -1


@dataclass(frozen=True)
class Unit:
    """function: the unit. weights: parameters that a network has as constants. options: what
    the kernel is lowered with.
    """

    function: relax.Function
    weights: frozenset[int]
    options: KernelOptions


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
    return problem.family in _BUILDERS and plain and whole and not odd


def _size(problem: Problem, name: str) -> Any:
    return tirx.Var(name, "int64") if problem[name] == SYMBOLIC else problem[name]


def _blocked_conv(problem: Problem) -> Unit:
    """[relu](x) convolved with W, plus bias, ReLU."""
    p = problem
    block_in, block_out = p["block_in"], p["block_out"]
    batch = _size(p, "batch")
    plane = [p["height"], p["width"]]
    x = [batch, p["channels"], *plane]
    if block_in:
        x = [batch, p["channels"] // block_in, *plane, block_in]
    weights = [p["outs"], p["channels"] // p["groups"], p["kernel_h"], p["kernel_w"]]
    outs = [1, p["outs"] // block_out, 1, 1, block_out] if block_out else [1, p["outs"], 1, 1]

    def build(data: Any, kernel: Any, bias: Any) -> Any:
        conv = relax.op.nn.conv2d(
            relax.op.nn.relu(data) if p["prologue"] else data,
            kernel,
            strides=[p["stride_h"], p["stride_w"]],
            padding=_padding(p),
            dilation=[p["dilation_h"], p["dilation_w"]],
            groups=p["groups"],
            data_layout=blocked_layout(block_in),
            kernel_layout="OIHW",
            out_layout=blocked_layout(block_out),
        )
        return relax.op.nn.relu(relax.op.add(conv, bias))

    known = frozenset({1, 2} if p["constant"] else {2})
    options = KernelOptions(reassociate=bool(p["reassociate"]))
    return Unit(_unit_function([x, weights, outs], build), known, options)


def _padding(p: Problem) -> list[int]:
    """(top, left, bottom, right): the far sides pad what the output's size needs."""
    far = []
    for size, out, kernel, stride, dilation, near in (
        (p["height"], p["out_height"], p["kernel_h"], p["stride_h"], p["dilation_h"], p["top"]),
        (p["width"], p["out_width"], p["kernel_w"], p["stride_w"], p["dilation_w"], p["left"]),
    ):
        reach = (out - 1) * stride + (kernel - 1) * dilation + 1
        far.append(max(0, reach - size - near))
    return [p["top"], p["left"], *far]


def _unit_function(shapes: Sequence[Sequence[Any]], build: Callable[..., Any]) -> relax.Function:
    """As ``_function``, with all calls in one block, as units have them."""
    params = [
        relax.Var(f"p{i}", relax.TensorType(list(shape), "float32"))
        for i, shape in enumerate(shapes)
    ]
    builder = relax.BlockBuilder()
    with builder.function("unit", params):
        with builder.dataflow():
            result = builder.emit_output(build(*params))
        builder.emit_func_output(result)
    return builder.get()["unit"].without_attr("global_symbol")


def _matmul(problem: Problem) -> Unit:
    """A product, of which the right operand may be a constant; then with bias.

    The right operand is read as it lies, or transposed, or as another operator gives it.
    """
    p = problem
    batch, rows, columns, depth = (_size(p, n) for n in ("batch", "rows", "columns", "depth"))
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
    return Unit(_unit_function(shapes, build), known, KernelOptions())


def _pool(problem: Problem) -> Unit:
    """Maximum or average of windows, alone."""
    p = problem
    layout = blocked_layout(p["block"])
    pool = relax.op.nn.max_pool2d if p["maximum"] else relax.op.nn.avg_pool2d
    plane = [p["height"], p["width"]]
    x = [_size(p, "batch"), p["channels"], *plane]
    if p["block"]:
        x = [x[0], p["channels"] // p["block"], *plane, p["block"]]

    def build(data: Any) -> Any:
        return pool(
            data,
            [p["kernel_h"], p["kernel_w"]],
            [p["stride_h"], p["stride_w"]],
            _padding(p),
            [p["dilation_h"], p["dilation_w"]],
            layout=layout,
            out_layout=layout,
        )

    return Unit(_unit_function([x], build), frozenset(), KernelOptions())


_CELLS = {4: "LSTM", 3: "GRU", 1: "RNN"}


def _recurrence(problem: Problem) -> Unit:
    """All steps, whose recurrent weights are constant."""
    p = problem
    cell, hidden = _CELLS[p["gates"]], p["hidden"]
    steps, batch = _size(p, "steps"), _size(p, "batch")
    states = ["h", "c"] if cell == "LSTM" else ["h"]
    names = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
    what = Recurrence(
        cell,
        ("projected", "recurrent", *states),
        tuple((name, 0.0, 0.0) for name in names[cell]),
        linear_before_reset=cell == "GRU" and p["together"] == p["gates"],
    )
    width = p["gates"] * hidden
    shapes = [[steps, batch, width], [hidden, width], *([batch, hidden] for _ in states)]
    function = _unit_function(shapes, lambda *operands: recurrence(what, operands))
    return Unit(function, frozenset({1}), KernelOptions())


_BUILDERS: Mapping[str, Callable[[Problem], Unit]] = {
    "blocked_conv": _blocked_conv,
    "matmul": _matmul,
    "pool": _pool,
    "recurrence": _recurrence,
}
