"""How a layer is cut into tiles for an array: chunk of rows, loop order, what stays on chip.

The stationary tile is rows x columns of the weight (smaller at the edges). The M
output rows are cut into chunks, so that two accumulator tiles and the tiles in
the scratchpad fit. Per group the tiles run in one of two orders; in both the
reduction is innermost, so that a partial sum never leaves the accumulators:

* chunks outermost: a chunk's input tiles, where they fit, serve all column tiles;
* column tiles outermost: a column's weight tiles, where they fit, serve all chunks.

Of all choices that fit, the one with the least max(compute cycles, DRAM cycles) is
taken, then the least DRAM traffic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from motet.runtime.errors import CompileError
from motet.targets.systolic.description import FP32_BYTES, ArrayDescription
from motet.targets.systolic.layers import Convolution, Layer, ProductShape

MAX_CUTS = 64


@dataclass(frozen=True)
class Mapping:
    """A choice of tiles.

    Attributes
    ----------
    chunk_rows, tile_depth, tile_columns: sizes of a tile along m, k and n.
    chunks_outermost: the loop order.
    input_slots, weight_slots, accumulator_slots: tiles that each memory holds at once.
    """

    chunk_rows: int
    tile_depth: int
    tile_columns: int
    chunks_outermost: bool
    input_slots: int
    weight_slots: int
    accumulator_slots: int

    @property
    def input_tile_bytes(self) -> int:
        """Bytes of a full input tile."""
        return self.chunk_rows * self.tile_depth * FP32_BYTES

    @property
    def weight_tile_bytes(self) -> int:
        """Bytes of a full weight tile."""
        return self.tile_depth * self.tile_columns * FP32_BYTES

    @property
    def accumulator_tile_bytes(self) -> int:
        """Bytes of a full tile of partial sums."""
        return self.chunk_rows * self.tile_columns * FP32_BYTES

    @property
    def scratchpad_bytes(self) -> int:
        """Bytes of all slots in the scratchpad."""
        return self.input_slots * self.input_tile_bytes + self.weight_slots * self.weight_tile_bytes


def choose_mapping(layer: Layer, description: ArrayDescription) -> Mapping:
    """The best mapping that fits; raises ``CompileError`` where none does."""
    fitting = [
        mapping
        for chunk in _chunk_sizes(layer, description)
        for mapping in _candidates(layer.product_shape, chunk, description)
        if mapping.scratchpad_bytes <= description.scratchpad_bytes
    ]
    if not fitting:
        raise CompileError(
            f"no tiles of {layer} fit array {description.name!r}: its scratchpad of "
            f"{description.scratchpad_bytes} bytes is too small"
        )
    return min(fitting, key=lambda mapping: _cost(layer, mapping, description))


def _chunk_sizes(layer: Layer, description: ArrayDescription) -> Iterator[int]:
    """Chunks of equal size, in whole output rows where that fits, from the largest down."""
    m, columns = layer.product_shape.m, min(description.columns, layer.product_shape.n)
    largest = max(1, min(m, description.accumulator_words // (2 * columns)))
    run = layer.out_size[1] if isinstance(layer, Convolution) else 1
    cuts, seen = -(-m // largest), 0
    for _ in range(MAX_CUTS):
        chunk = -(-m // cuts)
        whole_runs = -(-chunk // run) * run
        if run <= chunk and whole_runs <= largest:
            chunk = whole_runs
        if chunk != seen:
            yield chunk
        if chunk <= description.rows or chunk == 1:
            return
        cuts, seen = -(-cuts * 5 // 4) + 1, chunk


def _candidates(
    shape: ProductShape, chunk: int, description: ArrayDescription
) -> Iterator[Mapping]:
    """Both loop orders, each tile kind streamed (two slots) or kept (all its tiles)."""
    depth, columns = min(description.rows, shape.k), min(description.columns, shape.n)
    chunks, deep, wide = -(-shape.m // chunk), -(-shape.k // depth), -(-shape.n // columns)
    accumulators = min(2, shape.groups * chunks * wide)
    for chunks_outermost in (True, False):
        inputs_kept = deep * (1 if chunks_outermost else chunks)
        weights_kept = deep * (wide if chunks_outermost else 1)
        for inputs in {2, max(2, inputs_kept)}:
            for weights in {2, max(2, weights_kept)}:
                yield Mapping(
                    chunk, depth, columns, chunks_outermost, inputs, weights, accumulators
                )


def _cost(
    layer: Layer, mapping: Mapping, description: ArrayDescription
) -> tuple[float, int, int, int]:
    """What to minimise: the slower of computation and DRAM, traffic, tiles, slots."""
    groups, m, n, k = layer.product_shape
    chunks = -(-m // mapping.chunk_rows)
    deep, wide = -(-k // mapping.tile_depth), -(-n // mapping.tile_columns)
    last = m - (chunks - 1) * mapping.chunk_rows
    sweep = (chunks - 1) * max(mapping.chunk_rows, description.rows) + max(last, description.rows)
    # The tail after the last tile is the same for all mappings to within one tile.
    cycles = groups * deep * wide * sweep
    traffic = _traffic(layer, mapping, chunks, deep, wide)
    dram_cycles = traffic * description.clock_hz / description.dram_bytes_per_second
    slots = mapping.input_slots + mapping.weight_slots
    return max(cycles, dram_cycles), traffic, chunks, slots


def _traffic(layer: Layer, mapping: Mapping, chunks: int, deep: int, wide: int) -> int:
    """DRAM bytes, halos between chunks left out."""
    groups, m, n, k = layer.product_shape
    input_values = groups * m * k
    if isinstance(layer, Convolution):
        input_values = min(input_values, math.prod(layer.input_shape))
    inputs_kept = deep * (1 if mapping.chunks_outermost else chunks)
    weights_kept = deep * (wide if mapping.chunks_outermost else 1)
    input_passes = 1 if mapping.input_slots >= inputs_kept else wide
    weight_passes = 1 if mapping.weight_slots >= weights_kept else chunks
    values = input_values * input_passes + groups * n * k * weight_passes + groups * m * n
    return values * FP32_BYTES
