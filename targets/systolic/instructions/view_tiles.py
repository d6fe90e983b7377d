"""Tiles of views as intervals of addresses: each tile that a program names, once.

Loops name the same tile of a view over and over, and im2col shows the same value several
times; so the checker works on the different tiles, as sorted intervals that do not touch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from motet.targets.systolic.instructions.accesses import tile_runs, view_columns

_LENGTH_BITS = 31
"""A tensor has fewer than 2**31 values, and so has a tile of it."""


@njit(cache=True, nogil=True)
def view_tiles(code: Any, views: Any, bases: Any, runs: Any) -> tuple[Any, Any, Any, Any]:
    """Tiles that instructions read or write through views.

    Parameters
    ----------
    code, views: instructions and ``view_table``, in bounds.
    bases: int64 [tensors], address of each tensor's first value; -1 where it is of no interest.
    runs: int64 [values of the largest tile, 3], for work.

    Returns
    -------
    tile_of: int32 [count], each instruction's tile, -1 for none.
    first: int64 [tiles + 1], where each tile's intervals begin in
    intervals: int64 [intervals, 2], addresses [low, high), rising.
    repeats: bool [tiles], whether the tile has a value more than once.
    """
    count = len(code)
    size = 16
    while size < 2 * count:
        size *= 2
    slots = np.full(size, -1, np.int32)
    tile_of = np.full(count, -1, np.int32)
    first = np.zeros(count + 1, np.int64)
    repeats = np.zeros(count, np.bool_)
    intervals = np.empty((1024, 2), np.int64)
    keys = np.empty(2 * len(runs), np.int64)
    tiles, used = 0, 0
    for i in range(count):
        c = code[i]
        wide = view_columns(c)
        if wide == 0 or bases[views[c.operand].tensor] < 0:
            continue
        slot = _hash(c, wide) & (size - 1)
        while slots[slot] >= 0 and not _same(code[slots[slot]], c, wide):
            slot = (slot + 1) & (size - 1)
        if slots[slot] >= 0:
            tile_of[i] = tile_of[slots[slot]]
            continue
        slots[slot] = i
        view = views[c.operand]
        made = tile_runs(view, int(c.group), int(c.row), int(c.column), int(c.rows), wide, runs)
        pieces = _sorted_pieces(runs, made, keys)
        while used + pieces > len(intervals):
            larger = np.empty((2 * len(intervals), 2), np.int64)
            larger[:used] = intervals[:used]
            intervals = larger
        end, twice = _merged(keys, pieces, bases[view.tensor], intervals, used)
        tile_of[i], repeats[tiles] = tiles, twice
        used = end
        tiles += 1
        first[tiles] = used
    return tile_of, first[: tiles + 1], intervals[:used], repeats[:tiles]


@njit(cache=True, nogil=True)
def _hash(c: Any, wide: int) -> int:
    key = int(c.row) * 1000003 + int(c.column)
    key = (key * 1000003 + int(c.rows)) * 1000003 + wide * 31
    key = (key + int(c.operand)) * 1000003 + int(c.group)
    return (key ^ (key >> 29)) & 0x7FFFFFFFFFFF


@njit(cache=True, nogil=True)
def _same(a: Any, b: Any, wide: int) -> bool:
    return (
        a.row == b.row
        and a.column == b.column
        and a.rows == b.rows
        and a.operand == b.operand
        and a.group == b.group
        and view_columns(a) == wide
    )


@njit(cache=True, nogil=True)
def _sorted_pieces(runs: Any, count: int, keys: Any) -> int:
    """Runs as pieces without gaps, lowest first: ``keys`` are address, then length."""
    pieces, rising, last = 0, True, -1
    for r in range(count):
        start, length, stride = runs[r, 0], runs[r, 1], runs[r, 2]
        each, times = (length, 1) if stride == 1 else (1, length)
        for k in range(times):
            key = (start + k * stride) << _LENGTH_BITS | each
            keys[pieces] = key
            rising = rising and key >= last
            last = key
            pieces += 1
    if not rising:
        keys[:pieces].sort()
    return pieces


@njit(cache=True, nogil=True)
def _merged(keys: Any, pieces: int, base: int, intervals: Any, at: int) -> tuple[int, bool]:
    """Join pieces that touch, into ``intervals`` from ``at``; its end, whether any overlapped."""
    begin, twice = at, False
    for p in range(pieces):
        low = base + (keys[p] >> _LENGTH_BITS)
        high = low + (keys[p] & ((1 << _LENGTH_BITS) - 1))
        if at > begin and low <= intervals[at - 1, 1]:
            twice = twice or low < intervals[at - 1, 1]
            intervals[at - 1, 1] = max(intervals[at - 1, 1], high)
            continue
        intervals[at, 0], intervals[at, 1] = low, high
        at += 1
    return at, twice


_BLOCK = 64


@njit(cache=True, nogil=True)
def edges_of(intervals: Any, ends: Any) -> tuple[Any, Any]:
    """The addresses where some interval, or one of ``ends`` (the last is the highest), lies.

    Returns (marks, before): uint8 [addresses], 1 at each edge, and int64 [blocks of 64 addresses],
    the edges before each block.
    """
    marks = np.zeros((ends[-1] // _BLOCK + 1) * _BLOCK, np.uint8)
    for k in range(len(ends)):
        marks[ends[k]] = 1
    for k in range(len(intervals)):
        marks[intervals[k, 0]] = 1
        marks[intervals[k, 1]] = 1
    before = np.zeros(len(marks) // _BLOCK + 1, np.int64)
    for block in range(len(before) - 1):
        total = 0
        for k in range(block * _BLOCK, (block + 1) * _BLOCK):
            total += marks[k]
        before[block + 1] = before[block] + total
    return marks, before


@njit(cache=True, nogil=True)
def edge_numbers(marks: Any, before: Any, addresses: Any) -> Any:
    """How many edges lie below each of ``addresses``, int64 of any shape."""
    flat = addresses.ravel()
    made = np.empty(len(flat), np.int64)
    for k in range(len(flat)):
        block = flat[k] // _BLOCK
        total = before[block]
        for place in range(block * _BLOCK, flat[k]):
            total += marks[place]
        made[k] = total
    return made.reshape(addresses.shape)


def edge_address(marks: Any, before: Any, number: int) -> int:
    """The address of edge ``number``."""
    block = int(np.searchsorted(before, number, "right")) - 1
    places = np.flatnonzero(marks[block * _BLOCK : (block + 1) * _BLOCK])
    return block * _BLOCK + int(places[number - before[block]])
