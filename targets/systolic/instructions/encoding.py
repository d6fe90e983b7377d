"""A ``SystolicProgram`` as bytes: versioned, checksummed, compressed, deterministic.

All integers little-endian, no padding between records:

======== ==================================================================
offset   content
======== ==================================================================
0        magic ``MOTETSA`` and a zero byte
8        version (u2), code of the number format (u2)
12       CRC-32 of bytes 0 to 12 and of all from 16 on (u4)
16       numbers of instructions, queues, tensors, views and steps (u4 each)
36       bytes of the body before (u8) and after (u8) compression
52       the body, one zlib stream
======== ==================================================================

The body: ``encoding_tables``' tables, then where each queue ends (u8 each), then the fields of
``isa.INSTRUCTION`` one after another, each as a byte 0 and the value that all instructions
have, or a byte 1 and the differences between successive instructions, modulo 2 to the field's
bits (the first from 0). Code repeats itself in loops, so differences repeat and compress.

An older version loads, a newer one is refused; version 1 was the single-pod array's and has
none of these instructions. Counts are checked against each other before anything is made
from them: the body's size must be possible for them, and no more than it is decompressed.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.runtime.errors import BundleError, ProgramError
from motet.targets.systolic.formats import FORMATS, VECTOR_CODE
from motet.targets.systolic.instructions.encoding_tables import (
    MAX_TABLE_BYTES,
    VECTORS,
    TableSizes,
    read_tables,
    read_vectors,
    write_tables,
    write_vectors,
)
from motet.targets.systolic.instructions.isa import ENGINES, INSTRUCTION, Instructions, Opcode
from motet.targets.systolic.instructions.program import SystolicProgram

MAGIC = b"MOTETSA\0"
VERSION = 3
OLDEST_VERSION = 2
MAX_INSTRUCTIONS = 2**26
MAX_QUEUES = 2**16 * ENGINES

_HEAD = struct.Struct("<8sHHI5IQQ")
_CHECKSUM_START, _CHECKSUM_END = 12, 16
_CONSTANT, _DIFFERENCES = b"\0", b"\1"
_LEVEL = 1
"""Of zlib: differences repeat at distances that the quickest level finds."""
_ENDS: np.dtype[Any] = np.dtype("<u8")
_AGAIN = "compile the model again"
_OPCODES = np.array([int(opcode) for opcode in Opcode], np.uint8)
_UNSIGNED: dict[int, np.dtype[Any]] = {1: np.dtype("<u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4")}


def encode(program: SystolicProgram) -> bytes:
    """The bytes of ``program``, equal for equal ones; ``ProgramError`` if it has no encoding."""
    _check_queues(program.queue_starts, len(program.instructions))
    tables = write_tables(program.tensors, program.views, program.steps)
    ends = program.queue_starts[1:].astype(_ENDS)
    vectors = program.number_format.vectors
    head_of_body = b"" if vectors is None else write_vectors(vectors)
    columns = _columns(program.instructions)
    body = b"".join([head_of_body, tables, ends.tobytes(), *columns])
    stored = zlib.compress(body, _LEVEL)
    counts = (len(program.instructions), len(ends))
    sizes = (len(program.tensors), len(program.views), len(program.steps))
    code = program.number_format.code
    head = _HEAD.pack(MAGIC, VERSION, code, 0, *counts, *sizes, len(body), len(stored))
    checksum = _checksum(head + stored).to_bytes(4, "little")
    return head[:_CHECKSUM_START] + checksum + head[_CHECKSUM_END:] + stored


def decode(data: bytes) -> SystolicProgram:
    """The program that ``encode`` was given; raises ``BundleError`` for any other bytes."""
    _check_head(data)
    _, _, code, _, count, queues, *sizes, body_bytes, _ = _HEAD.unpack_from(data)
    names = [made.name for made in FORMATS.values() if made.code == code]
    is_known = bool(names) or code == VECTOR_CODE
    if count > MAX_INSTRUCTIONS or queues > MAX_QUEUES or not is_known:
        raise BundleError(f"array program is damaged (counts or format): {_AGAIN}")
    longest = queues * _ENDS.itemsize + len(INSTRUCTION.names or ()) + count * INSTRUCTION.itemsize
    longest += INSTRUCTION.itemsize + MAX_TABLE_BYTES
    body = _decompressed(memoryview(data)[_HEAD.size :], body_bytes, longest)
    if code == VECTOR_CODE:
        names = [read_vectors(body).name]
        body = body[VECTORS.itemsize :]
    tables = read_tables(body, TableSizes(*sizes))
    ends = _taken(body, tables.end, queues, _ENDS)
    starts = np.concatenate([np.zeros(1, np.int64), ends.astype(np.int64)])
    instructions = _instructions(body, tables.end + ends.nbytes, count)
    try:
        _check_queues(starts, count)
    except ProgramError as error:
        raise BundleError(f"{error}; {_AGAIN}") from None
    return SystolicProgram(
        names[0], instructions, starts, tables.tensors, tables.views, tables.steps
    )


def _checksum(data: bytes) -> int:
    return zlib.crc32(memoryview(data)[_CHECKSUM_END:], zlib.crc32(data[:_CHECKSUM_START]))


def _check_head(data: bytes) -> None:
    if len(data) < _HEAD.size or data[: len(MAGIC)] != MAGIC:
        raise BundleError(f"not an array program (magic bytes missing, or cut short): {_AGAIN}")
    _, version, _, checksum, *_, stored = _HEAD.unpack_from(data)
    if version > VERSION:
        raise BundleError(
            f"array program has version {version}, this Motet reads up to {VERSION}: "
            f"upgrade Motet, or {_AGAIN}"
        )
    if version < OLDEST_VERSION:
        raise BundleError(f"array program has version {version}, of another array: {_AGAIN}")
    if len(data) != _HEAD.size + stored:
        raise BundleError(f"array program is cut short or too long: {_AGAIN}")
    if checksum != _checksum(data):
        raise BundleError(f"array program is damaged (checksum differs): {_AGAIN}")


def _decompressed(stored: memoryview, size: int, longest: int) -> bytes:
    """The body; a stream that holds more than it says is cut off, not unpacked."""
    if size > longest:
        raise BundleError(f"array program says it is larger than its counts allow: {_AGAIN}")
    stream = zlib.decompressobj()
    try:
        body = stream.decompress(stored, size) if size else b""
        body += stream.decompress(stream.unconsumed_tail, 1)
    except zlib.error as error:
        raise BundleError(f"array program cannot be unpacked ({error}): {_AGAIN}") from None
    if len(body) != size or not stream.eof or stream.unused_data:
        raise BundleError(f"array program unpacks to another size than stated: {_AGAIN}")
    return body


def _taken(body: bytes, begin: int, count: int, kind: np.dtype[Any]) -> NDArray[Any]:
    if begin + count * kind.itemsize > len(body):
        raise BundleError(f"array program is cut short: {_AGAIN}")
    return np.frombuffer(body, kind, count, begin)


def _columns(instructions: Instructions) -> list[bytes]:
    parts = []
    records = instructions.astype(INSTRUCTION, copy=False)
    for name in INSTRUCTION.names or ():
        column = records[name]
        bits = np.ascontiguousarray(column).view(_UNSIGNED[column.dtype.itemsize])
        if len(bits) and (bits == bits[0]).all():
            parts += [_CONSTANT, bits[:1].tobytes()]
        else:
            parts += [_DIFFERENCES, np.diff(bits, prepend=bits.dtype.type(0)).tobytes()]
    return parts


def _instructions(body: bytes, begin: int, count: int) -> Instructions:
    made = np.empty(count, INSTRUCTION)
    for name in INSTRUCTION.names or ():
        kind = INSTRUCTION[name]
        unsigned = _UNSIGNED[kind.itemsize]
        way = body[begin : begin + 1]
        if way not in (_CONSTANT, _DIFFERENCES) or (way == _CONSTANT and not count):
            raise BundleError(f"array program: field {name} is damaged: {_AGAIN}")
        bits = _taken(body, begin + 1, 1 if way == _CONSTANT else count, unsigned)
        begin += 1 + bits.nbytes
        made[name] = (bits if way == _CONSTANT else np.cumsum(bits, dtype=unsigned)).view(kind)
    if begin != len(body):
        raise BundleError(f"array program is too long: {_AGAIN}")
    if not np.isin(made["opcode"], _OPCODES).all():
        raise BundleError(f"array program has an unknown opcode: {_AGAIN}")
    made.setflags(write=False)
    return made


def _check_queues(starts: NDArray[np.int64], count: int) -> None:
    """Raise ``ProgramError`` unless the queues are slices of ``count`` instructions, in order."""
    queues = len(starts) - 1
    if queues < 0 or queues % ENGINES or queues > MAX_QUEUES or count > MAX_INSTRUCTIONS:
        raise ProgramError(
            f"array program: {queues} queues and {count} instructions have no encoding: a pod has "
            f"{ENGINES} queues, and a program at most {MAX_INSTRUCTIONS} instructions"
        )
    if starts[0] != 0 or starts[-1] != count or (np.diff(starts) < 0).any():
        raise ProgramError("array program: queue_starts must rise from 0 to the last instruction")
