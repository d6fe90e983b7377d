"""A mapping: how one step is cut into tiles, in which order they run, and on which pods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from motet.targets.systolic.architecture import DataflowName

Split = Literal["rows", "columns", "groups"]


def grid_of(split: Split, pods: int, inner_pods: int) -> tuple[int, int, int]:
    """``Mapping.grid`` of these fields."""
    runs, inner = pods // inner_pods, inner_pods
    if split == "rows":
        return 1, runs, inner
    return (1, inner, runs) if split == "columns" else (runs, inner, 1)


def grid_strides_of(split: Split, inner_pods: int) -> tuple[int, int, int]:
    """``Mapping.grid_strides`` of these fields."""
    if split == "rows":
        return 0, inner_pods, 1
    return (0, 1, inner_pods) if split == "columns" else (inner_pods, 1, 0)


@dataclass(frozen=True)
class Mapping:
    """A choice of tiles for one step; ``mappings/file.py`` reads and writes them.

    Attributes
    ----------
    dataflow: of the products; vector steps have none of their own and ignore it.
    first_pod, pods: the pods that share the step's output tiles, of one kind.
    split: the dimension of the output whose tiles are dealt out to the pods: rows (m), columns
        (n), or groups.
    inner_pods: the pods are runs of this many neighbours, and the runs are what ``split`` deals
        tiles to; within a run, neighbours split the columns of what ``split`` gives in rows, and
        the rows of what it gives in columns or groups. Neighbours share operands by multicast.
    tile_rows, tile_depth, tile_columns: sizes of a full tile along m, k and n.
    rows_outermost: the loop order of output tiles; the reduction is innermost.
    input_slots, weight_slots, accumulator_slots: full tiles that each memory holds at once, as
        rings.
    """

    dataflow: DataflowName
    first_pod: int
    pods: int
    split: Split
    tile_rows: int
    tile_depth: int
    tile_columns: int
    rows_outermost: bool
    input_slots: int
    weight_slots: int
    accumulator_slots: int
    inner_pods: int = 1

    @property
    def pod_numbers(self) -> range:
        """The pods that the step runs on."""
        return range(self.first_pod, self.first_pod + self.pods)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Pods that groups, rows and columns of output tiles are dealt out to."""
        return grid_of(self.split, self.pods, self.inner_pods)

    @property
    def grid_strides(self) -> tuple[int, int, int]:
        """By how much a pod's number grows along groups, rows and columns of ``grid``."""
        return grid_strides_of(self.split, self.inner_pods)


@dataclass(frozen=True)
class Place:
    """Where a resident tensor lies: at ``address`` (words) of the scratchpads of ``pods``."""

    address: int
    pods: range
