"""Concatenations and slices that are no instruction: their bytes lie where they are wanted.

The storages of what is concatenated become parts of the result's storage, so that whoever
computes an operand writes it there. A chain ``b = concat(a, x)``, ``c = concat(b, y)`` ends as
one storage, in which ``a`` and ``b`` are where ``c`` begins. An operand that shares a storage
with what is not concatenated here, that is no part of the arena, or that is used twice is
copied. A slice is a part of what it is cut from.

``passes.contiguous`` says where this can be; ``runtime.verify_parts`` has the laws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tvm import relax

from motet.compiler.dimensions import shape_of
from motet.compiler.items import Item, Tensors
from motet.compiler.registers import RegisterFile
from motet.passes.contiguous import CONCAT, SPLIT, run_offsets
from motet.passes.graph import bindings_of
from motet.passes.op_kinds import op_name
from motet.runtime.extents import Extent
from motet.runtime.memory import ALIGNMENT
from motet.runtime.program import Instruction, Move, Stored
from motet.runtime.shapes import Dimension

Operand = Callable[[relax.Var], int]
"""The register of a unit's parameter."""


def placed(
    unit: relax.Function, operand: Operand, file: RegisterFile, instructions: list[Instruction]
) -> Item | None:
    """The value of a unit that only joins or cuts; None where that takes a kernel.

    ``instructions`` get the copies that it needs.
    """
    values = [binding.value for binding in bindings_of(unit)]
    offsets = run_offsets(values[0]) if len(values) == 1 else None
    if offsets is None:
        return None
    call = values[0]
    if op_name(call) == CONCAT:
        operands = [operand(field) for field in call.args[0].fields]
        return _joined(operands, offsets, call, file, instructions)
    source = operand(call.args[0])
    types = call.ty.fields if op_name(call) == SPLIT else [call.ty]
    parts = tuple(
        file.part(source, offset, shape_of(ty)) for offset, ty in zip(offsets, types, strict=True)
    )
    return Tensors(parts) if op_name(call) == SPLIT else parts[0]


@dataclass(frozen=True)
class _Run:
    """Operands that already lie one after the other; ``offsets``: where each goes."""

    operands: tuple[int, ...]
    offsets: tuple[int, ...]
    extent: Extent

    def followed_by(self, operand: int, offset: int, extent: Extent) -> _Run | None:
        """The run with one operand more, where that lies behind it."""
        if extent.base != self.extent.base or extent.start != self.extent.stop:
            return None
        whole = Extent(extent.base, self.extent.start, extent.stop)
        return _Run((*self.operands, operand), (*self.offsets, offset), whole)

    @property
    def bytes(self) -> int:
        """Its length."""
        assert self.extent.stop is not None, "only static shapes are concatenated by place"
        return self.extent.stop - self.extent.start


def _runs(operands: Sequence[int], offsets: Sequence[int], file: RegisterFile) -> Iterator[_Run]:
    run: _Run | None = None
    for operand, offset in zip(operands, offsets, strict=True):
        extent = file.extent(operand)
        longer = run.followed_by(operand, offset, extent) if run is not None else None
        if longer is None and run is not None:
            yield run
        run = longer or _Run((operand,), (offset,), extent)
    if run is not None:
        yield run


def _joined(
    operands: Sequence[int],
    offsets: Sequence[int],
    call: relax.Call,
    file: RegisterFile,
    instructions: list[Instruction],
) -> int | None:
    """The register of a concatenation; None where less than half of it would have its place."""
    runs = list(_runs(operands, offsets, file))
    dtype, shape = str(call.ty.dtype), shape_of(call.ty)
    first = runs[0].extent
    if len(runs) == 1 and isinstance(first.base, Stored) and first.start % ALIGNMENT == 0:
        return file.within(first.base.storage, first.start, dtype, shape)
    moving, copied = _divided(runs, file)
    size = sum(run.bytes for run in runs)
    if 2 * sum(run.bytes for run in moving.values()) < size:
        return None
    storage = file.storage(size)
    file.embed({old: run.offsets[0] for old, run in moving.items()}, storage)
    _copy(copied, storage, file, instructions)
    return file.within(storage, 0, dtype, shape)


def _divided(runs: Sequence[_Run], file: RegisterFile) -> tuple[dict[int, _Run], list[_Run]]:
    """Runs that are all of a storage, which can move, by that storage; and the others."""
    moving: dict[int, _Run] = {}
    copied: list[_Run] = []
    for run in runs:
        base = run.extent.base
        storage = base.storage if isinstance(base, Stored) else None
        if storage is None or storage in moving or not _fills(run, file.storage_bytes[storage]):
            copied.append(run)
        else:
            moving[storage] = run
    return moving, copied


def _fills(run: _Run, size: Dimension) -> bool:
    """Whether a run is all of a storage of ``size`` bytes."""
    return run.extent.start == 0 and run.extent.stop == size


def _copy(
    runs: Sequence[_Run], storage: int, file: RegisterFile, instructions: list[Instruction]
) -> None:
    """Copy every operand of ``runs`` to its place in ``storage``."""
    for run in runs:
        for operand, offset in zip(run.operands, run.offsets, strict=True):
            register = file.registers[operand]
            place = file.within(storage, offset, register.dtype, register.shape)
            instructions.append(Move(operand, place))
