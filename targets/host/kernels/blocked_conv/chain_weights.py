"""Weights of an integer convolution as chains of steps whose products add up in 16 bits.

A *four* is what one ``pmaddubsw`` multiplies: four input channels of one tap, for a panel's
output channels. Two fours make an *eight* where in every 16-bit lane their products with any
bytes fit together: where the positive weights of the lane add up to at most 128, and so do the
negative ones (255 * 128 < 2**15). Then both are added before the sum is widened. The order of
a sum is free, so that a panel's fours are paired as they suit each other: neighbours first,
which read the same bytes of the cache, then what was left over, by trial.

The packed form is one array of int32::

    ones     for every accumulator a vector of 16-bit ones, which widening multiplies by
    headers  [group][panel][chunk][kernel row]: number of eights, number of the first four
    offsets  [four]: where it reads its input, counted in fours from the position's first
    weights  [four][output channel of the panel], from a multiple of 64 bytes on

LLVM keeps a single vector of ones in a register, of which there are too few, and moves
accumulators in and out of memory instead; therefore there is one for each accumulator. A segment
(one header) lists the fours of its eights two by two, then the single ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motet.targets.host.kernels.blocked_conv.direct_plan import DirectPlan
from motet.targets.host.kernels.blocked_conv.geometry import BlockedConv

# Of 16 bits, over the largest byte.
_MOST = 128
# Rounds in which fours that found no partner try the next one.
_ROUNDS = 12
_ALIGNED = 16


@dataclass(frozen=True)
class ChainLayout:
    """Where the parts of the packed array lie.

    panels, chunks: of a plan, all groups'. rows: segments of a chunk: kernel rows where some
    are skipped at the edges, else one. fours: of a panel, for one kernel row of one input
    block, ``steps``; ``split`` input blocks to a chunk. ones: elements of that part.
    """

    panels: int
    chunks: int
    rows: int
    in_blocks: int
    split: int
    steps: int
    width: int
    ones: int

    @property
    def fours(self) -> int:
        """Fours of a panel."""
        return self.in_blocks * self.rows * self.steps

    def chunk_fours(self, chunk: int) -> int:
        """Fours of one segment of ``chunk``."""
        return min(self.split, self.in_blocks - chunk * self.split) * self.steps

    @property
    def offsets(self) -> int:
        """Where the offsets begin."""
        return self.ones + 2 * self.panels * self.chunks * self.rows

    @property
    def weights(self) -> int:
        """Where the weights begin."""
        end = self.offsets + self.panels * self.fours
        return -(-end // _ALIGNED) * _ALIGNED

    @property
    def size(self) -> int:
        """Elements in all."""
        return self.weights + self.panels * self.fours * self.width


def layout_of(conv: BlockedConv, plan: DirectPlan, by_rows: bool) -> ChainLayout:
    """The layout for a plan; ``by_rows`` where every kernel row is a segment of its own."""
    taps = conv.kernel[0] * conv.kernel[1]
    rows = conv.kernel[0] if by_rows else 1
    return ChainLayout(
        conv.groups * plan.panels, plan.chunks, rows, plan.in_blocks, plan.split,
        taps // rows * plan.in_block, plan.blocks * plan.lanes,
        plan.columns * plan.blocks * plan.lanes,
    )  # fmt: skip


def input_offsets(conv: BlockedConv, plan: DirectPlan) -> NDArray[np.int32]:
    """[input block][kernel row][kernel column][four]: what each reads, from a position's first."""
    icb, kh, kw, c = np.meshgrid(
        np.arange(plan.in_blocks), np.arange(conv.kernel[0]) * conv.dilation[0],
        np.arange(conv.kernel[1]) * conv.dilation[1], np.arange(plan.in_block), indexing="ij",
    )  # fmt: skip
    row = icb * plan.input_rows + kh
    return np.asarray((row * plan.input_width + kw) * plan.in_block + c, np.int32)


def _sides(fours: NDArray[np.int32]) -> NDArray[np.int16]:
    """(fours, 2, lanes): what the positive and the negative weights of each 16-bit lane add."""
    pairs = fours.view(np.int8).reshape(*fours.shape[:-1], -1, 2).astype(np.int16)
    return np.stack([np.maximum(pairs, 0).sum(-1), -np.minimum(pairs, 0).sum(-1)], -2).astype(
        np.int16
    )


def _fit(left: NDArray[np.int16], right: NDArray[np.int16]) -> NDArray[np.bool_]:
    return np.asarray((left + right).max((-2, -1)) <= _MOST)


def _pairing(sides: NDArray[np.int16]) -> tuple[list[int], list[int]]:
    """The fours of a segment's eights, two by two, and those without a partner."""
    count = len(sides) // 2
    left, right = sides[0 : 2 * count : 2], sides[1 : 2 * count : 2]
    good = _fit(left, right)
    eights = [2 * int(i) + k for i in np.flatnonzero(good) for k in (0, 1)]
    rest = np.setdiff1d(np.arange(len(sides)), eights)
    for turn in range(_ROUNDS):
        if len(rest) < 2:
            break
        eights, rest = _paired(sides, eights, rest, turn % (len(rest) - 1) + 1)
    return eights, [int(i) for i in rest]


def _paired(
    sides: NDArray[np.int16], eights: list[int], rest: NDArray[np.int64], step: int
) -> tuple[list[int], NDArray[np.int64]]:
    """Pairs fours of ``rest`` with those ``step`` places on."""
    good = _fit(sides[rest[:-step]], sides[rest[step:]])
    taken = np.zeros(len(rest), bool)
    for i in np.flatnonzero(good):
        if not (taken[i] or taken[i + step]):
            taken[[i, i + step]] = True
            eights = [*eights, int(rest[i]), int(rest[i + step])]
    return eights, rest[~taken]


def pack_chains(
    fours: NDArray[np.int32], offsets: NDArray[np.int32], layout: ChainLayout
) -> NDArray[np.int32]:
    """The packed array.

    Parameters
    ----------
    fours
        (groups, panels, input blocks, kh, kw, fours of a block, width): weights in the order
        of ``direct_weights``, each int32 four signed bytes.
    offsets
        ``input_offsets``.
    """
    packed = np.zeros(layout.size, np.int32)
    packed[: layout.ones] = 0x00010001
    segments = layout.panels, layout.chunks, layout.rows
    headers = packed[layout.ones : layout.offsets].reshape(*segments, 2)
    where = packed[layout.offsets : layout.offsets + layout.panels * layout.fours]
    weights = packed[layout.weights :].reshape(-1, layout.width)
    shape = layout.in_blocks, layout.rows, layout.steps
    panels = fours.reshape(layout.panels, *shape, layout.width)
    reads, sides = offsets.reshape(shape), _sides(panels)
    first = 0
    for panel, chunk, row in np.ndindex(*segments):
        blocks = slice(chunk * layout.split, (chunk + 1) * layout.split)
        flat = sides[panel, blocks, row].reshape(-1, *sides.shape[-2:])
        eights, singles = _pairing(flat)
        order: Sequence[int] = [*eights, *singles]
        headers[panel, chunk, row] = len(eights) // 2, first
        where[first : first + len(order)] = reads[blocks, row].reshape(-1)[order]
        part = panels[panel, blocks, row].reshape(-1, layout.width)
        weights[first : first + len(order)] = part[order]
        first += len(order)
    return packed
