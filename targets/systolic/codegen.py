"""Instructions of a layer for an array: the loop nest of a mapping, written out.

Each memory is a ring of equal slots. A tile that is still in its ring is used
again, any other is loaded over the oldest; with two slots that is double
buffering, with as many slots as tiles nothing is loaded twice.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from motet.runtime.errors import CompileError
from motet.targets.systolic.checker import check_program
from motet.targets.systolic.description import ArrayDescription
from motet.targets.systolic.isa import INSTRUCTION, NO_OPERAND, Opcode
from motet.targets.systolic.layers import Layer, ProductShape
from motet.targets.systolic.mapping import Mapping, choose_mapping
from motet.targets.systolic.operands import operands_of
from motet.targets.systolic.program import SystolicProgram

MAX_INSTRUCTIONS = 20_000_000


class Span(NamedTuple):
    """A tile's extent along one dimension of the product."""

    start: int
    size: int


class Ring:
    """Equal slots of a memory, filled in turn."""

    def __init__(self, base: int, slots: int, slot_bytes: int) -> None:
        self._addresses = [base + index * slot_bytes for index in range(slots)]
        self._tiles: OrderedDict[Hashable, int] = OrderedDict()
        self._filled = 0

    def place(self, tile: Hashable) -> tuple[int, bool]:
        """Address of ``tile``, and whether it must be loaded there."""
        if tile in self._tiles:
            return self._tiles[tile], False
        if len(self._tiles) == len(self._addresses):
            self._tiles.popitem(last=False)
        address = self._addresses[self._filled % len(self._addresses)]
        self._filled += 1
        self._tiles[tile] = address
        return address, True


def compile_layer(layer: Layer, description: ArrayDescription) -> SystolicProgram:
    """The checked program of ``layer`` on ``description``'s array.

    Raises
    ------
    CompileError: the layer does not fit the array's memories, or needs more than
        ``MAX_INSTRUCTIONS`` instructions.
    """
    mapping = check_compiles(layer, description)
    writer = _Writer(layer, mapping)
    for group, chunk, column in _output_tiles(layer.product_shape, mapping):
        writer.output_tile(group, chunk, column)
    with np.errstate(over="ignore"):  # a limit beyond fp32 is infinite
        instructions = np.array(writer.rows, INSTRUCTION)
    program = SystolicProgram(instructions, operands_of(layer), layer.macs)
    check_program(program, description)
    return program


def check_compiles(layer: Layer, description: ArrayDescription) -> Mapping:
    """The mapping that ``compile_layer`` would use; raises ``CompileError`` where it would."""
    mapping = choose_mapping(layer, description)
    groups, m, n, k = layer.product_shape
    sizes = ((m, mapping.chunk_rows), (n, mapping.tile_columns), (k, mapping.tile_depth))
    tiles = groups * math.prod(-(-size // tile) for size, tile in sizes)
    if 3 * tiles > MAX_INSTRUCTIONS:
        raise CompileError(
            f"{layer} takes {tiles:,} tiles on array {description.name!r}: "
            "use a larger array, or run it on the host"
        )
    return mapping


def _spans(size: int, tile: int) -> list[Span]:
    return [Span(start, min(tile, size - start)) for start in range(0, size, tile)]


def _output_tiles(shape: ProductShape, mapping: Mapping) -> Iterator[tuple[int, Span, Span]]:
    """(group, chunk, column tile) in the mapping's order."""
    groups = range(shape.groups)
    chunks, columns = _spans(shape.m, mapping.chunk_rows), _spans(shape.n, mapping.tile_columns)
    if mapping.chunks_outermost:
        yield from product(groups, chunks, columns)
    else:
        for group, column, chunk in product(groups, columns, chunks):
            yield group, chunk, column


class _Writer:
    """Collects the instructions, output tile by output tile."""

    def __init__(self, layer: Layer, mapping: Mapping) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self._depths = _spans(layer.product_shape.k, mapping.tile_depth)
        self._bias = 2 if layer.bias else NO_OPERAND
        self._output = 3 if layer.bias else 2
        self._clamp = layer.clamp or (-math.inf, math.inf)
        self._inputs = Ring(0, mapping.input_slots, mapping.input_tile_bytes)
        weights_base = mapping.input_slots * mapping.input_tile_bytes
        self._weights = Ring(weights_base, mapping.weight_slots, mapping.weight_tile_bytes)
        self._sums = Ring(0, mapping.accumulator_slots, mapping.accumulator_tile_bytes)

    def output_tile(self, group: int, chunk: Span, column: Span) -> None:
        """Bias, the products along the reduction, and the store of one output tile."""
        sums, _ = self._sums.place((group, chunk, column))
        self._transfer(Opcode.LOAD_BIAS, self._bias, group, chunk, column, sums)
        for depth in self._depths:
            inputs, missing = self._inputs.place((group, chunk, depth))
            if missing:
                self._transfer(Opcode.LOAD_INPUT, 0, group, chunk, depth, inputs)
            weights, missing = self._weights.place((group, depth, column))
            if missing:
                self._transfer(Opcode.LOAD_WEIGHT, 1, group, depth, column, weights)
            addresses = (inputs, weights, sums)
            sizes = (chunk.size, column.size, depth.size)
            self.rows.append((Opcode.MATMUL, NO_OPERAND, 0, 0, 0, *sizes, *addresses, 0.0, 0.0))
        self._transfer(Opcode.STORE, self._output, group, chunk, column, sums, self._clamp)

    def _transfer(
        self,
        opcode: Opcode,
        operand: int,
        group: int,
        row: Span,
        column: Span,
        address: int,
        clamp: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        place = (group, row.start, column.start, row.size, column.size)
        self.rows.append((opcode, operand, *place, 0, address, 0, 0, *clamp))
