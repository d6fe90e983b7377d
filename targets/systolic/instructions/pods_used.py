"""Which pods a program uses: what a model's quota is held against when a bundle is loaded."""

from __future__ import annotations

import numpy as np

from motet.runtime.errors import ProgramError
from motet.targets.systolic.instructions.isa import ENGINES, Opcode
from motet.targets.systolic.instructions.program import SystolicProgram

_SENDS = (int(Opcode.LOAD), int(Opcode.TRANSFER))
"""Instructions that write into the memories of other pods."""


def pods_used(program: SystolicProgram) -> int:
    """One more than the last pod that has instructions or whose memories are written."""
    busy = np.flatnonzero(np.diff(program.queue_starts.astype(np.int64)))
    code = program.instructions[np.isin(program.instructions["opcode"], _SENDS)]
    reached = code["target_pod"].astype(np.int64) + code["target_pods"]
    own = int(busy[-1]) // ENGINES + 1 if len(busy) else 0
    return max(own, int(reached.max(initial=0)))


def first_pod_used(program: SystolicProgram) -> int:
    """The first pod that has instructions or whose memories are written; 0 where none is."""
    busy = np.flatnonzero(np.diff(program.queue_starts.astype(np.int64)))
    code = program.instructions[np.isin(program.instructions["opcode"], _SENDS)]
    own = [int(busy[0]) // ENGINES] if len(busy) else []
    return min([*own, *code["target_pod"].astype(np.int64).tolist()], default=0)


def check_range(program: SystolicProgram, name: str, pods: range) -> None:
    """Raise ``ProgramError`` where a program uses other pods than those that it was given."""
    first, stop = first_pod_used(program), pods_used(program)
    if (first < pods.start and stop) or stop > pods.stop:
        raise ProgramError(
            f"array program {name!r} uses pods {first} to {stop - 1}, and the bundle's timetable "
            f"gives it {pods.start} to {pods.stop - 1}: compile the bundle again"
        )


def check_pods(program: SystolicProgram, model: str, quota: int) -> None:
    """Raise ``ProgramError`` where a program of ``model`` uses more pods than its quota."""
    used = pods_used(program)
    if used > quota:
        raise ProgramError(
            f"model {model!r}: an array program of its uses pods 0 to {used - 1}, its quota is "
            f"{quota}: compile the bundle again"
        )
