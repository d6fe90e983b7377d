"""Steps that move values: permutations, concatenations along inner axes, slices, upsampling.

Tiles of every piece come through a view of the input, and go through one of the output.
"""

from __future__ import annotations

from collections import Counter

from motet.targets.systolic.emit.chunks import chunks
from motet.targets.systolic.emit.context import StepContext
from motet.targets.systolic.emit.recorder import Recorder, Room, Spot, Tile
from motet.targets.systolic.emit.tile_end import TileEnd, check_activation, require_words
from motet.targets.systolic.instructions.addressing import Loop, View
from motet.targets.systolic.instructions.isa import Instructions
from motet.targets.systolic.workload.moves import Move

Walk = tuple[int, tuple[Loop, ...], tuple[Loop, ...]]


def emit_move(context: StepContext) -> Instructions:
    """Instructions of a ``Permute``, ``Concat``, ``Slice`` or ``Upsample`` step.

    Raises ``CompileError`` for an activation in an integer format, and for a tensor of other
    elements than the format's words.
    """
    step, mapping = context.step, context.mapping
    assert isinstance(step.layer, Move)
    check_activation(context)
    require_words(context, *step.inputs, step.output)
    recorder, made = Recorder(context), Counter[int]()
    words = mapping.tile_rows * mapping.tile_columns
    sums, scratch = Room(context, "accumulators"), Room(context, "scratchpad")
    slots = sums.ring(mapping.accumulator_slots, words)
    end = TileEnd(recorder, sums, scratch, mapping.tile_columns, words)
    for piece in step.layer.pieces:
        source = _view(context, step.inputs[piece.input], piece.source)
        target = _view(context, step.output, piece.target)
        for chunk in chunks(mapping, piece.rows, piece.columns):
            spot = Spot(0, chunk.row, chunk.column)
            address = slots[made[chunk.pod] % len(slots)]
            made[chunk.pod] += 1
            tile = Tile(address, chunk.rows, chunk.columns)
            recorder.bring(chunk.pod, source, spot, tile)
            end.finish(chunk.pod, tile, target, spot)
    return recorder.instructions


def _view(context: StepContext, tensor: int, walk: Walk) -> View:
    offset, rows, columns = walk
    shape = context.workload.tensors[tensor].shape
    return View(tensor, shape, Loop(1, 0), rows, columns, offset=offset)
