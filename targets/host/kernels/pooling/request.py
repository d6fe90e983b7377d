"""What the nests of pooling get: the window, its input, and what becomes of the results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from motet.targets.host.exprs import walk
from motet.targets.host.kernels.epilogue import Epilogue
from motet.targets.host.kernels.operand import Operand
from motet.targets.host.kernels.vectors import vector_loop
from motet.targets.host.kernels.window import Accumulation, Window, input_rows
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    index,
    load,
    loop,
    ramp,
    scratch,
    seq,
    simplify,
    store,
)  # fmt: skip
from motet.targets.host.space import Point

_LIGHT_NODES = 40
Read = Callable[[Expr, Expr], Expr]
"""The vector at an input row and column."""


@dataclass(frozen=True, eq=False)
class Request:
    """A pooling to write.

    lanes: elements of a vector, which is a position's channels where ``block`` is not 0, and
    neighbours along the width where it is. dtype: of the accumulators.
    """

    window: Window
    point: Point
    x: Operand
    epilogue: Epilogue
    block: int
    lanes: int
    dtype: str
    maximum: bool

    @property
    def start(self) -> Expr:
        """What accumulators start at, and what padding counts as."""
        if not self.maximum:
            return tirx.const(0, self.dtype)
        if self.dtype.startswith("float"):
            return tirx.const(float("-inf"), self.dtype)
        return tirx.min_value(self.dtype)

    def combine(self, a: Expr, b: Expr) -> Expr:
        """The larger one, or the sum."""
        return tirx.max(a, b) if self.maximum else a + b

    def accumulation(self, read: Read, finish: Callable[..., Stmt], heavy: bool) -> Accumulation:
        """The nest's part that depends on what is computed, where vectors come from ``read``."""
        return Accumulation(
            self.lanes, self.dtype, self.start, read, None,
            lambda acc, x, _tap: self.combine(acc, x), finish, heavy,
        )  # fmt: skip

    @property
    def heavy(self) -> bool:
        """Whether the epilogue is long."""
        stage = self.epilogue.stage
        return stage is not None and len(walk(stage.value)) > _LIGHT_NODES

    def write(self, value: Expr, n: Expr, c: Expr, h: Expr, w: Expr, lane: Expr | None) -> Stmt:
        """Stores an element whose accumulated value is given."""
        at = [n, c, h, w] if lane is None else [n, c, h, w, lane]
        return self.epilogue.write(value.astype(self.epilogue.anchor.output.dtype), at)

    def input_of(self, n: Expr, c: Expr, first: Expr, count: Expr) -> tuple[list[Stmt], Read]:
        """How a task of ``count`` output rows from ``first`` reads its input.

        Where the elements are computed, they are first written to scratch memory, once each.
        """
        if self.x.stage is None:

            def read(h: Expr, w: Expr) -> Expr:
                value = load(self.x.buffer, n, c, h, *self._vector(w))
                return self._wide(value)

            return [], read
        return self._copied(n, c, first, count)

    def _vector(self, w: Expr) -> list[Expr]:
        return [w, ramp(index(0), self.lanes)] if self.block else [ramp(w, self.lanes)]

    def _wide(self, value: Expr) -> Expr:
        if self.x.buffer.dtype == self.dtype:
            return value
        return value.astype(f"{self.dtype}x{self.lanes}" if self.lanes > 1 else self.dtype)

    def _copied(self, n: Expr, c: Expr, first: Expr, count: Expr) -> tuple[list[Stmt], Read]:
        window, block = self.window, self.block
        held = min(window.height, (self.point["rows"] - 1) * window.strides[0] + window.reach[0])
        tail = [window.width, block] if block else [window.width]
        rows: Buffer = scratch("rows", [held, *tail], self.dtype)
        start = first * window.strides[0] - window.top
        base = simplify(tirx.max(start, index(0)))
        end = tirx.min(start + input_rows(window, count), window.height)

        def element(r: Expr, i: Expr) -> Stmt:
            unit = index(block or 1)
            at = [tirx.floordiv(i, unit), tirx.floormod(i, unit)] if block else [i]
            return store(rows, self.x.at([n, c, base + r, *at]).astype(self.dtype), r, *at)

        copy = loop(
            "r", simplify(tirx.max(end - base, index(0))),
            lambda r: vector_loop(
                "i", window.width * (block or 1), self.lanes, lambda i: element(r, i)
            ),
        )  # fmt: skip
        return (
            [allocate(rows), copy],
            lambda h, w: load(rows, simplify(h - base), *self._vector(w)),
        )  # fmt: skip


def task_statement(parts: list[Stmt], rows: Expr, row: Callable[[Expr], Stmt]) -> Stmt:
    """The statements of a task: its preparation, then every row."""
    return seq(*parts, loop("row", rows, row))
