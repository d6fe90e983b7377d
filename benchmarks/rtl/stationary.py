"""An array whose elements hold one operand (weights, or inputs) while the other streams through.

Element (r, c) multiplies what comes from the left with its active value, adds the partial sum
from above and hands both on, a register each. The next tile's stationary values travel down the
columns beside that, one row a cycle with its number; element r captures row r into its shadow
register. The first streamed value of a tile finds the shadow complete and makes it active.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, signed

from motet.benchmarks.rtl.edges import OPERAND_BITS, SUM_BITS, fanned, skewed


class StationaryElement(Elaboratable):
    """The element of row ``row``; ``*_in`` are its neighbours' registers, the others its own."""

    def __init__(self, row: int, rows: int) -> None:
        self.row = row
        operand = signed(OPERAND_BITS)
        self.value_in, self.value = Signal(operand), Signal(operand)
        self.valid_in, self.valid = Signal(), Signal()
        self.first_in, self.first = Signal(), Signal()
        self.partial_in, self.partial = Signal(signed(SUM_BITS)), Signal(signed(SUM_BITS))
        self.held_in, self.held = Signal(operand), Signal(operand)
        self.held_row_in, self.held_row = Signal(range(rows + 1)), Signal(range(rows + 1))
        self.capture_in, self.capture = Signal(), Signal()

    def elaborate(self, platform: Any) -> Module:
        """Registers and their inputs."""
        m = Module()
        active, shadow = Signal.like(self.value), Signal.like(self.value)
        factor = Mux(self.first_in, shadow, active)
        m.d.sync += [
            self.value.eq(self.value_in),
            self.valid.eq(self.valid_in),
            self.first.eq(self.first_in),
            self.partial.eq(self.partial_in + self.value_in * factor),
            self.held.eq(self.held_in),
            self.held_row.eq(self.held_row_in),
            self.capture.eq(self.capture_in),
        ]
        with m.If(self.valid_in & self.first_in):
            m.d.sync += active.eq(shadow)
        with m.If(self.capture_in & (self.held_row_in == self.row)):
            m.d.sync += shadow.eq(self.held_in)
        return m


class StationarySequencer(Elaboratable):
    """Decides, each cycle, whether a stationary row and a streamed row may enter.

    Inputs: ``held_ready`` and ``streamed_ready``, whether the next tile's operands are in the
    scratchpad; ``length``, the rows to stream through it. ``capture_cycles`` is how many rows
    are captured before a tile may stream; less than R is for tests. Outputs: ``capture`` with
    ``capture_row``; ``stream`` with ``first``.
    """

    def __init__(self, rows: int, capture_cycles: int) -> None:
        self.rows, self.capture_cycles = rows, capture_cycles
        self.held_ready, self.streamed_ready = Signal(), Signal()
        self.length = Signal(16)
        self.capture, self.capture_row = Signal(), Signal(range(rows + 1))
        self.stream, self.first = Signal(), Signal()

    def elaborate(self, platform: Any) -> Module:
        """Two counters and a flag."""
        m = Module()
        captured, left = Signal(), Signal.like(self.length)
        m.d.comb += [
            self.first.eq((left == 0) & captured & self.streamed_ready),
            self.stream.eq(self.first | (left != 0)),
            # The shadows are free once the first streamed row takes them over.
            self.capture.eq((self.capture_row != 0) | ((~captured | self.first) & self.held_ready)),
        ]
        with m.If(self.stream):
            m.d.sync += left.eq(Mux(self.first, self.length, left) - 1)
        with m.If(self.first):
            m.d.sync += captured.eq(0)
        with m.If(self.capture):
            m.d.sync += self.capture_row.eq(self.capture_row + 1)
            with m.If(self.capture_row == self.capture_cycles - 1):
                m.d.sync += captured.eq(1)
            with m.If(self.capture_row == self.rows - 1):
                m.d.sync += self.capture_row.eq(0)
        return m


class StationaryArray(Elaboratable):
    """``rows`` x ``columns`` elements, their edges and sequencer.

    Inputs, one vector a cycle: ``held`` [columns], wanted when ``sequencer.capture``;
    ``streamed`` [rows], wanted when ``sequencer.stream``. Outputs: ``sums`` [columns], the
    bottom registers, with ``valid`` [columns].
    """

    def __init__(self, rows: int, columns: int, capture_cycles: int | None = None) -> None:
        self.rows, self.columns = rows, columns
        wait = rows if capture_cycles is None else capture_cycles
        self.sequencer = StationarySequencer(rows, wait)
        self.held = Signal(columns * OPERAND_BITS)
        self.streamed = Signal(rows * OPERAND_BITS)
        self.sums = Signal(columns * SUM_BITS)
        self.valid = Signal(columns)

    def elaborate(self, platform: Any) -> Module:
        """The grid."""
        m = Module()
        m.submodules.sequencer = self.sequencer
        grid = [
            [StationaryElement(r, self.rows) for _ in range(self.columns)] for r in range(self.rows)
        ]
        for row in grid:
            m.submodules += row
        self._connect_rows(m, grid)
        self._connect_columns(m, grid)
        bottom = grid[-1]
        m.d.comb += self.sums.eq(Cat(element.partial for element in bottom))
        m.d.comb += self.valid.eq(Cat(element.valid for element in bottom))
        return m

    def _connect_rows(self, m: Module, grid: list[list[StationaryElement]]) -> None:
        """Streamed values go right."""
        values = skewed(m, self.streamed, self.rows)
        valid = fanned(m, self.sequencer.stream, self.rows)
        first = fanned(m, self.sequencer.first, self.rows)
        for r, row in enumerate(grid):
            left = (values[r], valid[r], first[r])
            for element in row:
                m.d.comb += element.value_in.eq(left[0])
                m.d.comb += [element.valid_in.eq(left[1]), element.first_in.eq(left[2])]
                left = (element.value, element.valid, element.first)

    def _connect_columns(self, m: Module, grid: list[list[StationaryElement]]) -> None:
        """Stationary values and partial sums go down."""
        held = skewed(m, self.held, self.columns)
        capture = fanned(m, self.sequencer.capture, self.columns)
        number = fanned(m, self.sequencer.capture_row, self.columns)
        for c in range(self.columns):
            above = (held[c], number[c], capture[c])
            partial: Any = 0
            for element in (row[c] for row in grid):
                m.d.comb += element.held_in.eq(above[0])
                m.d.comb += [element.held_row_in.eq(above[1]), element.capture_in.eq(above[2])]
                m.d.comb += element.partial_in.eq(partial)
                above = (element.held, element.held_row, element.capture)
                partial = element.partial
