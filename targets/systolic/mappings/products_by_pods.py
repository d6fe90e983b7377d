"""Least estimated cycles of a product by how many equal pods it may use: one search for all.

What a candidate costs depends on its own pods and not on how many there are. So the candidates
of all counts are made at once, and a count's least is that of all candidates with no more.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.formats import Format
from motet.targets.systolic.mappings.choose import PRODUCT_DATAFLOWS, shape_key
from motet.targets.systolic.mappings.cost import Question, estimate_cycles
from motet.targets.systolic.mappings.memory import operands
from motet.targets.systolic.mappings.space import candidates, counts_to, fitting, grids
from motet.targets.systolic.workload.graph import Step
from motet.targets.systolic.workload.layers import Convolution, MatrixProduct
from motet.targets.systolic.workload.products import product_views

Least = NDArray[np.float64]
"""[1 + most pods]: cycles, inf where nothing fits, as it does at 0."""

_found: dict[Hashable, tuple[float, ...]] = {}
MAX_FOUND = 4096


def product_cycles(
    step: Step,
    description: ArrayDescription,
    number_format: Format,
    counts: Sequence[int],
    *,
    resident: Container[int] = (),
    scratchpad_words: int | None = None,
) -> tuple[float, ...]:
    """Cycles of a Convolution or MatrixProduct on each of ``counts`` pods; inf: does not fit.

    They never rise. The pods of ``description`` are of one kind; ``counts`` rise. As ``choose``
    estimates, but for mappings within its ``TOLERANCE``, of which it may take a slower one.
    """
    assert len(description.pods) == 1
    machine = (description.pods, description.dram, description.interconnect, description.clock_hz)
    key = (
        shape_key(step, resident), number_format, *machine, tuple(counts), scratchpad_words
    )  # fmt: skip
    if key not in _found:
        if len(_found) >= MAX_FOUND:
            _found.clear()
        asked = _question(step, description, number_format, resident)
        least = _least(asked, counts, scratchpad_words)
        _found[key] = tuple(np.minimum.accumulate(least)[list(counts)].tolist())
    return _found[key]


def _question(
    step: Step, description: ArrayDescription, number_format: Format, resident: Container[int]
) -> Question:
    parts = operands(step, description.pods[0], number_format, resident)
    return Question(step, description, number_format, parts, step.output not in resident)


def _least(asked: Question, counts: Sequence[int], words: int | None) -> Least:
    """One pod has no choice of grids, and more of slots; so has what else fits nowhere."""
    pods = sorted({n for count in counts for n in counts_to(count, None)})
    found = np.full(pods[-1] + 1, np.inf)
    _search(asked, [1], words, found, thorough=True)
    _search(asked, pods, words, found, thorough=False)
    if np.isinf(found).all():
        _search(asked, pods, words, found, thorough=True)
    return found


def _search(
    asked: Question, pods: Sequence[int], words: int | None, found: Least, *, thorough: bool
) -> None:
    """Lower ``found`` to what candidates with these numbers of pods take."""
    assert isinstance(asked.step.layer, (Convolution, MatrixProduct))
    pod = asked.description.pods[0]
    if asked.format.name not in pod.formats:
        return
    run = product_views(asked.layer, asked.step.inputs, asked.step.output).run
    choices = grids(asked.shape, 0, pod, pods, {})
    free = pod.scratchpad_words(asked.format.name) if words is None else words
    for dataflow in PRODUCT_DATAFLOWS:
        if dataflow not in pod.dataflows or not choices:
            continue
        made = candidates(asked.shape, run, dataflow, pod, choices, {}, thorough=thorough)
        fits = fitting(made, asked.operands, free, pod.accumulator_words)
        kept = made.taken(np.flatnonzero(fits["scratchpad"] & fits["accumulators"]))
        if len(kept.grid):
            cycles, _ = estimate_cycles(kept, asked)
            used = kept.group_pods * kept.row_pods * kept.column_pods
            np.minimum.at(found, used, cycles)
