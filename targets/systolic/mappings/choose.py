"""The best mapping of a product by ``cost``: least cycles, then least DRAM traffic, then pods."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from motet.runtime.errors import CompileError
from motet.targets.systolic.architecture import ArrayDescription, DataflowName, Pod
from motet.targets.systolic.formats import Format
from motet.targets.systolic.mappings.cost import Question, estimate_cycles
from motet.targets.systolic.mappings.mapping import Mapping
from motet.targets.systolic.mappings.memory import operands
from motet.targets.systolic.mappings.space import (
    Candidates,
    Pinned,
    candidates,
    counts_to,
    fitting,
    grids,
    kinds,
)
from motet.targets.systolic.workload.graph import Step, Workload
from motet.targets.systolic.workload.layers import Convolution, MatrixProduct
from motet.targets.systolic.workload.products import product_views

PRODUCT_DATAFLOWS: tuple[DataflowName, ...] = (
    "weight-stationary",
    "output-stationary",
    "input-stationary",
)


@dataclass(frozen=True)
class Choice:
    """A mapping with what ``cost`` says of it."""

    mapping: Mapping
    cycles: float
    dram_bytes: float


_found: dict[Hashable, Choice | str] = {}
"""Choices for what they depend on; equal layers are searched once."""
MAX_FOUND = 4096
TOLERANCE = 1.002
"""Estimates nearer than this count as equal; traffic decides, then the size of the tiles."""


def choose(
    step: Step,
    workload: Workload,
    description: ArrayDescription,
    number_format: Format,
    *,
    resident: Container[int] = (),
    constraints: Pinned | None = None,
    pods: range | None = None,
    scratchpad_words: int | None = None,
    accumulator_words: int | None = None,
) -> Choice:
    """The mapping of a Convolution or MatrixProduct step with the least estimated cycles.

    The choice has the estimate too.

    Parameters
    ----------
    resident: numbers of the tensors that lie in scratchpads.
    constraints: fields of ``Mapping`` that are given; the others are searched.
    pods: the pods that may be used; default all.
    scratchpad_words, accumulator_words: what the step's tiles may take of a pod's memories;
        default all of them.

    Raises
    ------
    CompileError: nothing fits; says which memory is too small, or which constraint is in the way.
    """
    del workload  # a product's cost does not depend on other steps
    pinned = constraints or {}
    free = (scratchpad_words, accumulator_words)
    shift = 0 if pods is None or "first_pod" in pinned else _shift(description, pods)
    if pods is not None and shift:
        pods = range(pods.start - shift, pods.stop - shift)
    made = _known(step, description, number_format, resident, pinned, pods, free)
    moved = replace(made.mapping, first_pod=made.mapping.first_pod + shift)
    return replace(made, mapping=moved) if shift else made


def _shift(description: ArrayDescription, pods: range) -> int:
    """How far ``pods`` begin behind the first of their kind; 0 where they are of several kinds."""
    for number, pod in enumerate(description.pods):
        first = description.first_of(number)
        if first <= pods.start and pods.stop <= first + pod.count:
            return pods.start - first
    return 0


def _known(
    step: Step,
    description: ArrayDescription,
    number_format: Format,
    resident: Container[int],
    pinned: Pinned,
    pods: range | None,
    free: tuple[int | None, int | None],
) -> Choice:
    """The choice of what is searched or was already."""
    assert isinstance(step.layer, (Convolution, MatrixProduct))
    machine = (description.pods, description.dram, description.interconnect, description.clock_hz)
    pins = tuple(sorted(pinned.items()))
    key = (shape_key(step, resident), number_format, *machine, pods, *free, pins)
    if key not in _found:
        if len(_found) >= MAX_FOUND:
            _found.clear()

        def search(pins: Pinned) -> Choice | str:
            return _search(step, description, number_format, resident, pins, pods, free)

        made = search(pinned)
        _found[key] = _unmet(made, pinned, search) if isinstance(made, str) else made
    found = _found[key]
    if isinstance(found, str):
        raise CompileError(f"step {step.name!r} on array {description.name!r}: {found}")
    return found


def shape_key(step: Step, resident: Container[int]) -> Hashable:
    """What a product's cost depends on, but for the machine."""
    epilogue = step.epilogue
    given = (
        epilogue.bias,
        epilogue.residual,
        epilogue.requantise,
        epilogue.dequantise,
        epilogue.activation or None,
    )
    places = (step.inputs[0] in resident, epilogue.residual in resident, step.output in resident)
    return step.layer, tuple(one is not None for one in given), places


def _search(
    step: Step,
    description: ArrayDescription,
    number_format: Format,
    resident: Container[int],
    pinned: Pinned,
    pods: range | None,
    free: tuple[int | None, int | None],
) -> Choice | str:
    """The best choice, or why there is none."""
    best: tuple[tuple[float, ...], Choice] | None = None
    problems: list[str] = []
    for first, count, pod in _kinds(description, number_format, pods, pinned):
        parts = operands(step, pod, number_format, resident)
        asked = Question(step, description, number_format, parts, step.output not in resident)
        words = (
            pod.scratchpad_words(number_format.name) if free[0] is None else free[0],
            pod.accumulator_words if free[1] is None else free[1],
        )
        for thorough in (True,) if count == 1 else (False, True):
            for made in _spaces(asked, first, count, pod, pinned, thorough=thorough):
                found = _best(made, asked, words, problems)
                if found and (best is None or found[0] < best[0]):
                    best = found
            if best is not None:
                break  # many grids are choice enough
    if best is not None:
        return best[1]
    return problems[0] if problems else _no_candidate(description, number_format, pinned)


def _unmet(why: str, pinned: Pinned, search: Callable[[Pinned], Choice | str]) -> str:
    """A key that cannot be met alone, else the first without which there is one, else ``why``."""
    for key, value in pinned.items():
        if isinstance(search({key: value}), str):
            return f"no mapping has {key} = {value!r}; leave it out or change it"
    for key, value in pinned.items():
        others = {name: given for name, given in pinned.items() if name != key}
        if isinstance(search(others), Choice):
            return f"no mapping has {key} = {value!r}{_beside(others)}; leave it out or change it"
    return why


def _beside(others: Pinned) -> str:
    given = ", ".join(f"{key} = {value!r}" for key, value in others.items())
    return f" beside {given}" if given else ""


def _kinds(
    description: ArrayDescription, number_format: Format, pods: range | None, pinned: Pinned
) -> Iterable[tuple[int, int, Pod]]:
    for first, count, pod in kinds(description, number_format, pods):
        begin = pinned.get("first_pod", first)
        if first <= begin < first + count:
            yield begin, first + count - begin, pod


def _spaces(
    asked: Question, first: int, count: int, pod: Pod, pinned: Pinned, *, thorough: bool
) -> Iterable[Candidates]:
    """The candidates of every dataflow that the pods offer."""
    run = product_views(asked.layer, asked.step.inputs, asked.step.output).run
    counts = counts_to(count, pinned.get("pods"))
    choices = grids(asked.shape, first, pod, counts, pinned)
    for dataflow in PRODUCT_DATAFLOWS:
        if dataflow in pod.dataflows and pinned.get("dataflow", dataflow) == dataflow:
            made = candidates(asked.shape, run, dataflow, pod, choices, pinned, thorough=thorough)
            if len(made.grid):
                yield made


def _best(
    made: Candidates, asked: Question, words: tuple[int, int], problems: list[str]
) -> tuple[tuple[float, ...], Choice] | None:
    fits = fitting(made, asked.operands, *words)
    if not (fits["scratchpad"] & fits["accumulators"]).any():
        small = "accumulators" if not fits["accumulators"].any() else "scratchpad"
        problems.append(
            f"no tiles fit: its {small} is too small ({words[small != 'scratchpad']} words free); "
            "give the pods more, or leave the layer to the host"
        )
        return None
    kept = made.taken(np.flatnonzero(fits["scratchpad"] & fits["accumulators"]))
    cycles, traffic = estimate_cycles(kept, asked)
    pods = kept.group_pods * kept.row_pods * kept.column_pods
    near = np.flatnonzero(cycles <= cycles.min() * TOLERANCE)
    slots, sums = kept.input_slots + kept.weight_slots, -kept.accumulator_slots
    area = kept.tile_rows * kept.tile_depth * kept.tile_columns
    at = near[np.lexsort((slots[near], -area[near], sums[near], traffic[near], pods[near]))[0]]
    rank = (float(cycles[at]), float(traffic[at]), float(pods[at]))
    return rank, Choice(kept.at(int(at)), rank[0], rank[1])


def _no_candidate(description: ArrayDescription, number_format: Format, pinned: Pinned) -> str:
    if pinned:
        given = ", ".join(f"{key} = {value!r}" for key, value in pinned.items())
        return f"no mapping has {given}; give fewer constraints"
    return (
        f"no pod computes products in {number_format.name} under "
        f"{', '.join(PRODUCT_DATAFLOWS)}; leave the layer to the host"
    )
