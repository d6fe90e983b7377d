"""The loop over a program's instructions: every opcode on simulated memories, compiled.

``execute`` is compiled once for floats and once for integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from motet.targets.systolic.instructions.isa import NO_OPERAND, Activation, Flag, Function, Opcode
from motet.targets.systolic.instructions.program import Element
from motet.targets.systolic.simulation.activation_functions import activate
from motet.targets.systolic.simulation.compiled import entry, kernel
from motet.targets.systolic.simulation.functional_state import CONSTANT, HIGH, LOW, PADDING
from motet.targets.systolic.simulation.gather import read_tile, write_tile
from motet.targets.systolic.simulation.intrinsics import array_at
from motet.targets.systolic.simulation.tile_kernels import convolve_lines, product
from motet.targets.systolic.simulation.vector_functions import (
    clamp,
    combine,
    reduce_rows,
    scale,
    scale_rows,
    with_vector,
)

_LOAD, _MATMUL, _CONV1D = int(Opcode.LOAD), int(Opcode.MATMUL), int(Opcode.CONV1D)
_VECTOR, _STORE, _TRANSFER = int(Opcode.VECTOR), int(Opcode.STORE), int(Opcode.TRANSFER)
_ACCUMULATE, _BIAS, _RESIDENT = int(Flag.ACCUMULATE), int(Flag.BIAS), int(Flag.RESIDENT)
_ACCUMULATORS = int(Flag.ACCUMULATORS)
_COPY, _MAXIMUM = int(Function.COPY), int(Function.MAXIMUM)
_ROW_MAXIMUM, _ROW_SUM_SQUARES = int(Function.ROW_MAXIMUM), int(Function.ROW_SUM_SQUARES)
_REQUANTISE, _SCALE, _IDENTITY = int(Function.REQUANTISE), int(Function.SCALE), int(Function.NONE)
_ROW_REQUANTISE = int(Function.ROW_REQUANTISE)
_NO_ACTIVATION, _WORD, _FP32 = int(Activation.NONE), int(Element.WORD), int(Element.FP32)

_int: Any = np.int64
"""Fields of records are unsigned; sums of those and signed numbers would become floats."""


@entry
def execute(state: Any, order: Any) -> None:
    """Execute the instructions whose numbers are in ``order`` (int64), one after the other."""
    for i in range(len(order)):
        number = order[i]
        opcode = state.program[number].opcode
        if opcode == _LOAD:
            load_tile(state, number)
        elif opcode in (_MATMUL, _CONV1D):
            _multiply(state, number)
        elif opcode == _VECTOR:
            apply_vector(state, number)
        elif opcode == _STORE:
            store_tile(state, number)
        elif opcode == _TRANSFER:
            _transfer(state, number)


@kernel
def _corner(item: Any) -> tuple[int, int, int]:
    return _int(item.group), _int(item.row), _int(item.column)


@kernel
def _shape(item: Any) -> tuple[int, int]:
    return _int(item.rows), _int(item.columns)


@kernel
def _copy(memory: Any, target: int, source: int, count: int) -> None:
    """Copy inside a memory; the two places may overlap."""
    if target == source:
        return
    if target < source:
        for i in range(count):
            memory[target + i] = memory[source + i]
    else:
        for i in range(count - 1, -1, -1):
            memory[target + i] = memory[source + i]


@kernel
def _broadcast(memory: Any, item: Any, pitch: int, source: int, address: int) -> None:
    """Copy the tile at ``source`` to ``address`` of the memory of every target pod."""
    count = _int(item.rows) * _int(item.columns)
    first = _int(item.target_pod)
    for pod in range(first, first + _int(item.target_pods)):
        _copy(memory, pod * pitch + address, source, count)


@kernel
def load_tile(state: Any, number: int) -> None:
    """LOAD."""
    item = state.program[number]
    view = state.views[item.operand]
    tensor = state.tensors[view.tensor]
    corner, shape = _corner(item), _shape(item)
    padding, first = state.numbers[number, PADDING], _int(item.target_pod)
    in_sums = item.flags & _ACCUMULATORS != 0
    if in_sums and tensor.element != _WORD:
        to = first * state.accumulator_words + _int(item.accumulator_address)
        sums = state.accumulators[to:]
        values = array_at(tensor.address, tensor.size, sums)
        read_tile(sums, values, view, corner, shape, padding, tensor.is_bf16, state.segments)
    else:
        words = array_at(tensor.address, tensor.size, state.scratchpads)
        if in_sums:
            to = first * state.accumulator_words + _int(item.accumulator_address)
            sums = state.accumulators[to:]
            read_tile(sums, words, view, corner, shape, padding, tensor.is_bf16, state.segments)
        else:
            to = first * state.scratchpad_words + _int(item.address)
            tile = state.scratchpads[to:]
            read_tile(tile, words, view, corner, shape, padding, tensor.is_bf16, state.segments)
    if in_sums:
        pitch = state.accumulator_words
        _broadcast(state.accumulators, item, pitch, to, _int(item.accumulator_address))
    else:
        _broadcast(state.scratchpads, item, state.scratchpad_words, to, _int(item.address))


@kernel
def _resident(state: Any, number: int, target: Any, columns: int) -> None:
    """Gather tile [rows, columns] of the resident operand to the start of ``target``."""
    item = state.program[number]
    view = state.views[item.operand]
    source = state.scratchpads[_int(item.pod) * state.scratchpad_words + view.resident :]
    corner, shape = _corner(item), (_int(item.rows), columns)
    padding, is_bf16 = state.numbers[number, PADDING], state.tensors[view.tensor].is_bf16
    read_tile(target, source, view, corner, shape, padding, is_bf16, state.segments)


@kernel
def _multiply(state: Any, number: int) -> None:
    """MATMUL and CONV1D."""
    item = state.program[number]
    is_product = item.opcode == _MATMUL
    rows, columns = _shape(item)
    depth, stride = _int(item.depth), _int(item.value)
    base = _int(item.pod) * state.scratchpad_words
    left, start = state.scratchpads, base + _int(item.address)
    if item.flags & _RESIDENT:
        wide = depth if is_product else (columns - 1) * stride + depth
        _resident(state, number, state.tile, wide)
        left, start = state.tile, 0
    sums, at = _start_sums(state, item, is_product)
    right, weights = state.scratchpads, base + _int(item.second_address)
    shape = (rows, depth, columns)
    if is_product:
        product(sums, at, left, start, right, weights, shape)
    else:
        convolve_lines(sums, at, left, start, right, weights, shape, stride)


@kernel
def _start_sums(state: Any, item: Any, is_product: bool) -> tuple[Any, int]:
    """What the sums start from; returns their memory and address."""
    rows, columns = _shape(item)
    sums, base = state.accumulators, _int(item.pod) * state.accumulator_words
    at, bias = base + _int(item.accumulator_address), base + _int(item.third_address)
    if item.flags & _ACCUMULATE:
        return sums, at
    if not item.flags & _BIAS:
        sums[at : at + rows * columns] = 0
        return sums, at
    for c in range(columns):
        column = sums[at + c * rows : at + (c + 1) * rows]
        if is_product:
            column[:] = sums[bias + c]
        else:
            for r in range(rows):
                column[r] = sums[bias + r]
    return sums, at


@kernel
def apply_vector(state: Any, number: int) -> None:
    """VECTOR."""
    item = state.program[number]
    rows, columns = _shape(item)
    function, alpha = item.function, item.alpha
    base = _int(item.pod) * state.accumulator_words
    at, third = base + _int(item.accumulator_address), base + _int(item.third_address)
    sums = state.accumulators[at : at + rows * columns]
    if function >= _COPY and function <= _MAXIMUM:
        combine(function, sums, _second(state, number), alpha)
    elif function >= _ROW_MAXIMUM and function <= _ROW_SUM_SQUARES:
        vector = state.accumulators[third : third + rows]
        reduce_rows(function, sums, rows, vector, (item.flags & _ACCUMULATE) != 0)
    elif function == _REQUANTISE:
        factors = state.accumulators[third : third + columns].view(np.float32)
        for c in range(columns):
            column = sums[c * rows : (c + 1) * rows]
            scale(column, factors[c], state.numbers[number, CONSTANT])
    elif function == _ROW_REQUANTISE:
        factors = state.accumulators[third : third + rows].view(np.float32)
        for c in range(columns):
            column = sums[c * rows : (c + 1) * rows]
            scale_rows(column, factors, state.numbers[number, CONSTANT])
    elif function == _SCALE:
        scale(sums, alpha, state.numbers[number, CONSTANT])
    elif function != _IDENTITY:
        vector = state.accumulators[third : third + max(rows, columns)]
        with_vector(function, sums, rows, vector)
    finish_vector(state, number, sums)


@kernel
def finish_vector(state: Any, number: int, sums: Any) -> None:
    """The activation and limits behind the function of a VECTOR, on its tile ``sums``."""
    item = state.program[number]
    if item.activation != _NO_ACTIVATION:
        activate(item.activation, sums, item.alpha)
    if item.low > -np.inf or item.high < np.inf:
        clamp(sums, state.numbers[number, LOW], state.numbers[number, HIGH])


@kernel
def _second(state: Any, number: int) -> Any:
    """The second source of COPY to MAXIMUM, as a dense tile of sums."""
    item = state.program[number]
    rows, columns = _shape(item)
    address, count = _int(item.second_address), rows * columns
    if item.flags & _ACCUMULATORS:
        start = _int(item.pod) * state.accumulator_words + address
        return state.accumulators[start : start + count]
    made = state.second[:count]
    if item.flags & _RESIDENT:
        _resident(state, number, made, columns)
    else:
        start = _int(item.pod) * state.scratchpad_words + address
        words = state.scratchpads[start : start + count]
        for i in range(count):
            made[i] = words[i]
    return made


@kernel
def store_tile(state: Any, number: int) -> None:
    """STORE."""
    item = state.program[number]
    view = state.views[item.operand]
    tensor = state.tensors[view.tensor]
    at = _int(item.pod) * state.accumulator_words + _int(item.accumulator_address)
    corner, shape, sums, segments = (
        _corner(item),
        _shape(item),
        state.accumulators[at:],
        state.segments,
    )
    limits = (state.numbers[number, LOW], state.numbers[number, HIGH])
    if tensor.element == _WORD:
        words = array_at(tensor.address, tensor.size, state.scratchpads)
        write_tile(words, sums, view, corner, shape, limits, tensor.is_bf16, segments)
    elif tensor.element == _FP32:
        floats = array_at(tensor.address, tensor.size, sums.view(np.float32))
        write_tile(floats, sums, view, corner, shape, limits, tensor.is_bf16, segments)
    else:
        values = array_at(tensor.address, tensor.size, sums)
        write_tile(values, sums, view, corner, shape, limits, tensor.is_bf16, segments)


@kernel
def _transfer(state: Any, number: int) -> None:
    item = state.program[number]
    pod, first = _int(item.pod), _int(item.target_pod)
    at = pod * state.accumulator_words + _int(item.accumulator_address)
    if item.operand != NO_OPERAND:
        view = state.views[item.operand]
        corner, shape, is_bf16 = _corner(item), _shape(item), state.tensors[view.tensor].is_bf16
        limits = (state.numbers[number, LOW], state.numbers[number, HIGH])
        sums = state.accumulators[at:]
        for target in range(first, first + _int(item.target_pods)):
            words = state.scratchpads[target * state.scratchpad_words + view.resident :]
            write_tile(words, sums, view, corner, shape, limits, is_bf16, state.segments)
    elif item.flags & _ACCUMULATORS:
        address, pitch = _int(item.third_address), state.accumulator_words
        _broadcast(state.accumulators, item, pitch, at, address)
    else:
        at = pod * state.scratchpad_words + _int(item.second_address)
        address, pitch = _int(item.address), state.scratchpad_words
        _broadcast(state.scratchpads, item, pitch, at, address)
