"""Bands of an image in the scratchpad: read from DRAM once, though many windows overlap in them.

A band is what some output rows of a window operator (pooling, depthwise convolution)
need of the input: ``channels`` planes of its input rows. It is loaded as one dense tile,
which lies there as a tensor [1, channels, height, width]: a view of that tensor, padded
where the band touches the image's border, then gives every tap of the windows. An input
that is resident already is its own band.
"""

from __future__ import annotations

from dataclasses import dataclass

from motet.targets.systolic.emit.context import StepContext
from motet.targets.systolic.emit.recorder import Recorder, Spot, Tile
from motet.targets.systolic.instructions.addressing import Loop, View
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
    the plane. plane: index of the band's first channel among the tensor's planes.
    """

    tensor: int
    shape: tuple[int, ...]
    padding: Padding
    offset: int
    plane: int

    @property
    def width(self) -> int:
        """Padded width: values from one row to the next."""
        return self.shape[-1] + self.padding[1] + self.padding[3]

    @property
    def plane_values(self) -> int:
        """Padded plane: values from one channel to the next."""
        return self.width * (self.shape[-2] + self.padding[0] + self.padding[2])

    @property
    def planes(self) -> int:
        """Planes of the tensor."""
        return self.shape[0] * self.shape[1]


def input_rows(layer: Convolution | Pooling, first: int, rows: int) -> tuple[int, int, int, int]:
    """First input row and number of them, and rows of padding above and below, of a band."""
    reach = (layer.kernel[0] - 1) * layer.dilation[0]
    begin = first * layer.stride[0] - layer.padding[0]
    last = begin + (rows - 1) * layer.stride[0] + reach
    low = min(max(begin, 0), layer.in_height - 1)
    high = max(min(last, layer.in_height - 1), low)
    return low, high - low + 1, max(0, low - begin), max(0, last - high)


def band_words(layer: Convolution | Pooling, rows: int) -> int:
    """Most words of scratchpad that one channel of a band of ``rows`` output rows takes."""
    reach = (layer.kernel[0] - 1) * layer.dilation[0] + 1
    return min(layer.in_height, (rows - 1) * layer.stride[0] + reach) * layer.in_width


class Stage:
    """Brings bands to where windows can be read.

    layer: the step's, perhaps with its axes renamed. slots: addresses of places for the largest
    band; none where the input is resident.
    """

    def __init__(
        self, recorder: Recorder, layer: Convolution | Pooling, slots: tuple[int, ...]
    ) -> None:
        self._layer, self._recorder, self._slots = layer, recorder, slots
        self._next: dict[int, int] = {}

    @property
    def _context(self) -> StepContext:
        return self._recorder.context

    def source(self, pod: int, band: Band) -> Source:
        """Load ``band`` for ``pod`` if need be, and say where its windows are."""
        tensor = self._context.step.inputs[0]
        if tensor in self._context.resident:
            return self._resident(band, tensor)
        number = self._next.get(pod, 0)
        self._next[pod] = number + 1
        return self._loaded(pod, band, self._slots[number % len(self._slots)])

    def _resident(self, band: Band, tensor: int) -> Source:
        layer = self._layer
        plane = band.batch * layer.input_shape[1] + band.channel
        made = Source(tensor, layer.input_shape, layer.padding, 0, plane)
        offset = band.first * layer.stride[0] * made.width
        return Source(tensor, layer.input_shape, layer.padding, offset, plane)

    def _loaded(self, pod: int, band: Band, address: int) -> Source:
        layer = self._layer
        low, height, top, bottom = input_rows(layer, band.first, band.rows)
        tile = Tile(address, height * layer.in_width, band.channels)
        spot = Spot(band.batch, low * layer.in_width, band.channel)
        self._recorder.load(
            pod, planes(self._context.step.inputs[0], layer.input_shape), spot, tile
        )
        shape = (1, band.channels, height, layer.in_width)
        padding = (top, layer.padding[1], bottom, layer.padding[3])
        made = Source(self._context.stage(shape, address), shape, padding, 0, 0)
        below = max(0, band.first * layer.stride[0] - layer.padding[0] - low)
        return Source(made.tensor, shape, padding, below * made.width, 0)


def planes(tensor: int, shape: tuple[int, ...]) -> View:
    """A group per image; a row per position, a column per channel."""
    batch, channels, height, width = shape
    plane = height * width
    rows, columns = Loop(plane, 1), Loop(channels, plane)
    return View(tensor, shape, Loop(batch, channels * plane), (rows,), (columns,))
