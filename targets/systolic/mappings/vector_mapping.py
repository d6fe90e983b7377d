"""Tile sizes of steps on the vector engine.

The largest tile whose slots fit both memories, cut smaller where there would be fewer than
``CHUNKS`` tiles per pod: loading, computing and storing overlap between tiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from collections.abc import Mapping as Dict
from dataclasses import dataclass, replace

from motet.runtime.errors import CompileError
from motet.targets.systolic.architecture import ArrayDescription, Pod
from motet.targets.systolic.formats import Format
from motet.targets.systolic.mappings.mapping import Mapping, Place
from motet.targets.systolic.mappings.memory import granules, slot_words
from motet.targets.systolic.workload.graph import Step, Workload
from motet.targets.systolic.workload.layers import (
    Elementwise,
    LayerNorm,
    Pooling,
    Softmax,
)
from motet.targets.systolic.workload.lines import (
    along_lines,
    band_words,
    elementwise_matrix,
    is_global,
)
from motet.targets.systolic.workload.moves import Move

CHUNKS = 24
"""Tiles per pod that a step is cut into at least, where it is long enough."""
SMALLEST = 1024
"""Words of a tile below which cutting it smaller only adds instructions."""
SLOTS = ((6, 4), (4, 3), (3, 2), (2, 2), (1, 1))
"""Accumulator and input slots, the best first."""


@dataclass(frozen=True)
class Needs:
    """Memory of a step with tiles [rows, columns], in words.

    scratch: words of scratchpad of each ring's slot, as a function of (rows, columns).
    row_vectors, column_vectors: vectors over a tile's rows or columns in every accumulator slot.
    vectors: over columns, once per pod. row_step: rows are cut at multiples of it.
    sum_granule, scratch_granule: words that every place in a memory is rounded up to.
    """

    rows: int
    columns: int
    scratch: Callable[[int, int], tuple[int, ...]]
    row_vectors: int = 0
    vectors: int = 0
    column_vectors: int = 0
    row_step: int = 1
    sum_granule: int = 1
    scratch_granule: int = 1

    def fits(
        self, rows: int, columns: int, slots: int, inputs: int, sums: int, scratch: int
    ) -> bool:
        """Whether tiles of [rows, columns] fit into ``sums`` and ``scratch`` words."""
        tile, row, column = (
            int(slot_words(words, self.sum_granule)) for words in (rows * columns, rows, columns)
        )
        slot = tile + self.row_vectors * row + self.column_vectors * column
        places = self.scratch(rows, columns)
        taken = sum(int(slot_words(words, self.scratch_granule)) for words in places)
        return slots * slot + self.vectors * column <= sums and inputs * taken <= scratch


def choose_vector_mapping(
    step: Step,
    workload: Workload,
    description: ArrayDescription,
    number_format: Format,
    resident: Dict[int, Place],
    *,
    pods: range | None = None,
    scratchpad_words: int | None = None,
    accumulator_words: int | None = None,
) -> Mapping:
    """The mapping of a pooling, elementwise, softmax or layer-norm step.

    Parameters
    ----------
    resident: places of tensors in scratchpads; a step reads them in its own pods, so that it
        runs where they lie.
    pods: pods that it may use; all pods of the first kind by default.
    scratchpad_words, accumulator_words: what each pod has left for it; by default all but
        what ``resident`` takes.

    Raises ``CompileError`` where not even the smallest tile fits.
    """
    where = pods_of(step, description, resident, pods)
    pod = description.pod(where.start)
    if scratchpad_words is None:
        taken = {n: workload.tensors[n].elements for n in resident}
        scratchpad_words = pod.scratchpad_words(number_format.name) - sum(taken.values())
    sums = pod.accumulator_words if accumulator_words is None else accumulator_words
    largest, needs = _with_largest_tile(step, pod, number_format, resident, scratchpad_words, sums)
    return _shared_out(step, replace(largest, first_pod=where.start, pods=len(where)), needs)


def vector_mappings(
    step: Step,
    description: ArrayDescription,
    number_format: Format,
    resident: Dict[int, Place],
    counts: Iterable[int],
    scratchpad_words: int,
) -> list[Mapping]:
    """As ``choose_vector_mapping`` on the first pods, ``counts`` of them, all of one kind."""
    pod = description.pod(0)
    made = _with_largest_tile(
        step, pod, number_format, resident, scratchpad_words, pod.accumulator_words
    )
    return [_shared_out(step, replace(made[0], pods=count), made[1]) for count in counts]


def _with_largest_tile(
    step: Step,
    pod: Pod,
    number_format: Format,
    resident: Dict[int, Place],
    scratchpad_words: int,
    sums: int,
) -> tuple[Mapping, Needs]:
    """A mapping of the largest tile to one pod, and the memory that tiles take."""
    granule = granules(pod, number_format)
    needs = replace(
        _needs(step, resident),
        sum_granule=granule["accumulators"],
        scratch_granule=granule["scratchpad"],
    )
    rows, columns, slots, inputs = _largest(step, needs, sums, scratchpad_words)
    made = Mapping(
        dataflow=pod.dataflows[0],
        first_pod=0,
        pods=1,
        split="rows",
        tile_rows=rows,
        tile_depth=1,
        tile_columns=columns,
        rows_outermost=False,
        input_slots=inputs,
        weight_slots=1,
        accumulator_slots=slots,
    )
    return made, needs


def pods_of(
    step: Step, description: ArrayDescription, resident: Dict[int, Place], pods: range | None
) -> range:
    """The pods that a step runs on: where its resident operands are."""
    where = range(description.pods[0].count) if pods is None else pods
    for number in step.reads:
        if number in resident:
            place = resident[number].pods
            where = range(max(where.start, place.start), min(where.stop, place.stop))
    if not where:
        raise CompileError(
            f"step {step.name!r}: its resident operands lie in the scratchpads of different pods; "
            "keep one of them in DRAM"
        )
    return where


def _needs(step: Step, resident: Dict[int, Place]) -> Needs:
    layer, epilogue = step.layer, step.epilogue
    vectors = (epilogue.bias is not None) + (epilogue.requantise is not None)
    streamed = int(epilogue.residual is not None and epilogue.residual not in resident)
    if isinstance(layer, Elementwise):
        vectors += layer.vector
        second = layer.kind != "identity" and not layer.vector
        streamed += second and step.inputs[1] not in resident
        size = elementwise_matrix(step)
        return Needs(*size, lambda r, c: (r * c,) * streamed, vectors=vectors)
    if isinstance(layer, Pooling):
        return _pooling_needs(along_lines(layer), vectors, streamed, step.inputs[0] in resident)
    if isinstance(layer, Move):
        largest = max(layer.pieces, key=lambda piece: piece.rows * piece.columns)
        return Needs(largest.rows, largest.columns, lambda r, c: (r * c,) * streamed)
    assert isinstance(layer, (Softmax, LayerNorm))
    vectors += len(step.inputs) - 1
    per_row = 3 if isinstance(layer, Softmax) else 2
    return Needs(layer.rows, layer.columns, lambda r, c: (r * c,) * streamed, per_row, vectors)


def _pooling_needs(layer: Pooling, vectors: int, streamed: int, is_resident: bool) -> Needs:
    if is_global(layer):
        plane = layer.in_height * layer.in_width
        return Needs(plane, layer.channels, lambda r, c: (c,) * streamed, 0, vectors, 1)
    height, width = layer.out_size

    def scratch(rows: int, columns: int) -> tuple[int, ...]:
        residuals = (rows * columns,) * streamed
        band = band_words(layer, rows // width) * columns
        return residuals if is_resident else (band, *residuals)

    return Needs(height * width, layer.channels, scratch, 0, vectors, row_step=width)


def _largest(step: Step, needs: Needs, sums: int, scratch: int) -> tuple[int, int, int, int]:
    """Tile rows and columns, accumulator slots and input slots.

    Row-wise steps and poolings would rather have whole rows (of images: whole planes) than
    several slots; others would rather have slots.
    """
    whole_first = not isinstance(step.layer, Elementwise | Move)
    for whole in (True, False) if whole_first else (False,):
        for slots, inputs in SLOTS:
            found = _tile(step, needs, slots, inputs, sums, scratch, whole=whole)
            if found is not None:
                return *found, slots, inputs
    raise CompileError(
        f"step {step.name!r}: its smallest tile does not fit {sums} words of accumulators and "
        f"{scratch} of scratchpad; use an array with larger memories or leave it to the host"
    )


def _tile(
    step: Step, needs: Needs, slots: int, inputs: int, sums: int, scratch: int, *, whole: bool
) -> tuple[int, int] | None:
    """The largest tile: with ``whole``, of all columns (poolings: of all rows)."""

    def fits(rows: int, columns: int) -> bool:
        return needs.fits(rows, columns, slots, inputs, sums, scratch)

    if isinstance(step.layer, Pooling):
        rows = needs.rows if whole else _most(needs.rows, needs.row_step, lambda r: fits(r, 1))
        columns = _most(needs.columns, 1, lambda c: fits(rows, c)) if rows else 0
    else:
        least = needs.columns
        columns = least if whole else _most(needs.columns, 1, lambda c: fits(1, c))
        rows = _most(needs.rows, 1, lambda r: fits(r, columns)) if columns else 0
    return (rows, columns) if rows and columns else None


def _most(limit: int, step: int, fits: Callable[[int], bool]) -> int:
    """The largest multiple of ``step`` up to ``limit`` that fits; 0 if none does."""
    low, high = 0, limit // step
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle * step) else (low, middle - 1)
    return low * step


def _shared_out(step: Step, mapping: Mapping, needs: Needs) -> Mapping:
    """Smaller tiles where there are too few for the pods."""
    wanted = mapping.pods * CHUNKS
    rows, columns = mapping.tile_rows, mapping.tile_columns
    if isinstance(step.layer, Pooling):
        images = step.layer.batch
        columns = min(columns, max(math.ceil(SMALLEST / rows), needs.columns * images // wanted, 1))
        if images * needs.columns < mapping.pods and not is_global(step.layer):
            lines = needs.rows // needs.row_step
            parts = math.ceil(mapping.pods / (images * needs.columns))
            rows = min(rows, math.ceil(lines / parts) * needs.row_step)
    else:
        rows = min(rows, max(math.ceil(SMALLEST / columns), math.ceil(needs.rows / wanted)))
    tiles = math.ceil(needs.rows / rows) if not isinstance(step.layer, Pooling) else mapping.pods
    return replace(
        mapping, tile_rows=rows, tile_columns=columns, pods=max(1, min(mapping.pods, tiles))
    )
