"""When each storage of a program is in use, and where it lies in the arena."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from motet.runtime.forks import moments
from motet.runtime.memory import Lifetime, plan
from motet.runtime.program import Instruction, Register, Storage, registers_of, storage_of
from motet.runtime.shapes import Dimension


def lifetimes(
    storages: int,
    registers: Sequence[Register],
    instructions: Sequence[Instruction],
    outputs: Iterable[int],
) -> list[Lifetime]:
    """First and last instruction that touches each storage; outputs live to the end, and what
    a stage touches lives from its fork to its join.

    Control only moves forward, so an interval covers every path.
    """
    first, last = [len(instructions)] * storages, [0] * storages
    for instruction, time in zip(instructions, moments(instructions), strict=True):
        reads, writes = registers_of(instruction)
        for register in (*reads, *writes):
            storage = storage_of(register, registers)
            if storage is not None:
                first[storage] = min(first[storage], time.first)
                last[storage] = time.last
    for register in outputs:
        storage = storage_of(register, registers)
        if storage is not None:
            last[storage] = len(instructions)
    return [Lifetime(min(f, e), e) for f, e in zip(first, last, strict=True)]


def lay_out(
    sizes: Sequence[Dimension], spans: Sequence[Lifetime]
) -> tuple[tuple[Storage, ...], tuple[int, ...] | None, int | None]:
    """Storages, and offsets and arena bytes where all sizes are known now."""
    storages = tuple(Storage(size, span) for size, span in zip(sizes, spans, strict=True))
    static = [size for size in sizes if isinstance(size, int)]
    if len(static) != len(sizes):
        return storages, None, None
    offsets, total = plan(static, spans)
    return storages, tuple(offsets), total
