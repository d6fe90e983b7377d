"""What an instruction does to the resources of the machine once its engine takes it.

Each function books what it needs from ``now`` on and returns when its queue moves on, or when
its next phase begins; ``event_loop`` has the phases.
"""

from __future__ import annotations

from typing import Any

from motet.targets.systolic.array_intervals import drain_cycles, interval
from motet.targets.systolic.instructions.isa import Flag, Function
from motet.targets.systolic.simulation.compiled import kernel
from motet.targets.systolic.simulation.machine import FRACTION_BITS
from motet.targets.systolic.simulation.network import send
from motet.targets.systolic.simulation.state import State
from motet.targets.systolic.simulation.widths import wide

_ACCUMULATORS = int(Flag.ACCUMULATORS)
_FIRST_BINARY, _LAST_BINARY = int(Function.COPY), int(Function.MAXIMUM)
_FIRST_REDUCTION, _LAST_REDUCTION = int(Function.ROW_MAXIMUM), int(Function.ROW_SUM_SQUARES)
_ROW_REQUANTISE, _DEQUANTISE = int(Function.ROW_REQUANTISE), int(Function.DEQUANTISE)
_FIRST_OF_VECTOR, _LAST_OF_VECTOR = int(Function.COLUMN_SCALE), int(Function.REQUANTISE)
_UNIT = 1 << FRACTION_BITS


@kernel
def take_port(ports: Any, pod: int, count: int, now: int, cycles: int) -> int:
    """Hold the port of a scratchpad that is free first; when it begins."""
    best = 1
    for port in range(2, 1 + count):
        if ports[pod, port] < ports[pod, best]:
            best = port
    start = max(now, ports[pod, best])
    ports[pod, best] = start + cycles
    ports[pod, 0] += cycles
    return int(start)


@kernel
def capture(state: State, i: int, pod: int, now: int) -> int:
    """A product enters the array: its stationary operand shifts in. When it may stream.

    The array must be empty before a product of another dataflow: -1 where it is not.
    """
    cost, record = state.costs[i], state.records[i]
    queue, kind = state.queues[cost.queue], state.pods[pod]
    dataflow = state.instructions[i].dataflow
    if record.start < 0:
        record.start = now
    if queue.dataflow != dataflow and queue.empty > now:
        return -1
    queue.dataflow = dataflow
    record.first_begin = record.first_end = now
    if cost.capture > 0:
        record.first_begin = take_port(state.ports, pod, kind.ports, now, cost.capture)
        record.first_end = record.first_begin + cost.capture
    record.ready = record.first_end
    if queue.stream >= 0:
        apart = interval(dataflow, queue.streamed, cost.engine, kind.rows, kind.columns)
        record.ready = max(record.first_end, queue.stream + apart)
    return int(record.ready)


@kernel
def stream(state: State, i: int, pod: int, now: int) -> tuple[int, int]:
    """A product streams: when the next may be captured, and when its results are complete."""
    cost, record = state.costs[i], state.records[i]
    queue, kind = state.queues[cost.queue], state.pods[pod]
    start = take_port(state.ports, pod, kind.ports, now, cost.engine)
    if cost.port == 2:
        start = max(start, take_port(state.ports, pod, kind.ports, now, cost.engine))
    record.second_begin, record.second_end = start, start + cost.engine
    queue.stream, queue.streamed = start, cost.engine
    queue.busy += cost.engine
    queue.empty = record.second_end + drain_cycles(queue.dataflow, kind.rows, kind.columns)
    return start, queue.empty


@kernel
def vector(state: State, i: int, pod: int, now: int) -> int:
    """A VECTOR enters its unit's pipe: when the next may; -1 where it must wait for the pipe."""
    one, cost, record = state.instructions[i], state.costs[i], state.records[i]
    queue, kind = state.queues[cost.queue], state.pods[pod]
    if queue.complete > now:
        if _touches(one, queue.low, queue.high):
            return -1
    else:
        queue.low, queue.high = 2**62, -1
    record.start = begin = now
    cycles = max(cost.engine, cost.port)
    if cost.port > 0:
        begin = take_port(state.ports, pod, kind.ports, now, cycles)
    record.first_begin, record.first_end = begin, begin + cycles
    queue.busy += cycles
    queue.complete = max(queue.complete, begin + cycles + kind.latency)
    tile, rows = wide(one.rows) * wide(one.columns), wide(one.rows)
    low, high = wide(one.accumulator_address), wide(one.accumulator_address) + tile
    if _FIRST_REDUCTION <= one.function <= _LAST_REDUCTION:
        low, high = wide(one.third_address), wide(one.third_address) + rows
    queue.low, queue.high = min(queue.low, low), max(queue.high, high)
    return int(begin + cycles)


@kernel
def _touches(one: Any, low: int, high: int) -> bool:
    """Whether a VECTOR reads or writes accumulators [low, high)."""
    rows, columns = wide(one.rows), wide(one.columns)
    at, second = wide(one.accumulator_address), wide(one.second_address)
    third = wide(one.third_address)
    if at < high and low < at + rows * columns:
        return True
    function = one.function
    if _FIRST_BINARY <= function <= _LAST_BINARY:
        in_accumulators = one.flags & _ACCUMULATORS
        return bool(in_accumulators and second < high and low < second + rows * columns)
    by_vector = _FIRST_OF_VECTOR <= function <= _LAST_OF_VECTOR
    if by_vector or function in (_ROW_REQUANTISE, _DEQUANTISE):
        return bool(third < high and low < third + max(rows, columns))
    return False


@kernel
def load_channel(state: State, i: int, now: int) -> int:
    """A LOAD is sent to the DRAM: when its first byte leaves there."""
    record, dram = state.records[i], state.dram[0]
    record.start = now
    record.other = dram.channel
    dram.channel = (dram.channel + 1) % len(state.channels)
    record.first_begin, record.first_end = _transfer(state, i, now + dram.latency)
    return int(record.first_begin)


@kernel
def _transfer(state: State, i: int, now: int) -> tuple[int, int]:
    """All DRAM channels together move the bytes of request ``i``, from ``now`` on."""
    begin = max(now * _UNIT, state.channels[0, 0])
    end = begin + state.channel_costs[i]
    state.channels[:, 0] = end
    state.channels[:, 1] += state.channel_costs[i]
    return begin >> FRACTION_BITS, -(-end >> FRACTION_BITS)


@kernel
def load_links(state: State, i: int, now: int) -> int:
    """A LOAD's bytes leave the DRAM; they arrive at ``second_end``. When they are written."""
    one, cost, record = state.instructions[i], state.costs[i], state.records[i]
    network = state.network[0]
    begin, end, latency = send(
        network,
        state.links,
        network.pods + record.other,
        wide(one.target_pod),
        wide(one.target_pods),
        now,
        cost.bytes,
    )
    record.second_begin = begin
    record.second_end = max(end, record.first_end) + latency
    return int(max(begin + latency, record.second_end - cost.port))


@kernel
def store_links(state: State, i: int, pod: int, now: int) -> tuple[int, int]:
    """A STORE leaves its pod: when the next may, and when the first byte is at the DRAM."""
    cost, record, network = state.costs[i], state.records[i], state.network[0]
    dram = state.dram[0]
    record.start = now
    record.other = dram.channel
    dram.channel = (dram.channel + 1) % len(state.channels)
    target = network.pods + record.other
    begin, end, latency = send(network, state.links, pod, target, 1, now, cost.bytes)
    end = max(end, begin + cost.engine)
    record.second_begin, record.second_end = begin, end + latency
    state.queues[cost.queue].busy += end - begin
    return end, begin + latency


@kernel
def store_channel(state: State, i: int, now: int) -> int:
    """A STORE is written by its DRAM channel; when it is complete."""
    record = state.records[i]
    record.first_begin, record.first_end = _transfer(state, i, now)
    record.first_end = max(record.first_end, record.second_end)
    return int(record.first_end)


@kernel
def transfer(state: State, i: int, pod: int, now: int) -> tuple[int, int]:
    """A TRANSFER leaves its pod: when the next may, and when its last bytes are written."""
    one, cost, record = state.instructions[i], state.costs[i], state.records[i]
    target, count = wide(one.target_pod), wide(one.target_pods)
    record.start = now
    begin, end, latency = now, now, 0
    if count > 1 or target != pod:
        network = state.network[0]
        begin, end, latency = send(network, state.links, pod, target, count, now, cost.bytes)
    if cost.is_from_scratchpad:
        begin = take_port(state.ports, pod, state.pods[pod].ports, begin, cost.engine)
    end = max(end, begin + cost.engine)
    record.second_begin, record.second_end = begin, end + latency
    state.queues[cost.queue].busy += end - begin
    return end, max(begin + latency, record.second_end - cost.port)


@kernel
def write(state: State, i: int, now: int) -> int:
    """LOAD, TRANSFER: the last bytes are written through a port of each target. When all are."""
    one, cost, record = state.instructions[i], state.costs[i], state.records[i]
    end = record.second_end
    if cost.port > 0:
        first = wide(one.target_pod)
        for pod in range(first, first + wide(one.target_pods)):
            begin = take_port(state.ports, pod, state.pods[pod].ports, now, cost.port)
            end = max(end, begin + cost.port)
    return int(end)
