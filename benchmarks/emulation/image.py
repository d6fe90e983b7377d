"""The disk of an emulated machine: kernels, the calls to make and their arrays.

The disk is read whole to the address ``BASE``: a header (``runner.c`` has its fields), the
program, then calls, their arguments and arrays, which the machine writes back when all calls are
done. An argument is tvm-ffi's ``TVMFFIAny`` that points to a ``DLTensor``, as a kernel expects it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

BASE = 0x100000
PROGRAM = BASE + 512
SECTOR = 512
_TENSOR_POINTER = 7
"""``kTVMFFIDLTensorPtr`` of tvm-ffi's C interface."""
_KINDS = {"i": 0, "u": 1, "f": 2, "b": 6}
"""Kind of a numpy type to ``DLDataTypeCode``."""


@dataclass(frozen=True)
class Call:
    """One run of kernel number ``kernel`` on arrays, inputs before outputs; contiguous."""

    kernel: int
    arrays: Sequence[Array]


class _Region:
    """Bytes that begin at an address and grow."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.data = bytearray()

    @property
    def end(self) -> int:
        return self.start + len(self.data)

    def add(self, content: bytes, alignment: int = 8) -> int:
        """``content`` behind what is there; its address."""
        self.data += bytes(-self.end % alignment)
        at = self.end
        self.data += content
        return at


class Image:
    """A disk of ``program``, a flat binary linked for ``PROGRAM``, that makes ``calls``.

    The machine has to have more memory than the disk is long, and some for workspaces.
    """

    def __init__(self, program: bytes, entry: int, calls: Sequence[Call]) -> None:
        self._program, self._entry = program, entry
        self._region = _Region(_up(PROGRAM + len(program), SECTOR))
        self._places: list[list[tuple[int, Array]]] = []
        rows = [self._row(call) for call in calls]
        self._calls = self._region.add(b"".join(struct.pack("<QQQq", *row) for row in rows))

    def _row(self, call: Call) -> tuple[int, int, int, int]:
        places = [(self._region.add(a.tobytes(), 64), a) for a in call.arrays]
        self._places.append(places)
        values = [(_TENSOR_POINTER, 0, self._tensor(at, array)) for at, array in places]
        packed = b"".join(struct.pack("<IIQ", *value) for value in values)
        return call.kernel, self._region.add(packed), len(values), -1

    def _tensor(self, at: int, array: Array) -> int:
        strides = [math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim)]
        shape, steps = (
            self._region.add(struct.pack(f"<{array.ndim}q", *sizes))
            for sizes in (array.shape, strides)
        )
        kind, bits = _KINDS[array.dtype.kind], 8 * array.itemsize
        on_cpu = (1, 0)
        return self._region.add(
            struct.pack("<QiiiBBHQQQ", at, *on_cpu, array.ndim, kind, bits, 1, shape, steps, 0)
        )

    def to_bytes(self) -> bytes:
        """The disk's content, in whole sectors."""
        region = self._region
        end = _up(region.end, SECTOR)
        header = struct.pack(
            "<8s6Q", b"motet\0\0\0", (end - BASE) // SECTOR, self._entry, self._calls,
            len(self._places), (region.start - BASE) // SECTOR, _up(end, 4096),
        )  # fmt: skip
        front = header.ljust(SECTOR, b"\0") + self._program
        return (front.ljust(region.start - BASE, b"\0") + region.data).ljust(end - BASE, b"\0")

    def results(self, disk: bytes) -> list[list[Array]]:
        """For each call, what its arrays hold on the disk after the run.

        Raises RuntimeError where a kernel returned an error or was not run.
        """
        for number in range(len(self._places)):
            at = self._calls - BASE + 32 * number + 24
            (status,) = struct.unpack_from("<q", disk, at)
            if status != 0:
                raise RuntimeError(f"call {number} returned {status}")
        return [[self._read(disk, at, array) for at, array in places] for places in self._places]

    def _read(self, disk: bytes, at: int, array: Array) -> Array:
        found = np.frombuffer(disk, array.dtype, array.size, at - BASE)
        return found.reshape(array.shape).copy()


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
