"""The candidates for a product's mapping: every array field is one number per candidate.

Dataflows that the pods offer x pods used and the grid that they form x tile sizes x loop
order x slots. Tiles of the dimension that streams are equal parts of what a pod has to do,
from all of it down to one array height (SOSA's tile (rows, rows, columns) among them), in whole
output lines where lines are short enough. Slots either keep all tiles that are used again or
stream through a few. What does not fit the memories is dropped by ``fitting``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from dataclasses import replace as replaced
from functools import lru_cache
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from motet.targets.systolic.architecture import ArrayDescription, DataflowName, Pod
from motet.targets.systolic.formats import Format
from motet.targets.systolic.mappings.mapping import (
    Mapping,
    Split,
    grid_of,
    grid_strides_of,
)
from motet.targets.systolic.mappings.memory import (
    Operands,
    accumulator_words,
    scratchpad_words,
)
from motet.targets.systolic.workload.layers import ProductShape

Ints = NDArray[np.int64]
Pinned = dict[str, Any]
"""Fields of ``Mapping`` with the value that they must have."""

STREAM_SLOTS = (4, 8)
SUM_SLOTS = (2, 4)
MAX_CUTS = 64
SPLITS: tuple[Split, ...] = ("columns", "rows", "groups")


@dataclass(frozen=True)
class Grid:
    """Pods of one kind, and how output tiles are dealt out to them (see ``Mapping``)."""

    first_pod: int
    pods: int
    split: Split
    inner_pods: int

    @property
    def per_pod(self) -> tuple[int, int, int]:
        """``Mapping.grid``."""
        return grid_of(self.split, self.pods, self.inner_pods)

    @property
    def copies(self) -> tuple[int, int]:
        """LOADs that a shared input (weight) tile takes to reach all its pods."""
        _, row_stride, column_stride = grid_strides_of(self.split, self.inner_pods)
        _, rows, columns = self.per_pod
        return (
            1 if columns == 1 or column_stride == 1 else columns,
            1 if rows == 1 or row_stride == 1 else rows,
        )


@dataclass(frozen=True)
class Candidates:
    """One dataflow and pod kind; int64 arrays [count] of the fields of ``Mapping``.

    grid: number in ``grids``. group_pods, row_pods, column_pods: ``Grid.per_pod``.
    input_copies, weight_copies: ``Grid.copies``.
    """

    dataflow: DataflowName
    pod: Pod
    grids: tuple[Grid, ...]
    grid: Ints
    group_pods: Ints
    row_pods: Ints
    column_pods: Ints
    input_copies: Ints
    weight_copies: Ints
    tile_rows: Ints
    tile_depth: Ints
    tile_columns: Ints
    rows_outermost: Ints
    input_slots: Ints
    weight_slots: Ints
    accumulator_slots: Ints

    def at(self, index: int) -> Mapping:
        """One candidate as a mapping."""
        grid = self.grids[int(self.grid[index])]
        return Mapping(
            dataflow=self.dataflow,
            first_pod=grid.first_pod,
            pods=grid.pods,
            split=grid.split,
            tile_rows=int(self.tile_rows[index]),
            tile_depth=int(self.tile_depth[index]),
            tile_columns=int(self.tile_columns[index]),
            rows_outermost=bool(self.rows_outermost[index]),
            input_slots=int(self.input_slots[index]),
            weight_slots=int(self.weight_slots[index]),
            accumulator_slots=int(self.accumulator_slots[index]),
            inner_pods=grid.inner_pods,
        )

    def taken(self, which: NDArray[Any]) -> Candidates:
        """The candidates that a mask or list of indices names."""
        arrays = {n: v[which] for n, v in vars(self).items() if isinstance(v, np.ndarray)}
        return replaced(self, **arrays)


def grids(
    shape: ProductShape, first: int, pod: Pod, counts: Iterable[int], pinned: Pinned
) -> list[Grid]:
    """Grids of ``counts`` pods from ``first`` on that have a tile for every pod."""
    limits = (shape.groups, shape.m, -(-shape.n // min(pod.columns, shape.n)))
    made = []
    for pods in counts:
        for split, inner in product(SPLITS, counts_to(pods, pinned.get("inner_pods"))):
            same = pods == 1 and split != "columns"
            if pods % inner or (same and "split" not in pinned):
                continue
            if pinned.get("split", split) != split:
                continue
            grid = grid_of(split, pods, inner)
            if "pods" in pinned or all(n <= m for n, m in zip(grid, limits, strict=True)):
                made.append(Grid(first, pods, split, inner))
    return made


def counts_to(most: int, pinned: int | None) -> list[int]:
    """Powers of two up to ``most``, and ``most``; or the pinned count."""
    if pinned is not None:
        return [pinned] if pinned <= most else []
    return sorted({1 << i for i in range(most.bit_length())} | {most})


def candidates(
    shape: ProductShape,
    run: int,
    dataflow: DataflowName,
    pod: Pod,
    choices: list[Grid],
    pinned: Pinned,
    *,
    thorough: bool,
) -> Candidates:
    """All candidates of one dataflow on one kind of pods.

    ``run``: rows of an output line. ``thorough``: with more choices of slots.
    """
    rows_of: list[tuple[int, ...]] = []
    for number, grid in enumerate(choices):
        per_pod = grid.per_pod
        fixed = (number, *per_pod, *grid.copies)
        rows_of += [(*fixed, *tile) for tile in _tiles(shape, run, dataflow, pod, per_pod, pinned)]
    table = np.array(rows_of, np.int64).reshape(-1, 9).T
    return Candidates(dataflow, pod, tuple(choices), *_with_slots(shape, table, pinned, thorough))


def _tiles(
    shape: ProductShape,
    run: int,
    dataflow: DataflowName,
    pod: Pod,
    grid: tuple[int, int, int],
    pinned: Pinned,
) -> Iterator[tuple[int, int, int]]:
    """(rows, depth, columns) of tiles, by the limits of the array."""
    m, n, k = shape.m, shape.n, shape.k
    high, wide = pod.rows, pod.columns
    limits = {
        "weight-stationary": (None, high, wide),
        "output-stationary": (high, None, wide),
        "input-stationary": (wide, high, None),
    }[dataflow]
    wholes = (m, k, n)
    sizes = (-(-m // grid[1]), k, -(-n // grid[2]))
    names = ("tile_rows", "tile_depth", "tile_columns")
    options: list[tuple[int, ...]] = []
    for axis, (name, limit, line) in enumerate(zip(names, limits, (run, 1, 1), strict=True)):
        given = pinned.get(name)
        if given is not None:
            is_legal = limit is None or given <= limit
            options.append((min(given, wholes[axis]),) if is_legal else ())
        elif limit is None:
            options.append(_parts(sizes[axis], high, line))
        else:
            options.append((min(limit, wholes[axis]),))
    rows, depths, columns = options
    return product(rows, depths, columns)


@lru_cache(maxsize=1 << 14)
def _parts(size: int, least: int, run: int) -> tuple[int, ...]:
    """Equal parts of ``size``, from all of it down to ``least``; whole runs where they fit."""
    made, cuts = {min(size, least)}, 1
    while cuts <= max(MAX_CUTS, size // 4096):
        part = -(-size // cuts)
        if part < least and cuts > 1:
            break
        made.add(part)
        if run <= part:
            made.add(min(size, -(-part // run) * run))
            made.add(part // run * run)
        cuts += 1 + cuts // 4
    return tuple(sorted(made, reverse=True))


def _with_slots(shape: ProductShape, table: Ints, pinned: Pinned, thorough: bool) -> Ints:
    """``table`` [9, tiles] for every choice of (rows outermost, input, weight, sum slots)."""
    _, group_pods, row_pods, column_pods, _, _, rows, depth, columns = table
    g_rounds = -(-shape.groups // group_pods)  # a ring goes on from one group to the next
    m_rounds = -(-shape.m // (rows * row_pods))
    n_rounds = -(-shape.n // (columns * column_pods))
    deep = -(-shape.k // depth)
    made: list[Ints] = []
    given = pinned.get("accumulator_slots")
    sums = SUM_SLOTS if given is None else (given,)
    for order in [pinned["rows_outermost"]] if "rows_outermost" in pinned else [True, False]:
        which = np.ones(len(rows), bool)
        if "rows_outermost" not in pinned:  # where one loop has one turn, the order is the same
            which = (n_rounds == 1) | (m_rounds > 1) if order else (n_rounds > 1)
        held = (deep * (1 if order else m_rounds), deep * (n_rounds if order else 1))
        inputs = _ring(held[0], g_rounds * m_rounds * deep, pinned.get("input_slots"), thorough)
        weights = _ring(held[1], g_rounds * n_rounds * deep, pinned.get("weight_slots"), thorough)
        valid = which & (inputs[:, None] > 0) & (weights > 0)
        first, second, tile = np.nonzero(valid)
        slots = (np.full(len(tile), int(order)), inputs[first, tile], weights[second, tile])
        made += [np.vstack([table[:, tile], *slots, np.full(len(tile), n)]) for n in sums]
    return np.hstack(made)


def _ring(kept: Ints, tiles: Ints, pinned: int | None, thorough: bool) -> Ints:
    """Choices of slots [choices, tiles], 0 where a choice is no other than an earlier one."""
    if pinned is not None:
        return np.full((1, len(kept)), pinned)
    choices = [np.maximum(kept, 2), *(np.full(len(kept), slots) for slots in STREAM_SLOTS)]
    if thorough:
        choices += [np.full(len(kept), 2), np.full(len(kept), 16), kept + STREAM_SLOTS[-1]]
    made: list[Ints] = []
    for choice in choices:
        slots = np.minimum(choice, np.maximum(2, tiles))
        for other in made:
            slots = np.where(slots == other, 0, slots)
        made.append(slots)
    return np.array(made)


def fitting(
    made: Candidates, parts: Operands, scratchpad: int, accumulators: int
) -> dict[Literal["scratchpad", "accumulators"], NDArray[np.bool_]]:
    """Which candidates fit each memory's free words."""
    pad = scratchpad_words(
        parts,
        (made.tile_rows, made.tile_depth, made.tile_columns),
        made.input_slots,
        made.weight_slots,
        made.accumulator_slots,
    )
    sums = accumulator_words(parts, made.tile_rows, made.tile_columns, made.accumulator_slots)
    return {"scratchpad": pad <= scratchpad, "accumulators": sums <= accumulators}


def kinds(
    description: ArrayDescription, number_format: Format, pods: range | None
) -> Iterator[tuple[int, int, Pod]]:
    """(first pod, count, pod) of each kind that computes in the format, within ``pods``."""
    for number, pod in enumerate(description.pods):
        first = description.first_of(number)
        stop = first + pod.count
        if pods is not None:
            first, stop = max(first, pods.start), min(stop, pods.stop)
        if first < stop and number_format.name in pod.formats:
            yield first, stop - first, pod
