"""All steps of a recurrence::

    for s in range(steps):
        for block, tile of rows: parallel, where a step is large enough
            sums[rows][gates][width]  = projected[t, b, gates, block]
            sums[rows][gates][width] += h[row, k] * R[block, k, gates, width]     for all k
            c, h [other half]         = what the cell says of the sums, in registers

Where sequences have lengths of their own, each has its steps for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tvm import tirx

from motet.targets.host.kernels.recurrent.cells import Cell, Place
from motet.targets.host.kernels.recurrent.family import BLOCKS, SEQUENCES
from motet.targets.host.kernels.recurrent.weights import Blocks
from motet.targets.host.kernels.vectors import vector_loop
from motet.targets.host.loops import (
    VECTORIZED,
    Buffer,
    Expr,
    Stmt,
    allocate,
    broadcast,
    constant_of,
    index,
    load,
    loop,
    parallel,
    ramp,
    scratch,
    seq,
    store,
)  # fmt: skip
from motet.targets.operators.recurrence import Recurrence

# Vectors of weights that one iteration of the innermost loop reads.
_WRITTEN_OUT = 16


@dataclass(frozen=True, eq=False)
class Steps:
    """One recurrence as a loop nest.

    packed: the weights as ``blocks`` cuts them; rows: sequences of a register tile; lanes:
    elements of a vector; split: the knob of that name.
    """

    what: Recurrence
    operands: Mapping[str, Buffer]
    packed: Buffer
    outputs: Sequence[Buffer]
    blocks: Blocks
    rows: int
    lanes: int
    split: int

    @property
    def steps(self) -> Expr:
        """Steps of the longest sequence."""
        return self.operands["projected"].shape[0]

    @property
    def batch(self) -> Expr:
        """Sequences."""
        return self.operands["projected"].shape[1]

    def statement(self) -> Stmt:
        """The whole kernel."""
        if "lengths" in self.operands:
            return parallel(["b"], [self.batch], self._one_sequence, self.split == SEQUENCES)
        return self._sequences(index(0), self.batch, self.steps)

    def _one_sequence(self, b: Expr) -> Stmt:
        length = load(self.operands["lengths"], b).astype("int64")
        count = tirx.Var("count", "int64")
        zero = tirx.const(0, self.outputs[0].dtype)

        def nothing(s: Expr) -> Stmt:
            def put(j: Expr) -> Stmt:
                return store(self.outputs[0], zero, count + s, b, j)

            return vector_loop("j", self.blocks.hidden, self.lanes, put)

        return seq(
            tirx.Bind(count, tirx.max(tirx.min(length, self.steps), index(0))),
            self._sequences(b, index(1), count),
            _serial("rest", self.steps - count, nothing),
        )

    def _sequences(self, first: Expr, rows: Expr, steps: Expr) -> Stmt:
        """``rows`` sequences from number ``first`` on, which all have ``steps`` steps."""
        cell = Cell(self.what, self.operands, self.blocks, rows)
        names = ("h", "c")[: self.what.states]

        def begin(row: Expr) -> Stmt:
            return seq(*[
                self._copy(state, (index(0), row), self.operands[name], (first + row,))
                for state, name in zip(cell.states(), names, strict=True)
            ])  # fmt: skip

        def end(row: Expr) -> Stmt:
            half = tirx.floormod(steps, index(2))
            return seq(*[
                self._copy(last, (first + row,), state, (half, row))
                for state, last in zip(cell.states(), self.outputs[1:], strict=True)
            ])  # fmt: skip

        def step(s: Expr) -> Stmt:
            t = steps - 1 - s if self.what.reverse else s
            now = tirx.floormod(s, index(2))
            return seq(*[
                self._phase(cell, phase, first, rows, t, now)
                for phase in range(len(self.blocks.phases))
            ])  # fmt: skip

        return seq(
            *[allocate(buffer) for buffer in cell.buffers()],
            loop("row", rows, begin),
            _serial("s", steps, step),
            loop("row", rows, end),
        )

    def _copy(
        self, to: Buffer, at: tuple[Expr, ...], source: Buffer, whence: tuple[Expr, ...]
    ) -> Stmt:
        def one(j: Expr) -> Stmt:
            return store(to, load(source, *whence, j), *at, j)

        return vector_loop("j", self.blocks.hidden, self.lanes, one)

    def _phase(self, cell: Cell, phase: int, first: Expr, count: Expr, t: Expr, now: Expr) -> Stmt:
        """One phase of a step of ``count`` sequences."""
        known, most = constant_of(count), self.rows

        def tile(block: Expr, row: Expr, rows: int) -> Stmt:
            return self._tile(cell, phase, block, first, row, rows, t, now)

        def task(block: Expr, number: Expr) -> Stmt:
            if known is not None:
                rows = min(most, known)
                return tile(block, tirx.min(number * rows, index(known - rows)), rows)
            if most == 1:
                return tile(block, number, 1)
            whole = tirx.floordiv(count, index(most))
            alone = number - whole + whole * most
            return tirx.IfThenElse(
                number < whole, tile(block, number * most, most), tile(block, alone, 1)
            )

        if known is not None:
            tiles = index(-(-known // most))
        else:
            tiles = tirx.floordiv(count, index(most)) + tirx.floormod(count, index(most))
        extents = [index(self.blocks.count), tiles]
        return parallel(["block", "tile"], extents, task, self.split == BLOCKS)

    def _tile(
        self, cell: Cell, phase: int, block: Expr, first: Expr, row: Expr, rows: int, t: Expr,
        now: Expr,
    ) -> Stmt:  # fmt: skip
        """The block's gates of ``rows`` sequences from state ``row`` on, and their new states."""
        gates, width = self.blocks.phases[phase], self.blocks.width
        start = tirx.Var("start", "int64")
        sums = [scratch(f"sums{r}", [len(gates) * width], cell.dtype) for r in range(rows)]

        def begin(r: int) -> Stmt:
            def vector(number: int, v: int) -> Stmt:
                at = ramp(start + v * self.lanes, self.lanes)
                value = cell.begins_at(gates[number], t, first + row + r, at)
                return store(sums[r], value, self._lane(number, v))

            return seq(*[
                vector(number, v) for number in range(len(gates))
                for v in range(width // self.lanes)
            ])  # fmt: skip

        def finish(r: int) -> Stmt:
            def element(j: Expr) -> Stmt:
                at = Place(t, first + row + r, row + r, start + j, j)
                return cell.finish(phase, sums[r], at, now)

            def put(j: Expr) -> Stmt:
                new = load(cell.h, 1 - now, row + r, start + j)
                return store(self.outputs[0], new, t, first + row + r, start + j)

            last = phase + 1 == len(self.blocks.phases)
            return seq(
                loop("j", width, element, VECTORIZED),
                loop("j", width, put, VECTORIZED) if last else None,
            )

        return seq(
            tirx.Bind(start, self.blocks.start(block)),
            *[allocate(s) for s in sums],
            *[begin(r) for r in range(rows)],
            self._product(cell, phase, block, row, now, sums),
            *[finish(r) for r in range(rows)],
        )

    def _lane(self, number: int, v: int) -> Expr:
        return ramp(index(number * self.blocks.width + v * self.lanes), self.lanes)

    def _product(
        self, cell: Cell, phase: int, block: Expr, row: Expr, now: Expr, sums: Sequence[Buffer]
    ) -> Stmt:
        """``sums += state @ R``, in registers over all of k."""
        gates = len(self.blocks.phases[phase])
        vectors = [(n, v) for n in range(gates) for v in range(self.blocks.width // self.lanes)]

        def one(k: Expr) -> Stmt:
            statements, states = [], []
            for r in range(len(sums)):
                value = broadcast(cell.source(phase, now, row + r, k), self.lanes)
                states.append(tirx.Var(f"h{r}", value.ty))
                statements.append(tirx.Bind(states[-1], value))
            for n, v in vectors:
                at = self.blocks.at(phase, block, k) + n * self.blocks.width + v * self.lanes
                value = load(self.packed, ramp(at, self.lanes))
                weight = tirx.Var(f"w{n}_{v}", value.ty)
                statements.append(tirx.Bind(weight, value))
                for r, state in enumerate(states):
                    old = load(sums[r], self._lane(n, v))
                    statements.append(store(sums[r], old + state * weight, self._lane(n, v)))
            return seq(*statements)

        hidden, step = self.blocks.hidden, max(1, _WRITTEN_OUT // (len(vectors) * len(sums)))
        whole = hidden // step
        main = loop("k", whole, lambda k: seq(*[one(k * step + u) for u in range(step)]))
        rest = [one(index(k)) for k in range(whole * step, hidden)]
        return seq(main if whole else None, *rest)


def _serial(name: str, extent: Expr, body: Callable[[Expr], Stmt]) -> Stmt:
    """A loop that stays one, whatever its extent."""
    var = tirx.Var(name, "int64")
    return tirx.For(var, index(0), index(extent), tirx.ForKind.SERIAL, body(var))
