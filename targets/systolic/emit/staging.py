"""Bands of an image in the scratchpad: read from DRAM once, though many windows overlap in them.

A band is what some output rows of a window operator (pooling, depthwise convolution)
need of the input: ``channels`` planes of its input rows. It is loaded as one dense tile,
which lies there as a tensor [1, channels, height, width]: a view of that tensor, padded
where the band touches the image's border, then gives every tap of the windows. An input
that is resident already is its own band.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from motet.targets.systolic.emit.recorder import Recorder, Spot, Tile
from motet.targets.systolic.instructions.addressing import Loop, View, merged
from motet.targets.systolic.workload.layers import Convolution, Pooling

Padding = tuple[int, int, int, int]


@dataclass(frozen=True)
class Band:
    """Output rows [first, first + rows) of channels [channel, channel + channels) of an image."""

    batch: int
    channel: int
    channels: int
    first: int
    rows: int


@dataclass(frozen=True)
class Source:
    """Where the windows of a band are read: addresses in a padded tensor.

    tensor, shape, padding: as a view has them. offset: of the first window's first tap in
    its plane. plane: index of the band's first channel among the tensor's ``planes`` planes.
    row_step, column_step, plane_step: values from one row, column, plane to the next.
    """

    tensor: int
    shape: tuple[int, ...]
    padding: Padding
    offset: int
    plane: int
    row_step: int
    column_step: int

    @property
    def plane_step(self) -> int:
        """Values of a padded plane."""
        top, left, bottom, right = self.padding
        return (self.shape[-2] + top + bottom) * (self.shape[-1] + left + right)

    @property
    def planes(self) -> int:
        """Planes of the tensor."""
        return self.shape[0] * self.shape[1]


def all_bands(
    layer: Convolution | Pooling, channels: int, rows: int, pods: range
) -> Iterator[tuple[int, Band]]:
    """Pods and their bands of at most ``channels`` and output ``rows``, dealt out in blocks."""
    batch, all_channels = layer.input_shape[:2]
    height = layer.out_size[0]
    made = [
        Band(image, channel, min(channels, all_channels - channel), first,
             min(rows, height - first))
        for image in range(batch)
        for channel in range(0, all_channels, channels)
        for first in range(0, height, rows)
    ]  # fmt: skip
    share = math.ceil(len(made) / len(pods))
    for number, band in enumerate(made):
        yield pods[number // share], band


def input_rows(layer: Convolution | Pooling, first: int, rows: int) -> tuple[int, int, int, int]:
    """First input row and number of them, and rows of padding above and below, of a band."""
    reach = (layer.kernel[0] - 1) * layer.dilation[0]
    begin = first * layer.stride[0] - layer.padding[0]
    last = begin + (rows - 1) * layer.stride[0] + reach
    low = min(max(begin, 0), layer.in_height - 1)
    high = max(min(last, layer.in_height - 1), low)
    return low, high - low + 1, max(0, low - begin), max(0, last - high)


class Stage:
    """Brings bands to where windows can be read.

    layer: the step's, or with ``turned`` the step's with its axes exchanged: its rows are the
    image's columns. slots: addresses of places for the largest band; none where the input
    is resident.
    """

    def __init__(
        self,
        recorder: Recorder,
        layer: Convolution | Pooling,
        slots: tuple[int, ...],
        *,
        turned: bool = False,
    ) -> None:
        self._layer, self._recorder, self._slots, self._turned = layer, recorder, slots, turned
        self._next: dict[int, int] = {}

    def source(self, pod: int, band: Band) -> Source:
        """Load ``band`` for ``pod`` if need be, and say where its windows are."""
        tensor = self._recorder.context.step.inputs[0]
        if tensor in self._recorder.context.resident:
            return self._resident(band, tensor)
        number = self._next.get(pod, 0)
        self._next[pod] = number + 1
        return self._loaded(pod, band, self._slots[number % len(self._slots)])

    def _resident(self, band: Band, tensor: int) -> Source:
        layer, first = self._layer, band.first * self._layer.stride[0]
        plane = band.batch * layer.input_shape[1] + band.channel
        batch, channels, height, width = layer.input_shape
        top, left, bottom, right = layer.padding
        if self._turned:
            pitch = height + top + bottom
            shape, padding = (batch, channels, width, height), (left, top, right, bottom)
            return Source(tensor, shape, padding, first, plane, 1, pitch)
        pitch = width + left + right
        return Source(tensor, layer.input_shape, layer.padding, first * pitch, plane, pitch, 1)

    def _loaded(self, pod: int, band: Band, address: int) -> Source:
        layer = self._layer
        _, left, _, right = layer.padding
        low, height, top, bottom = input_rows(layer, band.first, band.rows)
        tile = Tile(address, height * layer.in_width, band.channels)
        spot = Spot(band.batch, low * layer.in_width, band.channel)
        self._recorder.load(pod, self._planes(), spot, tile)
        shape = (1, band.channels, height, layer.in_width)
        below = max(0, band.first * layer.stride[0] - layer.padding[0] - low)
        pitch = layer.in_width + left + right
        tensor = self._recorder.context.stage(shape, address)
        return Source(tensor, shape, (top, left, bottom, right), below * pitch, 0, pitch, 1)

    def _planes(self) -> View:
        """The input: a group per image, a row per position, a column per channel."""
        batch, channels, height, width = self._layer.input_shape
        plane = height * width
        shape = self._layer.input_shape
        positions: tuple[Loop, ...] = (Loop(plane, 1),)
        if self._turned:
            shape = (batch, channels, width, height)
            positions = merged((Loop(height, 1), Loop(width, height)))
        tensor = self._recorder.context.step.inputs[0]
        group, columns = Loop(batch, channels * plane), (Loop(channels, plane),)
        return View(tensor, shape, group, positions, columns)
