"""Pooling: maximum or average over windows, tap by tap, on the vector engine.

A tile is [output positions, channels]. The band of the input that it needs is staged in the
scratchpad (``staging``); the first tap of all windows is copied from there, the others
are joined by MAXIMUM or ADD, each through a view of its own. An average that does not
count padding divides by fewer values at the border: the output is cut into regions of equal
count. One window over the whole image (global pooling) is a reduction over rows
[channel, positions] instead.

Integers: maxima are exact; an average rounds its sum / count half to even.
"""

from __future__ import annotations

import math
from itertools import groupby, product
from typing import NamedTuple

from motet.targets.systolic.emit.context import StepContext
from motet.targets.systolic.emit.recorder import Recorder, Room, Spot, Tile, VectorOperation
from motet.targets.systolic.emit.staging import Band, Source, Stage, all_bands
from motet.targets.systolic.emit.tile_end import TileEnd, check_activation, require_words
from motet.targets.systolic.instructions.addressing import Loop, View, merged
from motet.targets.systolic.instructions.isa import Flag, Function, Instructions
from motet.targets.systolic.workload.layers import Pooling
from motet.targets.systolic.workload.lines import along_lines, band_words, is_global


class Region(NamedTuple):
    """Output rows [top, bottom) and columns [left, right), whose windows hold ``held`` values."""

    top: int
    bottom: int
    left: int
    right: int
    held: int


def emit_pooling(context: StepContext) -> Instructions:
    """Instructions of a ``Pooling`` step.

    The mapping's tile_rows are output positions, whole lines (of a global pooling: input
    positions), its tile_columns channels.
    """
    check_activation(context)
    require_words(context, context.step.inputs[0], context.step.output)
    assert isinstance(context.step.layer, Pooling)
    layer = along_lines(context.step.layer)
    if is_global(layer):
        return _Global(context, layer).emit()
    return _Windows(context, layer).emit()


def regions(layer: Pooling) -> list[Region]:
    """The output in rectangles whose windows are divided by the same count."""
    height, width = layer.out_size
    if layer.kind == "max" or layer.count_padding:
        return [Region(0, height, 0, width, math.prod(layer.kernel))]
    runs = [_runs(layer, axis) for axis in range(2)]
    return [
        Region(top, bottom, left, right, max(1, down * across))
        for (top, bottom, down), (left, right, across) in product(*runs)
    ]


def _runs(layer: Pooling, axis: int) -> list[tuple[int, int, int]]:
    """Runs [begin, end) of output positions whose windows hold as many input positions."""
    counts = [len(_inside(layer, axis, at)) for at in range(layer.out_size[axis])]
    made, begin = [], 0
    for count, group in groupby(counts):
        end = begin + len(list(group))
        made.append((begin, end, count))
        begin = end
    return made


def _inside(layer: Pooling, axis: int, position: int) -> list[int]:
    """Taps of a window along ``axis`` that are no padding."""
    size, before = layer.input_shape[2 + axis], layer.padding[axis]
    start = position * layer.stride[axis] - before
    taps = range(layer.kernel[axis])
    return [tap for tap in taps if 0 <= start + tap * layer.dilation[axis] < size]


class _Windows:
    def __init__(self, context: StepContext, layer: Pooling) -> None:
        self._context, self._layer, mapping = context, layer, context.mapping
        self._recorder = Recorder(context)
        sums, scratch = Room(context, "accumulators"), Room(context, "scratchpad")
        rows = max(1, mapping.tile_rows // layer.out_size[1])
        words = rows * layer.out_size[1] * mapping.tile_columns
        self._tiles = sums.ring(mapping.accumulator_slots, words)
        slots: tuple[int, ...] = ()
        if context.step.inputs[0] not in context.resident:
            slots = scratch.ring(
                mapping.input_slots, band_words(layer, rows) * mapping.tile_columns
            )
        self._stage = Stage(self._recorder, layer, slots)
        self._end = TileEnd(self._recorder, sums, scratch, mapping.tile_columns, words)
        self._regions, self._used = regions(layer), 0
        self._known: dict[tuple[Source, Region, tuple[int, int]], list[VectorOperation]] = {}

    def emit(self) -> Instructions:
        """All bands of all pods."""
        layer, mapping = self._layer, self._context.mapping
        rows = max(1, mapping.tile_rows // layer.out_size[1])
        for pod, band in all_bands(layer, mapping.tile_columns, rows, mapping.pod_numbers):
            source = self._stage.source(pod, band)
            for region in self._regions:
                first = max(region.top, band.first)
                last = min(region.bottom, band.first + band.rows)
                if first < last:
                    self._pool(pod, band, source, region, first, last)
        return self._recorder.instructions

    def _pool(
        self, pod: int, band: Band, source: Source, region: Region, first: int, last: int
    ) -> None:
        """Output rows [first, last) of one region of one band."""
        width = region.right - region.left
        address = self._tiles[self._used % len(self._tiles)]
        self._used += 1
        tile = Tile(address, (last - first) * width, band.channels)
        taps = self._joins(source, region, (first - band.first, last - first))
        self._recorder.vector(pod, tile, taps[0]._replace(function=Function.COPY, alpha=0.0))
        output = self._output(region)
        spot = Spot(band.batch, (first - region.top) * width, band.channel)
        self._end.finish(pod, tile, output, spot, [*taps[1:], *self._divided(region)])

    def _joins(
        self, source: Source, region: Region, lines: tuple[int, int]
    ) -> list[VectorOperation]:
        """All taps of ``lines`` of a region; kept, for bands in the same place look alike."""
        key = (source, region, lines)
        if key not in self._known:
            taps = self._taps(region)
            self._known[key] = [self._tap(source, region, lines, tap) for tap in taps]
        return self._known[key]

    def _taps(self, region: Region) -> list[tuple[int, int]]:
        """Taps that are not padding for some window of a region."""
        layer = self._layer
        down, across = (
            sorted({tap for at in range(begin, end) for tap in _inside(layer, axis, at)})
            for axis, (begin, end) in enumerate(
                [(region.top, region.bottom), (region.left, region.right)]
            )
        )
        return list(product(down, across)) or [(0, 0)]

    def _tap(
        self, source: Source, region: Region, lines: tuple[int, int], tap: tuple[int, int]
    ) -> VectorOperation:
        """One tap of ``lines`` (first of the band, and how many) joined to the tile.

        A view's groups are the kernel's columns.
        """
        layer, step = self._layer, source.row_step * self._layer.stride[0]
        rows = (Loop(lines[1], step), Loop(region.right - region.left, layer.stride[1]))
        offset = source.offset + lines[0] * step + region.left * layer.stride[1]
        offset += tap[0] * layer.dilation[0] * source.row_step
        view = View(
            source.tensor,
            source.shape,
            Loop(layer.kernel[1], layer.dilation[1]),
            merged(rows),
            (Loop(source.planes, source.plane_step),),
            source.padding,
            offset,
        )
        spot = Spot(tap[1], 0, source.plane)
        if layer.kind == "max":
            return VectorOperation(Function.MAXIMUM, operand=view, spot=spot, flags=Flag.PAD_LOWEST)
        return VectorOperation(Function.ADD, operand=view, spot=spot, alpha=1.0)

    def _divided(self, region: Region) -> list[VectorOperation]:
        if self._layer.kind == "max" or region.held == 1:
            return []
        return [VectorOperation(Function.SCALE, alpha=1.0 / region.held)]

    def _output(self, region: Region) -> View:
        layer = self._layer
        height, width = layer.out_size
        plane = height * width
        return View(
            self._context.step.output,
            layer.output_shape,
            Loop(layer.batch, layer.channels * plane),
            merged((Loop(region.bottom - region.top, width), Loop(region.right - region.left, 1))),
            (Loop(layer.channels, plane),),
            offset=region.top * width + region.left,
        )


class _Global:
    def __init__(self, context: StepContext, layer: Pooling) -> None:
        self._context, self._layer, mapping = context, layer, context.mapping
        self._recorder = Recorder(context)
        sums, scratch = Room(context, "accumulators"), Room(context, "scratchpad")
        self._slots, self._channels = mapping.accumulator_slots, mapping.tile_columns
        self._positions = mapping.tile_rows
        self._tiles = sums.ring(self._slots, self._channels * self._positions)
        self._results = sums.ring(self._slots, self._channels)
        self._end = TileEnd(self._recorder, sums, scratch, self._channels, self._channels)

    def emit(self) -> Instructions:
        """Blocks of channels, each with its positions in chunks."""
        layer, mapping, used = self._layer, self._context.mapping, 0
        starts = list(product(range(layer.batch), range(0, layer.channels, self._channels)))
        share = math.ceil(len(starts) / mapping.pods)
        for number, (batch, channel) in enumerate(starts):
            pod = mapping.first_pod + number // share
            channels = min(self._channels, layer.channels - channel)
            result = self._results[number % self._slots]
            for position in range(0, self._plane, self._positions):
                columns = min(self._positions, self._plane - position)
                tile = Tile(self._tiles[used % self._slots], channels, columns)
                used += 1
                self._reduce(pod, Spot(batch, channel, position), tile, result)
            self._finish(pod, Spot(batch, 0, channel), Tile(result, 1, channels))
        return self._recorder.instructions

    @property
    def _plane(self) -> int:
        return self._layer.in_height * self._layer.in_width

    def _reduce(self, pod: int, spot: Spot, tile: Tile, result: int) -> None:
        layer, plane = self._layer, self._plane
        view = View(
            self._context.step.inputs[0],
            layer.input_shape,
            Loop(layer.batch, layer.channels * plane),
            (Loop(layer.channels, plane),),
            (Loop(plane, 1),),
        )
        self._recorder.bring(pod, view, spot, tile)
        function = Function.ROW_MAXIMUM if layer.kind == "max" else Function.ROW_SUM
        flags = Flag.ACCUMULATE if spot.column else Flag.NONE
        self._recorder.vector(pod, tile, VectorOperation(function, third=result, flags=flags))

    def _finish(self, pod: int, spot: Spot, tile: Tile) -> None:
        layer = self._layer
        channels = layer.channels
        view = View(
            self._context.step.output,
            layer.output_shape,
            Loop(layer.batch, channels),
            (Loop(1, 0),),
            (Loop(channels, 1),),
        )
        average = [VectorOperation(Function.SCALE, alpha=1.0 / self._plane)]
        self._end.finish(pod, tile, view, spot, [] if layer.kind == "max" else average)
