"""Checks a decoded program before the VM trusts it: no index points nowhere.

Digests catch damage; this catches a program that was written wrong, so that the
VM's hot path needs no checks of its own: every index is in range, dtypes agree, only
the arena is written to, static tensors lie inside their storage and the arena, storages
that live at the same time share no byte, nor do values in one storage, groups that run side
by side are independent, and every symbol is bound before it is needed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np

from motet.runtime.device import Array
from motet.runtime.element_types import stored_dtype
from motet.runtime.errors import BundleError
from motet.runtime.forks import conflicts, is_valid
from motet.runtime.program import (
    ArrayCall,
    Branch,
    Constant,
    Fork,
    Goto,
    Input,
    Instruction,
    Kernel,
    Move,
    Program,
    Register,
    ShapeTensor,
    Stored,
    TensorInfo,
    registers_of,
    storage_of,
)
from motet.runtime.shapes import product
from motet.runtime.verify_memory import (
    arena_is_valid,
    fits_its_storage,
    outlived_storages,
    overlapping_storages,
)
from motet.runtime.verify_parts import clashes, fits_its_source, offset_is_valid
from motet.runtime.verify_symbols import unbound_symbols, unready_uses


def verify_program(
    model: str,
    program: Program,
    weights: Sequence[Array],
    array_programs: Collection[str] | None = None,
) -> None:
    """Raise ``BundleError`` where ``program`` is inconsistent.

    array_programs: the names that the bundle holds; None leaves them unchecked.
    """
    for problem in _problems(program, weights, array_programs):
        raise BundleError(f"program of model {model!r}: {problem}")


def _problems(
    program: Program, weights: Sequence[Array], array_programs: Collection[str] | None
) -> Iterator[str]:
    """What is wrong, first things first: later checks rely on earlier ones."""
    for number, register in enumerate(program.registers):
        if not _place_is_valid(number, register, program, weights):
            yield f"register {number} has no place"
    if not arena_is_valid(program):
        yield "a storage lies outside the arena"
    for number, register in enumerate(program.registers):
        if not fits_its_storage(register, program):
            yield f"register {number} is larger than its storage"
        if not fits_its_source(register, program):
            yield f"register {number} reaches beyond what it is a part of"
    for number, instruction in enumerate(program.instructions):
        if not _instruction_is_valid(number, instruction, program):
            yield f"instruction {number} refers to what is not there"
        if not _types_agree(instruction, program):
            yield f"instruction {number} reads or writes a register of the wrong kind"
        if _program_is_missing(instruction, array_programs):
            yield f"instruction {number} runs an array program that is not in the bundle"
    if not _outputs_are_valid(program):
        yield "its outputs do not fit its registers"
    for number in outlived_storages(program):
        yield f"storage {number} is used outside its lifetime"
    for one, other in overlapping_storages(program):
        yield f"storages {one} and {other} share bytes of the arena while both are in use"
    yield from clashes(program)
    yield from conflicts(program)
    if unbound := unbound_symbols(program):
        yield f"no input binds {', '.join(sorted(unbound))}"
    yield from unready_uses(program)


def _in_range(indices: Iterable[int], size: int) -> bool:
    return all(0 <= index < size for index in indices)


def _is_dtype(name: str) -> bool:
    """Whether ``name`` is the dtype of a tensor: boolean, integer or floating point."""
    try:
        dtype = np.dtype(name)
    except TypeError:
        return False
    return dtype.kind in "biuf" and dtype.name == name


def _place_is_valid(
    number: int, register: Register, program: Program, weights: Sequence[Array]
) -> bool:
    place = register.place
    if not _is_dtype(register.dtype) or not offset_is_valid(register):
        return False
    if isinstance(place, Input):
        return (
            0 <= place.index < len(program.inputs)
            and stored_dtype(program.inputs[place.index].dtype) == register.dtype
        )
    if isinstance(place, Constant):
        return (
            0 <= place.index < len(weights)
            and tuple(weights[place.index].shape) == register.shape
            and weights[place.index].dtype.name == register.dtype
        )
    if isinstance(place, Stored):
        return 0 <= place.storage < len(program.storages)
    return 0 <= place.source < number and program.registers[place.source].dtype == register.dtype


def _instruction_is_valid(number: int, instruction: Instruction, program: Program) -> bool:
    if isinstance(instruction, Kernel) and not (
        1 <= instruction.outputs <= len(instruction.arguments)
    ):
        return False
    if isinstance(instruction, ArrayCall) and not (
        1 <= len(instruction.outputs) == len(set(instruction.outputs))
    ):
        return False
    if isinstance(instruction, Fork):
        return is_valid(number, instruction, program.instructions)
    reads, writes = registers_of(instruction)
    if not _in_range((*reads, *writes), len(program.registers)):
        return False
    if isinstance(instruction, (Kernel, ArrayCall)):
        return 0 <= instruction.operator < len(program.operators)
    target = None
    if isinstance(instruction, Branch):
        target = instruction.otherwise
    elif isinstance(instruction, Goto):
        target = instruction.to
    return target is None or number < target <= len(program.instructions)


def _program_is_missing(instruction: Instruction, names: Collection[str] | None) -> bool:
    return (
        names is not None
        and isinstance(instruction, ArrayCall)
        and instruction.program not in names
    )


def _types_agree(instruction: Instruction, program: Program) -> bool:
    """Whether only the arena is written to, with values of the right dtype."""
    registers = program.registers
    _, writes = registers_of(instruction)
    if any(storage_of(register, registers) is None for register in writes):
        return False
    if isinstance(instruction, Move):
        return registers[instruction.source].dtype == registers[instruction.target].dtype
    if isinstance(instruction, ShapeTensor):
        return registers[instruction.target].dtype == "int64"
    if isinstance(instruction, Branch):
        condition = registers[instruction.condition]
        elements = product(condition.shape)
        return condition.dtype == "bool" and (elements == 1 or not isinstance(elements, int))
    return True


def _outputs_are_valid(program: Program) -> bool:
    return (
        _in_range(program.output_registers, len(program.registers))
        and len(program.outputs) == len(program.output_registers)
        and all(
            stored_dtype(info.dtype) == program.registers[register].dtype
            for info, register in zip(program.outputs, program.output_registers, strict=True)
        )
    )


def verify_wires(wires: Mapping[str, Mapping[str, str]], programs: Mapping[str, Program]) -> None:
    """Raise ``BundleError`` where a wire does not join an earlier model's output to an input.

    wires: model -> own input -> ``model.output``, in the order in which models run.
    """
    ran: dict[str, Mapping[str, TensorInfo]] = {}
    for model, own_wires in wires.items():
        inputs = {info.name: info for info in programs[model].inputs}
        for own, wire in own_wires.items():
            source, _, output = wire.partition(".")
            origin = ran.get(source, {}).get(output)
            if own not in inputs or origin is None or origin.dtype != inputs[own].dtype:
                raise BundleError(
                    f"model {model!r}: the wire from {wire!r} to input {own!r} joins no tensors "
                    "of one dtype, or runs backwards"
                )
        ran[model] = {info.name: info for info in programs[model].outputs}
