"""A unit for a problem: the operator in the surroundings in which networks have it.

A convolution comes with bias and ReLU in the layout that the problem names, a matrix product
with bias. Lowered with a point forced, it is the kernel that the point is measured by. That a
unit asks for exactly the problem it was made from is checked whenever one is lowered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tvm import relax, tirx

from motet.runtime.errors import SpecError
from motet.targets.host.blocked import blocked_layout
from motet.targets.host.loops import constant_of
from motet.targets.host.lower_unit import LoweredUnit, lower_unit
from motet.targets.host.machine import Machine
from motet.targets.host.options import KernelOptions
from motet.targets.host.space import Family, Point, Problem, first_point, forced, selecting

SYMBOLIC = -1
_EXTENTS = {"batch": 1, "rows": 96, "columns": 256, "depth": 512}
"""What a symbolic extent is when a kernel is measured: one image, and what matrix products
are made for where their sizes are open."""


@dataclass(frozen=True)
class Unit:
    """function: the unit. weights: parameters that a network has as constants. options: what
    the kernel is lowered with.
    """

    function: relax.Function
    weights: frozenset[int]
    options: KernelOptions


@dataclass(frozen=True)
class Tensor:
    """An argument of a kernel; ``weight`` where a network has it as a constant."""

    shape: tuple[int, ...]
    dtype: str
    weight: bool = False


def unit_of(problem: Problem) -> Unit:
    """The unit that asks for ``problem``; ``SpecError`` for one that is not ``measurable``."""
    if not measurable(problem):
        raise SpecError(f"kernels such as {problem.key} cannot be measured by themselves")
    return _BUILDERS[problem.family](problem)


def measurable(problem: Problem) -> bool:
    """Whether ``unit_of`` has a unit for it."""
    if problem.family == "matmul":
        return not problem["paired"] and problem["bits"] == 32
    return problem.family in _BUILDERS


def kernel_of(problem: Problem, point: Point, machine: Machine) -> LoweredUnit:
    """The kernel of ``problem`` with the settings of ``point``."""
    unit = unit_of(problem)
    with forced({problem: point}), problems_into([]) as others:
        lowered = lower_unit(unit.function, unit.weights, machine, unit.options)
    if others:
        raise AssertionError(f"the unit of {problem.key} asks for {others[0].key}")
    return lowered


@contextmanager
def problems_into(found: list[Problem]) -> Iterator[list[Problem]]:
    """Within it every choice is the hand-written one, and its problem goes on the list."""

    def note(family: Family, problem: Problem, points: Sequence[Point], machine: Machine) -> Point:
        found.append(problem)
        return first_point(family, problem, points, machine)

    with selecting(note):
        yield found


def arguments_of(problem: Problem, lowered: LoweredUnit) -> list[Tensor]:
    """Shapes of the kernel's arguments, inputs before outputs."""
    weights = unit_of(problem).weights
    return [
        Tensor(tuple(_extent(d) for d in param.shape), str(param.dtype), number in weights)
        for number, param in enumerate(lowered.func.params)
    ]


def _extent(dimension: Any) -> int:
    size = constant_of(dimension)
    return _EXTENTS[str(dimension.name)] if size is None else size


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


_BUILDERS: Mapping[str, Callable[[Problem], Unit]] = {
    "blocked_conv": _blocked_conv,
    "matmul": _matmul,
}
