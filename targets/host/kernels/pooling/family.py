"""Pooling: the maximum or the sum of a window, in the plain and in the blocked layout.

Blocked, a vector is one position's block of channels, and ``kernels/window`` writes the nest;
large windows are taken in two passes, as in the plain layout, where vectors lie along the
width (``plain``). Tasks are groups of rows of a plane. A mean is a sum here; its division is
the element-wise stage that follows. A maximum in half precision is taken in fp32: exact.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from motet.targets.host.kernels.anchor import EmittedAnchor
from motet.targets.host.kernels.epilogue import find_epilogue
from motet.targets.host.kernels.injective import worth_parallel
from motet.targets.host.kernels.operand import find_operand, operand_buffers
from motet.targets.host.kernels.pooling.blocked import blocked_task
from motet.targets.host.kernels.pooling.plain import plain_task
from motet.targets.host.kernels.pooling.request import Request
from motet.targets.host.kernels.pooling.space import FAMILY, problem_of, window_of
from motet.targets.host.loops import Buffer, Expr, Stmt, constant_of, index, parallel, simplify
from motet.targets.host.machine import Machine
from motet.targets.host.options import KernelOptions
from motet.targets.host.space import choose
from motet.targets.host.stages import Stage, StagedFunction


def _bits(dtype: str) -> int:
    return int(tirx.const(0, dtype).ty.dtype.bits)


def _lanes(machine: Machine, dtype: str, width: int) -> int:
    """Neighbours in a vector: a full one, less in planes that are narrower."""
    lanes = machine.vector_bytes * 8 // _bits(dtype)
    while lanes > width:
        lanes //= 2
    return lanes


def emit_pool(
    anchor: Stage, func: StagedFunction, _constants: Sequence[Buffer], machine: Machine,
    _options: KernelOptions,
) -> EmittedAnchor:  # fmt: skip
    """The nest of a pooling with its prologue and epilogue."""
    (buffer,) = operand_buffers(anchor)
    x, epilogue = find_operand(buffer, anchor, func), find_epilogue(anchor, func)
    height, width = (constant_of(d) or 0 for d in buffer.shape[2:4])
    maximum, block = str(anchor.attrs["what"]) == "max", int(anchor.attrs["block"])
    output = str(anchor.output.dtype)
    dtype = "float32" if output in ("float16", "bfloat16") else output
    problem = problem_of(anchor, height, width, _bits(dtype) // 8)
    lanes = block or _lanes(machine, dtype, width)
    point = choose(FAMILY, problem, machine)
    request = Request(window_of(problem), point, x, epilogue, block, lanes, dtype, maximum)
    consumed = [anchor, *(s for s in (x.stage, epilogue.stage) if s is not None)]
    statement = _tasks(request, anchor, machine)
    return EmittedAnchor(statement, (epilogue.output,), tuple(consumed))


def _tasks(request: Request, anchor: Stage, machine: Machine) -> Stmt:
    rows, height = request.point["rows"], request.window.out_height
    task = blocked_task if request.block else plain_task

    def one(n: Expr, c: Expr, group: Expr) -> Stmt:
        first = simplify(group * rows)
        count = simplify(tirx.min(index(rows), height - first))
        return task(request, n, c, first, count)

    extents = [a.extent for a in anchor.spatial[:2]]
    taps = request.window.kernel[0] * request.window.kernel[1]
    several = worth_parallel([a.extent for a in anchor.spatial], taps, machine)
    return parallel(["n", "c", "rows"], [*extents, -(-height // rows)], one, several)
