"""The timing view: when every instruction of a program runs, and what the arrays wait for.

Event-driven over the contended resources: engines, DMA requests in flight, DRAM channels,
links of the interconnect, scratchpad ports (``event_loop``); tiles follow each other on an
array by the closed form of ``array_intervals``. It does not depend on values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.runtime.errors import ProgramError
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.instructions.isa import ENGINES, Engine, Opcode
from motet.targets.systolic.instructions.program import SystolicProgram
from motet.targets.systolic.simulation.costs import instruction_costs
from motet.targets.systolic.simulation.event_loop import run
from motet.targets.systolic.simulation.faults import FAULTS, first_fault
from motet.targets.systolic.simulation.machine import FRACTION_BITS, pod_table
from motet.targets.systolic.simulation.network import network_record
from motet.targets.systolic.simulation.stalls import CAUSE_NAMES, Cause, pod_stalls
from motet.targets.systolic.simulation.state import DRAM, QUEUE, RECORD, State


@dataclass(frozen=True, eq=False)
class Timing:
    """One run of a program.

    Attributes
    ----------
    cycles: until the last instruction is complete.
    records: structured [count] of ``state.RECORD``, the phases of every instruction.
    costs: structured [count] of ``costs.COST``: bytes moved, cycles of engines and ports.
    stalls: int64 [pods, causes], cycles of each pod's array by ``stalls.Cause``; a row adds up
        to ``cycles``.
    queue_busy: int64 [4 x pods], cycles in which each engine worked (LOAD engines only ask).
    channel_busy: int64 [DRAM channels]; link_busy: int64 [links], numbered as ``network`` says;
        port_busy: int64 [pods], port cycles of each scratchpad.
    """

    cycles: int
    records: NDArray[Any]
    costs: NDArray[Any]
    stalls: NDArray[np.int64]
    queue_busy: NDArray[np.int64]
    channel_busy: NDArray[np.int64]
    link_busy: NDArray[np.int64]
    port_busy: NDArray[np.int64]

    @property
    def start(self) -> NDArray[np.int64]:
        """Cycle in which each instruction's engine took it, int64 [count]."""
        return np.asarray(self.records["start"])

    @property
    def end(self) -> NDArray[np.int64]:
        """Cycle in which each instruction was complete, int64 [count]."""
        return np.asarray(self.records["end"])

    @property
    def stalls_by_cause(self) -> dict[str, int]:
        """Cycles of all pods' arrays together by cause; they add up to cycles x pods."""
        totals = self.stalls.sum(axis=0)
        return {name: int(totals[cause]) for cause, name in CAUSE_NAMES.items()}


def simulate(program: SystolicProgram, description: ArrayDescription) -> Timing:
    """Time ``program`` on the machine.

    Raises ``ProgramError`` for a program that names what the machine lacks, or that deadlocks
    on semaphores; the message names the instruction.
    """
    _check(program, description)
    state = _initial(program, description)
    if run(state):
        raise _deadlock(program, state)
    cycles = int(state.records["end"].max(initial=0))
    starts = _all_starts(program, description)
    return Timing(
        cycles=cycles,
        records=state.records,
        costs=state.costs,
        stalls=pod_stalls(state, starts, cycles),
        queue_busy=state.queues["busy"].copy(),
        channel_busy=-(-state.channels[:, 1] >> FRACTION_BITS),
        link_busy=state.links[:, 1].copy(),
        port_busy=state.ports[:, 0].copy(),
    )


def _all_starts(program: SystolicProgram, description: ArrayDescription) -> NDArray[np.int64]:
    """``queue_starts`` with empty queues for the pods that the program does not use."""
    starts = np.full(description.pod_count * ENGINES + 1, len(program.instructions), np.int64)
    starts[: len(program.queue_starts)] = program.queue_starts
    return starts


def _initial(program: SystolicProgram, description: ArrayDescription) -> State:
    count = len(program.instructions)
    pods = pod_table(description, program.format)
    starts = _all_starts(program, description)
    costs = instruction_costs(program, pods)
    network = network_record(description)
    dram = description.dram
    return State(
        instructions=program.instructions,
        costs=costs,
        records=_blank(count),
        channel_costs=_channel_costs(costs["bytes"], description),
        pods=pods,
        queues=_queues(starts),
        dram=np.array([(dram.latency_cycles, dram.dma_requests, 0, 0, 0, 0)], DRAM),
        network=network,
        ports=np.zeros((len(pods), 1 + int(pods["ports"].max())), np.int64),
        channels=np.zeros((dram.channels, 2), np.int64),
        links=np.zeros((int(network["links"][0]), 2), np.int64),
        waiting=np.zeros(len(starts), np.int64),
        heap=_empty_heap(count + len(starts)),
    )


def _blank(count: int) -> NDArray[Any]:
    return np.full((count, RECORD.itemsize // 8), -1, np.int64).view(RECORD)[:, 0]


def _empty_heap(capacity: int) -> NDArray[np.int64]:
    heap = np.empty((capacity + 2, 2), np.int64)
    heap[0] = 0
    return heap


def _queues(starts: NDArray[np.int64]) -> NDArray[Any]:
    queues = np.zeros(len(starts) - 1, QUEUE)
    queues["head"] = queues["retired"] = starts[:-1]
    queues["stop"] = starts[1:]
    queues["first_waiter"] = queues["next_waiter"] = queues["stream"] = -1
    return queues


def _channel_costs(moved: NDArray[np.int64], description: ArrayDescription) -> NDArray[np.int64]:
    """Cycles of the DRAM channels for each instruction's bytes, x 2**FRACTION_BITS.

    Addresses are interleaved: every request is spread over all channels, and its rows too.
    """
    dram = description.dram
    missed = (1.0 - dram.row_hit_fraction) * dram.row_miss_cycles / dram.channels
    cycles = moved / description.dram_bytes_per_cycle + -(-moved // dram.row_bytes) * missed
    return np.asarray(np.floor(cycles * (1 << FRACTION_BITS)), np.int64)


def _check(program: SystolicProgram, description: ArrayDescription) -> None:
    """What compiled code could not survive; ``instructions.checker`` proves much more."""
    if program.pods > description.pod_count:
        raise ProgramError(
            f"the program has queues for {program.pods} pods, {description.name} has "
            f"{description.pod_count}: compile it for this array"
        )
    starts = np.asarray(program.queue_starts, np.int64)
    wrong, fault = first_fault(
        program.instructions, starts, description.pod_count, len(program.views)
    )
    if fault:
        raise ProgramError(f"{_named(program, wrong)} {FAULTS[fault]}")


def _named(program: SystolicProgram, number: int) -> str:
    """What messages call an instruction."""
    queue = int(np.searchsorted(program.queue_starts, number, side="right")) - 1
    code = int(program.instructions["opcode"][number])
    name = Opcode(code).name if code in set(Opcode) else f"opcode {code}"
    pod, engine = queue // ENGINES, Engine(queue % ENGINES).name
    return f"instruction {number} ({name} in the {engine} queue of pod {pod})"


def _deadlock(program: SystolicProgram, state: State) -> ProgramError:
    """The first queue that is stuck, and for what it waits."""
    queues = state.queues
    queue = int(np.argmax(queues["head"] < queues["stop"]))
    number = int(queues["head"][queue])
    one = program.instructions[number]
    awaited = int(one["semaphore"])
    pod, engine = awaited // ENGINES, Engine(awaited % ENGINES).name
    return ProgramError(
        f"{_named(program, number)} waits for ever: semaphore {awaited} (the {engine} queue of pod "
        f"{pod}) never reaches {int(one['value'])}, only {int(queues['semaphore'][awaited])}"
    )


__all__ = ["Cause", "Timing", "simulate"]
