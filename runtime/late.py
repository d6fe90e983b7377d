"""Late symbols: what of a program has to wait until data has bound them, and for which.

A program runs in stages. The first one is bound with the inputs' shapes; every ``bind``
instruction that is reached starts another, which ends where the next one is reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from motet.runtime.program import (
    BindSymbols,
    Branch,
    Goto,
    Instruction,
    Part,
    Program,
    Register,
    Stored,
    View,
)
from motet.runtime.shapes import Shape, symbols_of

Symbols = frozenset[str]
START = -1
"""Where the first stage begins, as if an instruction before the first had bound the inputs."""


def symbols_in(shape: Shape) -> Symbols:
    """The symbols of all dimensions."""
    return Symbols().union(*map(symbols_of, shape))


def late_symbols(program: Program) -> Symbols:
    """The symbols that data binds while the program runs."""
    binds = [i for i in program.instructions if isinstance(i, BindSymbols)]
    return Symbols(symbol for bind in binds for symbol in bind.symbols)


def ways_on(number: int, instruction: Instruction) -> tuple[int, ...]:
    """The instructions that may run next after number ``number``."""
    if isinstance(instruction, Goto):
        return (instruction.to,)
    if isinstance(instruction, Branch):
        return (number + 1, instruction.otherwise)
    return (number + 1,)


@dataclass(frozen=True)
class Waiting:
    """What of a program waits for late symbols.

    symbols: all late ones; registers, storages: the late symbols that each number has to
    wait for, without those that need none; stages: for each ``bind`` and ``START`` the
    instructions that may run before the next ``bind``, in order, and where they lead.
    """

    symbols: Symbols
    registers: Mapping[int, Symbols] = field(default_factory=dict)
    storages: Mapping[int, Symbols] = field(default_factory=dict)
    stages: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


def waiting(program: Program) -> Waiting:
    """What of ``program`` waits, and for what."""
    late = late_symbols(program)
    if not late:
        return Waiting(late, stages={START: tuple(range(len(program.instructions)))})
    storages = {n: symbols_of(s.bytes) & late for n, s in enumerate(program.storages)}
    registers: dict[int, Symbols] = {}
    for number, register in enumerate(program.registers):
        registers[number] = (symbols_in(register.shape) & late) | _place(
            register, registers, storages
        )
    starts = [n for n, i in enumerate(program.instructions) if isinstance(i, BindSymbols)]
    return Waiting(
        late,
        {number: symbols for number, symbols in registers.items() if symbols},
        {number: symbols for number, symbols in storages.items() if symbols},
        {start: _stage(program, start) for start in (START, *starts)},
    )


def _place(
    register: Register, registers: Mapping[int, Symbols], storages: Mapping[int, Symbols]
) -> Symbols:
    """The symbols that the register's place waits for."""
    if isinstance(register.place, Stored):
        return storages[register.place.storage]
    if isinstance(register.place, (View, Part)):
        return registers[register.place.source]
    return Symbols()


def _stage(program: Program, start: int) -> tuple[int, ...]:
    """Instructions that can run after ``start`` without another bind between, binds included."""
    reached: set[int] = set()
    open_ends = [start + 1]
    while open_ends:
        number = open_ends.pop()
        if number in reached or number >= len(program.instructions):
            continue
        reached.add(number)
        instruction = program.instructions[number]
        if not isinstance(instruction, BindSymbols):
            open_ends.extend(ways_on(number, instruction))
    return tuple(sorted(reached))
