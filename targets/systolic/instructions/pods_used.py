"""Which pods a program uses: what quotas and the slots of a timetable are held against."""

from __future__ import annotations

import numpy as np

from motet.targets.systolic.instructions.isa import ENGINES, Opcode
from motet.targets.systolic.instructions.program import SystolicProgram

_SENDS = (int(Opcode.LOAD), int(Opcode.TRANSFER))
"""Instructions that write into the memories of other pods."""


def used_range(program: SystolicProgram) -> range:
    """From the first to the last pod that has instructions or whose memories are written."""
    busy = np.flatnonzero(np.diff(program.queue_starts.astype(np.int64))) // ENGINES
    code = program.instructions[np.isin(program.instructions["opcode"], _SENDS)]
    first = code["target_pod"].astype(np.int64)
    starts = np.concatenate([busy, first])
    if not len(starts):
        return range(0)
    stops = np.concatenate([busy + 1, first + code["target_pods"]])
    return range(int(starts.min()), int(stops.max()))


def pods_used(program: SystolicProgram) -> int:
    """One more than the last pod that it uses."""
    return used_range(program).stop
