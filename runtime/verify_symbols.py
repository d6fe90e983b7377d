"""Checks that every symbol of a program has a value before something needs it.

The inputs bind symbols when a call starts, ``bind`` instructions bind late ones on the
way. One walk forward, as control only moves forward: what is bound on every way to an
instruction may be used there; what is bound on some way may not be bound again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from motet.runtime.late import Symbols, Waiting, late_symbols, symbols_in, waiting, ways_on
from motet.runtime.program import (
    ArrayCall,
    BindSymbols,
    Instruction,
    Kernel,
    Program,
    ShapeTensor,
    registers_of,
)
from motet.runtime.shapes import Dimension, product, symbols_of


def unbound_symbols(program: Program) -> Symbols:
    """Symbols that neither an input nor an instruction binds; of inputs, that no input does."""
    by_inputs = _bound_by_inputs(program)
    own = Symbols().union(*(symbols_in(info.shape) for info in program.inputs))
    return (_used(program) - by_inputs - late_symbols(program)) | (own - by_inputs)


def unready_uses(program: Program) -> Iterator[str]:
    """Instructions and outputs that need a late symbol before it is bound, or bind it wrongly."""
    needs = waiting(program)
    if not needs.symbols:
        return
    end = len(program.instructions)
    given = _bound_by_inputs(program)
    always: list[Symbols | None] = [given, *[None] * end]
    sometimes = [set(given), *(set[str]() for _ in range(end))]
    for number, instruction in enumerate(program.instructions):
        bound = always[number]
        if bound is None:  # no way leads here
            continue
        if not _bind_is_valid(instruction, program, sometimes[number]):
            yield f"instruction {number} binds symbols twice, or not from one integer each"
        if _needed(instruction, program, needs) - bound:
            yield f"instruction {number} needs a dimension before it is bound"
        more = Symbols(instruction.symbols if isinstance(instruction, BindSymbols) else ())
        for way in ways_on(number, instruction):
            before = always[way]
            always[way] = bound | more if before is None else before & (bound | more)
            sometimes[way] |= sometimes[number] | more
    shapes = [symbols_in(info.shape) & needs.symbols for info in program.outputs]
    places = [needs.registers.get(number, Symbols()) for number in program.output_registers]
    if Symbols().union(*shapes, *places) - (always[end] or Symbols()):
        yield "an output needs a dimension that is not always bound"


def _bind_is_valid(instruction: Instruction, program: Program, taken: Iterable[str]) -> bool:
    """Whether a ``bind`` takes each new symbol from an integer of its own."""
    if not isinstance(instruction, BindSymbols):
        return True
    source = program.registers[instruction.source]
    symbols = Symbols(instruction.symbols)
    return (
        source.dtype in ("int64", "int32")
        and bool(symbols)
        and product(source.shape) == len(symbols) == len(instruction.symbols)
        and symbols.isdisjoint(taken)
    )


def _needed(instruction: Instruction, program: Program, needs: Waiting) -> Symbols:
    """The late symbols that must have values for ``instruction`` to be bound and reported."""
    reads, writes = registers_of(instruction)
    needed = Symbols().union(*(needs.registers.get(r, Symbols()) for r in (*reads, *writes)))
    if isinstance(instruction, ShapeTensor):
        needed |= symbols_in(instruction.shape) & needs.symbols
    if isinstance(instruction, (Kernel, ArrayCall)):
        needed |= symbols_of(program.operators[instruction.operator].macs) & needs.symbols
    return needed


def _bound_by_inputs(program: Program) -> Symbols:
    """Symbols that stand alone as a dimension of an input."""
    return Symbols(d for info in program.inputs for d in info.shape if isinstance(d, str))


def _used(program: Program) -> Symbols:
    dimensions: list[Dimension] = [storage.bytes for storage in program.storages]
    dimensions += [operator.macs for operator in program.operators]
    shapes = [info.shape for info in (*program.inputs, *program.outputs)]
    shapes += [register.shape for register in program.registers]
    dimensions += [dimension for shape in shapes for dimension in shape]
    for instruction in program.instructions:
        if isinstance(instruction, ShapeTensor):
            dimensions += instruction.shape
    return Symbols().union(*map(symbols_of, dimensions))
