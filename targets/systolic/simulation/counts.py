"""What a run of a program costs, whole and by step, with its speed of light.

*Utilisation* is useful multiply-accumulates over those that the processing elements could have
done in the cycles counted: of all pods over the whole run, for a step in the cycles in which
pods' arrays streamed its tiles. The *bounds* of a step are cycles in which the whole machine
could do the step's arithmetic, scratchpad accesses and DRAM traffic, each alone and at its
peak; no schedule of these instructions is quicker than the largest.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.runtime.device import ProgramCounts, StepCounts
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.instructions.isa import Opcode
from motet.targets.systolic.instructions.program import SystolicProgram
from motet.targets.systolic.simulation.energy import energy_joules
from motet.targets.systolic.simulation.events import count_events
from motet.targets.systolic.simulation.timing import Timing, simulate

Ints = NDArray[np.int64]


def program_counts(
    program: SystolicProgram,
    description: ArrayDescription,
    timing: Timing | None = None,
    gated: int | None = None,
) -> ProgramCounts:
    """Costs of one run; ``timing`` is that of ``simulate`` where it is there already.

    gated: products of vectors whose scales' product was 0, where a run has counted them; else
    none are taken to be, the most that a run can cost.

    Raises ``ProgramError`` as ``simulate`` does.
    """
    timing = timing or simulate(program, description)
    opcode, moved = program.instructions["opcode"], timing.costs["bytes"]
    passed = _network_bytes(program, moved)
    capacity = timing.cycles * description.elements
    events = replace(count_events(program, timing.costs["values"]), gated_products=gated or 0)
    vectors = program.number_format.vectors
    return ProgramCounts(
        cycles=timing.cycles,
        macs=program.macs,
        utilisation=program.macs / capacity if capacity else 0.0,
        pods=description.pod_count,
        dram_read_bytes=int(moved[opcode == Opcode.LOAD].sum()),
        dram_write_bytes=int(moved[opcode == Opcode.STORE].sum()),
        interconnect_bytes=int(passed.sum()),
        stalls=timing.stalls_by_cause,
        energy_joules=energy_joules(events, description, description.seconds(timing.cycles)),
        steps=_steps(program, description, timing, passed),
        vector_products=0 if vectors is None else sum(events.macs.values()) // vectors.length,
        gated_products=gated,
    )


def _network_bytes(program: SystolicProgram, moved: Ints) -> Ints:
    """Bytes that each instruction sends over the interconnect, once for all its targets."""
    one = program.instructions
    own = (one["opcode"] == Opcode.TRANSFER) & (one["target_pods"] == 1)
    return np.where(own & (one["target_pod"] == one["pod"]), 0, moved)


def _steps(
    program: SystolicProgram, description: ArrayDescription, timing: Timing, passed: Ints
) -> tuple[StepCounts, ...]:
    sums = _StepSums(program, len(program.steps))
    opcode, moved = program.instructions["opcode"], timing.costs["bytes"]
    products = (opcode == Opcode.MATMUL) | (opcode == Opcode.CONV1D)
    streamed = timing.records["second_end"] - timing.records["second_begin"]
    read = sums.of(moved, opcode == Opcode.LOAD)
    written = sums.of(moved, opcode == Opcode.STORE)
    starts, ends = sums.spans(timing)
    busy, tiles = sums.of(streamed, products), sums.of(np.ones_like(moved), products)
    elements = sums.of(_elements(program, description) * streamed, products)
    ports, network = sums.of(_port_cycles(program, timing), opcode > 0), sums.of(passed, opcode > 0)
    all_ports = sum(pod.count * pod.scratchpad.ports for pod in description.pods)
    return tuple(
        StepCounts(
            name=info.name,
            kind=info.kind,
            dataflow=info.dataflow,
            pods=info.pods,
            start_cycle=starts[i],
            end_cycle=ends[i],
            array_cycles=busy[i],
            macs=info.macs,
            utilisation=info.macs / elements[i] if elements[i] else 0.0,
            tiles=tiles[i],
            dram_read_bytes=read[i],
            dram_write_bytes=written[i],
            interconnect_bytes=network[i],
            compute_bound=-(-info.macs // description.elements),
            scratchpad_bound=-(-ports[i] // all_ports),
            dram_bound=math.ceil((read[i] + written[i]) / description.dram_bytes_per_cycle),
        )
        for i, info in enumerate(program.steps)
    )


class _StepSums:
    """Sums of what instructions cost, by step."""

    def __init__(self, program: SystolicProgram, steps: int) -> None:
        self.step = program.instructions["step"].astype(np.int64)
        self.steps = steps
        self.opcode = program.instructions["opcode"]
        self.works = self.opcode < Opcode.SIGNAL

    def of(self, values: NDArray[Any], which: NDArray[np.bool_]) -> list[int]:
        """``values`` of the instructions ``which``, summed by step (exact below 2**53)."""
        sums = np.bincount(self.step[which], values[which], self.steps)
        return [int(total) for total in sums]

    def spans(self, timing: Timing) -> tuple[list[int], list[int]]:
        """Start of work and last end of each step; 0 for a step without instructions."""
        begun = work_starts(self.step, self.opcode, timing, self.steps)
        ends = np.zeros(self.steps, np.int64)
        np.maximum.at(ends, self.step[self.works], timing.end[self.works])
        return np.minimum(begun, ends).tolist(), ends.tolist()


def work_starts(step: Ints, opcode: Ints, timing: Timing, steps: int) -> Ints:
    """First cycle in which an array streams a tile or a vector unit works for each step.

    int64 [steps]. Loads and captures do not count: those of weights run ahead, behind the step
    before. A step that only moves data starts with its first instruction; one without
    instructions is at the largest int64.
    """
    products = (opcode == Opcode.MATMUL) | (opcode == Opcode.CONV1D)
    found = np.minimum(
        _first(step, products, timing.records["second_begin"], steps),
        _first(step, opcode == Opcode.VECTOR, timing.records["first_begin"], steps),
    )
    moves = _first(step, opcode < Opcode.SIGNAL, timing.start, steps)
    return np.where(found == _NEVER, moves, found)


_NEVER = np.iinfo(np.int64).max


def _first(step: Ints, which: NDArray[np.bool_], at: Ints, steps: int) -> Ints:
    first = np.full(steps, _NEVER)
    np.minimum.at(first, step[which], at[which])
    return first


def _elements(program: SystolicProgram, description: ArrayDescription) -> Ints:
    """Processing elements of the pod that each instruction runs on."""
    sizes = [size for pod in description.pods for size in [pod.elements] * pod.count]
    return np.asarray(np.array(sizes, np.int64)[program.instructions["pod"]])


def _port_cycles(program: SystolicProgram, timing: Timing) -> Ints:
    """Cycles that each instruction holds scratchpad ports, those of all targets together."""
    one, cost = program.instructions, timing.costs
    opcode = one["opcode"]
    products = (opcode == Opcode.MATMUL) | (opcode == Opcode.CONV1D)
    held = np.where(products, cost["capture"] + cost["engine"] * cost["port"], cost["port"])
    writes = (opcode == Opcode.LOAD) | (opcode == Opcode.TRANSFER)
    held = np.where(writes, held * one["target_pods"], held)
    return held + np.where(cost["is_from_scratchpad"] > 0, cost["engine"], 0)
