"""Checks a program's memory: storages lie in the arena, last as long as needed, and apart.

A planner that was wrong would corrupt values silently. These checks are a second,
independent look at what it says: for programs with symbolic sizes at the lifetimes,
which it plans with when the sizes are known, for all others at the offsets too.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from heapq import heappop, heappush

from motet.runtime.extents import bytes_in
from motet.runtime.forks import moments
from motet.runtime.memory import ALIGNMENT
from motet.runtime.program import Program, Register, Stored, registers_of, storage_of


def arena_is_valid(program: Program) -> bool:
    """Whether the offsets, where they are fixed, keep every storage inside the arena."""
    if program.offsets is None or program.arena_bytes is None:
        return program.offsets is None and program.arena_bytes is None
    return len(program.offsets) == len(program.storages) and all(
        isinstance(storage.bytes, int)
        and offset % ALIGNMENT == 0
        and storage.bytes >= 0
        and 0 <= offset <= program.arena_bytes - storage.bytes
        for offset, storage in zip(program.offsets, program.storages, strict=True)
    )


def fits_its_storage(register: Register, program: Program) -> bool:
    """Whether a static register is no larger than its storage; others are checked when bound."""
    place = register.place
    if not isinstance(place, Stored):
        return True
    size, room = bytes_in(register.dtype, register.shape), program.storages[place.storage].bytes
    return size is None or not isinstance(room, int) or 0 <= size <= room - place.offset


def outlived_storages(program: Program) -> Iterator[int]:
    """Storages that something uses before or after their lifetime; outputs last to the end."""
    for moment, register in _uses(program):
        storage = storage_of(register, program.registers)
        if storage is not None:
            lifetime = program.storages[storage].lifetime
            if not lifetime.first <= moment <= lifetime.last:
                yield storage


def _uses(program: Program) -> Iterator[tuple[int, int]]:
    """(instruction number, register) of every read and write, of those in a stage at its fork
    and at its join; results are read at the end.
    """
    times = moments(program.instructions)
    for instruction, time in zip(program.instructions, times, strict=True):
        reads, writes = registers_of(instruction)
        for register in (*reads, *writes):
            yield from ((moment, register) for moment in {time.first, time.last})
    end = len(program.instructions)
    yield from ((end, register) for register in program.output_registers)


def overlapping_storages(program: Program) -> Iterator[tuple[int, int]]:
    """Pairs of storages that share bytes while both are in use, where offsets are fixed.

    One sweep over time. What is in use lies apart as long as no pair was found, so only
    the neighbours of a storage that comes can overlap it.
    """
    if program.offsets is None:
        return
    spans = [
        (storage.lifetime, offset, storage.bytes, number)
        for number, (storage, offset) in enumerate(
            zip(program.storages, program.offsets, strict=True)
        )
        if isinstance(storage.bytes, int) and storage.bytes
    ]
    alive: list[tuple[int, int, int]] = []
    ends: list[tuple[int, tuple[int, int, int]]] = []
    for lifetime, offset, size, number in sorted(spans, key=lambda span: span[0].first):
        while ends and ends[0][0] < lifetime.first:
            del alive[bisect_left(alive, heappop(ends)[1])]
        place = (offset, offset + size, number)
        at = bisect_left(alive, place)
        for start, stop, other in alive[max(at - 1, 0) : at + 1]:
            if start < offset + size and offset < stop:
                yield other, number
        insort(alive, place)
        heappush(ends, (lifetime.last, place))
