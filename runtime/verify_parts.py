"""Checks programs in which several tensors lie in one storage: none destroys another.

Laws, as far as bytes are known when a program is loaded:

1. A part lies within its source, and starts where kernels may assume that buffers do.
2. What instructions write to a storage is one tensor (again where branches join), or several
   that share no byte. So a value stays until its storage's lifetime ends.
3. An instruction writes no byte twice, and none that it reads.
4. An instruction reads only bytes that earlier ones wrote.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from motet.runtime.extents import Extent, bytes_in, extent_of
from motet.runtime.memory import ALIGNMENT
from motet.runtime.program import Part, Program, Register, Stored, View, registers_of


def offset_is_valid(register: Register) -> bool:
    """Whether a tensor within another starts at a multiple of the alignment."""
    place = register.place
    return not isinstance(place, (Stored, Part)) or (
        place.offset >= 0 and place.offset % ALIGNMENT == 0
    )


def fits_its_source(register: Register, program: Program) -> bool:
    """Whether a static part of a static tensor ends within it; others are checked when bound."""
    if not isinstance(register.place, Part):
        return True
    source = program.registers[register.place.source]
    room = bytes_in(source.dtype, source.shape)
    size = bytes_in(register.dtype, register.shape)
    return room is None or size is None or 0 <= size <= room - register.place.offset


def clashes(program: Program) -> Iterator[str]:
    """What breaks laws 2 to 4, in the order of the instructions."""
    registers = program.registers
    extents = [extent_of(number, registers) for number in range(len(registers))]
    storages: dict[int, _Contents] = {}
    for number, instruction in enumerate(program.instructions):
        reads, writes = registers_of(instruction)
        if not _are_apart([extents[r] for r in reads], [extents[w] for w in writes]):
            yield f"instruction {number} writes bytes that it reads, or writes them twice"
        if not all(_are_there(extents[register], storages) for register in reads):
            yield f"instruction {number} reads bytes that none before it wrote"
        for register in writes:
            extent = extents[register]
            assert isinstance(extent.base, Stored), "only the arena is written to"
            contents = storages.setdefault(extent.base.storage, _Contents())
            if not contents.take(extent, _whole(register, registers)):
                yield f"instruction {number} writes over another tensor"
    if not all(_are_there(extents[register], storages) for register in program.output_registers):
        yield "an output holds bytes that no instruction wrote"


def _whole(register: int, registers: Sequence[Register]) -> int:
    """The register that ``register`` is another shape of; itself where it is none's."""
    while isinstance(place := registers[register].place, View):
        register = place.source
    return register


def _are_apart(reads: Sequence[Extent], writes: Sequence[Extent]) -> bool:
    pairs = [*combinations(writes, 2), *((read, write) for read in reads for write in writes)]
    return not any(one.overlaps(other) for one, other in pairs)


@dataclass
class _Contents:
    """What has been written to a storage so far: the tensors in order of their bytes.

    starts: first bytes; ends: for each the byte after its last, and the register.
    """

    starts: list[int] = field(default_factory=list)
    ends: list[tuple[float, int]] = field(default_factory=list)

    def take(self, extent: Extent, register: int) -> bool:
        """Whether a tensor can be written beside the others; it is then there."""
        if extent.is_empty:
            return True
        end = (math.inf if extent.stop is None else extent.stop, register)
        at = bisect_left(self.starts, extent.start)
        if self.starts[at : at + 1] == [extent.start]:
            return self.ends[at] == end
        if at > 0 and self.ends[at - 1][0] > extent.start:
            return False
        if at < len(self.starts) and self.starts[at] < end[0]:
            return False
        self.starts.insert(at, extent.start)
        self.ends.insert(at, end)
        return True

    def hold(self, extent: Extent) -> bool:
        """Whether all bytes of ``extent`` were written, as far as they are known."""
        reached: float = extent.start
        wanted = reached + 1 if extent.stop is None else extent.stop
        at = bisect_right(self.starts, extent.start) - 1
        while 0 <= at < len(self.starts) and self.starts[at] <= reached < wanted:
            reached = max(reached, self.ends[at][0])
            at += 1
        return reached >= wanted


def _are_there(extent: Extent, storages: dict[int, _Contents]) -> bool:
    """Whether the bytes lie outside the arena, or were written."""
    if not isinstance(extent.base, Stored) or extent.is_empty:
        return True
    contents = storages.get(extent.base.storage)
    return contents is not None and contents.hold(extent)
