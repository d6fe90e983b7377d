"""The plan of a workload: which tensors stay in scratchpads, and every step's mapping.

A scratchpad is split once per program: tensors that go from step to step without DRAM lie at its
end, words [0, tile_words) below them hold the steps' tiles. For every split in ``SPLITS``,
tensors are given places by what they save, the steps are mapped to what is left, and the split
with the least estimated cycles is taken: of those that are as good as equal, the one that moves the
fewest bytes between the chip and DRAM, which steps that overlap share.

Tensors have one place as long as steps use them; where steps are assigned to stages and pods,
they are there for whole stages, and on the pods of their readers only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from typing import NamedTuple

from motet.runtime.errors import CompileError
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.formats import Format
from motet.targets.systolic.mappings.assignment import Timetable
from motet.targets.systolic.mappings.mapping import Mapping, Place
from motet.targets.systolic.mappings.residency import may_be_resident
from motet.targets.systolic.mappings.vector_cost import moved_bytes
from motet.targets.systolic.workload.graph import Step, Workload

SPLITS = (0.0, 0.25, 0.5, 0.75)
"""Parts of a scratchpad that tensors may take at most."""
ALIGNMENT = 64
"""Words; neighbours do not share what is ordered as one."""
AS_GOOD = 1.01
"""Estimates that differ by less say nothing about which is faster."""


class Priced(NamedTuple):
    """A mapping and the cycles that it is estimated to take."""

    mapping: Mapping
    cycles: float


Mapper = Callable[[int, Step, Dict[int, Place], int], Priced]
"""(number, step, resident tensors, words of scratchpad for tiles) -> the step's mapping."""


@dataclass(frozen=True)
class Plan:
    """mappings: one per step. resident: places by tensor. tile_words: see the module.

    cycles: estimated, of the stages one after another.
    """

    mappings: tuple[Mapping, ...]
    resident: dict[int, Place]
    tile_words: int
    cycles: float


class Life(NamedTuple):
    """A tensor that may be resident: the stages from its writer's to its last reader's.

    pods: the first that its readers may use, and the one behind the last.
    """

    tensor: int
    words: int
    first: int
    last: int
    reads: int
    pods: tuple[int, int] = (0, 1)

    def meets(self, other: Life) -> bool:
        """Whether some pod holds both at the same time."""
        at_once = self.first <= other.last and other.first <= self.last
        return at_once and self.pods[0] < other.pods[1] and other.pods[0] < self.pods[1]


def make_plan(
    workload: Workload,
    description: ArrayDescription,
    number_format: Format,
    mapper: Mapper,
    timetable: Timetable,
) -> Plan:
    """The cheapest plan; raises ``CompileError`` where a step fits with no split.

    ``timetable``: of the steps, in the order of ``workload``.
    """
    plans: list[Plan] = []
    refused: CompileError | None = None
    for homes, tile_words in layouts(workload, description, number_format, timetable):
        try:
            plans.append(_mapped(workload, homes, tile_words, mapper, timetable))
        except CompileError as error:
            refused = refused or error
    if not plans:
        assert refused is not None
        raise refused
    near = AS_GOOD * min(plan.cycles for plan in plans)
    return min(
        (plan for plan in plans if plan.cycles <= near),
        key=lambda plan: (_moved(workload, number_format, plan), plan.cycles),
    )


def _moved(workload: Workload, number_format: Format, plan: Plan) -> int:
    """Bytes between the chip and DRAM, each value once per step."""
    return sum(moved_bytes(s, workload, number_format, plan.resident) for s in workload.steps)


def layouts(
    workload: Workload, description: ArrayDescription, number_format: Format, timetable: Timetable
) -> Iterator[tuple[dict[int, Place], int]]:
    """For every split that differs: where resident tensors lie, and the words left for tiles."""
    words = min(pod.scratchpad_words(number_format.name) for pod in description.pods)
    lives = _lives(workload, timetable)
    for split in SPLITS if lives else SPLITS[:1]:
        least = words - int(words * split) // ALIGNMENT * ALIGNMENT
        addresses = _with_parts(workload, allocate(lives, least, words))
        if not split or addresses:
            tile_words = min(addresses.values(), default=words)
            yield _homes(workload, lives, addresses), tile_words


def allocate(lives: Sequence[Life], start: int, stop: int) -> dict[int, int]:
    """Addresses in words [start, stop) for the tensors that save most traffic per word.

    The first ones lie at the end. Tensors that live at the same time never overlap.
    """
    stop = max(start, stop // ALIGNMENT * ALIGNMENT)
    placed: list[tuple[Life, int]] = []
    for life in sorted(lives, key=lambda x: (-(1 + x.reads) / max(1, x.last - x.first), x.words)):
        size = -(-life.words // ALIGNMENT) * ALIGNMENT
        neighbours = sorted(
            (at, at + -(-other.words // ALIGNMENT) * ALIGNMENT)
            for other, at in placed
            if life.meets(other)
        )
        at = start
        for low, high in neighbours:
            if at + size <= low:
                break
            at = max(at, high)
        if at + size <= stop:
            placed.append((life, at))
    sizes = {life.tensor: -(-life.words // ALIGNMENT) * ALIGNMENT for life, _ in placed}
    return {life.tensor: start + stop - at - sizes[life.tensor] for life, at in placed}


def _lives(workload: Workload, timetable: Timetable) -> list[Life]:
    """Of every tensor that may be resident; a part lives and lies in its whole."""
    parts = {part.tensor for part in workload.parts}
    written = dict.fromkeys(step.output for step in workload.steps)
    found: list[Life] = []
    for tensor in (*written, *dict.fromkeys(part.whole for part in workload.parts)):
        members = workload.members(tensor)
        writers = [i for i, step in enumerate(workload.steps) if step.output in members]
        readers = [i for i, step in enumerate(workload.steps) if {*step.reads} & {*members}]
        is_first = tensor not in parts and all(life.tensor != tensor for life in found)
        allowed = all(may_be_resident(workload, member) for member in members)
        if is_first and writers and readers and allowed:
            words = workload.tensors[tensor].elements
            stages, pods = timetable.stages, [timetable.pods[i] for i in readers]
            span = min(p.start for p in pods), max(p.stop for p in pods)
            times = stages[writers[0]], stages[readers[-1]]
            found.append(Life(tensor, words, *times, len(readers), span))
    return found


def _homes(
    workload: Workload, lives: Sequence[Life], addresses: Dict[int, int]
) -> dict[int, Place]:
    """Where tensors lie before it is known which of its pods a reader uses."""
    wholes = {part.tensor: part.whole for part in workload.parts}
    spans = {life.tensor: range(*life.pods) for life in lives}
    return {
        tensor: Place(at, spans[wholes.get(tensor, tensor)]) for tensor, at in addresses.items()
    }


def _with_parts(workload: Workload, addresses: Dict[int, int]) -> dict[int, int]:
    """``addresses``, and those of the parts of what has one."""
    parts = {
        part.tensor: addresses[part.whole] + part.offset
        for part in workload.parts
        if part.whole in addresses
    }
    return {**addresses, **parts}


def _mapped(
    workload: Workload,
    resident: Dict[int, Place],
    tile_words: int,
    mapper: Mapper,
    timetable: Timetable,
) -> Plan:
    priced = [
        mapper(number, step, resident, tile_words) for number, step in enumerate(workload.steps)
    ]
    mappings = tuple(one.mapping for one in priced)
    places = {
        tensor: Place(home.address, _readers(workload, mappings, tensor))
        for tensor, home in resident.items()
    }
    return Plan(mappings, places, tile_words, _together([one.cycles for one in priced], timetable))


def _together(cycles: Sequence[float], timetable: Timetable) -> float:
    """Cycles of the stages one after another, each as long as its longest group."""
    groups: dict[tuple[int, range], float] = {}
    for key, own in zip(zip(timetable.stages, timetable.pods, strict=True), cycles, strict=True):
        groups[key] = groups.get(key, 0.0) + own
    stages: dict[int, float] = {}
    for (stage, _), own in groups.items():
        stages[stage] = max(stages.get(stage, 0.0), own)
    return sum(stages.values())


def _readers(workload: Workload, mappings: Sequence[Mapping], tensor: int) -> range:
    """The pods that hold a resident tensor: all from the first to the last that read it."""
    whole = next((part.whole for part in workload.parts if part.tensor == tensor), tensor)
    members = {*workload.members(whole)}
    pods = [
        mapping.pod_numbers
        for mapping, step in zip(mappings, workload.steps, strict=True)
        if members & {*step.reads}
    ]
    return range(min(p.start for p in pods), max(p.stop for p in pods))
