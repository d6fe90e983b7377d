"""What every instruction moves and how long each resource works for it, all else waiting.

One pass over the program before the event loop. Bytes of a LOAD are those of the DRAM
values that its tile touches, each once (``footprint``); equal tiles are counted once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.targets.systolic.array_intervals import capture_cycles, stream_cycles
from motet.targets.systolic.instructions.footprint import tile_values
from motet.targets.systolic.instructions.isa import ENGINES, NO_OPERAND, Dataflow, Flag, Function
from motet.targets.systolic.instructions.isa import Opcode as Op
from motet.targets.systolic.instructions.program import SystolicProgram
from motet.targets.systolic.simulation.compiled import entry, kernel
from motet.targets.systolic.simulation.machine import view_bits
from motet.targets.systolic.simulation.widths import wide

COST = np.dtype(
    [
        ("queue", "<i4"),
        ("values", "<i4"),
        ("engine", "<i8"),
        ("bytes", "<i4"),
        ("capture", "<i4"),
        ("port", "<i4"),
        ("is_from_scratchpad", "<i4"),
    ]
)
"""Costs of an instruction.

values: different ones in DRAM that a LOAD reads. bytes: moved through DRAM or interconnect (to
each target). engine: cycles of its engine (a MATMUL's streaming; vector lanes; accumulator ports
of STORE and TRANSFER). capture: cycles of the capture stage. port: cycles of a scratchpad port
(of a MATMUL: 1 or 2, the ports that it streams by). is_from_scratchpad: 1 for a TRANSFER that
reads there, not in the accumulators.
"""

_LOAD, _MATMUL, _CONV1D = int(Op.LOAD), int(Op.MATMUL), int(Op.CONV1D)
_VECTOR, _STORE, _TRANSFER = int(Op.VECTOR), int(Op.STORE), int(Op.TRANSFER)
_ACCUMULATORS = int(Flag.ACCUMULATORS)
_WEIGHT, _INPUT = int(Dataflow.WEIGHT_STATIONARY), int(Dataflow.INPUT_STATIONARY)
_FIRST_BINARY, _LAST_BINARY = int(Function.COPY), int(Function.MAXIMUM)
_NONE = NO_OPERAND


def instruction_costs(program: SystolicProgram, pods: NDArray[Any]) -> NDArray[Any]:
    """Costs of all instructions, structured [count] of dtype ``COST``.

    ``pods``: ``machine.pod_table``. The program must be in bounds (``timing`` checks).
    """
    costs = np.zeros(len(program.instructions), COST)
    views = program.view_table if program.views else np.zeros(1, program.view_table.dtype)
    made = program.number_format
    sides = (made.input_bits, made.weight_bits)
    starts = np.asarray(program.queue_starts, np.int64)
    costs["values"] = values = load_values(program.instructions, views)
    _fill(program.instructions, starts, view_bits(program), values, sides, pods, costs)
    return costs


@entry
def load_values(instructions: Any, views: Any) -> Any:
    """``tile_values`` of every LOAD, int64 [count]; equal tiles are looked up."""
    count, loads = len(instructions), 0
    for i in range(count):
        loads += instructions[i].opcode == _LOAD
    size = 16
    while size < 2 * loads:
        size *= 2
    slots = np.full(size, -1, np.int64)
    values = np.zeros(count, np.int64)
    for i in range(count):
        one = instructions[i]
        if one.opcode != _LOAD:
            continue
        row, column = wide(one.row), wide(one.column)
        rows, columns = wide(one.rows), wide(one.columns)
        key = (row * 1000003 + column) * 1000003 + wide(one.group)
        key = (key * 1000003 + rows) * 1000003 + columns * 31 + wide(one.operand)
        slot = (key ^ (key >> 29)) & (size - 1)
        while slots[slot] >= 0 and not _same_tile(instructions[slots[slot]], one):
            slot = (slot + 1) & (size - 1)
        if slots[slot] >= 0:
            values[i] = values[slots[slot]]
            continue
        slots[slot] = i
        values[i] = tile_values(
            views, wide(one.operand), wide(one.group), row, column, rows, columns
        )
    return values


@kernel
def _same_tile(a: Any, b: Any) -> bool:
    return bool(
        a.row == b.row
        and a.column == b.column
        and a.rows == b.rows
        and a.columns == b.columns
        and a.operand == b.operand
        and a.group == b.group
    )


@kernel
def _ceil(value: int, divisor: int) -> int:
    return -(-value // divisor)


@kernel
def _bytes(words: int, bits: int) -> int:
    return _ceil(words * bits, 8)


@entry
def _fill(
    instructions: Any,
    starts: Any,
    view_bits: Any,
    values: Any,
    sides: tuple[int, int],
    pods: Any,
    costs: Any,
) -> None:
    """``sides``: bits of a word of a product's input, and of its weight."""
    for queue in range(len(starts) - 1):
        pod = pods[queue // ENGINES]
        for i in range(starts[queue], starts[queue + 1]):
            one, cost = instructions[i], costs[i]
            cost.queue = queue
            opcode = one.opcode
            if opcode in (_MATMUL, _CONV1D):
                _product_cost(one, sides, pod, cost)
            elif opcode == _LOAD:
                cost.bytes = _bytes(values[i], view_bits[one.operand])
                if not one.flags & _ACCUMULATORS:
                    filled = _bytes(wide(one.rows) * wide(one.columns), view_bits[one.operand])
                    cost.port = _ceil(filled, pod.port_bytes)
            elif opcode in (_VECTOR, _STORE, _TRANSFER):
                _tile_cost(one, view_bits, sides[0], pod, cost)


@kernel
def _tile_cost(one: Any, view_bits: Any, word: int, pod: Any, cost: Any) -> None:
    """VECTOR, STORE, TRANSFER: they work on a whole accumulator tile."""
    tile = wide(one.rows) * wide(one.columns)
    to_accumulators = one.flags & _ACCUMULATORS
    port = _ceil(_bytes(tile, word), pod.port_bytes)
    if one.opcode == _VECTOR:
        cost.engine = _ceil(tile, pod.lanes)
        if _FIRST_BINARY <= one.function <= _LAST_BINARY and not to_accumulators:
            cost.port = port
        return
    cost.engine = _ceil(tile * 4, pod.accumulator_bytes)
    if one.opcode == _STORE:
        cost.bytes = _bytes(tile, view_bits[one.operand])
    elif to_accumulators:
        cost.bytes = tile * 4
    else:
        cost.bytes = _bytes(tile, word)
        cost.port = port
        if one.operand == _NONE:
            cost.engine, cost.is_from_scratchpad = port, 1


@kernel
def _product_cost(one: Any, sides: tuple[int, int], pod: Any, cost: Any) -> None:
    """MATMUL, CONV1D: streaming slows down where a port is narrower than what streams."""
    rows, columns, depth = wide(one.rows), wide(one.columns), wide(one.depth)
    stride = max(wide(one.value), 1) if one.opcode == _CONV1D else 1
    inputs, weights = rows * depth, depth * columns
    if one.opcode == _CONV1D:
        inputs, weights = rows * ((columns - 1) * stride + depth), rows * depth
    input_port = _ceil(_bytes(inputs, sides[0]), pod.port_bytes)
    weight_port = _ceil(_bytes(weights, sides[1]), pod.port_bytes)
    streamed = stream_cycles(one.dataflow, rows, columns, depth, stride)
    captured = capture_cycles(one.dataflow, pod.rows, pod.columns)
    cost.port = 1
    if one.dataflow == _WEIGHT:
        cost.engine, cost.capture = max(streamed, input_port), max(captured, weight_port)
    elif one.dataflow == _INPUT:
        cost.engine, cost.capture = max(streamed, weight_port), max(captured, input_port)
    elif pod.ports == 1:
        cost.engine = max(streamed, input_port + weight_port)
    else:
        cost.engine, cost.port = max(streamed, max(input_port, weight_port)), 2
