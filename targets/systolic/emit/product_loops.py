"""The tile loops of a product, compiled: every instruction of a step in one order.

Output tiles run in *rounds*: in one round every pod of the grid makes one tile, so that all
pods use the same slots at the same time and tiles that several of them need come by one
multicast LOAD. A tile that is still in its ring is not loaded again; any other replaces the
oldest.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from motet.targets.systolic.emit.epilogue import write_epilogue
from motet.targets.systolic.instructions.isa import Flag

_ACCUMULATE, _BIAS, _RESIDENT = int(Flag.ACCUMULATE), int(Flag.BIAS), int(Flag.RESIDENT)


class RingSpan(NamedTuple):
    """``slots`` places of ``words`` words from ``address`` on."""

    address: int
    slots: int
    words: int


class Sizes(NamedTuple):
    """Extents along one loop."""

    groups: int
    rows: int
    columns: int
    depth: int


class Nest(NamedTuple):
    """The loops: the product, its tiles, and the grid of pods (groups, rows, columns)."""

    shape: Sizes
    tile: Sizes
    grid: tuple[int, int, int]
    strides: tuple[int, int, int]
    first_pod: int
    rows_outermost: bool


class Memories(NamedTuple):
    """The rings; ``vector_words``: of one vector in a slot of ``vectors``."""

    inputs: RingSpan
    weights: RingSpan
    residuals: RingSpan
    sums: RingSpan
    vectors: RingSpan
    vector_words: int


class Templates(NamedTuple):
    """Records to patch. ``product``: LOAD of an input tile, of a weight tile, and MATMUL."""

    product: Any
    vectors: Any
    loads: Any
    ends: Any
    has_bias: bool
    loads_input: bool


@njit(cache=True, nogil=True)
def _slot(ring: Any, slots: Any, keys: Any, filled: Any, which: int, key: int) -> int:
    """Address of tile ``key`` in its ring; negative (-1 - address) where it must be loaded."""
    if slots[key] >= 0:
        return int(ring.address + slots[key] * ring.words)
    slot = filled[which] % ring.slots
    filled[which] += 1
    if keys[slot] >= 0:
        slots[keys[slot]] = -1
    keys[slot], slots[key] = key, slot
    return int(-1 - (ring.address + slot * ring.words))


@njit(cache=True, nogil=True)
def _load(
    out: Any, at: int, write: bool, template: Any, base: int, count: int, stride: int, place: Any
) -> int:
    """LOADs of one tile into ``count`` pods from ``base`` on, ``stride`` apart.

    One multicast where they are neighbours; the queues of the targets take turns.
    """
    group, row, column, rows, columns, address, in_sums = place
    copies = 1 if count == 1 or stride == 1 else count
    if write:
        for i in range(copies):
            out[at + i] = template
            one = out[at + i]
            targets = count if copies == 1 else 1
            one.target_pod, one.target_pods = base + i * stride, targets
            one.pod = base + i * stride + (at % targets)
            one.group, one.row, one.column = group, row, column
            one.rows, one.columns = rows, columns
            if in_sums:
                one.accumulator_address = address
            else:
                one.address = address
    return at + copies


@njit(cache=True, nogil=True)
def _load_inputs(out: Any, at: int, write: bool, t: Any, nest: Any, turn: Any, address: int) -> int:
    """Input tile k of round (g, m): one per group and row of the grid."""
    g_round, m_round, _, k = turn
    for gi in range(nest.grid[0]):
        group = g_round * nest.grid[0] + gi
        for ri in range(nest.grid[1]):
            row = (m_round * nest.grid[1] + ri) * nest.tile.rows
            if group < nest.shape.groups and row < nest.shape.rows:
                rows = min(nest.tile.rows, nest.shape.rows - row)
                depth = min(nest.tile.depth, nest.shape.depth - k * nest.tile.depth)
                place = (group, row, k * nest.tile.depth, rows, depth, address, False)
                base = nest.first_pod + gi * nest.strides[0] + ri * nest.strides[1]
                at = _load(out, at, write, t.product[0], base, nest.grid[2], nest.strides[2], place)
    return at


@njit(cache=True, nogil=True)
def _load_weights(
    out: Any, at: int, write: bool, t: Any, nest: Any, turn: Any, address: int
) -> int:
    """Weight tile k of round (g, n): one per group and column of the grid."""
    g_round, _, n_round, k = turn
    for gi in range(nest.grid[0]):
        group = g_round * nest.grid[0] + gi
        for ci in range(nest.grid[2]):
            column = (n_round * nest.grid[2] + ci) * nest.tile.columns
            if group < nest.shape.groups and column < nest.shape.columns:
                columns = min(nest.tile.columns, nest.shape.columns - column)
                depth = min(nest.tile.depth, nest.shape.depth - k * nest.tile.depth)
                place = (group, k * nest.tile.depth, column, depth, columns, address, False)
                base = nest.first_pod + gi * nest.strides[0] + ci * nest.strides[2]
                at = _load(out, at, write, t.product[1], base, nest.grid[1], nest.strides[1], place)
    return at


@njit(cache=True, nogil=True)
def _load_vectors(
    out: Any, at: int, write: bool, t: Any, nest: Any, turn: Any, memory: Any, address: int
) -> int:
    """The vectors of round (g, n), to the pods that take its weights."""
    g_round, _, n_round, _ = turn
    for gi in range(nest.grid[0]):
        group = g_round * nest.grid[0] + gi
        for ci in range(nest.grid[2]):
            column = (n_round * nest.grid[2] + ci) * nest.tile.columns
            if group < nest.shape.groups and column < nest.shape.columns:
                columns = min(nest.tile.columns, nest.shape.columns - column)
                base = nest.first_pod + gi * nest.strides[0] + ci * nest.strides[2]
                for i in range(len(t.vectors)):
                    to = address + i * memory.vector_words
                    place = (group, 0, column, 1, columns, to, True)
                    at = _load(
                        out, at, write, t.vectors[i], base, nest.grid[1], nest.strides[1], place
                    )
    return at


@njit(cache=True, nogil=True)
def _tile(nest: Any, turn: Any, gi: int, ri: int, ci: int) -> tuple[int, int, int, int, int]:
    """(group, row, column, rows, columns) of a pod's output tile; no rows where it has none."""
    group = turn[0] * nest.grid[0] + gi
    row = (turn[1] * nest.grid[1] + ri) * nest.tile.rows
    column = (turn[2] * nest.grid[2] + ci) * nest.tile.columns
    if group >= nest.shape.groups or row >= nest.shape.rows or column >= nest.shape.columns:
        return 0, 0, 0, 0, 0
    rows = min(nest.tile.rows, nest.shape.rows - row)
    return group, row, column, rows, min(nest.tile.columns, nest.shape.columns - column)


@njit(cache=True, nogil=True)
def _multiply(
    out: Any,
    at: int,
    write: bool,
    t: Any,
    nest: Any,
    turn: Any,
    addresses: tuple[int, int, int, int],
) -> int:
    """MATMULs of depth tile k, one per pod."""
    k = turn[3]
    start = k * nest.tile.depth
    depth = min(nest.tile.depth, nest.shape.depth - start)
    for gi in range(nest.grid[0]):
        for ri in range(nest.grid[1]):
            for ci in range(nest.grid[2]):
                group, row, _, rows, columns = _tile(nest, turn, gi, ri, ci)
                if rows == 0:
                    continue
                if write:
                    out[at] = t.product[2]
                    one = out[at]
                    one.pod = _pod(nest, gi, ri, ci)
                    one.rows, one.columns, one.depth = rows, columns, depth
                    one.second_address, one.accumulator_address = addresses[1], addresses[2]
                    if one.flags & _RESIDENT:
                        one.group, one.row, one.column = group, row, start
                    else:
                        one.address = addresses[0]
                    if k:
                        one.flags |= _ACCUMULATE
                    elif t.has_bias:
                        one.flags |= _BIAS
                        one.third_address = addresses[3]
                at += 1
    return at


@njit(cache=True, nogil=True)
def _pod(nest: Any, gi: int, ri: int, ci: int) -> int:
    strides = nest.strides
    return int(nest.first_pod + gi * strides[0] + ri * strides[1] + ci * strides[2])


@njit(cache=True, nogil=True)
def _end(out: Any, at: int, write: bool, records: Any, nest: Any, turn: Any, addresses: Any) -> int:
    """``records`` of the epilogue for every pod's tile.

    addresses: of the tile's sums, of its residual, and of its vectors behind a product's bias.
    """
    for gi in range(nest.grid[0]):
        for ri in range(nest.grid[1]):
            for ci in range(nest.grid[2]):
                place = _tile(nest, turn, gi, ri, ci)
                if place[3] == 0:
                    continue
                if write:
                    write_epilogue(
                        out,
                        at,
                        records,
                        _pod(nest, gi, ri, ci),
                        place,
                        addresses[0],
                        addresses[1],
                        addresses[2],
                    )
                at += len(records)
    return at


@njit(cache=True, nogil=True)
def _reduce(
    out: Any,
    at: int,
    write: bool,
    nest: Any,
    memory: Any,
    t: Any,
    places: tuple[Any, Any, Any, Any, Any],
    turn: tuple[int, int, int],
    keys: tuple[int, int],
    sums: int,
    vector: int,
) -> int:
    """One round's tiles over the whole depth: LOADs of what is not in its ring, and MATMULs.

    places: of input and weight tiles (slot of each tile, tile in each slot), and how often
    each ring was filled. keys: of the first depth tile in ``places``.
    """
    input_slots, input_keys, weight_slots, weight_keys, filled = places
    address = 0
    for k in range(-(-nest.shape.depth // nest.tile.depth)):
        now = (turn[0], turn[1], turn[2], k)
        if t.loads_input:
            address = _slot(memory.inputs, input_slots, input_keys, filled, 0, keys[0] + k)
            if address < 0:
                address = -1 - address
                at = _load_inputs(out, at, write, t, nest, now, address)
        weights = _slot(memory.weights, weight_slots, weight_keys, filled, 1, keys[1] + k)
        if weights < 0:
            weights = -1 - weights
            at = _load_weights(out, at, write, t, nest, now, weights)
        at = _multiply(out, at, write, t, nest, now, (address, weights, sums, vector))
    return at


@njit(cache=True, nogil=True)
def write_product(out: Any, write: bool, nest: Nest, memory: Memories, t: Templates) -> int:
    """The instructions of a product into ``out``; returns their number.

    With ``write`` False only counts.
    """
    g_rounds = -(-nest.shape.groups // nest.grid[0])
    m_rounds = -(-nest.shape.rows // (nest.grid[1] * nest.tile.rows))
    n_rounds = -(-nest.shape.columns // (nest.grid[2] * nest.tile.columns))
    deep = -(-nest.shape.depth // nest.tile.depth)
    input_slots = np.full(g_rounds * m_rounds * deep, -1, np.int32)
    weight_slots = np.full(g_rounds * n_rounds * deep, -1, np.int32)
    vector_slots = np.full(g_rounds * n_rounds, -1, np.int32)
    input_keys = np.full(max(1, memory.inputs.slots), -1, np.int64)
    weight_keys = np.full(memory.weights.slots, -1, np.int64)
    vector_keys = np.full(memory.vectors.slots, -1, np.int64)
    filled = np.zeros(3, np.int64)
    places = (input_slots, input_keys, weight_slots, weight_keys, filled)
    at = 0
    vector = 0
    for index in range(g_rounds * m_rounds * n_rounds):
        g, inner = divmod(index, m_rounds * n_rounds)
        if nest.rows_outermost:
            m, n = divmod(inner, n_rounds)
        else:
            n, m = divmod(inner, m_rounds)
        if len(t.vectors):
            key = g * n_rounds + n
            vector = _slot(memory.vectors, vector_slots, vector_keys, filled, 2, key)
            if vector < 0:
                vector = -1 - vector
                at = _load_vectors(out, at, write, t, nest, (g, m, n, 0), memory, vector)
        sums = memory.sums.address + index % memory.sums.slots * memory.sums.words
        keys = ((g * m_rounds + m) * deep, (g * n_rounds + n) * deep)
        at = _reduce(out, at, write, nest, memory, t, places, (g, m, n), keys, sums, vector)
        residual = memory.residuals.address
        if memory.residuals.slots:
            residual += index % memory.residuals.slots * memory.residuals.words
        scale = vector + memory.vector_words if t.has_bias else vector
        turn = (g, m, n, 0)
        if len(t.loads):
            at = _end(out, at, write, t.loads, nest, turn, (sums, residual, scale))
        at = _end(out, at, write, t.ends, nest, turn, (sums, residual, scale))
    return at
