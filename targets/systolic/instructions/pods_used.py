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


def check_pods(program: SystolicProgram, model: str, quota: int) -> None:
    """Raise ``ProgramError`` where a program of ``model`` uses more pods than its quota."""
    used = pods_used(program)
    if used > quota:
        raise ProgramError(
            f"model {model!r}: an array program of its uses pods 0 to {used - 1}, its quota is "
            f"{quota}: compile the bundle again"
        )
