"""The figures of a timetable: what people and files are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from motet.targets.timetables.jobs import Problem
from motet.targets.timetables.kinds import Found
from motet.targets.timetables.placing import Table
from motet.together import Together


@dataclass(frozen=True)
class ModelTimes:
    """A model in a timetable; seconds. slack: least time left before a deadline, below 0 if late.

    least_latency_seconds: no timetable is below. pods: of the stages, the fewest and the most.
    """

    model: str
    rate_hz: float
    frames: int
    deadline_seconds: float
    mean_latency_seconds: float
    largest_latency_seconds: float
    least_latency_seconds: float
    slack_seconds: float
    missed: int
    pods: tuple[int, int]


@dataclass(frozen=True)
class KindTimes:
    """A kind of timetable; figures None, and why, where there is none.

    used, used_bound: largest share of its deadline that a frame uses, and what none is below.
    proved: that nothing of this kind has fewer misses and, where none, a smaller such share.
    """

    kind: str
    missed: int | None
    used: float | None
    used_bound: float
    missed_bound: int
    joules: float | None
    joules_bound: float
    array_busy: float | None
    array_bound: float
    host_busy: float | None
    host_bound: float
    proved: bool
    why: str


@dataclass(frozen=True)
class TimetableReport:
    """A timetable and what it was chosen from; seconds, joules of a hyperperiod."""

    machine: str
    number_format: str
    pods: int
    clock_hz: float
    hyperperiod_seconds: float
    frames: int
    kind: str
    joints: int
    models: tuple[ModelTimes, ...]
    kinds: tuple[KindTimes, ...]

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain data; the keys name their units."""
        return asdict(self)


def report(together: Together, table: Table, kind: str, found: Sequence[Found]) -> TimetableReport:
    """The figures of ``table``; found: of every kind, with bounds."""
    made = table.problem
    least = found[-1].bounds.latencies
    return TimetableReport(
        together.machine,
        together.number_format,
        made.pods,
        float(made.clock_hz),
        float(made.hyperperiod),
        len(made.jobs),
        kind,
        sum(len(slot.stages) > 1 for slot in table.slots),
        tuple(_model(table, model, least[model]) for model in _in_order(together, made)),
        tuple(_kind(one, one.table or (None if one.why else table)) for one in found),
    )


def _in_order(together: Together, made: Problem) -> list[int]:
    """Numbers of the loads in the bundle's order."""
    names = [load.name for load in made.loads]
    return [names.index(load.name) for load in together.loads]


def _model(table: Table, model: int, least: int) -> ModelTimes:
    made, clock = table.problem, float(table.problem.clock_hz)
    load = made.loads[model]
    jobs = [(j, end) for j, end in zip(made.jobs, table.ends, strict=True) if j.model == model]
    latencies = [end - job.release for job, end in jobs]
    pods = [
        len(slot.pods)
        for slot in table.slots
        if slot.pods and any(made.jobs[made.stages[n][0]].model == model for n in slot.stages)
    ]
    return ModelTimes(
        load.name,
        float(load.rate_hz or 0),
        len(jobs),
        float(load.deadline_seconds or 1 / (load.rate_hz or 1)),
        sum(latencies) / len(latencies) / clock,
        max(latencies) / clock,
        least / clock,
        min(job.deadline - end for job, end in jobs) / clock,
        sum(end > job.deadline for job, end in jobs),
        (min(pods, default=0), max(pods, default=0)),
    )


def _kind(one: Found, table: Table | None) -> KindTimes:
    least = one.bounds
    return KindTimes(
        one.kind,
        None if table is None else table.missed,
        None if table is None else table.cost[1],
        least.used,
        least.missed,
        None if table is None else table.joules,
        least.joules,
        None if table is None else busy(table, "array"),
        least.utilisation["array"],
        None if table is None else busy(table, "host"),
        least.utilisation["host"],
        one.proved,
        one.why,
    )


def busy(table: Table, resource: str) -> float:
    """Share of a hyperperiod's pods x ticks, or of the host's ticks, that slots have: 0 to 1."""
    made = table.problem
    if resource == "host":
        return sum(slot.ticks for slot in table.slots if not slot.pods) / made.ticks
    spent = sum(slot.ticks * len(slot.pods) for slot in table.slots)
    return spent / (made.ticks * made.pods)
