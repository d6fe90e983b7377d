"""Drives the register-level arrays with tiles and records every output and when it came.

A bench only offers the head of its queues of operand vectors; the array's own sequencer says
when it takes one. Cycles are counted from the first clock of a run; an output that a clock
edge at the end of cycle t - 1 registers came at t.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.sim import Simulator
from numpy.typing import NDArray

from motet.benchmarks.rtl.outputs import OutputArray
from motet.benchmarks.rtl.stationary import StationaryArray

Values = NDArray[np.int64]
MAX_CYCLES = 5_000
CLOCK = 1e-6


@dataclass(frozen=True)
class StationaryTile:
    """``held`` [R, C] stays, ``streamed`` [T, R] goes through: outputs streamed @ held [T, C].

    held_ready, streamed_ready: the cycle from which the array may take them.
    """

    held: Values
    streamed: Values
    held_ready: int = 0
    streamed_ready: int = 0

    @property
    def length(self) -> int:
        """Cycles that it streams."""
        return len(self.streamed)


@dataclass(frozen=True)
class OutputTile:
    """Words ``a`` [T, R] and ``b`` [T, C or R], one pair a cycle; ``multiply`` [T] marks those
    that count. Outputs [R, C].
    """

    a: Values
    b: Values
    multiply: NDArray[np.bool_]
    ready: int = 0

    @property
    def length(self) -> int:
        """Words that enter."""
        return len(self.a)


@dataclass(frozen=True)
class Run:
    """What came out of one sequence of tiles.

    first: cycle in which the first operand entered. finished: cycle at which the last output
    of each tile was registered. outputs: of each tile, int64.
    """

    first: int
    finished: tuple[int, ...]
    outputs: tuple[Values, ...]
    overrun: bool = False

    @property
    def cycles(self) -> int:
        """From the first operand that enters to the last output registered."""
        return self.finished[-1] - self.first


def run_stationary(array: StationaryArray, jobs: Sequence[Sequence[StationaryTile]]) -> list[Run]:
    """Run each sequence of tiles on a weight- or input-stationary array."""
    return _simulate(array, jobs, lambda ctx, tiles: _drive_stationary(ctx, array, tiles))


def run_outputs(array: OutputArray, jobs: Sequence[Sequence[OutputTile]]) -> list[Run]:
    """Run each sequence of tiles on an output-stationary or spatial array."""
    return _simulate(array, jobs, lambda ctx, tiles: _drive_outputs(ctx, array, tiles))


def _simulate(array: Any, jobs: Sequence[Any], drive: Any) -> list[Run]:
    """One simulation, the jobs one after the other; the array is empty between them."""
    runs: list[Run] = []

    async def testbench(ctx: Any) -> None:
        runs.extend([await drive(ctx, tiles) for tiles in jobs])

    simulator = Simulator(array)
    simulator.add_clock(CLOCK)
    simulator.add_testbench(testbench)
    simulator.run()
    return runs


async def _drive_stationary(
    ctx: Any, array: StationaryArray, tiles: Sequence[StationaryTile]
) -> Run:
    control = array.sequencer
    record = _Record(array.columns, [tile.length for tile in tiles])
    held = _Feed([(i, row) for i, tile in enumerate(tiles) for row in _packed(tile.held)])
    streamed = _Feed([(i, row) for i, tile in enumerate(tiles) for row in _packed(tile.streamed)])
    for cycle in record.cycles(array.rows):
        if held.left:
            ctx.set(array.held, held.vector)
            ctx.set(control.held_ready, cycle >= tiles[held.tile].held_ready)
        else:
            ctx.set(control.held_ready, 0)
        if streamed.left:
            ctx.set(array.streamed, streamed.vector)
            ctx.set(control.length, tiles[streamed.tile].length)
            ctx.set(control.streamed_ready, cycle >= tiles[streamed.tile].streamed_ready)
        else:
            ctx.set(control.streamed_ready, 0)
        *_, capture, stream, valid, sums = await ctx.tick().sample(
            control.capture, control.stream, array.valid, array.sums
        )
        if capture:
            record.entered(cycle)
            held.pop()
        if stream:
            streamed.pop()
        record.add(cycle, valid, sums)
    return record.run([np.arange(tile.length) for tile in tiles])


async def _drive_outputs(ctx: Any, array: OutputArray, tiles: Sequence[OutputTile]) -> Run:
    control = array.sequencer
    record = _Record(array.columns, [array.rows] * len(tiles))
    words = _Feed(list(_words(tiles)))
    overrun = 0
    for cycle in record.cycles(array.rows):
        if words.left:
            a, b, multiply, first, last = words.vector
            ctx.set(array.a, a)
            ctx.set(array.b, b)
            ctx.set(array.multiply, multiply)
            ctx.set(array.first, first)
            ctx.set(array.last, last)
            ctx.set(control.length, tiles[words.tile].length)
            ctx.set(control.ready, cycle >= tiles[words.tile].ready)
        else:
            ctx.set(control.ready, 0)
        *_, stream, valid, sums, overrun = await ctx.tick().sample(
            control.stream, array.valid, array.sums, array.overrun
        )
        if stream:
            record.entered(cycle)
            words.pop()
        record.add(cycle, valid, sums)
    # The bottom row leaves first.
    return record.run([np.arange(array.rows)[::-1] for _ in tiles], bool(overrun))


def _words(tiles: Sequence[OutputTile]) -> Iterator[tuple[int, Any]]:
    """What the address generator of the edge says for each word of each tile."""
    for number, tile in enumerate(tiles):
        counted = np.flatnonzero(tile.multiply)
        for at, (a, b) in enumerate(zip(_packed(tile.a), _packed(tile.b), strict=True)):
            flags = (bool(tile.multiply[at]), bool(at == counted[0]), bool(at == counted[-1]))
            yield number, (a, b, *flags)


def _packed(vectors: Values) -> list[int]:
    """Rows of signed 8-bit values as integers, lane 0 in the low bits."""
    return [int.from_bytes(row.tobytes(), "little") for row in vectors.astype(np.int8)]


class _Feed:
    """A queue of vectors, each with the number of its tile."""

    def __init__(self, items: Sequence[tuple[int, Any]]) -> None:
        self._items, self._at = items, 0

    @property
    def left(self) -> bool:
        return self._at < len(self._items)

    @property
    def tile(self) -> int:
        return self._items[self._at][0]

    @property
    def vector(self) -> Any:
        return self._items[self._at][1]

    def pop(self) -> None:
        self._at += 1


class _Record:
    """Outputs by column as they come, until all have come and some cycles more."""

    def __init__(self, columns: int, outputs: Sequence[int]) -> None:
        self._outputs, self._columns = list(outputs), columns
        self._first: int | None = None
        self._sums: list[list[int]] = [[] for _ in range(columns)]
        self._times: list[list[int]] = [[] for _ in range(columns)]

    def cycles(self, idle: int) -> Iterator[int]:
        """Cycles to simulate: until all outputs came, and ``idle`` more without any."""
        end = MAX_CYCLES
        for cycle in range(MAX_CYCLES):
            if end == MAX_CYCLES and len(self._times[-1]) >= sum(self._outputs):
                end = cycle + idle
            if cycle >= end:
                return
            yield cycle
        raise AssertionError("the array is stuck")

    def entered(self, cycle: int) -> None:
        """An operand entered."""
        if self._first is None:
            self._first = cycle

    def add(self, cycle: int, valid: int, sums: int) -> None:
        """The bottom registers of this cycle."""
        if not valid:
            return
        values = np.frombuffer(sums.to_bytes(4 * self._columns, "little"), np.int32)
        for column in range(self._columns):
            if valid >> column & 1:
                self._sums[column].append(int(values[column]))
                self._times[column].append(cycle)

    def run(self, orders: Sequence[NDArray[np.int64]], overrun: bool = False) -> Run:
        """The run; ``orders`` says which output row the i-th value of a tile's column is."""
        assert self._first is not None
        sums, times = np.array(self._sums), np.array(self._times)
        assert sums.shape == (self._columns, sum(self._outputs)), "outputs are missing or too many"
        ends = np.cumsum(self._outputs)
        outputs = []
        for end, order in zip(ends, orders, strict=True):
            tile = np.empty((len(order), self._columns), np.int64)
            tile[order] = sums[:, end - len(order) : end].T
            outputs.append(tile)
        finished = tuple(int(times[:, end - 1].max()) for end in ends)
        return Run(self._first, finished, tuple(outputs), overrun)
