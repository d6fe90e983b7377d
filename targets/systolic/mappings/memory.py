"""How much of a pod's memories the tiles of a mapping take, and where its rings lie.

Scratchpad: a ring of input tiles (none where the input is resident), one of weight tiles, and
one of residual tiles (none where it is resident, or there is none). Accumulators: a ring
of output tiles, and one of the vectors (bias, scales) of a column tile.
Slots begin at multiples of what ``synchronise`` tells apart, so that neighbours in a ring are
loaded and used at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from motet.targets.systolic.architecture import Pod
from motet.targets.systolic.formats import Format
from motet.targets.systolic.instructions.granules import granule_words
from motet.targets.systolic.mappings.mapping import Mapping
from motet.targets.systolic.workload.graph import Step

VECTOR_SLOTS = (2, 16)
"""Least and most slots of the ring of vectors; in between what ``VECTOR_PART`` holds."""
VECTOR_PART = 16
"""Vectors take about one part in so many of the accumulators."""


@dataclass(frozen=True)
class Operands:
    """Which of a step's operands come as tiles from DRAM, and granules of the two memories.

    vectors: vectors of the epilogue per column tile. vector_words: what all their slots should
    take of the accumulators. scratchpad_granule, accumulator_granule: in
    words of the memory.
    """

    loads_input: bool
    loads_residual: bool
    vectors: int
    vector_words: int
    scratchpad_granule: int
    accumulator_granule: int


@dataclass(frozen=True)
class Ring:
    """``slots`` places of ``words`` words from ``address`` on."""

    address: int
    slots: int
    words: int


def operands(step: Step, pod: Pod, number_format: Format, resident: Any) -> Operands:
    """What the tiles of ``step`` consist of; ``resident``: a container of tensor numbers."""
    epilogue = step.epilogue
    residual = epilogue.residual
    return Operands(
        step.inputs[0] not in resident,
        residual is not None and residual not in resident,
        sum(n is not None for n in (epilogue.bias, epilogue.requantise, epilogue.dequantise)),
        pod.accumulator_words // VECTOR_PART,
        granule_words(pod.scratchpad_words(number_format.name)),
        granule_words(pod.accumulator_words),
    )


def slot_words(words: Any, granule: int) -> Any:
    """Size of a slot for ``words`` words (integers or an array)."""
    return -(-words // granule) * granule


def vector_slots(parts: Operands, columns: Any) -> Any:
    """Slots of the ring of vectors (an integer or an array)."""
    one = max(1, parts.vectors) * slot_words(columns, parts.accumulator_granule)
    return np.clip(parts.vector_words // one, *VECTOR_SLOTS)


def scratchpad_words(
    parts: Operands,
    tile: tuple[Any, Any, Any],
    input_slots: Any,
    weight_slots: Any,
    accumulator_slots: Any,
) -> Any:
    """Words of scratchpad that tiles of (rows, depth, columns) take; arrays broadcast.

    A residual tile is there for every accumulator tile.
    """
    rows, depth, columns = tile
    granule = parts.scratchpad_granule
    total = weight_slots * slot_words(depth * columns, granule)
    if parts.loads_input:
        total = total + input_slots * slot_words(rows * depth, granule)
    if parts.loads_residual:
        total = total + accumulator_slots * slot_words(rows * columns, granule)
    return total


def accumulator_words(parts: Operands, rows: Any, columns: Any, slots: Any) -> Any:
    """Words of accumulators that ``slots`` output tiles and the vectors take."""
    granule = parts.accumulator_granule
    vectors = parts.vectors * vector_slots(parts, columns) * slot_words(columns, granule)
    return slots * slot_words(rows * columns, granule) + vectors


@dataclass(frozen=True)
class Rings:
    """Where the rings of a step lie. ``vectors``: a slot holds all vectors, one after another."""

    inputs: Ring
    weights: Ring
    residuals: Ring
    sums: Ring
    vectors: Ring
    scratchpad_stop: int
    accumulator_stop: int


def rings(parts: Operands, mapping: Mapping, scratchpad: int, accumulators: int) -> Rings:
    """The rings from words ``scratchpad`` and ``accumulators`` of the two memories on."""
    rows, depth, columns = mapping.tile_rows, mapping.tile_depth, mapping.tile_columns
    pad, wide = parts.scratchpad_granule, parts.accumulator_granule
    input_slots = mapping.input_slots if parts.loads_input else 0
    inputs = Ring(scratchpad, input_slots, int(slot_words(rows * depth, pad)))
    weights = Ring(_stop(inputs), mapping.weight_slots, int(slot_words(depth * columns, pad)))
    residual_slots = mapping.accumulator_slots if parts.loads_residual else 0
    residuals = Ring(_stop(weights), residual_slots, int(slot_words(rows * columns, pad)))
    sums = Ring(accumulators, mapping.accumulator_slots, int(slot_words(rows * columns, wide)))
    vector_words = parts.vectors * int(slot_words(columns, wide))
    vectors = Ring(_stop(sums), int(vector_slots(parts, columns)), vector_words)
    return Rings(inputs, weights, residuals, sums, vectors, _stop(residuals), _stop(vectors))


def _stop(ring: Ring) -> int:
    return ring.address + ring.slots * ring.words


def granules(pod: Pod, number_format: Format) -> dict[str, int]:
    """Words of each memory that are ordered as one."""
    return {
        "scratchpad": granule_words(pod.scratchpad_words(number_format.name)),
        "accumulators": granule_words(pod.accumulator_words),
    }
