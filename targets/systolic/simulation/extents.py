"""How much memory a program's instructions reach, and whether its views hold their tiles.

Compiled code checks no address, so this is what keeps it inside its memories whatever the
program; the checker says far more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.runtime.errors import ProgramError
from motet.targets.systolic.instructions.isa import NO_OPERAND, Flag, Function, Opcode
from motet.targets.systolic.instructions.program import SystolicProgram

Numbers = NDArray[np.int64]
_JOINS = (Function.COPY, Function.ADD, Function.MULTIPLY, Function.MAXIMUM)
_BY_COLUMN = (
    Function.COLUMN_SCALE,
    Function.COLUMN_ADD,
    Function.REQUANTISE,
    Function.DEQUANTISE,
)
_BY_ROW = (
    Function.ROW_MAXIMUM,
    Function.ROW_SUM,
    Function.ROW_SUM_SQUARES,
    Function.ROW_SUBTRACT,
    Function.ROW_MULTIPLY,
    Function.ROW_REQUANTISE,
)


@dataclass(frozen=True)
class Extents:
    """Sizes that a program needs.

    pods: that have memories. scratchpad, accumulators: words of every pod. tile: words of the
    largest input tile read from a resident tensor. second: values of the largest tile that a
    VECTOR reads from scratchpads. rows: of the largest tile.
    """

    pods: int
    scratchpad: int
    accumulators: int
    tile: int
    second: int
    rows: int


class _Fields:
    """An instruction's fields as int64 [n], and masks of instructions."""

    def __init__(self, program: SystolicProgram) -> None:
        self._table = program.instructions
        self._made: dict[str, Numbers] = {}
        self.viewed = (self.opcode != Opcode.WAIT) & (self.opcode != Opcode.SIGNAL)
        self.viewed &= self.operand != NO_OPERAND

    def __getattr__(self, name: str) -> Numbers:
        if name not in self._made:
            self._made[name] = self._table[name].astype(np.int64)
        return self._made[name]

    def having(self, flag: Flag) -> NDArray[np.bool_]:
        """Which instructions have ``flag``."""
        found: NDArray[np.bool_] = (self.flags & int(flag)) != 0
        return found

    def running(self, *opcodes: Opcode) -> NDArray[np.bool_]:
        """Which instructions have one of ``opcodes``."""
        return np.isin(self.opcode, [int(one) for one in opcodes])

    def applying(self, *functions: Function) -> NDArray[np.bool_]:
        """Which instructions are VECTORs with one of ``functions``."""
        chosen = np.isin(self.function, [int(one) for one in functions])
        return chosen & self.running(Opcode.VECTOR)


def extents(program: SystolicProgram) -> Extents:
    """What ``program`` needs; raises ``ProgramError`` for an operand outside its view or tensor."""
    fields = _Fields(program)
    _require_sizes(fields)
    wide = _view_columns(fields)
    _require_views(program)
    _require_tiles(program, fields, wide)
    resident = fields.having(Flag.RESIDENT)
    joined = fields.applying(*_JOINS) & ~fields.having(Flag.ACCUMULATORS)
    products = fields.running(Opcode.MATMUL, Opcode.CONV1D)
    return Extents(
        _pods(program, fields),
        max(_scratchpad_words(fields, wide), _resident_words(program)),
        _accumulator_words(fields),
        _most(fields.rows * wide, products & resident),
        _most(fields.rows * fields.columns, joined),
        _most(fields.rows, np.ones(len(fields.rows), np.bool_)),
    )


def _most(values: Numbers, chosen: NDArray[np.bool_]) -> int:
    return int(np.max(values, where=chosen, initial=0))


def _view_columns(fields: _Fields) -> Numbers:
    """Columns of the tile that each instruction reads or writes through its view or address."""
    wide = np.where(fields.running(Opcode.MATMUL), fields.depth, fields.columns)
    lines = (fields.columns - 1) * fields.value + fields.depth
    made: Numbers = np.where(fields.running(Opcode.CONV1D), lines, wide)
    return made


def _scratchpad_words(fields: _Fields, wide: Numbers) -> int:
    in_sums = fields.having(Flag.ACCUMULATORS)
    resident = fields.having(Flag.RESIDENT)
    products = fields.running(Opcode.MATMUL, Opcode.CONV1D)
    copies = fields.running(Opcode.TRANSFER) & ~in_sums & (fields.operand == NO_OPERAND)
    tile = fields.rows * fields.columns
    weights = fields.depth * np.where(fields.running(Opcode.MATMUL), fields.columns, fields.rows)
    joined = fields.applying(*_JOINS) & ~in_sums & ~resident
    return max(
        _most(fields.address + tile, fields.running(Opcode.LOAD) & ~in_sums),
        _most(fields.address + fields.rows * wide, products & ~resident),
        _most(fields.second_address + weights, products),
        _most(np.maximum(fields.address, fields.second_address) + tile, copies),
        _most(fields.second_address + tile, joined),
    )


def _accumulator_words(fields: _Fields) -> int:
    in_sums = fields.having(Flag.ACCUMULATORS)
    dense = fields.running(Opcode.TRANSFER) & (fields.operand == NO_OPERAND)
    tile = fields.rows * fields.columns
    uses = fields.running(Opcode.MATMUL, Opcode.CONV1D, Opcode.VECTOR, Opcode.STORE)
    uses |= (fields.running(Opcode.LOAD) | dense) & in_sums
    uses |= fields.running(Opcode.TRANSFER) & ~dense
    biased = fields.having(Flag.BIAS)
    by_column = (fields.running(Opcode.MATMUL) & biased) | fields.applying(*_BY_COLUMN)
    by_row = (fields.running(Opcode.CONV1D) & biased) | fields.applying(*_BY_ROW)
    return max(
        _most(fields.accumulator_address + tile, uses),
        _most(fields.third_address + tile, dense & in_sums),
        _most(fields.second_address + tile, fields.applying(*_JOINS) & in_sums),
        _most(fields.third_address + fields.columns, by_column),
        _most(fields.third_address + fields.rows, by_row),
    )


def _resident_words(program: SystolicProgram) -> int:
    ends = (t.resident + t.elements for t in program.tensors if t.resident is not None)
    return max(ends, default=0)


def _pods(program: SystolicProgram, fields: _Fields) -> int:
    """Pods that have queues or are targets."""
    sends = fields.running(Opcode.LOAD, Opcode.TRANSFER)
    used = max(
        _most(fields.pod + 1, fields.running(*Opcode)),
        _most(fields.target_pod + fields.target_pods, sends),
    )
    return max(program.pods, used)


def _require_sizes(fields: _Fields) -> None:
    """At least one value per tile, product and stride."""
    least = np.minimum(fields.rows, fields.columns)
    products = fields.running(Opcode.MATMUL, Opcode.CONV1D)
    least = np.where(products, np.minimum(least, fields.depth), least)
    lines = fields.running(Opcode.CONV1D)
    least = np.where(lines, np.minimum(least, fields.value), least)
    least[fields.running(Opcode.WAIT, Opcode.SIGNAL)] = 1
    if (least < 1).any():
        number = np.argmin(least)
        raise ProgramError(
            f"instruction {number} ({Opcode(int(fields.opcode[number])).name}) is of no size; "
            "rows, columns, and a product's depth and stride must be positive"
        )


def _require_views(program: SystolicProgram) -> None:
    for number, view in enumerate(program.views):
        padded = math.prod(view.padded_shape)
        if view.tensor >= len(program.tensors):
            raise ProgramError(f"view {number} names tensor {view.tensor}, which is not there")
        fits = math.prod(view.shape) <= program.tensors[view.tensor].elements
        if not fits or view.first_address < 0 or view.last_address >= padded:
            raise ProgramError(f"view {number} reaches outside tensor {view.tensor}")


def _require_tiles(program: SystolicProgram, fields: _Fields, wide: Numbers) -> None:
    needed = fields.running(Opcode.LOAD, Opcode.STORE) | (
        fields.having(Flag.RESIDENT) & fields.running(Opcode.MATMUL, Opcode.CONV1D, Opcode.VECTOR)
    )
    if (needed & ~fields.viewed).any():
        raise ProgramError(f"instruction {np.argmax(needed & ~fields.viewed)} needs a view")
    chosen = np.flatnonzero(fields.viewed)
    if len(chosen) == 0:
        return
    operand = fields.operand[chosen]
    if operand.max() >= len(program.views):
        number = chosen[np.argmax(operand)]
        raise ProgramError(f"instruction {number} names view {operand.max()}, which is not there")
    table: Any = program.view_table[operand]
    fits = fields.group[chosen] < table["group_extent"]
    fits &= fields.row[chosen] + fields.rows[chosen] <= table["row_extent"].prod(axis=1)
    fits &= fields.column[chosen] + wide[chosen] <= table["column_extent"].prod(axis=1)
    resident = fields.having(Flag.RESIDENT) | fields.running(Opcode.TRANSFER)
    fits &= (table["resident"] >= 0) == resident[chosen]
    if not fits.all():
        number = chosen[np.argmin(fits)]
        raise ProgramError(
            f"instruction {number} ({Opcode(int(fields.opcode[number])).name}): its tile is not "
            f"inside view {fields.operand[number]}, or the view's tensor is in another memory"
        )
