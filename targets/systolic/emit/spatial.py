"""Depthwise convolutions under the spatial-output-stationary dataflow, as lines (``line_plan``).

A band of the input is staged in the scratchpad and CONV1D reads its lines there through a
view: its rows are (channel, filter of the channel, output row), its columns (position, kernel
row) of the interleaved line. A tile is some lines x a stretch of positions, dense position by
position, so that a fold of the array (at most its columns) is a contiguous part of it.
Tiles of a band differ in addresses only and are made in bulk.

The bias starts the sums, a requantisation is per line (both vectors over the tile's rows).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from motet.runtime.errors import CompileError
from motet.targets.systolic.emit.context import StepContext
from motet.targets.systolic.emit.epilogue import WITH_ALPHA
from motet.targets.systolic.emit.recorder import Recorder, Room
from motet.targets.systolic.emit.staging import Band, Source, Stage, all_bands
from motet.targets.systolic.emit.tile_end import check_activation, require_words
from motet.targets.systolic.instructions.addressing import Loop, View, merged
from motet.targets.systolic.instructions.isa import (
    Activation,
    Dataflow,
    Flag,
    Function,
    Instructions,
    Opcode,
    empty_instructions,
)
from motet.targets.systolic.mappings.line_plan import (
    SPATIAL,
    LinePlan,
    joined_pitch,
    joined_width,
    line_stride,
    plan_lines,
)
from motet.targets.systolic.mappings.memory import granules
from motet.targets.systolic.workload.layers import Convolution


def emit_spatial(context: StepContext) -> Instructions:
    """Instructions of a depthwise ``Convolution``.

    The mapping's tile_rows are lines, its tile_columns positions of a line (at most the array's
    rows and columns); input_slots bands, weight_slots and accumulator_slots tiles.
    Raises ``CompileError`` where the pod lacks the dataflow or a line does not fit.
    """
    check_activation(context)
    require_words(context, context.step.inputs[0], context.step.output)
    layer, name = context.step.layer, context.step.name
    if not isinstance(layer, Convolution) or not layer.is_depthwise:
        raise CompileError(f"step {name!r}: only depthwise convolutions can be {SPATIAL}")
    if SPATIAL not in context.pod.dataflows:
        raise CompileError(f"step {name!r}: the pods of its mapping do not offer {SPATIAL}")
    mapping, pod = context.mapping, context.pod
    if mapping.tile_rows > pod.rows or mapping.tile_columns > pod.columns:
        raise CompileError(
            f"step {name!r}: {SPATIAL} takes tiles of at most {pod.rows} lines x {pod.columns} "
            f"positions, the mapping has {mapping.tile_rows} x {mapping.tile_columns}"
        )
    return _Emitter(context, layer).emit()


class _Tiles(NamedTuple):
    """Equal tiles of one band: ``count`` of ``lines`` lines from line ``first`` of the band on.

    sums, weights, vectors, residuals: their places in the memories, int64 [count]. position,
    positions: the stretch of each line.
    """

    pod: int
    band: Band
    source: Source
    first: NDArray[np.int64]
    lines: int
    position: int
    positions: int
    sums: NDArray[np.int64]
    weights: NDArray[np.int64]
    vectors: NDArray[np.int64]
    residuals: NDArray[np.int64]


class _Emitter:
    def __init__(self, context: StepContext, layer: Convolution) -> None:
        self._context, self._mapping = context, context.mapping
        self._plan = _plan(context, layer)
        self._layer = self._plan.layer
        self._filters = layer.out_channels // layer.in_channels
        self._width = joined_width(self._layer, self._plan.joined)
        self._recorder = Recorder(context)
        mapping, rows = context.mapping, context.mapping.tile_rows
        sums, scratch = Room(context, "accumulators"), Room(context, "scratchpad")
        slots = mapping.accumulator_slots
        self._sums = np.array(sums.ring(slots, self._plan.tile))
        self._vectors = np.array(sums.ring(mapping.weight_slots, 2 * rows))
        taps = math.prod(layer.kernel)
        self._weights = np.array(scratch.ring(mapping.weight_slots, rows * taps))
        residual = context.step.epilogue.residual
        streamed = residual is not None and residual not in context.resident
        words = self._plan.tile if streamed else 0
        self._residuals = np.array(scratch.ring(mapping.input_slots, words))
        bands = scratch.ring(mapping.input_slots, self._plan.band)
        self._stage = Stage(self._recorder, self._layer, bands, turned=self._plan.is_turned)
        self._used = dict.fromkeys(mapping.pod_numbers, 0)

    def emit(self) -> Instructions:
        """All bands of all pods."""
        plan = self._plan
        for pod, band in all_bands(
            self._layer, plan.channels, plan.rows, self._mapping.pod_numbers
        ):
            source = self._stage.source(pod, band)
            for position in range(0, self._width, plan.positions):
                self._stretch(pod, band, source, position)
        return self._recorder.instructions

    def _stretch(self, pod: int, band: Band, source: Source, position: int) -> None:
        """All lines of a band, from ``position`` on."""
        positions = min(self._plan.positions, self._width - position)
        lines, height = band.rows // self._plan.joined, self._mapping.tile_rows
        total = band.channels * self._filters * lines
        whole, rest = divmod(total, height)
        for first, count, lines in ((0, whole, height), (whole * height, min(rest, 1), rest)):
            if count:
                used = self._used[pod] + np.arange(count)
                self._used[pod] += count
                self._emit_tiles(
                    _Tiles(
                        pod,
                        band,
                        source,
                        first + lines * np.arange(count),
                        lines,
                        position,
                        positions,
                        *(ring[used % len(ring)] for ring in self._rings),
                    )
                )

    @property
    def _rings(self) -> tuple[NDArray[np.int64], ...]:
        return self._sums, self._weights, self._vectors, self._residuals

    def _emit_tiles(self, tiles: _Tiles) -> None:
        parts = [*self._loads(tiles), *self._folds(tiles), *self._ends(tiles)]
        self._recorder.extend(np.stack(parts, axis=1).reshape(-1))

    def _made(self, tiles: _Tiles, opcode: Opcode, columns: int, **fields: Any) -> Instructions:
        """One instruction per tile; ``fields`` are numbers or arrays [count]."""
        made = empty_instructions(len(tiles.first))
        made["opcode"], made["pod"], made["target_pod"] = opcode, tiles.pod, tiles.pod
        made["rows"], made["columns"] = tiles.lines, columns
        for name, value in fields.items():
            made[name] = value
        return made

    # -- operands ---------------------------------------------------------------------

    def _number(self, view: View) -> int:
        return self._context.views.number(view)

    def _line(self, tiles: _Tiles, channel: int) -> NDArray[np.int64]:
        """Numbers of the tiles' first lines, in lines of channels from ``channel`` on."""
        return channel * self._filters * (tiles.band.rows // self._plan.joined) + tiles.first

    def _line_vector(self, tensor: int, tiles: _Tiles, loops: tuple[Loop, ...]) -> View:
        """A view whose rows are lines and whose values depend on the channel only."""
        channels = self._layer.out_channels
        size = math.prod(loop.extent for loop in loops)
        rows = merged((Loop(channels, size), Loop(tiles.band.rows // self._plan.joined, 0)))
        shape = self._context.workload.tensors[tensor].shape
        return View(tensor, shape, Loop(1, 0), rows, merged(loops))

    def _output(self, tensor: int, tiles: _Tiles) -> View:
        layer, band = self._layer, tiles.band
        height, width = layer.out_size
        shape, steps = layer.output_shape, (width, 1)
        if self._plan.is_turned:
            shape, steps = (*shape[:2], width, height), (1, height)
        joined = self._plan.joined
        rows = (
            Loop(layer.batch * layer.out_channels, height * width),
            Loop(band.rows // joined, joined * steps[0]),
        )
        columns = merged((Loop(joined, steps[0]), Loop(width, steps[1])))
        return View(tensor, shape, Loop(1, 0), merged(rows), columns, offset=band.first * steps[0])

    def _spot(self, tiles: _Tiles) -> dict[str, Any]:
        plane = tiles.band.batch * self._layer.in_channels + tiles.band.channel
        return {"row": self._line(tiles, plane), "column": tiles.position}

    # -- instructions -----------------------------------------------------------------

    def _loads(self, tiles: _Tiles) -> list[Instructions]:
        """Weights, and the vectors and residuals that the epilogue needs, from DRAM."""
        step, epilogue = self._context.step, self._context.step.epilogue
        down, across = self._layer.kernel
        loops = (Loop(across, 1), Loop(down, across))
        if self._plan.is_turned:
            loops = (Loop(across, down), Loop(down, 1))
        view = self._number(self._line_vector(step.inputs[1], tiles, loops))
        row = self._line(tiles, tiles.band.channel)
        made = [
            self._made(
                tiles, Opcode.LOAD, down * across, operand=view, row=row, address=tiles.weights
            )
        ]
        scale = epilogue.requantise.scale if epilogue.requantise else None
        for number, tensor in enumerate((epilogue.bias, scale)):
            if tensor is not None:
                view = self._number(self._line_vector(tensor, tiles, (Loop(1, 0),)))
                place = tiles.vectors + number * self._mapping.tile_rows
                fields = {"flags": Flag.ACCUMULATORS, "accumulator_address": place}
                made.append(self._made(tiles, Opcode.LOAD, 1, operand=view, row=row, **fields))
        return made

    def _folds(self, tiles: _Tiles) -> list[Instructions]:
        """One CONV1D for as many positions as the array has columns."""
        layer, bias = self._layer, self._context.step.epilogue.bias is not None
        stride = line_stride(layer)
        view = self._number(self._lines(tiles))
        row = self._line(tiles, tiles.source.plane)
        return [
            self._made(
                tiles,
                Opcode.CONV1D,
                min(self._mapping.tile_columns, tiles.positions - column),
                operand=view,
                row=row,
                column=(tiles.position + column) * stride,
                depth=math.prod(layer.kernel),
                value=stride,
                flags=Flag.RESIDENT | (Flag.BIAS if bias else Flag.NONE),
                dataflow=Dataflow.SPATIAL_OUTPUT_STATIONARY,
                second_address=tiles.weights,
                third_address=tiles.vectors if bias else 0,
                accumulator_address=tiles.sums + column * tiles.lines,
            )
            for column in range(0, tiles.positions, self._mapping.tile_columns)
        ]

    def _lines(self, tiles: _Tiles) -> View:
        """The staged or resident input: rows are lines, columns an interleaved line."""
        layer, source = self._layer, tiles.source
        joined, row_step = self._plan.joined, layer.stride[0] * source.row_step
        rows = (
            Loop(source.planes, source.plane_step),
            Loop(self._filters, 0),
            Loop(tiles.band.rows // joined, joined * row_step),
        )
        (down, across), width = layer.kernel, layer.out_size[1]
        inner = Loop(down, layer.dilation[0] * source.row_step)
        outer = [Loop((width - 1) * layer.stride[1] + across, source.column_step)]
        if joined > 1:
            pitch = joined_pitch(layer) * layer.stride[1]
            outer = [Loop(joined, row_step), Loop(pitch, source.column_step)]
        if layer.dilation[1] > 1:
            outer = [
                Loop(width, layer.stride[1] * source.column_step),
                Loop(across, layer.dilation[1] * source.column_step),
            ]
        return View(
            source.tensor,
            source.shape,
            Loop(1, 0),
            merged(rows),
            merged((*outer, inner)),
            source.padding,
            source.offset,
        )

    def _ends(self, tiles: _Tiles) -> list[Instructions]:
        """Residual, requantisation, activation, and the way out."""
        epilogue, made = self._context.step.epilogue, []
        if epilogue.residual is not None:
            made += self._residual(tiles, epilogue.residual)
        if epilogue.requantise is not None:
            zero = epilogue.requantise.zero_point & 0xFFFFFFFF
            place = tiles.vectors + self._mapping.tile_rows
            made.append(
                self._vector(tiles, Function.ROW_REQUANTISE, third_address=place, value=zero)
            )
        if epilogue.activation is not Activation.NONE:
            if not made or epilogue.activation in WITH_ALPHA:
                made.append(self._vector(tiles, Function.NONE, alpha=epilogue.alpha))
            made[-1]["activation"] = epilogue.activation
        return [*made, *self._stores(tiles)]

    def _vector(self, tiles: _Tiles, function: Function, **fields: Any) -> Instructions:
        place = {"function": function, "accumulator_address": tiles.sums}
        return self._made(tiles, Opcode.VECTOR, tiles.positions, **place, **fields)

    def _residual(self, tiles: _Tiles, tensor: int) -> list[Instructions]:
        view = {"operand": self._number(self._output(tensor, tiles)), **self._spot(tiles)}
        if tensor in self._context.resident:
            return [self._vector(tiles, Function.ADD, alpha=1.0, flags=Flag.RESIDENT, **view)]
        load = self._made(tiles, Opcode.LOAD, tiles.positions, address=tiles.residuals, **view)
        added = self._vector(tiles, Function.ADD, alpha=1.0, second_address=tiles.residuals)
        return [load, added]

    def _stores(self, tiles: _Tiles) -> list[Instructions]:
        """The tile to where it belongs; output rows that are joined to a line one by one."""
        width, joined = self._layer.out_size[1], self._plan.joined
        if joined == 1:
            return [self._store(tiles, tiles.positions, 0, tiles.position)]
        pitch = joined_pitch(self._layer)
        return [self._store(tiles, width, row * pitch, row * width) for row in range(joined)]

    def _store(self, tiles: _Tiles, positions: int, begin: int, column: int) -> Instructions:
        """Positions [begin, begin + positions) of the tile, to the output from ``column`` on."""
        step = self._context.step
        place = self._context.resident.get(step.output)
        low, high = step.epilogue.clamp or (-np.inf, np.inf)
        fields = {**self._spot(tiles), "column": column, "low": low, "high": high}
        made = self._made(
            tiles,
            Opcode.STORE if place is None else Opcode.TRANSFER,
            positions,
            operand=self._number(self._output(step.output, tiles)),
            accumulator_address=tiles.sums + begin * tiles.lines,
            **fields,
        )
        if place is not None:
            made["target_pod"], made["target_pods"] = place.pods.start, len(place.pods)
        return made


def _plan(context: StepContext, layer: Convolution) -> LinePlan:
    residual = context.step.epilogue.residual
    return plan_lines(
        context.step.name,
        layer,
        context.mapping,
        len(context.scratchpad),
        len(context.accumulators),
        rows=context.pod.rows,
        columns=context.pod.columns,
        resident=context.step.inputs[0] in context.resident,
        streamed=residual is not None and residual not in context.resident,
        may_join=residual is None,
        granule=granules(context.pod, context.format),
    )
