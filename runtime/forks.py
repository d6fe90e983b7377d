"""Stages of kernel calls: groups that run side by side between a fork and its join.

The calls of a fork are ordinary instructions behind it, so that whoever times or watches a
program may run them one by one. All that a stage touches is in use during the whole of it:
its calls share one moment of time (``moments``), by which memory is planned and verified.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from motet.runtime.extents import Extent, extent_of
from motet.runtime.memory import Lifetime
from motet.runtime.program import (
    Branch,
    Fork,
    Goto,
    Instruction,
    Kernel,
    Program,
    registers_of,
)


def end_of(position: int, fork: Fork) -> int:
    """The instruction after the join of the fork at ``position``."""
    return position + 1 + sum(fork.groups)


def groups_of(position: int, fork: Fork) -> list[range]:
    """The instructions of each group of the fork at ``position``."""
    found, first = list[range](), position + 1
    for count in fork.groups:
        found.append(range(first, first + count))
        first += count
    return found


def moments(instructions: Sequence[Instruction]) -> list[Lifetime]:
    """When each instruction runs: at its own number, or during the whole of its stage."""
    found = [Lifetime(number, number) for number in range(len(instructions))]
    for number, instruction in enumerate(instructions):
        if isinstance(instruction, Fork):
            end = min(end_of(number, instruction), len(instructions))
            found[number:end] = [Lifetime(number, end - 1)] * (end - number)
    return found


def is_valid(position: int, fork: Fork, instructions: Sequence[Instruction]) -> bool:
    """Whether there are groups, all of kernel calls that the program has."""
    return (
        len(fork.groups) >= 2
        and min(fork.groups) >= 1
        and end_of(position, fork) <= len(instructions)
        and all(
            isinstance(instructions[number], Kernel)
            for number in range(position + 1, end_of(position, fork))
        )
    )


def conflicts(program: Program) -> Iterator[str]:
    """Stages whose groups are not independent, or that something jumps into."""
    inside = set[int]()
    for number, instruction in enumerate(program.instructions):
        if isinstance(instruction, Fork):
            inside.update(range(number + 1, end_of(number, instruction)))
            if not _are_independent(program, groups_of(number, instruction)):
                yield f"instruction {number} runs groups side by side that share a tensor"
    for number, instruction in enumerate(program.instructions):
        to = instruction.to if isinstance(instruction, Goto) else None
        to = instruction.otherwise if isinstance(instruction, Branch) else to
        if to in inside:
            yield f"instruction {number} goes into the middle of a stage"


def _are_independent(program: Program, groups: Sequence[range]) -> bool:
    """Whether no group touches what another writes."""
    touched, written = list[list[Extent]](), list[list[Extent]]()
    for group in groups:
        pairs = [registers_of(program.instructions[number]) for number in group]
        writes = [extent_of(r, program.registers) for _, out in pairs for r in out]
        reads = [extent_of(r, program.registers) for read, _ in pairs for r in read]
        touched.append([*reads, *writes])
        written.append(writes)
    return not any(
        one.overlaps(other)
        for number, writes in enumerate(written)
        for another, others in enumerate(touched)
        if number != another
        for one in writes
        for other in others
    )
