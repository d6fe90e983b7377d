"""Products of vectors: what VS-Quant's multiply-accumulate unit computes, compiled.

A program writes no vectors, so a simulated scratchpad holds the number of each word in a table
of all vectors that the caller gave; number 0 is the vector of zeros that padding reads as.
Accumulators hold sums until DEQUANTISE and floats after it: here each has a memory of its own
at the same addresses, and an instruction says which of the two it means.

Source: Dai et al., "VS-Quant" (MLSys 2021, arXiv 2102.04503), section 6 and figure 2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from motet.targets.systolic.formats import VectorFormat
from motet.targets.systolic.instructions.isa import Flag, Function, Opcode
from motet.targets.systolic.instructions.program import Element
from motet.targets.systolic.simulation.compiled import entry, kernel
from motet.targets.systolic.simulation.execute import (
    apply_vector,
    finish_vector,
    load_tile,
    store_tile,
)
from motet.targets.systolic.simulation.functional_state import RunState
from motet.targets.systolic.simulation.gather import write_tile
from motet.targets.systolic.simulation.intrinsics import array_at
from motet.targets.systolic.simulation.widths import wide

_LOAD, _MATMUL = int(Opcode.LOAD), int(Opcode.MATMUL)
_VECTOR, _STORE = int(Opcode.VECTOR), int(Opcode.STORE)
_ACCUMULATE, _DEQUANTISE = int(Flag.ACCUMULATE), int(Function.DEQUANTISE)
_INT64 = int(Element.INT64)
_LEAST, _MOST = -(2**63), 2**63 - 1
_integer: Any = np.int64


class VectorState(NamedTuple):
    """A run of a program of vectors.

    Attributes
    ----------
    run: as of any program; ``run.scratchpads`` holds numbers of words, ``run.accumulators`` floats.
    integers: int16 [words, V] of every word; scales: int64 [words].
    sums: int64, as many as ``run.accumulators``.
    dropped, most: low bits that rounding drops of a product of scales, and its largest value.
    is_wide: whether sums have 64 bits; else they are modulo 2**32.
    gated: int64 [1], products of vectors so far whose scales' product was 0.
    """

    run: RunState
    integers: NDArray[np.int16]
    scales: NDArray[np.int64]
    sums: NDArray[np.int64]
    dropped: int
    most: int
    is_wide: bool
    gated: NDArray[np.int64]


def rounding_of(vectors: VectorFormat) -> tuple[int, int]:
    """``VectorState.dropped`` and ``most``."""
    return vectors.dropped, (1 << vectors.scale_product_bits) - 1


@entry
def execute_vectors(state: Any, order: Any) -> None:
    """Execute the instructions whose numbers are in ``order`` (int64), one after the other."""
    for i in range(len(order)):
        number = order[i]
        opcode = state.run.program[number].opcode
        if opcode == _LOAD:
            load_tile(state.run, number)
        elif opcode == _MATMUL:
            _multiply(state, number)
        elif opcode == _VECTOR:
            if state.run.program[number].function == _DEQUANTISE:
                _dequantise(state, number)
            else:
                apply_vector(state.run, number)
        elif opcode == _STORE:
            _store(state, number)


@kernel
def rounded(product: int, dropped: int, most: int) -> int:
    """A product of scales without its ``dropped`` low bits: nearest, halves to even."""
    if dropped == 0:
        return product
    low, high = product & ((1 << dropped) - 1), product >> dropped
    half = 1 << (dropped - 1)
    if low > half or (low == half and high & 1):
        high += 1
    return min(high, most)


@kernel
def _multiply(state: Any, number: int) -> None:
    item = state.run.program[number]
    rows, columns, depth = wide(item.rows), wide(item.columns), wide(item.depth)
    base = wide(item.pod) * state.run.scratchpad_words
    inputs = state.run.scratchpads[base + wide(item.address) :]
    weights = state.run.scratchpads[base + wide(item.second_address) :]
    at = wide(item.pod) * state.run.accumulator_words + wide(item.accumulator_address)
    sums = state.sums[at : at + rows * columns]
    if not item.flags & _ACCUMULATE:
        sums[:] = 0
    for c in range(columns):
        column = sums[c * rows : (c + 1) * rows]
        for k in range(depth):
            _add_products(state, column, inputs[k * rows :], weights[c * depth + k])
    if not state.is_wide:
        for i in range(len(sums)):
            sums[i] = _integer(np.int32(sums[i] & 0xFFFFFFFF))


@kernel
def _add_products(state: Any, column: Any, inputs: Any, weight: int) -> None:
    """Add the products of one weight and an input for each row to a column of sums."""
    factor = state.scales[weight]
    if factor == 0:
        state.gated[0] += len(column)
        return
    right = state.integers[weight]
    for r in range(len(column)):
        scale = rounded(state.scales[inputs[r]] * factor, state.dropped, state.most)
        if scale == 0:
            state.gated[0] += 1
            continue
        left = state.integers[inputs[r]]
        dot = np.int32(0)
        for j in range(len(right)):
            dot += np.int32(left[j]) * np.int32(right[j])
        column[r] += scale * _integer(dot)


@kernel
def _dequantise(state: Any, number: int) -> None:
    item = state.run.program[number]
    rows, columns = wide(item.rows), wide(item.columns)
    base = wide(item.pod) * state.run.accumulator_words
    at, third = base + wide(item.accumulator_address), base + wide(item.third_address)
    tile = state.run.accumulators[at : at + rows * columns]
    for c in range(columns):
        factor = state.run.accumulators[third + c]
        for i in range(c * rows, (c + 1) * rows):
            tile[i] = np.float32(np.float32(state.sums[at + i]) * factor)
    finish_vector(state.run, number, tile)


@kernel
def _store(state: Any, number: int) -> None:
    item = state.run.program[number]
    view = state.run.views[item.operand]
    tensor = state.run.tensors[view.tensor]
    if tensor.element != _INT64:
        store_tile(state.run, number)
        return
    at = wide(item.pod) * state.run.accumulator_words + wide(item.accumulator_address)
    values = array_at(tensor.address, tensor.size, state.sums)
    corner = (wide(item.group), wide(item.row), wide(item.column))
    shape = (wide(item.rows), wide(item.columns))
    limits = (_LEAST, _MOST)
    write_tile(values, state.sums[at:], view, corner, shape, limits, False, state.run.segments)
