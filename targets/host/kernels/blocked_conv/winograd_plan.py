"""How Winograd's convolution is cut into tiles, groups of tiles, sweeps and tasks."""

from __future__ import annotations

from dataclasses import dataclass

from motet.targets.host.kernels.blocked_conv.geometry import BlockedConv
from motet.targets.host.loops import round_up
from motet.targets.host.space import Point, Problem

LOCAL, SHARED = 0, 1
"""Knob ``order``: a task transforms a group of tiles and does all else with it; or all tiles
are transformed first, and a task is one sweep of output channels over one group of tiles."""

_LINE_FLOATS = 16


@dataclass(frozen=True)
class Plan:
    """A point's nest in numbers.

    size: positions of an output tile along an axis; points: products per tile. down, across:
    tiles of an image; group: tiles of a group, groups: of an image. rows, vectors: a register
    tile of tiles x output-channel vectors; panels: register tiles side by side in a sweep,
    sweeps: over the output channels. ic_blocks, oc_blocks: of channels.
    """

    size: int
    order: int
    down: int
    across: int
    group: int
    rows: int
    vectors: int
    panels: int
    block: int
    ic_blocks: int
    oc_blocks: int

    @property
    def edge(self) -> int:
        """Positions of an input tile along an axis."""
        return self.size + 2

    @property
    def points(self) -> int:
        """Products per tile."""
        return self.edge**2

    @property
    def tiles(self) -> int:
        """Tiles of an image."""
        return self.down * self.across

    @property
    def groups(self) -> int:
        """Groups of tiles of an image; the last one overlaps the one before."""
        return -(-self.tiles // self.group)

    @property
    def columns(self) -> int:
        """Output channels of a register tile."""
        return self.vectors * self.block

    @property
    def sweeps(self) -> int:
        """Sweeps over output channels."""
        return -(-self.oc_blocks // (self.vectors * self.panels))

    @property
    def sweep_blocks(self) -> int:
        """Blocks of output channels of a sweep."""
        return self.vectors * self.panels

    @property
    def plane(self) -> int:
        """Elements between a group's transformed values of one point and of the next: an odd
        number of cache lines, so that those of all points fall into different sets.
        """
        size = round_up(self.ic_blocks * self.block * self.group, _LINE_FLOATS)
        return size if size // _LINE_FLOATS % 2 else size + _LINE_FLOATS

    @property
    def row_parts(self) -> tuple[tuple[int, int], ...]:
        """(rows, count) of the register tiles that cover a group, nearly equal in size."""
        parts = -(-self.group // self.rows)
        low = self.group // parts
        high = self.group - low * parts
        return tuple(p for p in ((low + 1, high), (low, parts - high)) if p[1])


def plan_of(problem: Problem, point: Point) -> Plan:
    """The plan of a point."""
    extents = problem["out_height"], problem["out_width"]
    return _plan(point, extents, problem["block"], (problem["channels"], problem["outs"]))


def plan_for(conv: BlockedConv, point: Point) -> Plan:
    """The plan of a point."""
    extents = conv.out_height, conv.out_width
    return _plan(point, extents, conv.block, (conv.channels, conv.outs))


def _plan(point: Point, extents: tuple[int, int], block: int, channels: tuple[int, int]) -> Plan:
    """Groups are of equal size, register tiles no larger than they; sweeps that would be
    mostly padding are narrower.
    """
    size = point["algorithm"]
    down, across = (-(-extent // size) for extent in extents)
    groups = -(-down * across // point["tiles"])
    group = -(-down * across // groups)
    ic_blocks, oc_blocks = (-(-count // block) for count in channels)
    vectors = min(point["vectors"], oc_blocks)
    panels = min(point["panels"], -(-oc_blocks // vectors))
    return Plan(
        size, point["order"], down, across, group, min(point["rows"], group), vectors, panels,
        block, ic_blocks, oc_blocks,
    )  # fmt: skip
