"""A ``SystolicProgram`` as bytes: versioned, checksummed, deterministic.

All integers little-endian, no padding between records:

======== ==================================================================
offset   content
======== ==================================================================
0        magic ``MOTETSA`` and a zero byte
8        version (u2), number of operands (u2), CRC-32 of all that follows (u4)
16       number of instructions (u4), macs (u8)
28       operands, one ``OPERAND`` record each
...      instructions, one ``isa.INSTRUCTION`` record each
======== ==================================================================

An older version loads, a newer one is refused. Loops and axes that an operand
does not use are (1, 0) and 1.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.runtime.errors import BundleError
from motet.targets.systolic.addressing import MAX_LOOPS, AddressGenerator, Loop
from motet.targets.systolic.isa import INSTRUCTION, Opcode, Operand, Role

MAGIC = b"MOTETSA\0"
VERSION = 1
MAX_OPERANDS = 4
MAX_RANK = 4

_HEAD = struct.Struct("<8sHHI")
_BODY = struct.Struct("<IQ")
_LOOP = np.dtype([("extent", "<u4"), ("stride", "<u4")])
OPERAND = np.dtype(
    [
        ("role", "<u2"),
        ("rank", "<u2"),
        ("shape", "<u4", (MAX_RANK,)),
        ("padding", "<u4", (4,)),
        ("group", _LOOP),
        ("rows", _LOOP, (MAX_LOOPS,)),
        ("columns", _LOOP, (MAX_LOOPS,)),
    ]
)


def encode(instructions: NDArray[Any], operands: tuple[Operand, ...], macs: int) -> bytes:
    """A program's fields as bytes, the same for equal programs."""
    records = np.array([_operand_record(operand) for operand in operands], OPERAND)
    body = _BODY.pack(len(instructions), macs)
    body += records.tobytes() + instructions.astype(INSTRUCTION).tobytes()
    return _HEAD.pack(MAGIC, VERSION, len(operands), zlib.crc32(body)) + body


def decode(data: bytes) -> tuple[NDArray[Any], tuple[Operand, ...], int]:
    """The fields that ``encode`` was given; raises ``BundleError`` for any other bytes."""
    operand_count = _check_head(data)
    start = _HEAD.size + _BODY.size
    if len(data) < start:
        raise BundleError("array program is truncated: compile the model again")
    instruction_count, macs = _BODY.unpack_from(data, _HEAD.size)
    middle = start + operand_count * OPERAND.itemsize
    if len(data) != middle + instruction_count * INSTRUCTION.itemsize:
        raise BundleError("array program is truncated or too long: compile the model again")
    records = np.frombuffer(data, OPERAND, operand_count, start)
    instructions = np.frombuffer(data, INSTRUCTION, instruction_count, middle)
    _check_opcodes(instructions)
    return instructions, tuple(_operand(record) for record in records), macs


def _check_head(data: bytes) -> int:
    if len(data) < _HEAD.size or data[: len(MAGIC)] != MAGIC:
        raise BundleError("not an array program: the magic bytes are missing")
    _, version, operand_count, checksum = _HEAD.unpack_from(data)
    if version > VERSION:
        raise BundleError(
            f"array program has version {version}, this Motet reads up to {VERSION}: "
            "upgrade Motet, or compile the model again"
        )
    if version < 1 or operand_count > MAX_OPERANDS or zlib.crc32(data[_HEAD.size :]) != checksum:
        raise BundleError("array program is damaged (checksum differs): compile the model again")
    return int(operand_count)


def _check_opcodes(instructions: NDArray[Any]) -> None:
    known = np.isin(instructions["opcode"], [int(opcode) for opcode in Opcode])
    if not known.all():
        index = int(np.argmin(known))
        code = int(instructions["opcode"][index])
        raise BundleError(f"array program: instruction {index} has the unknown opcode {code}")


def _operand_record(operand: Operand) -> tuple[Any, ...]:
    generator = operand.generator
    return (
        int(operand.role),
        len(operand.shape),
        (*operand.shape, *[1] * (MAX_RANK - len(operand.shape))),
        operand.padding,
        generator.group,
        _padded(generator.rows),
        _padded(generator.columns),
    )


def _padded(loops: tuple[Loop, ...]) -> list[Loop]:
    return [*loops, *[Loop(1, 0)] * (MAX_LOOPS - len(loops))]


def _operand(record: Any) -> Operand:
    role, rank, shape, padding, group, rows, columns = record.tolist()
    if role not in [int(known) for known in Role] or not 1 <= rank <= MAX_RANK:
        raise BundleError(f"array program: an operand has role {role} and rank {rank}")
    generator = AddressGenerator(_loops([group])[0], _loops(rows), _loops(columns))
    top, left, bottom, right = (int(pad) for pad in padding)
    sizes = tuple(int(size) for size in shape[:rank])
    return Operand(Role(role), sizes, (top, left, bottom, right), generator)


def _loops(records: Any) -> tuple[Loop, ...]:
    loops = [Loop(int(extent), int(stride)) for extent, stride in records]
    while len(loops) > 1 and loops[-1] == Loop(1, 0):
        loops.pop()
    return tuple(loops)
