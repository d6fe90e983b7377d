"""The frames of a hyperperiod as jobs, and the machine that they share.

Times are whole ticks of the loads' clock. Frames of a model that is only sometimes asked for have
their place in every hyperperiod: a timetable that is fixed before cannot know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from motet.runtime.errors import SpecError
from motet.targets.sharing.arrivals import Arrivals
from motet.targets.sharing.frames import plans
from motet.targets.sharing.loads import Load, Share, Stage, ordered
from motet.targets.timetables.hyperperiod import MAX_FRAMES, checked_hyperperiod

MAX_STAGES = 20_000
"""Stages of all frames of a hyperperiod."""


@dataclass(frozen=True)
class Job:
    """One frame. model: number of its load; sources: numbers of the jobs that it waits for.

    first: number of its first stage among all jobs' stages.
    """

    number: int
    model: int
    frame: int
    release: int
    deadline: int
    sources: tuple[int, ...]
    first: int


@dataclass(frozen=True)
class Joint:
    """Array stages of two models as one program on all pods.

    first, second: numbers of a load and of its stage; ticks: of the program; ends: ticks until
    each of them is done. joules: without what the array takes at rest.
    """

    first: tuple[int, int]
    second: tuple[int, int]
    ticks: int
    ends: tuple[int, int]
    joules: float = 0.0


@dataclass(frozen=True)
class Problem:
    """What is to be put in a timetable.

    clock_hz: ticks a second. pods: of the array. loads: each after those that it follows, rates
    settled. joints: stages that can be run together.
    """

    clock_hz: Fraction
    pods: int
    loads: tuple[Load, ...]
    joints: tuple[Joint, ...] = ()
    rest_watts: float | None = None
    jobs: tuple[Job, ...] = field(default=())
    hyperperiod: Fraction = Fraction(1)

    @property
    def ticks(self) -> int:
        """Whole ticks of a hyperperiod: what a timetable has."""
        return math.floor(self.hyperperiod * self.clock_hz)

    @cached_property
    def stages(self) -> tuple[tuple[int, int], ...]:
        """Job and stage of every number of a stage."""
        return tuple(
            (job.number, stage)
            for job in self.jobs
            for stage in range(len(self.loads[job.model].stages))
        )

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """Priorities of the models, the most urgent first."""
        return tuple(sorted({load.priority for load in self.loads}, reverse=True))

    def stage(self, number: int) -> Stage:
        """The stage of this number."""
        job, stage = self.stages[number]
        return self.loads[self.jobs[job].model].stages[stage]


def shares_of(stage: Stage, pods: int) -> tuple[Share, ...]:
    """How a stage of the array may be done; on all pods where nothing else is known."""
    return stage.shares or (Share(pods, stage.ticks, stage.joules),)


def problem(
    loads: Sequence[Load],
    clock_hz: Fraction,
    pods: int = 1,
    rest_watts: float | None = None,
    most: int = MAX_FRAMES,
) -> Problem:
    """The frames of a hyperperiod of ``loads``.

    Raises ``SpecError`` for loads without rates, a hyperperiod of too many frames, and what
    ``ordered`` refuses.
    """
    settled = with_rates(loads)
    rates = {load.name: load.rate_hz for load in settled if load.rate_hz is not None}
    whole = checked_hyperperiod(rates, most)
    _check_ticks(whole, clock_hz, rates)
    jobs = _jobs(settled, clock_hz, whole)
    made = Problem(clock_hz, pods, tuple(settled), (), rest_watts, jobs, whole)
    if len(made.stages) > MAX_STAGES:
        raise SpecError(
            f"{len(jobs):,} frames have {len(made.stages):,} stages in a hyperperiod of "
            f"{float(whole):.6g} s, and a timetable has at most {MAX_STAGES:,}: round rates to "
            "multiples of each other, or let the array have larger regions (passes.regions)"
        )
    return made


def _check_ticks(whole: Fraction, clock_hz: Fraction, rates: Mapping[str, Fraction]) -> None:
    """A timetable has at least a tick."""
    if whole * clock_hz < 1:
        most = max(rates, key=lambda name: rates[name])
        raise SpecError(
            f"the frames come again after {float(whole):.3g} s, less than a tick of the clock of "
            f"{float(clock_hz):,.0f} Hz: give model {most!r} a lower rate_hz"
        )


def with_rates(loads: Sequence[Load]) -> list[Load]:
    """``loads`` with every rate settled; raises ``SpecError`` for one without."""
    settled = ordered(loads)
    for load in settled:
        if load.rate_hz is None:
            raise SpecError(
                f"model {load.name!r} runs back to back: a timetable needs its rate_hz "
                f"(--set models.{load.name}.rate_hz=30)"
            )
    return settled


def _jobs(loads: list[Load], clock_hz: Fraction, whole: Fraction) -> tuple[Job, ...]:
    late = max(load.phase_seconds for load in loads)
    end = math.ceil((whole + late) * clock_hz)
    planned = plans(loads, Arrivals(), clock_hz, end, 0)
    # The clock may not divide the hyperperiod: a repetition then begins within the tick.
    lost = 0 if (whole * clock_hz).denominator == 1 else 1
    found: list[Job] = []
    numbers: dict[tuple[str, int], int] = {}
    first = 0
    for model, load in enumerate(loads):
        assert load.rate_hz is not None
        plan = planned[load.name]
        seconds = load.deadline_seconds or 1 / load.rate_hz
        allowed = max(1, math.floor(seconds * clock_hz) - lost)
        for frame in range(int(load.rate_hz * whole)):
            release = int(plan.releases[frame])
            sources = tuple(numbers[name, int(of[frame])] for name, of in plan.sources.items())
            numbers[load.name, frame] = len(found)
            found.append(Job(len(found), model, frame, release, release + allowed, sources, first))
            first += len(load.stages)
    return tuple(found)
