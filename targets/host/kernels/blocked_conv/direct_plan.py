"""How a direct convolution is cut into tasks, register tiles and chunks of input channels.

A plan is made from a problem and a point alone, integers only, so that the schedule space can
weigh plans without writing nests. Positions of the output are counted along *lines* of
``width``: the rows of the output, or, where an output position reads the input position of
its own number (pointwise), lines of a single position.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from motet.targets.host.space import Point

Sizes = Mapping[str, int]
"""A problem's sizes by name."""

# Weights that stay in the second-level cache from one inference to the next, at best.
_NEAR_BYTES = 128 * 1024


def ceil_div(a: int, b: int) -> int:
    """The quotient, rounded up."""
    return -(-a // b)


@dataclass(frozen=True)
class DirectPlan:
    """The cut of one image's convolution.

    lanes: channels of an output block. columns x blocks: positions and output blocks of a
    register tile. lines x width: output positions; ``rows`` lines to a task. out_blocks: of
    one group; ``panels_per_task`` panels of ``blocks`` blocks to a task. in_block: input
    channels that lie side by side (1 in the plain layout); ``in_blocks`` of them are summed
    up, ``split`` at a time. in_place: the input is read where it is, else the task's part is
    copied, with its padding. flat: output positions that follow one another read input
    positions that do. plain_output: the output is in the plain layout. input_rows,
    input_width: of an input plane where it is read.
    """

    lanes: int
    columns: int
    blocks: int
    lines: int
    width: int
    rows: int
    out_blocks: int
    panels_per_task: int
    in_block: int
    in_blocks: int
    split: int
    in_place: bool
    flat: bool
    plain_output: bool
    input_rows: int
    input_width: int

    @property
    def panels(self) -> int:
        """Groups of ``blocks`` output blocks; the last may hold fewer."""
        return ceil_div(self.out_blocks, self.blocks)

    @property
    def parts(self) -> int:
        """Tasks that share the same lines."""
        return ceil_div(self.panels, self.panels_per_task)

    @property
    def row_blocks(self) -> int:
        """Tasks that share the same panels."""
        return ceil_div(self.lines, self.rows)

    @property
    def chunks(self) -> int:
        """Passes over a task's positions, each with its input channels."""
        return ceil_div(self.in_blocks, self.split)

    @property
    def positions(self) -> int:
        """Output positions of a whole task."""
        return self.rows * self.width

    @property
    def last_positions(self) -> int:
        """Output positions of a task at the lower edge."""
        return (self.lines - (self.row_blocks - 1) * self.rows) * self.width

    @property
    def tiles(self) -> int:
        """Register tiles over a whole task's positions."""
        return ceil_div(self.positions, self.columns)

    def prefetches(self, taps: int) -> bool:
        """Whether weights, ``taps`` to a pair of channels, come from beyond the second-level
        cache and are asked for ahead.
        """
        weights = self.panels * self.blocks * self.lanes * self.in_blocks * self.in_block * taps
        return self.tiles > 1 and 4 * weights > _NEAR_BYTES

    @property
    def adjacent(self) -> bool:
        """Whether the positions of a tile are neighbours on one line of the input.

        Where they are not, the last tile repeats the last position.
        """
        if not self.flat:
            return self.width % self.columns == 0
        if self.ragged and self.plain_output and self.chunks > 1:
            return False
        return min(self.positions, self.last_positions) >= self.columns

    @property
    def ragged(self) -> bool:
        """Whether tiles of some task hold more positions than the task has."""
        return bool(self.positions % self.columns or self.last_positions % self.columns)


def plain_input_fits(problem: Sizes) -> bool:
    """Whether no output position reads outside the input."""
    p = problem
    high = (p["out_height"] - 1) * p["stride_h"] + (p["kernel_h"] - 1) * p["dilation_h"]
    wide = (p["out_width"] - 1) * p["stride_w"] + (p["kernel_w"] - 1) * p["dilation_w"]
    edges = p["top"] == 0 and p["left"] == 0
    return edges and high < p["height"] and wide < p["width"]


def must_copy(problem: Sizes) -> bool:
    """Whether the input can only be read from a copy."""
    return bool(problem["prologue"]) or not plain_input_fits(problem)


def make_plan(problem: Sizes, point: Point) -> DirectPlan:
    """The cut that ``point`` names."""
    p = problem
    knobs = dict(point.knobs)
    in_place = not knobs["copy"]
    same = p["stride_h"] == p["stride_w"] == 1
    same = same and (p["height"], p["width"]) == (p["out_height"], p["out_width"])
    flat = p["kernel_h"] * p["kernel_w"] == 1 and (same or not in_place)
    lines, width = p["out_height"], p["out_width"]
    if flat and in_place:
        lines, width = lines * width, 1
    rows, in_block = min(knobs["rows"], lines), p["block_in"] or 1
    return DirectPlan(
        lanes=p["block"], columns=knobs["columns"], blocks=knobs["blocks"],
        lines=lines, width=width, rows=rows,
        out_blocks=ceil_div(p["outs"] // p["groups"], p["block"]), panels_per_task=knobs["panels"],
        in_block=in_block, in_blocks=p["channels"] // p["groups"] // in_block,
        split=knobs["split"], in_place=in_place, flat=flat, plain_output=p["block_out"] == 0,
        **_input_extents(p, rows, flat, in_place),
    )  # fmt: skip


def _input_extents(problem: Sizes, rows: int, flat: bool, in_place: bool) -> dict[str, int]:
    """Rows and columns of an input plane as the tiles read it."""
    p = problem
    if in_place:
        return {"input_rows": p["height"], "input_width": p["width"]}
    if flat:
        return {"input_rows": rows, "input_width": p["out_width"]}
    high = (rows - 1) * p["stride_h"] + (p["kernel_h"] - 1) * p["dilation_h"] + 1
    wide = (p["out_width"] - 1) * p["stride_w"] + (p["kernel_w"] - 1) * p["dilation_w"] + 1
    return {"input_rows": high, "input_width": wide}
