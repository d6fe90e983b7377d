"""An array whose elements hold the outputs: output-stationary, and its spatial form.

Element (r, c) adds a product a cycle. With the last one of a tile the sum goes to its drain
register, and the drain registers of a column shift down, so that the tile leaves at the bottom,
row by row, while the next one accumulates.

* ``OutputArray``: rows of one operand come from the left, columns of the other from the top,
  both skewed: a matrix product.
* ``SpatialArray``: the words of a line enter its row at the right end and move left, a tap of
  the line's filter goes to the whole row at once: a 1-D convolution per row (FuSeConv, arXiv
  2105.13434, figure 7).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, signed

from motet.benchmarks.rtl.edges import OPERAND_BITS, SUM_BITS, fanned, skewed


class OutputElement(Elaboratable):
    """The element of row ``row``; ``*_in`` come from its neighbours or an edge.

    multiply, first, last: whether this cycle's operands count, begin a sum, end it.
    """

    def __init__(self, row: int, rows: int) -> None:
        self.row, self.rows = row, rows
        operand, total = signed(OPERAND_BITS), signed(SUM_BITS)
        self.a_in, self.a = Signal(operand), Signal(operand)
        self.b_in, self.b = Signal(operand), Signal(operand)
        self.multiply_in, self.multiply = Signal(), Signal()
        self.first_in, self.first = Signal(), Signal()
        self.last_in, self.last = Signal(), Signal()
        self.drain_in, self.drain = Signal(total), Signal(total)
        self.leaving = Signal()
        self.overrun = Signal()

    def elaborate(self, platform: Any) -> Module:
        """Registers and their inputs."""
        m = Module()
        held, total = Signal(signed(SUM_BITS)), Signal(signed(SUM_BITS))
        m.d.comb += total.eq(Mux(self.first_in, 0, held) + self.a_in * self.b_in)
        m.d.sync += [
            self.a.eq(self.a_in),
            self.b.eq(self.b_in),
            self.multiply.eq(self.multiply_in),
            self.first.eq(self.first_in),
            self.last.eq(self.last_in),
        ]
        with m.If(self.multiply_in):
            m.d.sync += held.eq(total)
        self._drain(m, total)
        return m

    def _drain(self, m: Module, total: Any) -> None:
        """Shift down from when the bottom row is done: R - row cycles after this element is.

        age: cycles since the sum went to ``drain``, until the tile has left after R.
        """
        age = Signal(range(self.rows + 1))
        ends = self.multiply_in & self.last_in
        m.d.sync += self.leaving.eq(ends | (age != 0))
        with m.If(age >= self.rows - self.row):
            m.d.sync += self.drain.eq(self.drain_in)
        with m.If(age != 0):
            m.d.sync += age.eq(Mux(age == self.rows - 1, 0, age + 1))
        with m.If(ends):
            m.d.sync += [self.drain.eq(total), age.eq(min(1, self.rows - 1))]
            m.d.sync += self.overrun.eq(self.overrun | (age != 0))


class OutputSequencer(Elaboratable):
    """Decides, each cycle, whether the next words of a tile may enter.

    Inputs: ``ready``, whether the next tile's operands are in the scratchpad; ``length``, its
    words. ``drain_cycles`` is how far ends of tiles must be apart; less than R is for tests.
    Output: ``stream``, the next words enter.
    """

    def __init__(self, drain_cycles: int) -> None:
        self.drain_cycles = drain_cycles
        self.ready, self.length = Signal(), Signal(16)
        self.stream = Signal()

    def elaborate(self, platform: Any) -> Module:
        """Counters of the words to come and of the cycles that the drain still takes."""
        m = Module()
        left, draining = Signal.like(self.length), Signal(range(self.drain_cycles + 2))
        start, now = Signal(), Signal.like(self.length)
        m.d.comb += [
            start.eq((left == 0) & self.ready & (self.length > draining)),
            self.stream.eq(start | (left != 0)),
            now.eq(Mux(start, self.length, left)),
        ]
        with m.If(draining != 0):
            m.d.sync += draining.eq(draining - 1)
        with m.If(self.stream):
            m.d.sync += left.eq(now - 1)
            with m.If(now == 1):
                m.d.sync += draining.eq(self.drain_cycles - 1)
        return m


class OutputArray(Elaboratable):
    """``rows`` x ``columns`` elements, their edges and sequencer.

    Inputs, one vector each a cycle, wanted when ``sequencer.stream``: ``a`` [rows], ``b``
    [columns], and ``multiply``, ``first``, ``last``, which the address generator knows.
    Outputs: ``sums`` [columns], the bottom drain registers, with ``valid`` [columns];
    ``overrun`` if a sum ever met a drain register in use.
    """

    b_lanes = "columns"

    def __init__(self, rows: int, columns: int, drain_cycles: int | None = None) -> None:
        self.rows, self.columns = rows, columns
        self.sequencer = OutputSequencer(rows if drain_cycles is None else drain_cycles)
        self.a = Signal(rows * OPERAND_BITS)
        self.b = Signal(getattr(self, self.b_lanes) * OPERAND_BITS)
        self.multiply, self.first, self.last = Signal(), Signal(), Signal()
        self.sums = Signal(columns * SUM_BITS)
        self.valid = Signal(columns)
        self.overrun = Signal()

    def elaborate(self, platform: Any) -> Module:
        """The grid."""
        m = Module()
        m.submodules.sequencer = self.sequencer
        grid = [
            [OutputElement(r, self.rows) for _ in range(self.columns)] for r in range(self.rows)
        ]
        for row in grid:
            m.submodules += row
        self._connect(m, grid)
        for upper, lower in pairwise(grid):
            for above, below in zip(upper, lower, strict=True):
                m.d.comb += below.drain_in.eq(above.drain)
        m.d.comb += self.sums.eq(Cat(element.drain for element in grid[-1]))
        m.d.comb += self.valid.eq(Cat(element.leaving for element in grid[-1]))
        m.d.comb += self.overrun.eq(Cat(e.overrun for row in grid for e in row).any())
        return m

    def _tags(self, m: Module) -> list[tuple[Any, Any, Any]]:
        """multiply, first and last of each row, delayed by a cycle per row."""
        wanted = self.sequencer.stream & self.multiply
        flags = [fanned(m, flag, self.rows) for flag in (wanted, self.first, self.last)]
        return list(zip(*flags, strict=True))

    def _connect(self, m: Module, grid: list[list[OutputElement]]) -> None:
        """``a`` and the tags go right, ``b`` goes down."""
        a, b = skewed(m, self.a, self.rows), skewed(m, self.b, self.columns)
        for r, (row, tags) in enumerate(zip(grid, self._tags(m), strict=True)):
            left = a[r]
            for element in row:
                m.d.comb += element.a_in.eq(left)
                _tag(m, element, tags)
                left, tags = element.a, (element.multiply, element.first, element.last)
        for c in range(self.columns):
            above = b[c]
            for element in (row[c] for row in grid):
                m.d.comb += element.b_in.eq(above)
                above = element.b


class SpatialArray(OutputArray):
    """The spatial form: ``a`` [rows] enters at the right, ``b`` [rows] is a tap of each row."""

    b_lanes = "rows"

    def _connect(self, m: Module, grid: list[list[OutputElement]]) -> None:
        """``a`` goes left; ``b`` and the tags go to the whole row at once."""
        a, b = skewed(m, self.a, self.rows), skewed(m, self.b, self.rows)
        for r, (row, tags) in enumerate(zip(grid, self._tags(m), strict=True)):
            right = a[r]
            for element in reversed(row):
                m.d.comb += [element.a_in.eq(right), element.b_in.eq(b[r])]
                _tag(m, element, tags)
                right = element.a


def _tag(m: Module, element: OutputElement, tags: tuple[Any, Any, Any]) -> None:
    multiply, first, last = tags
    m.d.comb += element.multiply_in.eq(multiply)
    m.d.comb += [element.first_in.eq(first), element.last_in.eq(last)]
