"""The event loop of the timing view: the queues move on, instructions pass their phases.

=======  =====================================================================================
ADVANCE  its queue reaches it: WAIT and SIGNAL act at once, others enter their engine
GRANTED  a LOAD or STORE that waited for one of the DMA requests in flight has got it
MIDDLE   MATMUL: captured, asks for the stream; LOAD: the first byte leaves the DRAM, asks for
         the links; STORE: the first byte reaches the DRAM, asks for its channel
WRITE    LOAD, TRANSFER: the last bytes arrive, ask for a port of every target's scratchpad
DONE     complete: semaphores count
=======  =====================================================================================

Every resource serves who asks first, and what asks in the same cycle in order of the
instructions' numbers; so there is one outcome, to the cycle.
"""

from __future__ import annotations

from typing import Any

from motet.targets.systolic.instructions.isa import ENGINES
from motet.targets.systolic.instructions.isa import Opcode as Op
from motet.targets.systolic.simulation.compiled import entry, kernel
from motet.targets.systolic.simulation.engines import (
    capture,
    load_channel,
    load_links,
    store_channel,
    store_links,
    stream,
    transfer,
    vector,
    write,
)
from motet.targets.systolic.simulation.event_queue import drop_first, push
from motet.targets.systolic.simulation.state import State

ADVANCE, GRANTED, MIDDLE, WRITE, DONE = range(5)
_BITS = 3
"""An event's payload is the instruction's number, then its phase in these bits."""
BLOCKED = -1

_LOAD, _MATMUL, _CONV1D = int(Op.LOAD), int(Op.MATMUL), int(Op.CONV1D)
_VECTOR, _STORE, _TRANSFER = int(Op.VECTOR), int(Op.STORE), int(Op.TRANSFER)
_SIGNAL, _WAIT = int(Op.SIGNAL), int(Op.WAIT)


@entry
def run(state: State) -> int:
    """Work off all queues; returns how many are stuck at a WAIT that never ends."""
    heap, queues = state.heap, state.queues
    for q in range(len(queues)):
        if queues[q].head < queues[q].stop:
            push(heap, 0, queues[q].head << _BITS)
    while heap[0, 0] > 0:
        now, i, phase = heap[1, 0], heap[1, 1] >> _BITS, heap[1, 1] & ((1 << _BITS) - 1)
        drop_first(heap)
        opcode = state.instructions[i].opcode
        if phase == DONE:
            _complete(state, i, now)
        elif phase == WRITE:
            push(heap, write(state, i, now), i << _BITS | DONE)
        elif phase == MIDDLE and opcode == _LOAD:
            push(heap, load_links(state, i, now), i << _BITS | WRITE)
        elif phase == MIDDLE and opcode == _STORE:
            push(heap, store_channel(state, i, now), i << _BITS | DONE)
        else:
            _advance(state, i, phase, now)
    stuck = 0
    for q in range(len(queues)):
        stuck += queues[q].head < queues[q].stop
    return stuck


@kernel
def _advance(state: State, i: int, phase: int, now: int) -> None:
    """Move the queue of instruction ``i``, its head, on as far as it goes in this cycle."""
    queue = state.queues[state.costs[i].queue]
    pod = state.costs[i].queue // ENGINES
    while True:
        opcode = state.instructions[i].opcode
        if opcode in (_SIGNAL, _WAIT):
            resume = _semaphore(state, i, now)
        elif opcode in (_MATMUL, _CONV1D):
            resume = _array(state, i, pod, phase, now)
        elif opcode == _VECTOR:
            resume = _vector(state, i, pod, now)
        elif opcode == _TRANSFER:
            resume = _send(state, i, pod, now)
        else:
            resume = _request(state, i, pod, phase, now)
        if resume == BLOCKED:
            return
        queue.head = i + 1
        if queue.retired == i and state.records[i].end >= 0:
            _retire(state, state.costs[i].queue, i, now)
        i += 1
        if i == queue.stop:
            return
        if resume > now:
            push(state.heap, resume, i << _BITS | ADVANCE)
            return
        phase = ADVANCE


@kernel
def _semaphore(state: State, i: int, now: int) -> int:
    """SIGNAL is posted; WAIT passes, or joins those that wait for the semaphore."""
    one, record = state.instructions[i], state.records[i]
    if record.start < 0:
        record.start = now
    if one.opcode == _WAIT:
        awaited = state.queues[one.semaphore]
        if awaited.semaphore < one.value:
            state.queues[state.costs[i].queue].next_waiter = awaited.first_waiter
            awaited.first_waiter = state.costs[i].queue
            return BLOCKED
    record.end = now
    return now


@kernel
def _array(state: State, i: int, pod: int, phase: int, now: int) -> int:
    if phase == ADVANCE:
        ready = capture(state, i, pod, now)
        if ready < 0:
            push(state.heap, state.queues[state.costs[i].queue].empty, i << _BITS | ADVANCE)
            return BLOCKED
        if ready > now:
            push(state.heap, ready, i << _BITS | MIDDLE)
            return BLOCKED
    resume, end = stream(state, i, pod, now)
    push(state.heap, end, i << _BITS | DONE)
    return resume


@kernel
def _vector(state: State, i: int, pod: int, now: int) -> int:
    queue = state.queues[state.costs[i].queue]
    resume = vector(state, i, pod, now)
    if resume < 0:
        push(state.heap, queue.complete, i << _BITS | ADVANCE)
        return BLOCKED
    push(state.heap, queue.complete, i << _BITS | DONE)
    return resume


@kernel
def _send(state: State, i: int, pod: int, now: int) -> int:
    """TRANSFER; one that reads the scratchpad waits for those before it, which may write there."""
    queue = state.queues[state.costs[i].queue]
    if state.costs[i].is_from_scratchpad and queue.retired < i:
        queue.waits_for_all = 1
        return BLOCKED
    resume, written = transfer(state, i, pod, now)
    push(state.heap, written, i << _BITS | WRITE)
    return resume


@kernel
def _request(state: State, i: int, pod: int, phase: int, now: int) -> int:
    """LOAD and STORE need one of the DMA requests in flight."""
    dram = state.dram[0]
    if phase == ADVANCE:
        if dram.in_flight == dram.requests:
            state.waiting[dram.last_waiting] = state.costs[i].queue
            dram.last_waiting = (dram.last_waiting + 1) % len(state.waiting)
            return BLOCKED
        dram.in_flight += 1
    if state.instructions[i].opcode == _LOAD:
        push(state.heap, load_channel(state, i, now), i << _BITS | MIDDLE)
        return now
    resume, arrives = store_links(state, i, pod, now)
    push(state.heap, arrives, i << _BITS | MIDDLE)
    return resume


@kernel
def _complete(state: State, i: int, now: int) -> None:
    opcode, q = state.instructions[i].opcode, state.costs[i].queue
    state.records[i].end = now
    if opcode in (_LOAD, _STORE):
        _release_request(state, now)
    _retire(state, q, i, now)
    queue = state.queues[q]
    if queue.waits_for_all and queue.retired == queue.head:
        queue.waits_for_all = 0
        push(state.heap, now, queue.head << _BITS | ADVANCE)


@kernel
def _release_request(state: State, now: int) -> None:
    """A DMA request ended: it passes on to the queue that waits longest."""
    dram = state.dram[0]
    if dram.first_waiting == dram.last_waiting:
        dram.in_flight -= 1
        return
    taker = state.queues[state.waiting[dram.first_waiting]].head
    dram.first_waiting = (dram.first_waiting + 1) % len(state.waiting)
    push(state.heap, now, taker << _BITS | GRANTED)


@kernel
def _retire(state: State, q: int, by: int, now: int) -> None:
    """Instruction ``by`` of queue ``q`` is complete: its semaphore counts what that held up."""
    queue = state.queues[q]
    while queue.retired < queue.head and state.records[queue.retired].end >= 0:
        if state.instructions[queue.retired].opcode == _SIGNAL:
            queue.semaphore += 1
            _wake(state, queue, by, now)
        queue.retired += 1


@kernel
def _wake(state: State, queue: Any, by: int, now: int) -> None:
    """Queues whose WAIT the semaphore of ``queue`` has reached move on."""
    waiter, kept = queue.first_waiter, -1
    while waiter >= 0:
        following, head = state.queues[waiter].next_waiter, state.queues[waiter].head
        if state.instructions[head].value <= queue.semaphore:
            state.records[head].other = by
            push(state.heap, now, head << _BITS | ADVANCE)
        else:
            state.queues[waiter].next_waiter = kept
            kept = waiter
        waiter = following
    queue.first_waiter = kept
