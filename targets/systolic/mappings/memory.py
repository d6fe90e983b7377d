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
from motet.targets.systolic.instructions.synchronise import granule_words
from motet.targets.systolic.mappings.mapping import Mapping
from motet.targets.systolic.workload.graph import Step

VECTOR_SLOTS = 2
RESIDUAL_SLOTS = 2


@dataclass(frozen=True)
class Operands:
    """Which of a step's operands come as tiles from DRAM, and granules of the two memories.

    vectors: vectors of the epilogue per column tile. scratchpad_granule, accumulator_granule: in
    words of the memory.
    """

    loads_input: bool
    loads_residual: bool
    vectors: int
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
        (epilogue.bias is not None) + (epilogue.requantise is not None),
        granule_words(pod.scratchpad_words(number_format.name)),
        granule_words(pod.accumulator_words),
    )


def slot_words(words: Any, granule: int) -> Any:
    """Size of a slot for ``words`` words (integers or an array): aligned where that is cheap."""
    unit = np.minimum(granule, 1 << np.ceil(np.log2(np.maximum(words, 1))).astype(np.int64))
    return -(-words // unit) * unit


def scratchpad_words(
    parts: Operands, rows: Any, depth: Any, columns: Any, input_slots: Any, weight_slots: Any
) -> Any:
    """Words of scratchpad that tiles [rows, depth] x [depth, columns] take; arrays broadcast."""
    granule = parts.scratchpad_granule
    total = weight_slots * slot_words(depth * columns, granule)
    if parts.loads_input:
        total = total + input_slots * slot_words(rows * depth, granule)
    if parts.loads_residual:
        total = total + RESIDUAL_SLOTS * slot_words(rows * columns, granule)
    return total


def accumulator_words(parts: Operands, rows: Any, columns: Any, slots: Any) -> Any:
    """Words of accumulators that ``slots`` output tiles and the vectors take."""
    granule = parts.accumulator_granule
    vectors = parts.vectors * VECTOR_SLOTS * slot_words(columns, granule)
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
    residual_slots = RESIDUAL_SLOTS if parts.loads_residual else 0
    residuals = Ring(_stop(weights), residual_slots, int(slot_words(rows * columns, pad)))
    sums = Ring(accumulators, mapping.accumulator_slots, int(slot_words(rows * columns, wide)))
    vector_words = parts.vectors * int(slot_words(columns, wide))
    vectors = Ring(_stop(sums), VECTOR_SLOTS, vector_words)
    return Rings(inputs, weights, residuals, sums, vectors, _stop(residuals), _stop(vectors))


def _stop(ring: Ring) -> int:
    return ring.address + ring.slots * ring.words
