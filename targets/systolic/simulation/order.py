"""A legal sequential order of a program: its queues in turn, held up by semaphores only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.runtime.errors import ProgramError
from motet.targets.systolic.instructions.isa import Opcode
from motet.targets.systolic.instructions.program import SystolicProgram
from motet.targets.systolic.simulation.compiled import entry

_SIGNAL, _WAIT = int(Opcode.SIGNAL), int(Opcode.WAIT)


def default_order(program: SystolicProgram) -> NDArray[np.int64]:
    """Numbers of all instructions [n]: each queue in turn runs until a WAIT holds it.

    Raises ``ProgramError`` where queues wait for each other, naming an instruction that waits.
    """
    starts = np.require(program.queue_starts, np.int64, ["C", "A", "W"])
    order, reached = _round_robin(np.require(program.instructions, None, ["C", "A", "W"]), starts)
    if len(order) == len(program.instructions):
        return order  # type: ignore[no-any-return]
    queue = int(np.flatnonzero(reached < starts[1:])[0])
    number = int(reached[queue])
    held = program.instructions[number]
    raise ProgramError(
        f"instruction {number}, WAIT of queue {queue}: semaphore {held['semaphore']} never "
        f"reaches {held['value']}; another queue must SIGNAL it that often, without waiting "
        "for this one first"
    )


@entry
def _round_robin(program: Any, starts: Any) -> tuple[Any, Any]:
    """Numbers in order, and where each queue got to."""
    queues = len(starts) - 1
    order, done = np.empty(len(program), np.int64), 0
    reached, signals = starts[:-1].copy(), np.zeros(queues, np.int64)
    moved = True
    while moved:
        moved = False
        for queue in range(queues):
            while reached[queue] < starts[queue + 1]:
                item = program[reached[queue]]
                if item.opcode == _WAIT:
                    other = np.int64(item.semaphore)
                    if other >= queues or signals[other] < np.int64(item.value):
                        break
                elif item.opcode == _SIGNAL:
                    signals[queue] += 1
                order[done] = reached[queue]
                done += 1
                reached[queue] += 1
                moved = True
    return order[:done], reached
