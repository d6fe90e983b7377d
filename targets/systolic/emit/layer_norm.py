"""Layer normalisation over rows: (x - mean) / sqrt(variance + epsilon) x scale + shift, in fp32.

The variance is the mean of the squared differences from the mean (two passes, no
cancellation). Where whole rows fit the accumulators they are loaded once; longer rows
are loaded three times in column chunks: for the mean, for the variance, for the result.
"""

from __future__ import annotations

import numpy as np

from motet.targets.systolic.emit.chunks import Chunk
from motet.targets.systolic.emit.context import StepContext
from motet.targets.systolic.emit.recorder import Recorder, Room, Spot, Tile, VectorOperation
from motet.targets.systolic.emit.softmax import row_blocks, row_view
from motet.targets.systolic.emit.tile_end import (
    ColumnVector,
    TileEnd,
    require_floats,
    require_words,
)
from motet.targets.systolic.instructions.isa import Activation, Flag, Function, Instructions
from motet.targets.systolic.workload.layers import LayerNorm


def emit_layer_norm(context: StepContext) -> Instructions:
    """Instructions of a ``LayerNorm`` step; float formats only, else ``CompileError``."""
    require_floats(context)
    require_words(context, context.step.inputs[0], context.step.output)
    return _Emitter(context).emit()


class _Emitter:
    def __init__(self, context: StepContext) -> None:
        assert isinstance(context.step.layer, LayerNorm)
        mapping = context.mapping
        self._recorder = Recorder(context)
        self._context, self._layer = context, context.step.layer
        words = mapping.tile_rows * mapping.tile_columns
        sums, scratch = Room(context, "accumulators"), Room(context, "scratchpad")
        self._tiles = sums.ring(mapping.accumulator_slots, words)
        self._means, self._factors = (
            sums.ring(mapping.accumulator_slots, mapping.tile_rows) for _ in range(2)
        )
        self._input = row_view(context.step.inputs[0], self._layer)
        self._output = row_view(context.step.output, self._layer)
        self._vectors = [
            ColumnVector(self._recorder, tensor, sums, mapping.tile_columns)
            for tensor in context.step.inputs[1:]
        ]
        self._end = TileEnd(self._recorder, sums, scratch, mapping.tile_columns, words)
        self._used = 0

    def emit(self) -> Instructions:
        """All blocks of rows."""
        for number, block in enumerate(row_blocks(self._context)):
            slot = number % len(self._means)
            mean, factor = self._means[slot], self._factors[slot]
            kept = self._load(block[0]) if len(block) == 1 else None
            self._reduce(block, kept, Function.ROW_SUM, mean, mean)
            self._scaled(block[0], mean, 0.0, Activation.NONE)
            self._reduce(block, kept, Function.ROW_SUM_SQUARES, factor, mean)
            self._scaled(block[0], factor, self._layer.epsilon, Activation.RSQRT)
            for chunk in block:
                tile = self._centred(chunk, mean) if kept is None else kept
                self._finish(chunk, tile, factor)
        return self._recorder.instructions

    def _load(self, chunk: Chunk) -> Tile:
        address = self._tiles[self._used % len(self._tiles)]
        self._used += 1
        tile = Tile(address, chunk.rows, chunk.columns)
        self._recorder.bring(chunk.pod, self._input, Spot(0, chunk.row, chunk.column), tile)
        return tile

    def _reduce(
        self, block: list[Chunk], kept: Tile | None, function: Function, target: int, mean: int
    ) -> None:
        """Sums over all chunks of the rows; squares of what is left without the mean."""
        centred = function is Function.ROW_SUM_SQUARES
        for chunk in block:
            tile = kept or self._load(chunk)
            if centred:
                self._vector(chunk.pod, tile, Function.ROW_SUBTRACT, mean)
            joined = Flag.NONE if chunk is block[0] else Flag.ACCUMULATE
            self._vector(chunk.pod, tile, function, target, joined)

    def _centred(self, chunk: Chunk, mean: int) -> Tile:
        tile = self._load(chunk)
        self._vector(chunk.pod, tile, Function.ROW_SUBTRACT, mean)
        return tile

    def _scaled(self, chunk: Chunk, vector: int, added: float, activation: Activation) -> None:
        """activation(vector / columns + added) over rows."""
        operation = VectorOperation(
            Function.SCALE,
            alpha=1.0 / self._layer.columns,
            value=int(np.float32(added).view(np.uint32)),
            activation=activation,
        )
        self._recorder.vector(chunk.pod, Tile(vector, chunk.rows, 1), operation)

    def _vector(
        self, pod: int, tile: Tile, function: Function, third: int, flags: Flag = Flag.NONE
    ) -> None:
        self._recorder.vector(pod, tile, VectorOperation(function, third=third, flags=flags))

    def _finish(self, chunk: Chunk, tile: Tile, factor: int) -> None:
        functions = (Function.COLUMN_SCALE, Function.COLUMN_ADD)
        last = [VectorOperation(Function.ROW_MULTIPLY, third=factor)]
        for function, vector in zip(functions, self._vectors, strict=False):
            at = vector.address(chunk.pod, chunk.column, chunk.columns)
            last.append(VectorOperation(function, third=at))
        self._end.finish(chunk.pod, tile, self._output, Spot(0, chunk.row, chunk.column), last)
