"""Where the time of every pod's array went: cycles by cause, which add up to the run's.

Time in which tiles stream is *busy*. A gap between two tiles is split at the moments known of
it: a wait for a scratchpad port, a capture or drain that nothing hides, and waits for other
queues. A wait is put down to what held the awaited instruction up at that time: its DRAM
transfer, the links, a port, its own engine, or, before it began, what *it* waited for. A LOAD
that waits for the array or the vector unit to be done with a buffer is a full scratchpad; one
that waits for what another pod's array, vector unit or STORE has yet to make waits for that pod.
"""

from __future__ import annotations

import enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.targets.systolic.instructions.isa import ENGINES, Engine, Flag
from motet.targets.systolic.instructions.isa import Opcode as Op
from motet.targets.systolic.simulation.compiled import entry, kernel
from motet.targets.systolic.simulation.state import State
from motet.targets.systolic.simulation.widths import wide


class Cause(enum.IntEnum):
    """What an array does or waits for.

    BUSY: a tile streams. FILL_AND_DRAIN: stationary values shift in or results out, hidden by no
    other tile. WEIGHTS_LATE, INPUTS_LATE: by the DRAM's bandwidth, latency or requests in flight
    (inputs: also biases). INTERCONNECT: its links. PORTS: a scratchpad's. SCRATCHPAD_FULL: a
    load waits for a buffer. ACCUMULATORS_LATE: results wait for the vector unit, or to be stored.
    OTHER_PODS: another pod has not yet made or stored what this one needs. NO_MORE_WORK: after
    the last tile; all the time of a pod without any. OTHER_MODEL: another model has the array
    (``targets.sharing``).
    """

    BUSY = 0
    FILL_AND_DRAIN = 1
    WEIGHTS_LATE = 2
    INPUTS_LATE = 3
    INTERCONNECT = 4
    PORTS = 5
    SCRATCHPAD_FULL = 6
    ACCUMULATORS_LATE = 7
    OTHER_PODS = 8
    NO_MORE_WORK = 9
    OTHER_MODEL = 10


CAUSE_NAMES: dict[Cause, str] = {
    Cause.BUSY: "busy",
    Cause.FILL_AND_DRAIN: "fill and drain",
    Cause.WEIGHTS_LATE: "weights late on DRAM",
    Cause.INPUTS_LATE: "inputs late on DRAM",
    Cause.INTERCONNECT: "interconnect",
    Cause.PORTS: "scratchpad ports",
    Cause.SCRATCHPAD_FULL: "scratchpad full",
    Cause.ACCUMULATORS_LATE: "accumulators late",
    Cause.OTHER_PODS: "other pods",
    Cause.NO_MORE_WORK: "no more work",
    Cause.OTHER_MODEL: "waiting for another model",
}
"""What reports call the causes."""

_LOAD, _MATMUL, _CONV1D = int(Op.LOAD), int(Op.MATMUL), int(Op.CONV1D)
_TRANSFER, _WAIT = int(Op.TRANSFER), int(Op.WAIT)
_SIGNAL = int(Op.SIGNAL)
_BUSY, _FILL = int(Cause.BUSY), int(Cause.FILL_AND_DRAIN)
_WEIGHTS, _INPUTS = int(Cause.WEIGHTS_LATE), int(Cause.INPUTS_LATE)
_LINKS, _PORTS = int(Cause.INTERCONNECT), int(Cause.PORTS)
_FULL, _RESULTS = int(Cause.SCRATCHPAD_FULL), int(Cause.ACCUMULATORS_LATE)
_PODS, _IDLE = int(Cause.OTHER_PODS), int(Cause.NO_MORE_WORK)
_LOADS, _ARRAY, _VECTORS = int(Engine.LOAD), int(Engine.ARRAY), int(Engine.VECTOR)
_ACCUMULATORS = int(Flag.ACCUMULATORS)
_DEPTH = 64


def pod_stalls(state: State, starts: NDArray[np.int64], cycles: int) -> NDArray[np.int64]:
    """Cycles of every pod's array by ``Cause``, int64 [pods, causes]; rows sum to ``cycles``."""
    made = np.zeros(((len(starts) - 1) // ENGINES, len(Cause)), np.int64)
    _all_pods(state, starts, cycles, made)
    return made


@entry
def _all_pods(state: State, starts: Any, cycles: int, made: Any) -> None:
    spans = np.empty((_DEPTH, 3), np.int64)
    for pod in range(len(made)):
        counts, done = made[pod], 0
        queue = pod * ENGINES + _ARRAY
        complete, before = 0, -1
        for i in range(starts[queue], starts[queue + 1]):
            opcode = state.instructions[i].opcode
            if opcode != _MATMUL and opcode != _CONV1D:
                continue
            record = state.records[i]
            _gap(state, i, before, starts[queue], done, counts, spans)
            before = i
            counts[_BUSY] += record.second_end - record.second_begin
            done, complete = record.second_end, max(complete, record.end)
        counts[_FILL] += max(complete - done, 0)
        counts[_IDLE] += cycles - max(complete, done)


@kernel
def _gap(state: State, i: int, before: int, first: int, done: int, counts: Any, spans: Any) -> None:
    """The array's idle time from ``done``, the end of product ``before``, until ``i`` streams."""
    record = state.records[i]
    stream = record.second_begin
    if stream == done:
        return
    reached = record.start
    waits = i - 1
    covered = reached
    while waits >= first and covered > done:
        opcode = state.instructions[waits].opcode
        if opcode != _WAIT and opcode != _SIGNAL:
            break
        if opcode == _WAIT and state.records[waits].end > state.records[waits].start:
            waited = state.records[waits]
            low, high = max(waited.start, done), min(waited.end, stream)
            _wait(state, waited.other, i, low, high, counts, spans)
            covered = low
        waits -= 1
    # Nothing but waits lies between the tile before and this one's capture.
    begin, end = max(record.first_begin, done), max(record.first_end, done)
    changes = before >= 0 and state.instructions[before].dataflow != state.instructions[i].dataflow
    counts[_FILL if changes else _PORTS] += begin - max(reached, done)
    counts[_FILL] += end - begin
    # Capture is done: either results of the tile before still leave, or ports are taken.
    apart = max(record.first_end, done)
    ready = min(max(record.ready, apart), stream)
    counts[_FILL] += ready - apart
    counts[_PORTS] += stream - ready


@kernel
def _wait(
    state: State, awaited: int, product: int, low: int, high: int, counts: Any, spans: Any
) -> None:
    """Put [low, high), in which ``product``'s queue waited for ``awaited``, down to causes."""
    pod = state.costs[product].queue // ENGINES
    spans[0, 0], spans[0, 1], spans[0, 2] = awaited, low, high
    count = 1
    while count > 0:
        count -= 1
        j, low, high = spans[count, 0], spans[count, 1], spans[count, 2]
        if high <= low:
            continue
        begun = state.records[j].start
        if begun < high:
            _held(state, j, product, pod, max(low, begun), high, counts)
            high = max(low, begun)
        count = _before(state, j, product, pod, low, high, counts, spans, count)


@kernel
def _before(
    state: State,
    j: int,
    product: int,
    pod: int,
    low: int,
    high: int,
    counts: Any,
    spans: Any,
    count: int,
) -> int:
    """[low, high) before ``j`` began: what its queue waited for, or else was at work on."""
    at, queue = j - 1, state.costs[j].queue
    while high > low and at >= 0 and state.costs[at].queue == queue:
        opcode = state.instructions[at].opcode
        waited = state.records[at]
        if opcode != _WAIT and opcode != _SIGNAL:  # its queue had got as far as this
            reached = min(max(waited.start, low), high)
            _engine(state, j, product, pod, high - reached, counts)
            high = reached
        elif opcode == _WAIT and waited.other >= 0 and waited.start < high:
            begin, end = max(waited.start, low), min(waited.end, high)
            if end > begin:
                _engine(state, j, product, pod, high - end, counts)
                count = _push(
                    state, j, waited.other, product, pod, begin, end, counts, spans, count
                )
                high = begin
        at -= 1
    if high > low:
        _engine(state, j, product, pod, high - low, counts)
    return count


@kernel
def _push(
    state: State,
    j: int,
    awaited: int,
    product: int,
    pod: int,
    low: int,
    high: int,
    counts: Any,
    spans: Any,
    count: int,
) -> int:
    """``j`` waited for ``awaited`` in [low, high): a cause, or looked into later."""
    engine, maker = state.costs[awaited].queue % ENGINES, state.costs[awaited].queue // ENGINES
    by = state.instructions[j]
    fills = by.opcode == _LOAD and by.target_pod <= maker < by.target_pod + by.target_pods
    if fills and engine in (_ARRAY, _VECTORS):
        counts[_FULL] += high - low
        return count
    if maker != pod and engine != _LOADS:
        counts[_PODS] += high - low
        return count
    if count == _DEPTH:
        _engine(state, awaited, product, pod, high - low, counts)
        return count
    spans[count, 0], spans[count, 1], spans[count, 2] = awaited, low, high
    return count + 1


@kernel
def _engine(state: State, j: int, product: int, pod: int, cycles: int, counts: Any) -> None:
    """Cycles in which the engine of ``j`` was at work on instructions before it."""
    engine = state.costs[j].queue % ENGINES
    if engine == _LOADS:
        counts[_late(state, j, product)] += cycles
    elif engine == _ARRAY:
        counts[_FILL if state.costs[j].queue // ENGINES == pod else _PODS] += cycles
    else:
        counts[_RESULTS if state.costs[j].queue // ENGINES == pod else _PODS] += cycles


@kernel
def _late(state: State, load: int, product: int) -> int:
    """Whether a LOAD fills the weights of ``product``, or else its inputs."""
    one, by = state.instructions[product], state.instructions[load]
    at = wide(one.second_address)
    size = wide(one.depth) * wide(one.columns)
    if by.opcode != _LOAD or by.flags & _ACCUMULATORS:
        return _INPUTS
    if by.address < at or by.address >= at + max(size, 1):
        return _INPUTS
    return _WEIGHTS


@kernel
def _held(state: State, j: int, product: int, pod: int, low: int, high: int, counts: Any) -> None:
    """[low, high) after ``j`` began: by its phases."""
    opcode, record = state.instructions[j].opcode, state.records[j]
    if opcode == _LOAD:
        dram = min(max(record.first_end, low), high)
        links = min(max(record.second_end, dram), high)
        counts[_late(state, j, product)] += dram - low
        counts[_LINKS] += links - dram
        counts[_PORTS] += high - links
    elif opcode == _TRANSFER:
        links = min(max(record.second_end, low), high)
        counts[_LINKS] += links - low
        counts[_PORTS] += high - links
    else:
        _engine(state, j, product, pod, high - low, counts)
