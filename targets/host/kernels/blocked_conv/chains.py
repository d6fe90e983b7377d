"""Integer convolution in chains: two groups of four products meet in 16 bits.

::

    for segment (kernel row) of a chunk:
        for eight of the segment:                  two pmaddubsw, one add, one pmaddwd, one add
            acc[p][b] += widened(x[p, i] * w[i, b] + x[p, j] * w[j, b])
        for four that has no partner:              one pmaddubsw, one pmaddwd, one add
            acc[p][b] += widened(x[p, i] * w[i, b])

A core multiplies vectors in two units and adds them in four: an eight takes three
multiplications where two fours take four. Which fours make an eight depends on the weights
(``chain_weights``), and so do the lengths of both loops and where each step reads its input:
the kernel reads them beside the weights, and is the same for all weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from motet.targets.host.kernels.blocked_conv import direct_space
from motet.targets.host.kernels.blocked_conv.chain_weights import (
    ChainLayout,
    input_offsets,
    layout_of,
    pack_chains,
)
from motet.targets.host.kernels.blocked_conv.direct import (
    DirectNest,
    flat_input,
    sums_of,
    table_of,
    worth_threads,
)
from motet.targets.host.kernels.blocked_conv.direct_plan import DirectPlan, make_plan
from motet.targets.host.kernels.blocked_conv.direct_tile import (
    Task,
    prefetch_address,
    skips_rows,
)
from motet.targets.host.kernels.blocked_conv.direct_weights import pack_weights
from motet.targets.host.kernels.blocked_conv.integer_groups import FOURS, halves_of_fours
from motet.targets.host.kernels.blocked_conv.integer_input import copy_groups, groups_buffer
from motet.targets.host.kernels.blocked_conv.request import Request, Written
from motet.targets.host.kernels.pairs import fenced, pair_product
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    broadcast,
    index,
    load,
    loop,
    ramp,
    scratch,
    seq,
    store,
)
from motet.targets.host.machine import Machine
from motet.targets.host.space import Point, Problem


def points(problem: Problem, machine: Machine) -> Sequence[Point]:
    """Legal points whose accumulators, an eight's weights, inputs and products fit registers.

    Where others are moved in and out of memory, their sums wait for it (measured: 20% slower).
    """
    registers = 32 if machine.vector_bytes == 64 else 16
    every = direct_space.points(problem, machine)
    fitting = [p for p in every if p["blocks"] * (p["columns"] + 2) + 4 <= registers]
    return tuple(fitting) or every


@dataclass(frozen=True, eq=False)
class ChainNest(DirectNest):
    """The direct nest whose reduction runs over eights and fours; ``weights`` is flat."""

    layout: ChainLayout
    dtype: ClassVar[str] = "int32"

    def input_at(self, element: Expr) -> Expr:
        """Four input channels."""
        if not self.plan.in_place:
            return load(self.x, element)
        return tirx.reinterpret("int32", load(self.x, ramp(element * 4, 4)))

    def copied(self, n: Expr, g: Expr, line: Expr) -> Stmt:
        """Fills ``x`` with the groups of a task's input."""
        return copy_groups(self.request, self.plan, FOURS, self.x, n, g, line)

    def reduction(
        self, acc: Sequence[Buffer], task: Task, panel: Expr, chunk: Expr, tile: Expr,
        at: Sequence[Expr], rows: tuple[Expr, Expr] | None,
    ) -> Stmt:  # fmt: skip
        """``acc += `` the chunk's products, segment by segment."""
        plan, layout = self.plan, self.layout
        number = (task.g * plan.panels + panel) * plan.chunks + chunk
        # The last chunk may be shorter.
        count: Expr = index(layout.chunk_fours(0))
        if plan.in_blocks % plan.split:
            last = index(layout.chunk_fours(plan.chunks - 1))
            count = tirx.Select(chunk == plan.chunks - 1, last, count)
        start, extent = rows or (index(0), index(1))

        def segment(kh: Expr) -> Stmt:
            header = (number * layout.rows + start + kh) * 2 + layout.ones
            eights, first = tirx.Var("eights", "int64"), tirx.Var("first", "int64")
            rest = first + eights * 2
            return seq(
                tirx.Bind(eights, load(self.weights, header).astype("int64")),
                tirx.Bind(first, load(self.weights, header + 1).astype("int64")),
                loop("eight", eights, lambda i: self.step(acc, at, first + i * 2, 2, tile)),
                loop("four", count - eights * 2, lambda i: self.step(acc, at, rest + i, 1, tile)),
            )

        return loop("kh", extent, segment)

    def step(
        self, acc: Sequence[Buffer], at: Sequence[Expr], first: Expr, length: int, tile: Expr
    ) -> Stmt:
        """Adds the products of ``length`` fours from ``first`` on."""
        plan, layout, lanes = self.plan, self.layout, self.plan.lanes
        statements: list[Stmt] = []

        def bind(name: str, value: Expr) -> Expr:
            bound = tirx.Var(name, value.ty)
            statements.append(tirx.Bind(bound, value))
            return bound

        place = [
            bind(f"o{q}", load(self.weights, first + (layout.offsets + q)).astype("int64"))
            for q in range(length)
        ]
        begin = bind("w", first * layout.width + layout.weights)
        rows = [begin + q * layout.width for q in range(length)]
        held = [
            [load(self.weights, ramp(row + v * lanes, lanes)) for v in range(plan.blocks)]
            for row in rows
        ]
        held = [[bind("weights", vector) for vector in vectors] for vectors in held]
        statements += self.asked(begin, length, tile)
        multiply, widen = halves_of_fours(lanes), pair_product(self.request.machine, lanes)
        for i in range(plan.columns):
            x = [
                bind(f"x{q}", broadcast(self.input_at(at[i] + place[q]), lanes))
                for q in range(length)
            ]
            for v in range(plan.blocks):
                narrow = multiply(x[0], held[0][v])
                for q in range(1, length):
                    narrow = narrow + multiply(x[q], held[q][v])
                lane = ramp(index(v * lanes), lanes)
                ones = load(self.weights, ramp(index((i * plan.blocks + v) * lanes), lanes))
                total = load(acc[i], lane) + widen(tirx.reinterpret(f"int32x{lanes}", narrow), ones)
                statements.append(store(acc[i], fenced(total), lane))
        return seq(*statements)

    def asked(self, begin: Expr, length: int, tile: Expr) -> list[Stmt]:
        """Asks for a line of weights in the next chunk, as ``TileNest.prefetch``."""
        plan, layout, kernel = self.plan, self.layout, self.request.conv.kernel
        if not plan.prefetches(kernel[0] * kernel[1]):
            return []
        lines = length * layout.width // 16
        share = -(-lines // plan.tiles)
        ahead = layout.chunk_fours(0) * layout.rows * layout.width
        return [
            prefetch_address(load(self.weights, begin + ahead + (tile * share + i) * 16))
            for i in range(share)
        ]


def _packing(
    request: Request, plan: DirectPlan, layout: ChainLayout
) -> Callable[[NDArray[Any]], NDArray[Any]]:
    assert request.source is not None
    axes, conv = request.source[1], request.conv
    offsets = input_offsets(conv, plan)

    def pack(weights: NDArray[Any]) -> NDArray[np.int32]:
        fours = FOURS.packed(weights.transpose(axes))
        ordered = pack_weights(fours, conv.groups, plan.in_block, layout.width)
        return pack_chains(ordered, offsets, layout)

    return pack


def emit(request: Request, problem: Problem) -> Written:
    """The nest of a convolution of bytes by constant weights that fit fours."""
    conv = request.conv
    plan = make_plan(dict(problem.sizes), request.point)
    layout = layout_of(conv, plan, skips_rows(conv, plan))
    packed = scratch("packed", [layout.size], "int32")
    x, declared = flat_input(request, plan) if plan.in_place else (groups_buffer(plan), [])
    nest = ChainNest(
        request, plan, x, packed, sums_of(request, plan, "int32"), table_of(plan), layout
    )
    main = seq(*declared, nest.write(worth_threads(request)))
    return Written(main, (packed, _packing(request, plan, layout)))
