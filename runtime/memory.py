"""Arena planning: tensors that live at different times share bytes.

Greedy by size: the largest storage first, each at the lowest offset where it
overlaps no storage that is alive at the same time. This is the "greedy by size
for offset calculation" of Pisarchyk and Lee (arXiv 2001.03288), within a few
percent of the lower bound on the networks they measured. Where it misses the bound,
placing in order of first use is tried too, and the smaller arena is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import msgspec
import numpy as np

from motet.runtime.device import Array

ALIGNMENT = 64
"""Bytes. TVM's kernels assume it of every buffer; numpy itself promises 16."""


class Lifetime(msgspec.Struct, frozen=True, array_like=True):
    """First and last instruction (both included) during which a storage is in use."""

    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        """Whether the two are alive at the same time."""
        return self.first <= other.last and other.first <= self.last


def align(size: int) -> int:
    """``size`` rounded up to the alignment, in bytes."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def plan(sizes: Sequence[int], lifetimes: Sequence[Lifetime]) -> tuple[list[int], int]:
    """Offsets of the storages and the arena's size, all in bytes.

    sizes: bytes of each storage; lifetimes: when each is in use.
    """
    rooms = [align(size) for size in sizes]
    by_size = sorted(range(len(rooms)), key=lambda i: (-rooms[i], lifetimes[i].first, i))
    offsets, total = _place(by_size, rooms, lifetimes)
    if total == lower_bound(sizes, lifetimes):
        return offsets, total
    by_time = sorted(range(len(rooms)), key=lambda i: (lifetimes[i].first, -rooms[i], i))
    other_offsets, other_total = _place(by_time, rooms, lifetimes)
    return (other_offsets, other_total) if other_total < total else (offsets, total)


def _place(
    order: Sequence[int], rooms: Sequence[int], lifetimes: Sequence[Lifetime]
) -> tuple[list[int], int]:
    """Each storage in ``order`` at the lowest offset that is free while it lives."""
    offsets = [0] * len(rooms)
    placed: list[int] = []
    for index in order:
        busy = sorted(
            (offsets[other], offsets[other] + rooms[other])
            for other in placed
            if lifetimes[other].overlaps(lifetimes[index])
        )
        offsets[index] = _lowest_gap(busy, rooms[index])
        placed.append(index)
    total = max((o + room for o, room in zip(offsets, rooms, strict=True)), default=0)
    return offsets, total


def _lowest_gap(busy: Sequence[tuple[int, int]], size: int) -> int:
    offset = 0
    for start, end in busy:
        if offset + size <= start:
            break
        offset = max(offset, end)
    return offset


def lower_bound(sizes: Sequence[int], lifetimes: Sequence[Lifetime]) -> int:
    """No arena can be smaller: the most bytes alive at one instruction."""
    changes = [
        (lifetime.first, align(size)) for size, lifetime in zip(sizes, lifetimes, strict=True)
    ]
    changes += [
        (lifetime.last + 1, -align(size)) for size, lifetime in zip(sizes, lifetimes, strict=True)
    ]
    # Sorted, so that what ends at a moment is gone before what begins there comes.
    return max(accumulate((change for _, change in sorted(changes)), initial=0))


def aligned_bytes(size: int) -> Array:
    """``size`` bytes of zeroed memory whose address is a multiple of the alignment."""
    raw = np.zeros(size + ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


def view(memory: Array, offset: int, dtype: str, shape: tuple[int, ...]) -> Array:
    """A tensor at ``offset`` bytes of ``memory``."""
    return np.ndarray(shape, dtype=dtype, buffer=memory.data, offset=offset)


def part(whole: Array, offset: int, shape: tuple[int, ...]) -> Array:
    """The tensor of ``shape`` at ``offset`` bytes of C-contiguous ``whole``, without a copy.

    Raises ``ValueError`` where it does not lie in ``whole``.
    """
    first, beside = divmod(offset, whole.dtype.itemsize)
    values = whole.reshape(-1)[first : first + math.prod(shape)]
    if beside or values.size != math.prod(shape):
        raise ValueError(f"{shape} at byte {offset} lies outside of {whole.nbytes} bytes")
    return values.reshape(shape)


def bytes_of(array: Array) -> memoryview:
    """The bytes of a C-contiguous array, without a copy."""
    return array.reshape(-1).view(np.uint8).data


def lendable(array: Array) -> Array:
    """``array`` as kernels take it: aligned, C-contiguous, writable memory in native order.

    The same memory where it is so already (the weights of a mapped bundle), else a copy:
    TVM's kernels crash on less aligned vectors, and DLPack refuses read-only arrays.
    """
    flags = array.flags
    ready = flags.c_contiguous and flags.writeable and array.dtype.isnative
    if ready and array.ctypes.data % ALIGNMENT == 0:
        return array
    copy = view(aligned_bytes(array.nbytes), 0, array.dtype.name, array.shape)
    np.copyto(copy, array)
    return copy


def compact(array: Array) -> Array:
    """``array`` with the strides that kernels check for, also where it is empty.

    numpy gives an empty array strides of zero; TVM expects them as if it were not empty.
    """
    if array.size:
        return array
    strides = [array.dtype.itemsize] * array.ndim
    for axis in range(array.ndim - 1, 0, -1):
        strides[axis - 1] = strides[axis] * array.shape[axis]
    return np.ndarray(array.shape, array.dtype, buffer=_NOTHING.data, strides=strides)


_NOTHING = aligned_bytes(0)
