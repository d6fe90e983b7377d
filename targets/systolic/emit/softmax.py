"""Softmax over rows: exp(x - max) / sum, in fp32.

Where whole rows fit the accumulators, a chunk of rows stays there from its load to its
store. Longer rows take two passes over column chunks: the first keeps the running maximum
m and the sum s of exp(x - m), rescaled by exp(m_old - m) when m grows (the online form of
Milakov & Gimelshein, arXiv 1805.02867); the second loads again and writes
exp(x - m) / s.
"""

from __future__ import annotations

from itertools import groupby

from motet.targets.systolic.emit.chunks import Chunk, chunks
from motet.targets.systolic.emit.context import StepContext
from motet.targets.systolic.emit.recorder import Recorder, Room, Spot, Tile, VectorOperation
from motet.targets.systolic.emit.tile_end import TileEnd, require_floats, require_words
from motet.targets.systolic.instructions.addressing import Loop, View
from motet.targets.systolic.instructions.isa import Activation, Flag, Function, Instructions
from motet.targets.systolic.workload.layers import LayerNorm, Softmax

EXP, NOTHING = Activation.EXP, Function.NONE


def emit_softmax(context: StepContext) -> Instructions:
    """Instructions of a ``Softmax`` step; float formats only, else ``CompileError``."""
    require_floats(context)
    require_words(context, context.step.inputs[0], context.step.output)
    return _Emitter(context).emit()


def row_blocks(context: StepContext) -> list[list[Chunk]]:
    """The chunks of a row-wise step, those of the same rows together."""
    assert isinstance(context.step.layer, (Softmax, LayerNorm))
    layer = context.step.layer
    all_chunks = chunks(context.mapping, layer.rows, layer.columns)
    ordered = sorted(all_chunks, key=lambda chunk: (chunk.pod, chunk.row, chunk.column))
    return [list(group) for _, group in groupby(ordered, lambda chunk: (chunk.pod, chunk.row))]


def row_view(tensor: int, layer: Softmax | LayerNorm) -> View:
    """[rows, columns] as it lies in memory."""
    rows, columns = Loop(layer.rows, layer.columns), Loop(layer.columns, 1)
    return View(tensor, layer.output_shape, Loop(1, 0), (rows,), (columns,))


class _Emitter:
    def __init__(self, context: StepContext) -> None:
        assert isinstance(context.step.layer, Softmax)
        mapping = context.mapping
        self._recorder = Recorder(context)
        self._context = context
        words = mapping.tile_rows * mapping.tile_columns
        sums, scratch = Room(context, "accumulators"), Room(context, "scratchpad")
        self._tiles = sums.ring(mapping.accumulator_slots, words)
        self._maxima, self._sums, self._factors = (
            sums.ring(mapping.accumulator_slots, mapping.tile_rows) for _ in range(3)
        )
        self._input = row_view(context.step.inputs[0], context.step.layer)
        self._output = row_view(context.step.output, context.step.layer)
        self._end = TileEnd(self._recorder, sums, scratch, mapping.tile_columns, words)
        self._used = 0

    def emit(self) -> Instructions:
        """All blocks of rows."""
        for number, block in enumerate(row_blocks(self._context)):
            slot = number % len(self._maxima)
            if len(block) == 1:
                self._whole(block[0], self._maxima[slot], self._sums[slot])
            else:
                self._online(block, slot)
        return self._recorder.instructions

    def _load(self, chunk: Chunk) -> Tile:
        address = self._tiles[self._used % len(self._tiles)]
        self._used += 1
        tile = Tile(address, chunk.rows, chunk.columns)
        self._recorder.bring(chunk.pod, self._input, Spot(0, chunk.row, chunk.column), tile)
        return tile

    def _whole(self, chunk: Chunk, maximum: int, total: int) -> None:
        tile = self._load(chunk)
        self._vector(chunk.pod, tile, Function.ROW_MAXIMUM, maximum)
        self._vector(chunk.pod, tile, Function.ROW_SUBTRACT, maximum, activation=EXP)
        self._vector(chunk.pod, tile, Function.ROW_SUM, total)
        self._reciprocal(chunk, total)
        self._finish(chunk, tile, [VectorOperation(Function.ROW_MULTIPLY, third=total)])

    def _online(self, block: list[Chunk], slot: int) -> None:
        maximum, total = self._maxima[slot], self._sums[slot]
        for chunk in block:
            self._join(chunk, maximum, total, self._factors[slot], first=chunk is block[0])
        self._reciprocal(block[0], total)
        for chunk in block:
            tile = self._load(chunk)
            self._vector(chunk.pod, tile, Function.ROW_SUBTRACT, maximum, activation=EXP)
            self._finish(chunk, tile, [VectorOperation(Function.ROW_MULTIPLY, third=total)])

    def _join(self, chunk: Chunk, maximum: int, total: int, factor: int, *, first: bool) -> None:
        """Another chunk of the same rows into their maximum and sum."""
        tile, pod = self._load(chunk), chunk.pod
        joined = Flag.NONE if first else Flag.ACCUMULATE
        if not first:
            self._on_rows(chunk, factor, Function.COPY, maximum)
        self._vector(pod, tile, Function.ROW_MAXIMUM, maximum, flags=joined)
        if not first:
            self._on_rows(chunk, factor, Function.ADD, maximum, alpha=-1.0, activation=EXP)
            self._on_rows(chunk, total, Function.MULTIPLY, factor)
        self._vector(pod, tile, Function.ROW_SUBTRACT, maximum, activation=EXP)
        self._vector(pod, tile, Function.ROW_SUM, total, flags=joined)

    def _on_rows(
        self,
        chunk: Chunk,
        target: int,
        function: Function,
        source: int,
        alpha: float = 0.0,
        activation: Activation = Activation.NONE,
    ) -> None:
        """A function of two vectors over rows, both in the accumulators."""
        flags = Flag.ACCUMULATORS
        operation = VectorOperation(
            function, second=source, flags=flags, alpha=alpha, activation=activation
        )
        self._recorder.vector(chunk.pod, Tile(target, chunk.rows, 1), operation)

    def _reciprocal(self, chunk: Chunk, total: int) -> None:
        operation = VectorOperation(NOTHING, activation=Activation.RECIPROCAL)
        self._recorder.vector(chunk.pod, Tile(total, chunk.rows, 1), operation)

    def _vector(
        self,
        pod: int,
        tile: Tile,
        function: Function,
        third: int,
        flags: Flag = Flag.NONE,
        activation: Activation = Activation.NONE,
    ) -> None:
        operation = VectorOperation(function, third=third, flags=flags, activation=activation)
        self._recorder.vector(pod, tile, operation)

    def _finish(self, chunk: Chunk, tile: Tile, last: list[VectorOperation]) -> None:
        spot = Spot(0, chunk.row, chunk.column)
        self._end.finish(chunk.pod, tile, self._output, spot, last)
