"""Random products and 1-D convolutions, cut into tiles for the register-level arrays.

A case knows the whole result by numpy, where each tile's outputs belong in it, and the cycles
by the closed form (``None`` where operands come late, which only ``array_intervals`` knows).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from motet.benchmarks.rtl.bench import OutputTile, Run, StationaryTile, Values
from motet.targets.systolic.closed_form import (
    conv1d_cycles,
    gemm_cycles,
    os_double_buffered_cycles,
    spatial_double_buffered_cycles,
    ws_double_buffered_cycles,
)

DATAFLOWS = (
    "weight-stationary",
    "output-stationary",
    "input-stationary",
    "spatial-output-stationary",
)
Tile = Any
"""A ``StationaryTile`` or an ``OutputTile``."""


@dataclass(frozen=True)
class Case:
    """Tiles of one dataflow in a row.

    places: for each tile, the slice of ``expected`` that its outputs are added to.
    transposed: outputs are those of the transposed product (input-stationary).
    """

    kind: str
    dataflow: str
    rows: int
    columns: int
    tiles: tuple[Tile, ...]
    places: tuple[tuple[slice, slice], ...]
    expected: Values
    cycles: int | None
    transposed: bool = False

    def result(self, run: Run) -> Values:
        """The whole result, put together from the tiles' outputs."""
        total = np.zeros_like(self.expected)
        for place, output in zip(self.places, run.outputs, strict=True):
            part = total[place]
            whole = output.T if self.transposed else output
            if self.dataflow == "spatial-output-stationary":  # in the last columns
                whole = whole[:, self.columns - part.shape[1] :]
            part += whole[: part.shape[0], : part.shape[1]]
        return total


def random_case(
    dataflow: str, rows: int, columns: int, rng: np.random.Generator, kind: str
) -> Case:
    """One case; ``kind`` is "whole" (a product), "sequence" (tiles of any lengths) or "late"."""
    if kind == "whole":
        return _WHOLE[dataflow](rows, columns, rng)
    case = _sequence(dataflow, rows, columns, rng)
    return case if kind == "sequence" else _late(case, rng)


def _ints(rng: np.random.Generator, *shape: int) -> Values:
    return rng.integers(-128, 128, shape, dtype=np.int64)


def _size(rng: np.random.Generator, unit: int, most: int) -> int:
    """Up to ``most`` units, with as many sizes below one unit as in any other."""
    return int(rng.integers(1, unit * int(rng.integers(1, most + 1)) + 1))


def _cuts(size: int, unit: int) -> list[slice]:
    return [slice(at, min(at + unit, size)) for at in range(0, size, unit)]


def _padded(values: Values, *shape: int) -> Values:
    padding = [(0, full - size) for full, size in zip(shape, values.shape, strict=True)]
    return np.pad(values, padding)


def _weight_stationary(rows: int, columns: int, rng: np.random.Generator) -> Case:
    m, n, k = _size(rng, rows, 4), _size(rng, columns, 3), _size(rng, rows, 3)
    lhs, rhs = _ints(rng, m, k), _ints(rng, k, n)
    tiles, places = _stationary_tiles(lhs, rhs, rows, columns)
    cycles = gemm_cycles(m, n, k, rows, columns, "weight-stationary", "double-buffered")
    return Case("whole", "weight-stationary", rows, columns, tiles, places, lhs @ rhs, cycles)


def _input_stationary(rows: int, columns: int, rng: np.random.Generator) -> Case:
    m, n, k = _size(rng, columns, 3), _size(rng, rows, 4), _size(rng, rows, 3)
    lhs, rhs = _ints(rng, m, k), _ints(rng, k, n)
    tiles, places = _stationary_tiles(rhs.T, lhs.T, rows, columns)
    swapped = tuple((across, down) for down, across in places)
    cycles = gemm_cycles(m, n, k, rows, columns, "input-stationary", "double-buffered")
    return Case("whole", "input-stationary", rows, columns, tiles, swapped, lhs @ rhs, cycles, True)


def _stationary_tiles(
    streamed: Values, held: Values, rows: int, columns: int
) -> tuple[tuple[StationaryTile, ...], tuple[tuple[slice, slice], ...]]:
    """Tiles of streamed [T, k] @ held [k, columns], the reduction innermost."""
    length, depth = streamed.shape
    tiles, places = [], []
    for across in _cuts(held.shape[1], columns):
        for down in _cuts(depth, rows):
            tiles.append(
                StationaryTile(
                    _padded(held[down, across], rows, columns),
                    _padded(streamed[:, down], length, rows),
                )
            )
            places.append((slice(0, length), across))
    return tuple(tiles), tuple(places)


def _output_stationary(rows: int, columns: int, rng: np.random.Generator) -> Case:
    m, n, k = _size(rng, rows, 3), _size(rng, columns, 3), _size(rng, rows, 4)
    lhs, rhs = _ints(rng, m, k), _ints(rng, k, n)
    places = [(down, across) for down in _cuts(m, rows) for across in _cuts(n, columns)]
    tiles = [
        OutputTile(
            _padded(lhs[down].T, k, rows), _padded(rhs[:, across], k, columns), np.ones(k, bool)
        )
        for down, across in places
    ]
    cycles = gemm_cycles(m, n, k, rows, columns, "output-stationary", "double-buffered")
    return Case(
        "whole",
        "output-stationary",
        rows,
        columns,
        tuple(tiles),
        tuple(places),
        lhs @ rhs,
        cycles,
    )


def _spatial(rows: int, columns: int, rng: np.random.Generator) -> Case:
    lines, outputs = _size(rng, rows, 3), _size(rng, columns, 3)
    taps, stride = int(rng.integers(1, 8)), int(rng.integers(1, 4))
    inputs = _ints(rng, lines, (outputs - 1) * stride + taps)
    weights = _ints(rng, lines, taps)
    places = [(down, across) for down in _cuts(lines, rows) for across in _cuts(outputs, columns)]
    tiles = []
    for down, across in places:
        window = slice(across.start * stride, (across.stop - 1) * stride + taps)
        tiles.append(conv1d_tile(inputs[down, window], weights[down], stride, rows))
    return Case(
        "whole",
        "spatial-output-stationary",
        rows,
        columns,
        tuple(tiles),
        tuple(places),
        _convolved(inputs, weights, stride),
        conv1d_cycles(lines, outputs, taps, stride, rows, columns),
    )


def conv1d_tile(inputs: Values, weights: Values, stride: int, rows: int) -> OutputTile:
    """The words of one tile: inputs [lines, window] and taps [lines, taps], phase after phase.

    Phase p has the inputs p, p + stride, ...: all but the last of the row's outputs fill it,
    then each word goes with one of the taps p, p + stride, ....
    """
    taps = weights.shape[1]
    outputs = (inputs.shape[1] - taps) // stride + 1
    a, b, multiply = [], [], []
    for phase in range(min(stride, taps)):
        phase_taps = weights[:, phase::stride]
        words = outputs - 1 + phase_taps.shape[1]
        a.append(inputs[:, phase::stride][:, :words])
        b.append(np.pad(phase_taps, ((0, 0), (outputs - 1, 0))))
        multiply += [False] * (outputs - 1) + [True] * phase_taps.shape[1]
    words_a, words_b = np.concatenate(a, axis=1).T, np.concatenate(b, axis=1).T
    length = len(multiply)
    return OutputTile(
        _padded(words_a, length, rows), _padded(words_b, length, rows), np.array(multiply)
    )


def _convolved(inputs: Values, weights: Values, stride: int) -> Values:
    """1-D convolution of each line by its own taps, from the definition."""
    windows = np.lib.stride_tricks.sliding_window_view(inputs, weights.shape[1], axis=1)
    made: Values = np.einsum("lot,lt->lo", windows[:, ::stride], weights)
    return made


_WHOLE: dict[str, Callable[[int, int, np.random.Generator], Case]] = {
    "weight-stationary": _weight_stationary,
    "output-stationary": _output_stationary,
    "input-stationary": _input_stationary,
    "spatial-output-stationary": _spatial,
}


def _sequence(dataflow: str, rows: int, columns: int, rng: np.random.Generator) -> Case:
    """Tiles of different products, each with its own length, that follow each other."""
    count = int(rng.integers(1, 7))
    made = [_one_tile(dataflow, rows, columns, rng) for _ in range(count)]
    tiles = tuple(tile for tile, _ in made)
    results = [result for _, result in made]
    stops = np.cumsum([len(result) for result in results])
    width = max(result.shape[1] for result in results)
    places = tuple(
        (slice(int(stop) - len(result), int(stop)), slice(0, result.shape[1]))
        for stop, result in zip(stops, results, strict=True)
    )
    expected = np.concatenate([_padded(each, len(each), width) for each in results])
    cycles = sequence_cycles(dataflow, [tile.length for tile in tiles], rows, columns)
    return Case("sequence", dataflow, rows, columns, tiles, places, expected, cycles)


def _one_tile(
    dataflow: str, rows: int, columns: int, rng: np.random.Generator
) -> tuple[Tile, Values]:
    length = _size(rng, rows, 3)
    if dataflow in ("weight-stationary", "input-stationary"):
        stationary = StationaryTile(_ints(rng, rows, columns), _ints(rng, length, rows))
        return stationary, stationary.streamed @ stationary.held
    if dataflow == "output-stationary":
        tile = OutputTile(
            _ints(rng, length, rows), _ints(rng, length, columns), np.ones(length, bool)
        )
        return tile, tile.a.T @ tile.b
    taps, stride, outputs = (int(rng.integers(1, high)) for high in (8, 4, columns + 1))
    inputs, weights = _ints(rng, rows, (outputs - 1) * stride + taps), _ints(rng, rows, taps)
    return conv1d_tile(inputs, weights, stride, rows), _convolved(inputs, weights, stride)


def sequence_cycles(dataflow: str, lengths: Sequence[int], rows: int, columns: int) -> int:
    """The closed form of tiles that stream ``lengths`` cycles."""
    if dataflow == "spatial-output-stationary":
        return spatial_double_buffered_cycles(lengths, rows)
    if dataflow == "output-stationary":
        return os_double_buffered_cycles(lengths, rows, columns)
    return ws_double_buffered_cycles(lengths, rows, columns)


def _late(case: Case, rng: np.random.Generator) -> Case:
    """The same tiles, each with operands that come at some cycle."""
    times = np.sort(rng.integers(0, 40 * len(case.tiles), len(case.tiles)))
    tiles = []
    for tile, time in zip(case.tiles, times, strict=True):
        if isinstance(tile, StationaryTile):
            other = int(time + rng.integers(-20, 21))
            tiles.append(replace(tile, held_ready=int(time), streamed_ready=other))
        else:
            tiles.append(replace(tile, ready=int(time)))
    return replace(case, kind="late", tiles=tuple(tiles), cycles=None)
