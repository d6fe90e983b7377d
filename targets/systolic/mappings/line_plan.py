"""How a depthwise convolution becomes 1-D convolutions of lines, and what a band of it takes.

A line is an output row of one channel of one image, or, turned, an output column. FuSeConv's
spatially tiled output-stationary dataflow (arXiv 2105.13434) puts lines on the array's rows and
positions of a line on its columns. A K x K filter is one 1-D convolution too, of all K K taps:
its line is the K input rows interleaved, value by value, so that an output's window is K K
neighbours and the next one K stride further on. Taps that are dilated along the line have no
window of neighbours; every output then has K K values of the line of its own. Both are
addresses of a view: nothing is moved for it.

A fold takes as many cycles as the array has rows, however few positions a line has. Output rows
of a plane are therefore *joined* to one long line where that is quicker: row after row with its
padding, so that between two rows a few sums belong to none; they are not stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from motet.runtime.errors import CompileError
from motet.targets.systolic.instructions.isa import Dataflow
from motet.targets.systolic.mappings.mapping import Mapping
from motet.targets.systolic.mappings.memory import slot_words
from motet.targets.systolic.workload.layers import Convolution
from motet.targets.systolic.workload.lines import band_words

_UNLIMITED = 2**62
_SPATIAL = int(Dataflow.SPATIAL_OUTPUT_STATIONARY)
JOINED_PART = 4
"""Tiles of joined lines that fit the accumulators at least."""
BANDS = 16
"""Bands per pod that an input is cut into at least: one is loaded while another is used."""
SPATIAL: Literal["spatial-output-stationary"] = "spatial-output-stationary"


def turned(layer: Convolution) -> Convolution:
    """The layer with its axes exchanged: rows are columns."""
    top, left, bottom, right = layer.padding
    return replace(
        layer,
        in_height=layer.in_width,
        in_width=layer.in_height,
        kernel=layer.kernel[::-1],
        stride=layer.stride[::-1],
        padding=(left, top, right, bottom),
        dilation=layer.dilation[::-1],
    )


def line_stride(layer: Convolution) -> int:
    """Values of the interleaved line from one output to the next (see the module)."""
    down, across = layer.kernel
    return down * (layer.stride[1] if layer.dilation[1] == 1 else across)


def joined_pitch(layer: Convolution) -> int:
    """Positions from one output row to the next where rows are joined to one line; 0: never.

    A row's padded values, cut or stretched to whole strides, follow those of the row above.
    """
    across, stride = layer.kernel[1], layer.stride[1]
    pitch = -(-((layer.out_size[1] - 1) * stride + across) // stride)
    padded = layer.padding[1] + layer.in_width + layer.padding[3]
    return pitch if layer.dilation[1] == 1 and pitch * stride <= padded else 0


def joined_width(layer: Convolution, joined: int) -> int:
    """Positions of a line of ``joined`` output rows, those between two rows included."""
    return (joined - 1) * joined_pitch(layer) + layer.out_size[1]


def line_cycles(layer: Convolution, rows: int, columns: int, joined: int = 1, pods: int = 1) -> int:
    """Cycles of all lines on ``pods`` arrays of ``rows`` x ``columns``, fold after fold.

    joined: output rows to a line.
    """
    # compiled by numba, which takes longer to import than most networks to schedule
    from motet.targets.systolic.array_intervals import stream_cycles

    lines = math.ceil(layer.batch * layer.out_channels * (layer.out_size[0] // joined) / pods)
    stride, depth = line_stride(layer), math.prod(layer.kernel)
    whole, rest = divmod(joined_width(layer, joined), columns)
    folds = [(whole, columns), (1, rest)] if rest else [(whole, columns)]
    streamed = sum(
        count * max(rows, int(stream_cycles(_SPATIAL, rows, outputs, depth, stride)))
        for count, outputs in folds
    )
    return math.ceil(lines / rows) * streamed


def joined_rows(layer: Convolution, rows: int, columns: int, sums: int, pods: int = 1) -> int:
    """How many output rows of a plane make one line: what takes the fewest cycles.

    A fold takes at least ``rows`` cycles, however short its lines. Tiles of the joined lines
    take at most one part in ``JOINED_PART`` of ``sums`` accumulator words.
    """
    if not joined_pitch(layer):
        return 1
    height, lines = layer.out_size[0], layer.batch * layer.out_channels
    fitting = [
        n
        for n in range(2, height + 1)
        if height % n == 0
        and joined_width(layer, n) * min(rows, lines * height // n) * JOINED_PART <= sums
    ]
    return min((1, *fitting), key=lambda n: line_cycles(layer, rows, columns, n, pods))


def along(layer: Convolution, rows: int, columns: int) -> tuple[Convolution, bool]:
    """The layer as lines are cut from it, and whether that is turned: whichever is quicker.

    Row by row first, and joined where that makes no difference.
    """

    def cycles(lines: Convolution) -> tuple[int, int]:
        joined = joined_rows(lines, rows, columns, _UNLIMITED)
        single = line_cycles(lines, rows, columns)
        return single, line_cycles(lines, rows, columns, joined)

    other = turned(layer)
    return (other, True) if cycles(other) < cycles(layer) else (layer, False)


@dataclass(frozen=True)
class LinePlan:
    """Bands of ``channels`` input channels x ``rows`` lines each; ``positions`` of a line at once.

    layer: as lines are cut from it (``along``). joined: output rows to a line (``joined_rows``).
    band: words of one in the scratchpad. tile: accumulator words of a tile of lines.
    """

    layer: Convolution
    is_turned: bool
    channels: int
    rows: int
    joined: int
    positions: int
    band: int
    tile: int


def plan_lines(
    name: str,
    layer: Convolution,
    mapping: Mapping,
    scratchpad: int,
    sums: int,
    *,
    rows: int,
    columns: int,
    resident: bool,
    streamed: bool,
    may_join: bool,
    granule: dict[str, int],
) -> LinePlan:
    """What fits ``scratchpad`` words and ``sums`` accumulator words.

    Parameters
    ----------
    name: of the step, for the error. rows, columns: of the array, which decide the orientation.
    resident: whether the input lies in scratchpads. streamed: whether a residual comes from DRAM.
    may_join: whether lines may be several output rows (nothing is added to them).
    granule: words of each memory that places in it are rounded up to.

    Raises ``CompileError`` where one line of one channel does not fit.
    """
    lines, is_turned = along(layer, rows, columns)
    joined = joined_rows(lines, rows, columns, sums, mapping.pods) if may_join else 1
    tile_rows, slots = mapping.tile_rows, mapping.accumulator_slots
    wide, pad = granule["accumulators"], granule["scratchpad"]
    vectors = int(slot_words(2 * tile_rows, wide)) * mapping.weight_slots
    room = (sums - vectors) // slots // wide * wide // tile_rows
    planes, height = lines.batch * lines.in_channels, lines.out_size[0]
    if room < joined_width(lines, joined) or planes < mapping.pods:
        joined = 1
    width = joined_width(lines, joined)
    positions = min(width, room)
    if mapping.tile_columns <= positions < width:
        positions -= positions % mapping.tile_columns
    weights = mapping.weight_slots * int(slot_words(tile_rows * math.prod(layer.kernel), pad))
    residual = mapping.input_slots * int(slot_words(tile_rows * positions, pad)) * streamed
    free = (scratchpad - weights - residual) // mapping.input_slots // pad * pad
    channels, band_rows = _band(lines, mapping, free, resident, joined)
    if band_rows < height and joined > 1:  # few words of scratchpad: no more than a line at once
        joined, width = 1, lines.out_size[1]
        positions = min(width, positions)
    if positions < 1 or band_rows < 1 or free < 0:
        raise CompileError(
            f"step {name!r}: a line of its image does not fit {scratchpad} words of scratchpad "
            f"and {sums} of accumulators: use a larger array, fewer slots, or another dataflow"
        )
    band = 0 if resident else band_words(lines, band_rows) * channels
    tile = tile_rows * positions
    return LinePlan(lines, is_turned, channels, band_rows, joined, positions, band, tile)


def _band(
    lines: Convolution, mapping: Mapping, free: int, resident: bool, joined: int
) -> tuple[int, int]:
    """Channels and output rows of a band: what fits, but ``BANDS`` for every pod."""
    height = lines.out_size[0]
    planes = lines.batch * lines.in_channels
    share = max(1, math.ceil(planes / (BANDS * mapping.pods)))
    multiplier = lines.out_channels // lines.in_channels
    share = max(share, math.ceil(mapping.tile_rows / (height // joined * multiplier)))
    share = min(share, lines.in_channels)
    rows = height
    if planes < mapping.pods:
        rows = math.ceil(height / math.ceil(mapping.pods / planes))
    if resident:  # nothing is loaded: as few bands as there are pods
        return min(math.ceil(planes / mapping.pods), lines.in_channels), rows
    channels = min(share, free // band_words(lines, rows))
    if channels:
        return channels, rows
    while rows and band_words(lines, rows) > free:
        rows -= 1
    return 1, rows
