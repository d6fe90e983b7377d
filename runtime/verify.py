"""Checks a decoded program before the VM trusts it: no index points nowhere.

Digests catch damage; this catches a program that was written wrong, so that the
VM's hot path needs no checks of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from motet.runtime.device import Array
from motet.runtime.errors import BundleError
from motet.runtime.program import (
    ArrayCall,
    Branch,
    Constant,
    Goto,
    Input,
    Instruction,
    Kernel,
    Move,
    Program,
    Register,
    ShapeTensor,
    Stored,
    View,
)


def verify_program(model: str, program: Program, weights: Sequence[Array]) -> None:
    """Raise ``BundleError`` where an index of ``program`` is out of range."""
    for number, register in enumerate(program.registers):
        if not _place_is_valid(number, register, program, weights):
            raise BundleError(f"program of model {model!r}: register {number} has no place")
    for number, instruction in enumerate(program.instructions):
        if not _instruction_is_valid(number, instruction, program):
            raise BundleError(
                f"program of model {model!r}: instruction {number} refers to what is not there"
            )
    if not _in_range(program.output_registers, len(program.registers)) or len(
        program.outputs
    ) != len(program.output_registers):
        raise BundleError(f"program of model {model!r}: its outputs do not fit its registers")


def _in_range(indices: Iterable[int], size: int) -> bool:
    return all(0 <= index < size for index in indices)


def _place_is_valid(
    number: int, register: Register, program: Program, weights: Sequence[Array]
) -> bool:
    place = register.place
    if isinstance(place, Input):
        return 0 <= place.index < len(program.inputs)
    if isinstance(place, Constant):
        return (
            0 <= place.index < len(weights)
            and tuple(weights[place.index].shape) == register.shape
            and weights[place.index].dtype.name == register.dtype
        )
    if isinstance(place, Stored):
        return 0 <= place.storage < len(program.storages)
    return isinstance(place, View) and 0 <= place.source < number


def registers_of(instruction: Instruction) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The registers that an instruction reads, and those it writes."""
    if isinstance(instruction, Kernel):
        split = len(instruction.arguments) - instruction.outputs
        return instruction.arguments[:split], instruction.arguments[split:]
    if isinstance(instruction, ArrayCall):
        return instruction.inputs, (instruction.output,)
    if isinstance(instruction, Move):
        return (instruction.source,), (instruction.target,)
    if isinstance(instruction, ShapeTensor):
        return (), (instruction.target,)
    if isinstance(instruction, Branch):
        return (instruction.condition,), ()
    return (), ()


def _instruction_is_valid(number: int, instruction: Instruction, program: Program) -> bool:
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
