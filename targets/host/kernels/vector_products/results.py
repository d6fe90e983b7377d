"""From the sums of a panel to results: converted, scaled, and stored with their epilogue.

Sums are a row of a panel's channels for every position. Where a result has positions side by
side, squares of eight by eight are transposed in registers first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx

from motet.targets.host.kernels.epilogue import Epilogue
from motet.targets.host.kernels.vector_products.form import Sums
from motet.targets.host.kernels.vector_products.geometry import Geometry
from motet.targets.host.kernels.vector_products.tile import TileNest
from motet.targets.host.kernels.vectors import vector_loop
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    broadcast,
    constant_of,
    index,
    load,
    loop,
    ramp,
    scratch,
    seq,
    simplify,
    store,
)

SQUARE = 8
"""Positions and channels that are transposed together."""
_MAGIC = 2.0**52 + 2.0**51
"""Added to a float64, it leaves a smaller integer in the low bits (and back)."""
_MAGIC_BITS = 0x4338000000000000
_EXACT = 2**51


@dataclass(frozen=True, eq=False)
class Panel:
    """A task's block of positions by one panel.

    lead, group: of the task; first, count: its positions; column: the panel's first channel.
    """

    lead: Sequence[Expr]
    group: Expr
    first: Expr
    count: Expr
    column: Expr


@dataclass(frozen=True, eq=False)
class Results:
    """How sums become results; factor: of a channel, None where sums are the result.

    block: positions of a task; sums, values, factors: scratch memory of a task, [block, width]
    and [width]. flat: whether all positions can be counted along the result's last axis.
    """

    geometry: Geometry
    tile: TileNest
    factor: Callable[[Expr], Expr] | None
    epilogue: Epilogue
    block: int
    flat: bool
    sums: Buffer
    values: Buffer
    factors: Buffer
    across: Buffer

    @classmethod
    def of(
        cls, geometry: Geometry, tile: TileNest, factor: Callable[[Expr], Expr] | None,
        epilogue: Epilogue, block: int, flat: bool,
    ) -> Results:  # fmt: skip
        """With memory of its own."""
        shape = [block, tile.width]
        return cls(
            geometry, tile, factor, epilogue, block, flat,
            scratch("sums", shape, tile.sums_dtype), scratch("values", shape, "float32"),
            scratch("factors", [tile.width], "float32"),
            scratch("across", [tile.width, block], "float32"),
        )  # fmt: skip

    @property
    def transposes(self) -> bool:
        """Whether squares are transposed."""
        last = self.geometry.positions_last and self.factor is not None
        return last and self.block % SQUARE == 0 and self.tile.width % SQUARE == 0

    def memory(self) -> list[Stmt]:
        """What a task allocates."""
        own = [] if self.factor is None else [self.values, self.factors]
        return [allocate(b) for b in (self.sums, *own, *([self.across] * self.transposes))]

    def lane(self, b: int) -> Expr:
        """Vector ``b`` of a panel's channels."""
        return ramp(index(b * self.tile.lanes), self.tile.lanes)

    def each(self, body: Callable[[Expr, int], Stmt], count: Expr) -> Stmt:
        """``body`` of every position and vector of channels."""
        blocks = range(self.tile.blocks)
        return loop("i", count, lambda i: seq(*[body(i, b) for b in blocks]))

    def clear(self, count: Expr) -> Stmt:
        """Sums of 0."""
        zero = broadcast(tirx.const(0, self.tile.sums_dtype), self.tile.lanes)
        return self.each(lambda i, b: store(self.sums, zero, i, self.lane(b)), count)

    def add(self, slot: Expr, b: int, value: Expr) -> Stmt:
        """Adds a vector to the sums of a position."""
        at = (slot, self.lane(b))
        return store(self.sums, load(self.sums, *at) + self.tile.widened(value), *at)

    def take_factors(self, panel: Panel) -> Stmt | None:
        """Those of the panel's channels."""
        factor, columns = self.factor, self.geometry.columns
        if factor is None:
            return None

        def take(o: Expr) -> Stmt:
            channel = panel.group * columns + tirx.min(panel.column + o, columns - 1)
            return store(self.factors, factor(channel), o)

        return loop("o", self.tile.width, take)

    def put(self, slot: Expr, b: int, value: Expr) -> Stmt:
        """A vector of sums as values: to the nearest float32, times factors, two roundings."""
        kind = f"float32x{self.tile.lanes}"
        real = self.tile.ordered(self._as_float(value)) * load(self.factors, self.lane(b))
        kept = tirx.call_llvm_pure_intrin(kind, "llvm.arithmetic.fence", real)
        return store(self.values, kept, slot, self.lane(b))

    def convert(self, count: Expr) -> Stmt | None:
        """Sums of all positions as values; those that are the result, with lanes in order."""
        if self.factor is not None:
            return self.each(lambda i, b: self.put(i, b, load(self.sums, i, self.lane(b))), count)
        if not self.tile.in_turns:
            return None

        def line(i: Expr, b: int) -> Stmt:
            at = (i, self.lane(b))
            return store(self.sums, self.tile.ordered(load(self.sums, *at)), *at)

        return self.each(line, count)

    def _as_float(self, value: Expr) -> Expr:
        """An int64 below 2^51 is exact in float64, and rounded once on its way to float32."""
        lanes, form = self.tile.lanes, self.tile.form
        known = constant_of(self.geometry.vectors)
        if "int64" not in str(value.ty.dtype):
            return value if form.sums is Sums.FLOAT else value.astype(f"float32x{lanes}")
        if known is None or known * form.vector_bound >= _EXACT:
            return value.astype(f"float32x{lanes}")
        bits = value + broadcast(tirx.const(_MAGIC_BITS, "int64"), lanes)
        magic = broadcast(tirx.const(_MAGIC, "float64"), lanes)
        exact = tirx.reinterpret(f"float64x{lanes}", bits) - magic
        return exact.astype(f"float32x{lanes}")

    def write(self, panel: Panel) -> Stmt:
        """Values through the epilogue to where they belong."""
        source = self.sums if self.factor is None else self.values
        width, lanes = self.tile.width, self.tile.lanes if self.flat else 1
        columns = simplify(tirx.min(index(width), self.geometry.columns - panel.column))

        def element(i: Expr, o: Expr) -> Stmt:
            place = self.geometry.place(
                panel.lead, panel.group, panel.first + i, panel.column + o, self.flat
            )
            value = load(self.across, o, i) if self.transposes else load(source, i, o)
            return self.epilogue.write(value, place)

        if not self.geometry.positions_last:
            return loop(
                "i", panel.count,
                lambda i: vector_loop("o", columns, lanes, lambda o: element(i, o)),
            )  # fmt: skip
        stored = loop(
            "o", columns, lambda o: vector_loop("i", panel.count, lanes, lambda i: element(i, o))
        )
        return seq(self._turned(panel.count), stored) if self.transposes else stored

    def _turned(self, count: Expr) -> Stmt:
        """``across`` is ``values`` transposed, square by square."""
        squares = tirx.floordiv(count + (SQUARE - 1), index(SQUARE))

        def square(i: Expr, o: Expr) -> Stmt:
            statements: list[Stmt] = []

            def bind(value: Expr) -> Expr:
                var = tirx.Var("r", value.ty)
                statements.append(tirx.Bind(var, value))
                return var

            at = ramp(o * SQUARE, SQUARE)
            rows = [bind(load(self.values, i * SQUARE + r, at)) for r in range(SQUARE)]
            for r, row in enumerate(_transposed(rows, bind)):
                to = ramp(i * SQUARE, SQUARE)
                statements.append(store(self.across, row, o * SQUARE + r, to))
            return seq(*statements)

        width = self.tile.width // SQUARE
        return loop("i", squares, lambda i: loop("o", width, lambda o: square(i, o)))


_NEIGHBOURS = ((0, 8, 1, 9, 4, 12, 5, 13), (2, 10, 3, 11, 6, 14, 7, 15))
_PAIRS = ((0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15))
_HALVES = ((0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15))


def _transposed(rows: Sequence[Expr], bind: Callable[[Expr], Expr]) -> list[Expr]:
    """Eight vectors of eight: two steps within halves of 16 bytes, then halves are exchanged."""

    def both(a: Expr, b: Expr, orders: Sequence[Sequence[int]]) -> list[Expr]:
        return [bind(tirx.Shuffle([a, b], list(map(index, order)))) for order in orders]

    first = [r for i in range(0, 8, 2) for r in both(rows[i], rows[i + 1], _NEIGHBOURS)]
    second: list[Expr] = []
    for half in (0, 4):
        for k in (0, 1):
            second += both(first[half + k], first[half + 2 + k], _PAIRS)
    low: list[Expr] = []
    high: list[Expr] = []
    for k in range(4):
        a, b = both(second[k], second[4 + k], _HALVES)
        low.append(a)
        high.append(b)
    return [*low, *high]
