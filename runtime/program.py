"""The VM's program: what the compiler writes and the VM executes.

A program is a flat list of instructions over registers. A register is one tensor
with a dtype and a shape (which may hold symbols); it stands at one place: an input,
a constant, a storage of the arena, or a view of another register. Control only
moves forward, so a storage's lifetime is an interval of instruction numbers.

Several registers may lie in one storage, each at its offset: what is concatenated lies side
by side in the storage of the result, and a slice is a part of what it is cut from. What
instructions write never overlaps (``verify_parts``), so such a storage holds every value
that was written to it until its lifetime ends.

Symbols are bound by the inputs' shapes when a call starts. A shape that depends on data
is written with late symbols, which a ``bind`` instruction takes from a register on the
way; what has such a shape may only be used after it.

Encoding: JSON by msgspec; instructions are objects with a ``type`` field. The
version is that of the bundle (``bundle.FORMAT_VERSION``), which refuses newer ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from motet.runtime.errors import BundleError
from motet.runtime.memory import Lifetime
from motet.runtime.shapes import Dimension, Shape


class Input(msgspec.Struct, frozen=True, tag="input"):
    """Register place: the model's input number ``index``."""

    index: int


class Constant(msgspec.Struct, frozen=True, tag="constant"):
    """Register place: weight number ``index`` of the bundle."""

    index: int


class Stored(msgspec.Struct, frozen=True, tag="stored"):
    """Register place: storage number ``storage`` of the arena, from byte ``offset`` on."""

    storage: int
    offset: int = 0


class View(msgspec.Struct, frozen=True, tag="view"):
    """Register place: the same bytes as register ``source``, in another shape."""

    source: int


class Part(msgspec.Struct, frozen=True, tag="part"):
    """Register place: bytes of register ``source`` from byte ``offset`` on: a slice of it."""

    source: int
    offset: int


Place = Input | Constant | Stored | View | Part


class Register(msgspec.Struct, frozen=True):
    """A tensor: numpy dtype name, shape, and where its bytes are."""

    dtype: str
    shape: Shape
    place: Place


class Storage(msgspec.Struct, frozen=True):
    """Bytes of the arena, in use during ``lifetime``."""

    bytes: Dimension
    lifetime: Lifetime


class Operator(msgspec.Struct, frozen=True):
    """Who an instruction works for: the names that reports and errors speak of.

    op: ``<model>/<number>``; kind: its Relax operators joined by ``+``; target:
    ``host`` or ``array``; macs: multiply-accumulates of one run. steps: of an array
    program, the ONNX nodes of each of its steps, joined by ``+``. integer_macs: those of
    ``macs`` that multiply integers.
    """

    op: str
    kind: str
    onnx_nodes: tuple[str, ...]
    target: Literal["host", "array"]
    macs: Dimension
    steps: tuple[str, ...] = ()
    integer_macs: Dimension = 0


class Kernel(msgspec.Struct, frozen=True, tag="kernel"):
    """Call a host kernel; ``arguments`` are registers, the last ``outputs`` are written."""

    symbol: str
    arguments: tuple[int, ...]
    outputs: int
    operator: int


class ArrayCall(msgspec.Struct, frozen=True, tag="array"):
    """Run an array program: reads ``inputs``, writes ``outputs``; the transfer is counted."""

    program: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operator: int


class Move(msgspec.Struct, frozen=True, tag="move"):
    """Copy register ``source`` into ``target``: where branches join, or to be concatenated."""

    source: int
    target: int


class ShapeTensor(msgspec.Struct, frozen=True, tag="shape_tensor"):
    """Write the values of ``shape`` into the int64 register ``target``."""

    shape: Shape
    target: int


class BindSymbols(msgspec.Struct, frozen=True, tag="bind"):
    """Bind late ``symbols`` to the elements of the integer register ``source``, in order.

    onnx_nodes: who computed the values, for messages. A symbol is bound once on every way
    through the program.
    """

    symbols: tuple[str, ...]
    source: int
    onnx_nodes: tuple[str, ...]


class Branch(msgspec.Struct, frozen=True, tag="if"):
    """Go on where the boolean register ``condition`` is true, else at ``otherwise``."""

    condition: int
    otherwise: int


class Goto(msgspec.Struct, frozen=True, tag="goto"):
    """Go on at instruction ``to``, which lies ahead."""

    to: int


class Fork(msgspec.Struct, frozen=True, tag="fork"):
    """The next kernel calls form a stage: groups that may run side by side, then join.

    groups: how many calls each group has; a group's calls run in order, and follow each other
    in the program. What one group writes no other reads or writes (``forks.conflicts``).
    """

    groups: tuple[int, ...]


Instruction = Kernel | ArrayCall | Move | ShapeTensor | BindSymbols | Branch | Goto | Fork


class TensorInfo(msgspec.Struct, frozen=True):
    """An input or output of a model under its ONNX name."""

    name: str
    dtype: str
    shape: Shape


class Program(msgspec.Struct, frozen=True):
    """One model, ready to run.

    ``offsets`` are the storages' bytes offsets where all sizes are static, else None
    and planned when the shapes are bound; ``arena_bytes`` goes with them. Storages whose
    sizes hold late symbols are planned when those are bound.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    output_registers: tuple[int, ...]
    registers: tuple[Register, ...]
    storages: tuple[Storage, ...]
    instructions: tuple[Instruction, ...]
    operators: tuple[Operator, ...]
    offsets: tuple[int, ...] | None
    arena_bytes: int | None


def registers_of(instruction: Instruction) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The registers that an instruction reads, and those it writes."""
    if isinstance(instruction, Kernel):
        split = len(instruction.arguments) - instruction.outputs
        return instruction.arguments[:split], instruction.arguments[split:]
    if isinstance(instruction, ArrayCall):
        return instruction.inputs, instruction.outputs
    if isinstance(instruction, Move):
        return (instruction.source,), (instruction.target,)
    if isinstance(instruction, ShapeTensor):
        return (), (instruction.target,)
    if isinstance(instruction, BindSymbols):
        return (instruction.source,), ()
    if isinstance(instruction, Branch):
        return (instruction.condition,), ()
    return (), ()


def storage_of(register: int, registers: Sequence[Register]) -> int | None:
    """The storage that holds a register's bytes, through views; None for those elsewhere."""
    place = registers[register].place
    while isinstance(place, (View, Part)):
        place = registers[place.source].place
    return place.storage if isinstance(place, Stored) else None


def encode(program: Program) -> bytes:
    """JSON bytes; equal programs give equal bytes."""
    return msgspec.json.encode(program, order="deterministic")


def decode(data: bytes) -> Program:
    """The program of ``encode``; raises ``BundleError`` where it is none."""
    try:
        program = msgspec.json.decode(data, type=Program)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"a program of the bundle cannot be decoded: {error}") from error
    return program
