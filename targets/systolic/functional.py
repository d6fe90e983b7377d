"""What a program computes: every instruction on simulated memories, in fp32.

Values flow as the machine moves them: from DRAM operands into tiles of the
scratchpad, through tile products into tiles of the accumulators, and through the
output stage back to DRAM. A tile's product is one numpy matrix product over its
two scratchpad regions, added to its accumulator region, so partial sums add up in
the order of the tiles.

``BoundProgram`` decodes the instructions once: each becomes one tuple (a transfer
that crosses a loop of its address generator becomes a few) of views into the
memories and slices of the operands, so that a run only moves and multiplies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

from motet.runtime.device import Array
from motet.runtime.errors import InputError
from motet.targets.systolic.addressing import Loop, rectangles
from motet.targets.systolic.description import FP32_BYTES, ArrayDescription
from motet.targets.systolic.isa import NO_OPERAND, Instruction, Opcode, Operand
from motet.targets.systolic.program import SystolicProgram
from motet.targets.systolic.tile_product import is_single, stacked_blocks

Step = tuple[int, Any, Any, Any, Any]

_COPY, _MULTIPLY, _FILL, _BLOCKS, _ADD, _STORE = range(6)
_ON_SCRATCHPAD = (Opcode.LOAD_INPUT, Opcode.LOAD_WEIGHT)


class OnChipMemories:
    """The scratchpad, the accumulators, and where a tile's product appears: fp32 words."""

    def __init__(self, description: ArrayDescription) -> None:
        self.scratchpad = np.empty(description.scratchpad_words, np.float32)
        self.accumulators = np.empty(description.accumulator_words, np.float32)
        self.products = np.empty(description.accumulator_words, np.float32)


class BoundProgram:
    """A checked program bound to memories of its own; one run at a time."""

    def __init__(self, program: SystolicProgram, memories: OnChipMemories) -> None:
        self._operands = program.operands
        self._frames = [_frame(operand) for operand in program.operands]
        self._steps = _Binder(program.operands, memories).steps(program)

    def run(self, inputs: Sequence[Array], output: Array) -> None:
        """Fill ``output`` from ``inputs`` (operand order), fp32 and C-contiguous.

        An array of another shape than its operand's serves where it has as many
        values; raises ``InputError`` where it does not fit.
        """
        arrays = (*inputs, output)
        if len(arrays) != len(self._operands):
            needed = len(self._operands) - 1
            raise InputError(f"array program takes {needed} inputs, {len(inputs)} were given")
        views = [
            _view(operand, frame, array)
            for operand, frame, array in zip(self._operands, self._frames, arrays, strict=True)
        ]
        with np.errstate(all="ignore"):
            _execute(self._steps, views)


def _execute(steps: Sequence[Step], views: Sequence[Array]) -> None:
    dot, matmul, add = np.dot, np.matmul, np.add
    maximum, minimum = np.maximum, np.minimum
    for kind, target, first, second, third in steps:
        if kind == _COPY:
            target[...] = views[first][second]
        elif kind == _MULTIPLY:
            dot(first, second, out=third)
            add(target, third, out=target)
        elif kind == _FILL:
            target.fill(0.0)
        elif kind == _BLOCKS:
            matmul(first, second, out=target)
        elif kind == _ADD:
            add(target, first, out=target)
        else:
            place = views[-1][target]
            maximum(first, second, out=place)
            minimum(place, third, out=place)


def _frame(operand: Operand) -> Array | None:
    """Room for a padded operand; its border stays zero."""
    return np.zeros(operand.padded_shape, np.float32) if operand.is_padded else None


def _view(operand: Operand, frame: Array | None, array: Array) -> Array:
    """``array`` as [group, *column loops, *row loops] of the operand's generator."""
    if array.dtype != np.float32 or array.size != operand.elements:
        raise InputError(
            f"array program: {operand.role.name.lower()} must be float32 with {operand.elements} "
            f"values (shape {list(operand.shape)}), not {array.dtype} {list(array.shape)}"
        )
    if not array.flags.c_contiguous:
        raise InputError(f"array program: {operand.role.name.lower()} must be C-contiguous")
    if frame is not None:
        top, left, _, _ = operand.padding
        height, width = operand.shape[-2:]
        frame[..., top : top + height, left : left + width] = array.reshape(operand.shape)
        array = frame
    loops = operand.generator.loops
    shape = tuple(loop.extent for loop in loops)
    strides = tuple(loop.stride * FP32_BYTES for loop in loops)
    return np.ndarray(shape, np.float32, array, strides=strides)


class _Binder:
    """Turns instructions into steps; equal tiles share their views."""

    def __init__(self, operands: Sequence[Operand], memories: OnChipMemories) -> None:
        self._operands = operands
        self._memories = memories
        self._region = cache(self._make_region)
        self._pieces = cache(self._make_pieces)

    def steps(self, program: SystolicProgram) -> list[Step]:
        """The steps of all instructions, in order."""
        result: list[Step] = []
        for values in program.instructions.tolist():
            result.extend(self._steps_of(Instruction(*values)))
        return result

    def _steps_of(self, item: Instruction) -> list[Step]:
        if item.opcode == Opcode.MATMUL:
            return self._multiply(item)
        memory = "scratchpad" if item.opcode in _ON_SCRATCHPAD else "accumulators"
        key = (memory, item.address, item.rows, item.columns)
        if item.operand == NO_OPERAND:
            return [(_FILL, self._region(*key), None, None, None)]
        pieces = self._pieces(*key, item.operand, item.row, item.column)
        if item.opcode != Opcode.STORE:
            return [
                (_COPY, tile, item.operand, (item.group, *index), None) for tile, index in pieces
            ]
        low, high = np.float32(item.low), np.float32(item.high)
        return [(_STORE, (item.group, *index), tile, low, high) for tile, index in pieces]

    def _multiply(self, item: Instruction) -> list[Step]:
        rows, columns, depth = item.rows, item.columns, item.depth
        inputs = self._region("scratchpad", item.address, rows, depth)
        weights = self._region("scratchpad", item.weight_address, depth, columns)
        sums = self._region("accumulators", item.accumulator_address, rows, columns)
        product = self._region("products", 0, rows, columns)
        if is_single(columns, depth, rows):
            return [(_MULTIPLY, sums, weights, inputs, product)]
        blocks = stacked_blocks(weights, inputs, product)
        steps: list[Step] = [(_BLOCKS, out, left, right, None) for left, right, out in blocks]
        return [*steps, (_ADD, sums, product, None, None)]

    def _make_region(self, memory: str, address: int, rows: int, columns: int) -> Array:
        """A tile in a memory, as [columns, rows]."""
        start = address // FP32_BYTES
        words: Array = getattr(self._memories, memory)[start : start + rows * columns]
        return words.reshape(columns, rows)

    def _make_pieces(
        self,
        memory: str,
        address: int,
        rows: int,
        columns: int,
        operand: int,
        row: int,
        column: int,
    ) -> list[tuple[Array, tuple[slice, ...]]]:
        """A tile's boxes: a view of the tile, and where its values lie in the operand."""
        tile = self._region(memory, address, rows, columns)
        generator = self._operands[operand].generator
        result = []
        for down, column_box in _boxes(column, columns, generator.columns):
            for along, row_box in _boxes(row, rows, generator.rows):
                box = (*column_box, *row_box)
                shape = [part.stop - part.start for part in box]
                result.append((tile[down, along].reshape(shape), box))
        return result


def _boxes(
    start: int, size: int, loops: Sequence[Loop]
) -> Iterator[tuple[slice, tuple[slice, ...]]]:
    """Boxes of [start, start + size) over ``loops``, each with its place in the tile."""
    offset = 0
    for box in rectangles(start, start + size, [loop.extent for loop in loops]):
        count = math.prod(part.stop - part.start for part in box)
        yield slice(offset, offset + count), box
        offset += count
