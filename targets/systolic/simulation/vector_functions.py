"""The vector unit's functions as compiled loops over dense column-major tiles.

One source for all formats: sums are float32 or int32 (additions and products modulo
2**32); ``scalars.affine`` says how integers are scaled. Row reductions run along rows in
memory order, column after column.
"""

from __future__ import annotations

from typing import Any

from motet.targets.systolic.instructions.isa import Function
from motet.targets.systolic.simulation.compiled import kernel
from motet.targets.systolic.simulation.scalars import affine

_COPY, _ADD, _MULTIPLY = int(Function.COPY), int(Function.ADD), int(Function.MULTIPLY)
_COLUMN_SCALE, _COLUMN_ADD = int(Function.COLUMN_SCALE), int(Function.COLUMN_ADD)
_ROW_MAXIMUM, _ROW_SUM = int(Function.ROW_MAXIMUM), int(Function.ROW_SUM)
_ROW_SUBTRACT, _ROW_MULTIPLY = int(Function.ROW_SUBTRACT), int(Function.ROW_MULTIPLY)


@kernel
def clamp(sums: Any, low: Any, high: Any) -> None:
    """Limit every value to [low, high] in place; a NaN stays one."""
    for i in range(len(sums)):
        value = sums[i]
        if value < low:
            value = low
        if value > high:
            value = high
        sums[i] = value


@kernel
def combine(function: int, sums: Any, second: Any, alpha: Any) -> None:
    """COPY, ADD, MULTIPLY or MAXIMUM of two tiles, value by value, into ``sums``."""
    count = len(sums)
    if function == _COPY:
        for i in range(count):
            sums[i] = second[i]
    elif function == _ADD and alpha == 1:
        for i in range(count):
            sums[i] += second[i]
    elif function == _ADD:
        for i in range(count):
            sums[i] += affine(second[i], alpha, 0)
    elif function == _MULTIPLY:
        for i in range(count):
            sums[i] *= second[i]
    else:
        for i in range(count):
            value = second[i]
            if value > sums[i] or value != value:
                sums[i] = value


@kernel
def scale(sums: Any, factor: Any, constant: Any) -> None:
    """SCALE, and REQUANTISE of one column: ``affine`` of every value, in place."""
    for i in range(len(sums)):
        sums[i] = affine(sums[i], factor, constant)


@kernel
def scale_rows(sums: Any, factors: Any, constant: Any) -> None:
    """ROW_REQUANTISE of one column: ``affine`` of every value with its row's factor, in place."""
    for i in range(len(sums)):
        sums[i] = affine(sums[i], factors[i], constant)


@kernel
def with_vector(function: int, sums: Any, rows: int, vector: Any) -> None:
    """COLUMN_SCALE, COLUMN_ADD, ROW_SUBTRACT or ROW_MULTIPLY by a vector, in place."""
    for c in range(len(sums) // rows):
        column = sums[c * rows : c * rows + rows]
        if function == _ROW_SUBTRACT:
            for r in range(rows):
                column[r] -= vector[r]
        elif function == _ROW_MULTIPLY:
            for r in range(rows):
                column[r] *= vector[r]
        elif function == _COLUMN_SCALE:
            for r in range(rows):
                column[r] *= vector[c]
        else:
            for r in range(rows):
                column[r] += vector[c]


@kernel
def reduce_rows(function: int, sums: Any, rows: int, vector: Any, joined: bool) -> None:
    """ROW_MAXIMUM, ROW_SUM or ROW_SUM_SQUARES into ``vector`` [rows].

    ``joined``: what the vector held takes part.
    """
    for c in range(len(sums) // rows):
        column = sums[c * rows : c * rows + rows]
        first = c == 0 and not joined
        for r in range(rows):
            value = column[r]
            if function == _ROW_MAXIMUM:
                if first or value > vector[r] or value != value:
                    vector[r] = value
            else:
                part = value if function == _ROW_SUM else value * value
                vector[r] = part if first else vector[r] + part
