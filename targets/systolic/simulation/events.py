"""What a program makes happen: multiply-accumulates, and bytes at every memory.

Counted from the instruction records alone, vectorised over each opcode; values do not matter.
Every word is counted where it is read or written. The rules, for a tile of v = rows x columns
values, words of w bytes (of vectors: integers and scale, and the two sides of a product differ)
and sums of 4 bytes (of vectors 4 or 8):

* LOAD: DRAM and interconnect give each distinct value of the tile once (to every target pod:
  the interconnect moves a copy for each); the memory is written v words for each target.
* MATMUL: rows x depth x columns multiply-accumulates (of words that are vectors of V: times V);
  both operand tiles are read once (from a
  resident tensor every value that the view shows, padding too), v sums are written, and read
  before where they accumulate (or the bias is read). Registers: for each
  multiply-accumulate a word moves to a neighbour and a sum is written; output-stationary moves
  both operands. Loading what stays is one more move for each value and row that it passes.
* CONV1D: the same over rows x depth x columns, lines of (columns - 1) x stride + depth inputs.
* VECTOR: one operation per value for the function and one for the activation; the accumulator
  tile is read and written (reductions that leave it as it is do not write it), and the second
  source is read where it lies.
* STORE, TRANSFER: v values out of one memory into another; a pod's own copy uses no link.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.targets.systolic.instructions.isa import (
    NO_OPERAND,
    Activation,
    Dataflow,
    Flag,
    Function,
    Instructions,
    Opcode,
)
from motet.targets.systolic.instructions.program import VIEW, SystolicProgram
from motet.targets.systolic.simulation.costs import load_values
from motet.targets.systolic.simulation.machine import view_bits

Counts = NDArray[np.float64]

_TILES = (Function.COPY, Function.ADD, Function.MULTIPLY, Function.MAXIMUM)
_BY_COLUMN = (
    Function.COLUMN_SCALE,
    Function.COLUMN_ADD,
    Function.REQUANTISE,
    Function.DEQUANTISE,
)
_BY_ROW = (Function.ROW_SUBTRACT, Function.ROW_MULTIPLY, Function.ROW_REQUANTISE)
_REDUCTIONS = (Function.ROW_MAXIMUM, Function.ROW_SUM, Function.ROW_SUM_SQUARES)
"""Functions by their second source: a tile, a vector by column or row; reductions make one."""


@dataclass(frozen=True)
class EventCounts:
    """Events of a run; sums of counts by ``+``.

    macs: multiply-accumulates, by name of their format. vector_operations: values through one
    operation. All else in bytes; ``interconnect_bytes`` counts a byte once for each pod that it
    is moved to, whatever stages it passes. ``register_bytes``: moved between processing elements.
    ``gated_products``: of vectors, whose scales' product is 0 (known once a program has run).
    """

    macs: Mapping[str, int] = field(default_factory=dict)
    scratchpad_read_bytes: int = 0
    scratchpad_write_bytes: int = 0
    accumulator_read_bytes: int = 0
    accumulator_write_bytes: int = 0
    vector_operations: int = 0
    interconnect_bytes: int = 0
    dram_read_bytes: int = 0
    dram_write_bytes: int = 0
    register_bytes: int = 0
    gated_products: int = 0

    def __add__(self, other: EventCounts) -> EventCounts:
        names = dict.fromkeys((*self.macs, *other.macs))
        macs = {name: self.macs.get(name, 0) + other.macs.get(name, 0) for name in names}
        rest = [info.name for info in fields(self) if info.name != "macs"]
        return EventCounts(macs, **{n: getattr(self, n) + getattr(other, n) for n in rest})

    def times(self, runs: int) -> EventCounts:
        """Events of ``runs`` runs."""
        macs = {name: count * runs for name, count in self.macs.items()}
        rest = [info.name for info in fields(self) if info.name != "macs"]
        return EventCounts(macs, **{name: getattr(self, name) * runs for name in rest})


def count_events(program: SystolicProgram, values: NDArray[Any] | None = None) -> EventCounts:
    """The events of one run of ``program``.

    ``values``: what ``costs.load_values`` gives for the program, where that is known already.
    """
    if values is None:
        views = program.view_table if program.views else np.zeros(1, VIEW)
        values = load_values(program.instructions, views)
    counter = _Counter(program, values)
    for opcode in (Opcode.MATMUL, Opcode.CONV1D):
        counter.products(opcode)
    counter.loads()
    counter.vectors()
    counter.stores()
    counter.transfers()
    return counter.counts()


class _Counter:
    """Sums of one program; bytes are exact in float64 (far below 2**53)."""

    def __init__(self, program: SystolicProgram, values: NDArray[Any]) -> None:
        self.program = program
        self.values = values
        made = program.number_format
        self.lanes, self.sum_bytes = made.lanes, made.accumulator_bytes
        self.input_bytes, self.weight_bytes = made.input_bits / 8, made.weight_bits / 8
        self.element_bytes = np.append(view_bits(program) / 8, self.input_bytes)
        self.macs = 0.0
        self.sums = dict.fromkeys(
            (info.name for info in fields(EventCounts) if info.name != "macs"), 0.0
        )

    def counts(self) -> EventCounts:
        """All sums, bytes rounded up."""
        rounded = {name: int(np.ceil(value)) for name, value in self.sums.items()}
        return EventCounts({self.program.format: int(self.macs)}, **rounded)

    def add(self, name: str, values: Counts) -> None:
        """Add ``values`` to the sum called ``name``."""
        self.sums[name] += float(values.sum())

    def products(self, opcode: Opcode) -> None:
        """MATMUL and CONV1D."""
        part, rows, columns, depth = self._part(opcode)
        sums, macs = rows * columns, rows * columns * depth
        inputs, weights = rows * depth, depth * columns
        if opcode is Opcode.CONV1D:
            inputs = rows * ((columns - 1) * _float(part, "value") + depth)
            weights = rows * depth
        inputs, weights = inputs * self.input_bytes, weights * self.weight_bytes
        self.macs += float(macs.sum()) * self.lanes
        self.add("scratchpad_read_bytes", inputs + weights)
        self.add("accumulator_write_bytes", sums * self.sum_bytes)
        vector = rows if opcode is Opcode.CONV1D else columns
        read = np.where(_flag(part, Flag.ACCUMULATE), sums, _flag(part, Flag.BIAS) * vector)
        self.add("accumulator_read_bytes", read * self.sum_bytes)
        sizes = (self.input_bytes, self.weight_bytes, self.sum_bytes)
        self.add("register_bytes", _register_bytes(part, (inputs, weights), macs, sizes))

    def loads(self) -> None:
        """LOAD."""
        part, rows, columns, _ = self._part(Opcode.LOAD)
        element = self._elements(part)
        distinct = self.values[self.program.instructions["opcode"] == Opcode.LOAD] * element
        targets = _float(part, "target_pods")
        accumulators = _flag(part, Flag.ACCUMULATORS)
        written = rows * columns * targets
        self.add("dram_read_bytes", distinct)
        self.add("interconnect_bytes", distinct * targets)
        self.add("scratchpad_write_bytes", np.where(accumulators, 0, written * element))
        self.add("accumulator_write_bytes", accumulators * written * self.sum_bytes)

    def vectors(self) -> None:
        """VECTOR."""
        part, rows, columns, _ = self._part(Opcode.VECTOR)
        function = part["function"]
        values = rows * columns
        works = (function != Function.NONE) * 1.0 + (part["activation"] != Activation.NONE)
        self.add("vector_operations", values * np.maximum(works, 1))
        tile, reduces = np.isin(function, _TILES), np.isin(function, _REDUCTIONS)
        own = tile & _flag(part, Flag.ACCUMULATORS)
        joined = np.isin(function, _BY_ROW) | (reduces & _flag(part, Flag.ACCUMULATE))
        vector = joined * rows + np.isin(function, _BY_COLUMN) * columns
        read = np.where(function == Function.COPY, 0, values) + own * values + vector
        self.add("accumulator_read_bytes", read * self.sum_bytes)
        limited = (part["low"] > -np.inf) | (part["high"] < np.inf)
        stays = reduces & (part["activation"] == Activation.NONE) & ~limited
        written = np.where(stays, 0, values) + reduces * rows
        self.add("accumulator_write_bytes", written * self.sum_bytes)
        self.add("scratchpad_read_bytes", (tile & ~own) * values * self.input_bytes)

    def stores(self) -> None:
        """STORE."""
        part, rows, columns, _ = self._part(Opcode.STORE)
        written = rows * columns * self._elements(part)
        self.add("accumulator_read_bytes", rows * columns * self.sum_bytes)
        self.add("dram_write_bytes", written)
        self.add("interconnect_bytes", written)

    def transfers(self) -> None:
        """TRANSFER, through a view or of a dense tile."""
        part, rows, columns, _ = self._part(Opcode.TRANSFER)
        values, targets = rows * columns, _float(part, "target_pods")
        viewed = part["operand"] != NO_OPERAND
        sums = _flag(part, Flag.ACCUMULATORS) & ~viewed
        size = np.where(sums, self.sum_bytes, self.input_bytes) * values
        first, pod = _float(part, "target_pod"), _float(part, "pod")
        own = (first <= pod) & (pod < first + targets)
        self.add("interconnect_bytes", size * (targets - own))
        from_sums = viewed | sums
        self.add("accumulator_read_bytes", from_sums * values * self.sum_bytes)
        self.add("scratchpad_read_bytes", ~from_sums * size)
        self.add("accumulator_write_bytes", sums * size * targets)
        self.add("scratchpad_write_bytes", ~sums * size * targets)

    def _part(self, opcode: Opcode) -> tuple[Instructions, Counts, Counts, Counts]:
        """Records of ``opcode``, their rows, columns and depth."""
        table = self.program.instructions
        part = table[table["opcode"] == opcode]
        rows, columns, depth = (_float(part, name) for name in ("rows", "columns", "depth"))
        return part, rows, columns, depth

    def _elements(self, part: Instructions) -> Counts:
        """Bytes of a value of each record's tensor in DRAM; of a word where it names none."""
        views = len(self.element_bytes) - 1
        made: Counts = self.element_bytes[np.minimum(part["operand"], views)]
        return made


def _register_bytes(
    part: Instructions,
    operands: tuple[Counts, Counts],
    macs: Counts,
    sizes: tuple[float, float, int],
) -> Counts:
    """Bytes moved into registers of processing elements by products.

    operands: bytes of input and weight tiles. macs: multiply-accumulates of words. sizes: bytes
    of an input, a weight and a sum. What stays is shifted in along the array's rows: a value passes
    half of them on average.
    """
    dataflow = part["dataflow"]
    (inputs, weights), (input_bytes, weight_bytes, sum_bytes) = operands, sizes
    sums = _float(part, "rows") * _float(part, "columns")
    both = (dataflow == Dataflow.OUTPUT_STATIONARY) | (
        dataflow == Dataflow.SPATIAL_OUTPUT_STATIONARY
    )
    by_inputs = dataflow == Dataflow.INPUT_STATIONARY
    moving = np.where(both, input_bytes + weight_bytes, input_bytes)
    moved = macs * (np.where(by_inputs, weight_bytes, moving) + sum_bytes)
    stays = np.select(
        [both, by_inputs],
        [sums * sum_bytes * (_float(part, "rows") + 1) / 2,
         inputs * (_float(part, "depth") + 1) / 2],
        weights * (_float(part, "depth") + 1) / 2,
    )  # fmt: skip
    result: Counts = moved + stays
    return result


def _float(part: Instructions, name: str) -> Counts:
    values: Counts = part[name].astype(np.float64)
    return values


def _flag(part: Instructions, flag: Flag) -> NDArray[np.bool_]:
    found: NDArray[Any] = (part["flags"] & np.uint8(flag)) != 0
    return found
