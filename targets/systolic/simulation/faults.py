"""Instructions that the timing view could not run: named before the event loop starts."""

from __future__ import annotations

from typing import Any

from motet.targets.systolic.instructions.isa import ENGINE_OF, ENGINES, NO_OPERAND, Engine, Opcode
from motet.targets.systolic.simulation.compiled import entry
from motet.targets.systolic.simulation.widths import wide

FAULTS = {
    1: "has an unknown opcode",
    2: "is in the queue of another engine",
    3: "has target pods that the array lacks",
    4: "names a view that the program lacks",
    5: "waits for a semaphore that the array lacks",
}
"""What is wrong, by the number that ``first_fault`` gives."""

_LOAD, _STORE, _TRANSFER = int(Opcode.LOAD), int(Opcode.STORE), int(Opcode.TRANSFER)
_WAIT, _NONE = int(Opcode.WAIT), NO_OPERAND
_ENGINES = tuple(
    int(ENGINE_OF[opcode]) if (opcode := Opcode(code)) in ENGINE_OF else -1
    for code in range(int(Opcode.LOAD), int(Opcode.WAIT) + 1)
)
"""Engines by opcode, from LOAD on; -1 where it runs anywhere."""
assert max(_ENGINES) < len(Engine)


@entry
def first_fault(instructions: Any, starts: Any, pods: int, views: int) -> tuple[int, int]:
    """The first instruction that is wrong, and its number in ``FAULTS``; (0, 0) for none."""
    for queue in range(len(starts) - 1):
        for i in range(starts[queue], starts[queue + 1]):
            one = instructions[i]
            opcode = one.opcode
            if opcode < _LOAD or opcode > _WAIT:
                return i, 1
            engine = _ENGINES[opcode - _LOAD]
            if engine >= 0 and engine != queue % ENGINES:
                return i, 2
            if opcode in (_LOAD, _TRANSFER):
                last = wide(one.target_pod) + wide(one.target_pods)
                if one.target_pods == 0 or last > pods:
                    return i, 3
            needs = opcode in (_LOAD, _STORE)
            if one.operand >= views and (needs or one.operand != _NONE):
                return i, 4
            if opcode == _WAIT and one.semaphore >= pods * ENGINES:
                return i, 5
    return 0, 0
