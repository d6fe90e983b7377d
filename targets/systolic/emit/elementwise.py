"""Elementwise steps: activation alone, add, multiply, maximum, with a vector over the last axis.

A chunk of the first input goes to the accumulators, the second is joined to it from the
scratchpad or through a view of a resident tensor, and the epilogue follows.
"""

from __future__ import annotations

from motet.runtime.errors import CompileError
from motet.targets.systolic.emit.chunks import Chunk, chunks
from motet.targets.systolic.emit.context import StepContext
from motet.targets.systolic.emit.recorder import Recorder, Room, Spot, Tile, VectorOperation
from motet.targets.systolic.emit.tile_end import (
    ColumnVector,
    TileEnd,
    check_activation,
    require_words,
)
from motet.targets.systolic.instructions.addressing import Loop, View
from motet.targets.systolic.instructions.isa import Function, Instructions
from motet.targets.systolic.workload.layers import Elementwise
from motet.targets.systolic.workload.lines import elementwise_matrix

FUNCTIONS = {"add": Function.ADD, "multiply": Function.MULTIPLY, "maximum": Function.MAXIMUM}
VECTOR_FUNCTIONS = {"add": Function.COLUMN_ADD, "multiply": Function.COLUMN_SCALE}


def emit_elementwise(context: StepContext) -> Instructions:
    """Instructions of an ``Elementwise`` step.

    Raises ``CompileError`` for an activation in an integer format, and for a maximum with a
    vector, which the instruction set does not have.
    """
    check_activation(context)
    require_words(context, context.step.inputs[0], context.step.output)
    return _Emitter(context).emit()


class _Emitter:
    def __init__(self, context: StepContext) -> None:
        assert isinstance(context.step.layer, Elementwise)
        self._context, self._layer, self._mapping = context, context.step.layer, context.mapping
        self._recorder = Recorder(context)
        self._rows, self._columns = elementwise_matrix(context.step)
        words = self._mapping.tile_rows * self._mapping.tile_columns
        sums, scratch = Room(context, "accumulators"), Room(context, "scratchpad")
        self._tiles = sums.ring(self._mapping.accumulator_slots, words)
        self._seconds: tuple[int, ...] = ()
        self._vector: ColumnVector | None = None
        if self._layer.vector:
            self._check_vector()
            second = context.step.inputs[1]
            self._vector = ColumnVector(self._recorder, second, sums, self._mapping.tile_columns)
        elif self._layer.kind != "identity" and context.step.inputs[1] not in context.resident:
            require_words(context, context.step.inputs[1])
            self._seconds = scratch.ring(self._mapping.input_slots, words)
        self._end = TileEnd(self._recorder, sums, scratch, self._mapping.tile_columns, words)

    def _check_vector(self) -> None:
        if self._layer.kind not in VECTOR_FUNCTIONS:
            raise CompileError(
                f"step {self._context.step.name!r}: {self._layer.kind} with a vector is not in "
                "the instruction set; leave it to the host"
            )

    def emit(self) -> Instructions:
        """All chunks of all pods."""
        output = self._view(self._context.step.output)
        for chunk in chunks(self._mapping, self._rows, self._columns):
            spot = Spot(0, chunk.row, chunk.column)
            address = self._tiles[chunk.number % len(self._tiles)]
            tile = Tile(address, chunk.rows, chunk.columns)
            self._recorder.bring(chunk.pod, self._view(self._context.step.inputs[0]), spot, tile)
            self._end.finish(chunk.pod, tile, output, spot, self._join(chunk, spot, tile))
        return self._recorder.instructions

    def _view(self, tensor: int) -> View:
        rows, columns = Loop(self._rows, self._columns), Loop(self._columns, 1)
        return View(tensor, self._context.step.layer.output_shape, Loop(1, 0), (rows,), (columns,))

    def _join(self, chunk: Chunk, spot: Spot, tile: Tile) -> list[VectorOperation]:
        kind = self._layer.kind
        if kind == "identity":
            return []
        if self._vector is not None:
            at = self._vector.address(chunk.pod, chunk.column, chunk.columns)
            return [VectorOperation(VECTOR_FUNCTIONS[kind], third=at)]
        alpha, view = float(kind == "add"), self._view(self._context.step.inputs[1])
        if not self._seconds:
            return [VectorOperation(FUNCTIONS[kind], operand=view, spot=spot, alpha=alpha)]
        address = self._seconds[chunk.number % len(self._seconds)]
        self._recorder.load(chunk.pod, view, spot, tile._replace(address=address))
        return [VectorOperation(FUNCTIONS[kind], second=address, alpha=alpha)]
