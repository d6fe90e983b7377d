"""Weights in the fewest bits that hold their values, as a bundle's file has them.

Kernels read constants as they packed them: 4-bit weights in bytes, in pairs of int16, in four
bytes of an int32. Which bits matter is seen in the values themselves. An array's bytes are read
as *lanes*, integers of 1 to 8 bytes; where all lanes lie in ``base .. base + 2^bits - 1``, the
file has ``lane - base`` in 1, 2, 4, 8, 16 or 32 bits. Below 8 bits a byte holds several lanes in
*planes*: with ``m`` bytes, bits ``i * bits`` and up of byte ``j`` are lane ``i * m + j``, so that
each plane is shifted out in one go. float32 values that float16 or bfloat16 has lie in 16 bits.

What is unpacked equals what was packed bit for bit, into memory aligned as kernels need it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from motet.runtime.device import Array
from motet.runtime.manifest import Bits, Lane, Packing, Weight
from motet.runtime.memory import align, aligned_bytes, view

_LANES: tuple[Lane, ...] = (
    "int64", "uint64", "int32", "uint32", "int16", "uint16", "int8", "uint8",
)  # fmt: skip
"""Widest first: of two that take as many bytes the one with fewer lanes is unpacked sooner."""
_BITS: tuple[Bits, ...] = (1, 2, 4, 8, 16, 32)
_SAMPLE = 256
"""Floats of an array that are looked at before all are."""
_CHUNK = 1 << 15
"""Bytes that are spread at a time, so that what is between stays in the cache."""


def packing_of(array: Array) -> Packing | None:
    """The packing of ``array`` that takes the fewest bytes of a file; None where none saves any."""
    found = _integers(array) if array.dtype.kind in "iu" else _half(array)
    best = min(found, key=lambda each: packed_bytes(each, array.nbytes), default=None)
    if best is None or align(packed_bytes(best, array.nbytes)) >= align(array.nbytes):
        return None
    return best


def packed_bytes(packing: Packing, nbytes: int) -> int:
    """What ``nbytes`` of an array take under ``packing``."""
    lanes = nbytes // np.dtype(packing.lane).itemsize
    return -(-lanes * packing.bits // 8)


def stored_bytes(array: Array) -> int:
    """What ``array`` takes in a file."""
    packing = packing_of(array)
    return array.nbytes if packing is None else packed_bytes(packing, array.nbytes)


def _integers(array: Array) -> Iterator[Packing]:
    flat = np.ascontiguousarray(array).reshape(-1)
    for lane in _LANES if array.size else ():
        width = np.dtype(lane).itemsize
        if width > array.itemsize:
            continue
        lanes = flat.view(lane)
        base = int(lanes.min())
        needed = (int(lanes.max()) - base).bit_length()
        bits = next((b for b in _BITS if b >= needed), None)
        if bits is not None and bits < 8 * width:
            yield Packing(lane, bits, base)


def _half(array: Array) -> Iterator[Packing]:
    """float32 in 16 bits."""
    if array.dtype != np.float32:
        return
    flat = np.ascontiguousarray(array).reshape(-1)
    for kind in ("bfloat16", "float16"):
        fits = _fits_bfloat16 if kind == "bfloat16" else _fits_float16
        if fits(flat[:_SAMPLE]) and fits(flat):
            yield Packing("float32", 16, kind=kind)


def _fits_bfloat16(values: Array) -> bool:
    return not (values.view(np.uint32) & np.uint32(0xFFFF)).any()


def _fits_float16(values: Array) -> bool:
    """Whether all are finite numbers of float16."""
    with np.errstate(all="ignore"):
        again = values.astype(np.float16).astype(np.float32)
    same = again.view(np.uint32) == values.view(np.uint32)
    return bool((same & np.isfinite(values)).all())


def pack(array: Array, packing: Packing) -> Array:
    """``array`` as the file has it: one axis, little-endian."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if packing.kind == "bfloat16":
        return (flat.view(np.uint32) >> np.uint32(16)).astype("<u2")
    if packing.kind == "float16":
        return flat.astype("<f2")
    lanes = flat.view(_unsigned(packing))
    shifted = lanes - _base(packing)
    if packing.bits >= 8:
        return shifted.astype(f"<u{packing.bits // 8}")
    planes = 8 // packing.bits
    size = -(-len(lanes) // planes)
    parts = np.zeros((planes, size), np.uint8)
    parts.reshape(-1)[: len(lanes)] = shifted
    shifts = (np.arange(planes, dtype=np.uint8) * np.uint8(packing.bits))[:, None]
    return np.asarray(np.bitwise_or.reduce(parts << shifts, axis=0))


def unpack(weight: Weight, packing: Packing, section: memoryview) -> Array:
    """The array that ``weight`` packs at its place in ``section``.

    Raises ``ValueError`` or ``TypeError`` where they do not fit each other.
    """
    dtype = np.dtype(weight.dtype)
    nbytes = math.prod(weight.shape) * dtype.itemsize
    size = packed_bytes(packing, nbytes)
    stored = np.ndarray((size,), np.uint8, buffer=section, offset=weight.offset)
    memory = aligned_bytes(nbytes)
    _expand(stored, memory, packing)
    return view(memory, 0, dtype.name, weight.shape)


def _expand(stored: Array, memory: Array, packing: Packing) -> None:
    if packing.kind == "bfloat16":
        np.left_shift(stored.view("<u2"), np.uint32(16), out=memory.view(np.uint32))
        return
    if packing.kind == "float16":
        memory.view(np.float32)[:] = stored.view("<f2")
        return
    lanes, base = memory.view(_unsigned(packing)), _base(packing)
    if packing.bits >= 8:
        np.add(stored.view(f"<u{packing.bits // 8}"), base, out=lanes, casting="unsafe")
        return
    for start in range(0, len(stored), _CHUNK):
        part = stored[start : start + _CHUNK]
        for plane in range(8 // packing.bits):
            first = plane * len(stored) + start
            room = lanes[first : first + len(part)]
            np.add(_plane(part[: len(room)], plane, packing.bits), base, out=room, casting="unsafe")


def _plane(part: Array, plane: int, bits: int) -> Array:
    """The bits of one plane."""
    shifted = np.right_shift(part, np.uint8(plane * bits)) if plane else part
    return np.bitwise_and(shifted, np.uint8((1 << bits) - 1))


def _unsigned(packing: Packing) -> np.dtype[np.unsignedinteger]:
    return np.dtype(f"u{np.dtype(packing.lane).itemsize}")


def _base(packing: Packing) -> Array:
    """``base`` modulo the lane's range, which is how lanes are added."""
    kind = _unsigned(packing)
    return np.asarray(packing.base % (1 << 8 * kind.itemsize), kind)
