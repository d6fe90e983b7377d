"""Several programs run one after another, seen as one run: for traces and plots of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from motet.runtime.device import ProgramCounts
from motet.targets.systolic.instructions.program import SystolicProgram
from motet.targets.systolic.simulation.state import RECORD
from motet.targets.systolic.simulation.timing import Timing

NOT_TIMES = ("other",)
"""Fields of a record that are no cycles."""


def one_after_another(
    runs: Sequence[tuple[SystolicProgram, Timing]],
) -> tuple[SystolicProgram, Timing]:
    """The instructions, steps and times of all ``runs``, each begun when the one before ends.

    The program is for pictures: it has the queues' records run by run, not queue by queue, and the
    views of the first run. At least one run.
    """
    if len(runs) == 1:
        return runs[0]
    begin, steps = 0, 0
    codes, records = [], []
    for program, timing in runs:
        code, moved = program.instructions.copy(), timing.records.copy()
        code["step"] += np.uint16(steps)
        for name in RECORD.names or ():
            if name not in NOT_TIMES:
                moved[name][moved[name] >= 0] += begin
        codes.append(code)
        records.append(moved)
        begin += timing.cycles
        steps += len(program.steps)
    program, timing = runs[0]
    joined = replace(
        program,
        instructions=np.concatenate(codes),
        steps=tuple(step for other, _ in runs for step in other.steps),
    )
    return joined, Timing(
        cycles=begin,
        records=np.concatenate(records),
        costs=np.concatenate([other.costs for _, other in runs]),
        stalls=np.sum([other.stalls for _, other in runs], axis=0),
        queue_busy=np.sum([other.queue_busy for _, other in runs], axis=0),
        channel_busy=np.sum([other.channel_busy for _, other in runs], axis=0),
        link_busy=np.sum([other.link_busy for _, other in runs], axis=0),
        port_busy=np.sum([other.port_busy for _, other in runs], axis=0),
    )


def counts_together(counts: Sequence[ProgramCounts]) -> ProgramCounts:
    """The steps of all runs with their cycles counted on; sums of the rest. At least one run."""
    begin, steps = 0, []
    for one in counts:
        steps += [
            replace(s, start_cycle=s.start_cycle + begin, end_cycle=s.end_cycle + begin)
            for s in one.steps
        ]
        begin += one.cycles
    capacity = sum(one.macs / one.utilisation for one in counts if one.utilisation)
    return replace(
        counts[0],
        cycles=begin,
        macs=sum(one.macs for one in counts),
        utilisation=sum(one.macs for one in counts) / capacity if capacity else 0.0,
        dram_read_bytes=sum(one.dram_read_bytes for one in counts),
        dram_write_bytes=sum(one.dram_write_bytes for one in counts),
        interconnect_bytes=sum(one.interconnect_bytes for one in counts),
        stalls={k: sum(one.stalls.get(k, 0) for one in counts) for k in counts[0].stalls},
        energy_joules={
            k: sum(one.energy_joules.get(k, 0.0) for one in counts) for k in counts[0].energy_joules
        },
        steps=tuple(steps),
    )
