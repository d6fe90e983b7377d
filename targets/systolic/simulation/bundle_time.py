"""Seconds of simulated time of a whole bundle, stage by stage.

Each model is a list of stages, on the array (cycles of its program, from the timing view, once
for all runs) or on the host (seconds). Array and host each serve one stage at a time and never
break one off; who waits is served by priority, then by how long it has waited. Time is whole
cycles of the array's clock, so that the outcome is one.

A stage holds the whole array, and starts with its DRAM channels and links idle: what the
timing view gives for the programs one after the other.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from motet.runtime.errors import SpecError
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.instructions.program import SystolicProgram
from motet.targets.systolic.simulation.timing import simulate

Resource = Literal["array", "host"]
SHOWN_EVERY = 1 << 15
"""Events between two lines of progress."""


@dataclass(frozen=True)
class Stage:
    """What one run does next: ``cycles`` (of the array's clock) of a resource."""

    resource: Resource
    cycles: int


@dataclass(frozen=True)
class ModelLoad:
    """A model of the bundle and how often it runs.

    Attributes
    ----------
    stages: in order; a run is late when its last one ends after the deadline.
    rate_hz: runs released per second, evenly from 0 on; None: back to back, each when a run before
        it ends.
    deadline_seconds: after the release; None: the period (back to back: no deadline).
    priority: higher is served first. in_flight: runs at once; more wait for those before them.
    """

    name: str
    stages: tuple[Stage, ...]
    rate_hz: float | None = None
    deadline_seconds: float | None = None
    priority: int = 0
    in_flight: int = 1


@dataclass(frozen=True, eq=False)
class ModelTiming:
    """One model over the simulated time.

    Attributes
    ----------
    released, finished: runs. misses: runs that ended after their deadline, or whose deadline
        passed without an end.
    latency_seconds: float64 [finished], from release to end.
    array_cycles, host_cycles: used within the simulated time.
    waiting_cycles: in which a run was ready for the array and another model had it.
    """

    name: str
    released: int
    finished: int
    misses: int
    latency_seconds: NDArray[np.float64]
    array_cycles: int
    host_cycles: int
    waiting_cycles: int


@dataclass(frozen=True)
class BundleTiming:
    """All models, and the share of the simulated ``cycles`` in which array and host worked."""

    cycles: int
    models: tuple[ModelTiming, ...]

    @property
    def array_utilisation(self) -> float:
        """Share of time in which the array had a stage, 0 to 1."""
        return sum(model.array_cycles for model in self.models) / self.cycles

    @property
    def host_utilisation(self) -> float:
        """Share of time in which the host had a stage, 0 to 1."""
        return sum(model.host_cycles for model in self.models) / self.cycles


class ProgramCycles:
    """Cycles of programs on one machine, each simulated once."""

    def __init__(self, description: ArrayDescription) -> None:
        self.description = description
        self._known: WeakKeyDictionary[SystolicProgram, int] = WeakKeyDictionary()

    def stage(self, program: SystolicProgram) -> Stage:
        """The stage that runs ``program``; raises ``ProgramError`` as ``simulate`` does."""
        if program not in self._known:
            self._known[program] = simulate(program, self.description).cycles
        return Stage("array", self._known[program])

    def host_stage(self, seconds: float) -> Stage:
        """A stage of the host, in whole cycles of the array's clock (rounded up)."""
        return Stage("host", math.ceil(seconds * self.description.clock_hz))


def simulate_bundle(
    models: Sequence[ModelLoad],
    description: ArrayDescription,
    seconds: float,
    show: Callable[[str], None] = lambda line: None,
) -> BundleTiming:
    """Run ``models`` together for ``seconds`` of simulated time.

    Runs that have not ended by then are not among the finished ones. ``show`` is told how far it
    is. A model without stages, or whose stages take no time though it runs back to back, raises
    ``SpecError``.
    """
    cycles = math.ceil(seconds * description.clock_hz)
    if cycles <= 0:
        raise SpecError(f"simulated seconds must be positive, not {seconds}")
    for load in models:
        _check(load)
    simulation = _Simulation(models, description.clock_hz, cycles, show)
    simulation.run()
    return BundleTiming(cycles, tuple(simulation.result(i) for i in range(len(models))))


def _check(load: ModelLoad) -> None:
    if not load.stages or min(stage.cycles for stage in load.stages) < 0:
        raise SpecError(f"model {load.name!r}: give it stages, none of negative cycles")
    if load.rate_hz is None and not sum(stage.cycles for stage in load.stages):
        raise SpecError(f"model {load.name!r}: back to back needs stages that take time")
    if (load.rate_hz is not None and load.rate_hz <= 0) or load.in_flight < 1:
        raise SpecError(f"model {load.name!r}: rate_hz and in_flight must be positive")


@dataclass
class _Run:
    """One run of a model: its next stage, and when it was released and began to wait."""

    model: int
    released: int
    deadline: float
    stage: int = 0
    others_before: int = 0


@dataclass
class _Server:
    """Array or host: who waits, who is served since when, and cycles served by model."""

    waiting: list[tuple[int, int, int, _Run]] = field(default_factory=list)
    served: _Run | None = None
    since: int = 0
    busy: dict[int, int] = field(default_factory=dict)

    def others(self, model: int, now: int) -> int:
        """Cycles served to other models until ``now``."""
        total = sum(cycles for owner, cycles in self.busy.items() if owner != model)
        if self.served is not None and self.served.model != model:
            total += now - self.since
        return total


@dataclass
class _Model:
    """What happened to a model so far."""

    queued: deque[_Run] = field(default_factory=deque)
    running: int = 0
    released: int = 0
    misses: int = 0
    waited: int = 0
    latencies: list[int] = field(default_factory=list)


class _Simulation:
    """Releases and ends of stages, in order of time, then of their creation."""

    def __init__(
        self,
        loads: Sequence[ModelLoad],
        clock_hz: float,
        cycles: int,
        show: Callable[[str], None],
    ) -> None:
        self.loads = loads
        self.show = show
        self.worked_off = 0
        self.clock_hz = clock_hz
        self.cycles = cycles
        self.models = [_Model() for _ in loads]
        self.servers: dict[Resource, _Server] = {"array": _Server(), "host": _Server()}
        self.events: list[tuple[int, int, int, _Run | None]] = []
        self.count = 0

    def run(self) -> None:
        """Work off all events before the end, then settle what is still open."""
        for number, load in enumerate(self.loads):
            runs = load.in_flight if load.rate_hz is None else 1
            for _ in range(runs):
                self._schedule(0, number, None)
        while self.events and self.events[0][0] < self.cycles:
            now, _, model, run = heapq.heappop(self.events)
            self._tell(now)
            if run is None:
                self._release(now, model)
            else:
                self._end_stage(now, run)
        for run in [r for event in self.events if (r := event[3])]:
            resource = self.loads[run.model].stages[run.stage].resource
            self._account(self.servers[resource], self.cycles)
        self._settle()

    def _tell(self, now: int) -> None:
        """Say how far it is, now and then."""
        self.worked_off += 1
        if self.worked_off % SHOWN_EVERY == 0:
            done, all_of_it = now / self.clock_hz, self.cycles / self.clock_hz
            self.show(f"{done:.3g} of {all_of_it:.3g} simulated seconds")

    def result(self, number: int) -> ModelTiming:
        """The figures of one model."""
        model = self.models[number]
        return ModelTiming(
            name=self.loads[number].name,
            released=model.released,
            finished=len(model.latencies),
            misses=model.misses,
            latency_seconds=np.array(model.latencies, np.float64) / self.clock_hz,
            array_cycles=self.servers["array"].busy.get(number, 0),
            host_cycles=self.servers["host"].busy.get(number, 0),
            waiting_cycles=model.waited,
        )

    def _schedule(self, at: int, model: int, run: _Run | None) -> None:
        self.count += 1
        heapq.heappush(self.events, (at, self.count, model, run))

    def _release(self, now: int, number: int) -> None:
        model, load = self.models[number], self.loads[number]
        run = _Run(number, now, now + self._allowed(load))
        model.released += 1
        if load.rate_hz is not None:
            following = math.ceil(model.released * self.clock_hz / load.rate_hz)
            self._schedule(max(following, now), number, None)
        model.queued.append(run)
        self._admit(now, number)

    def _allowed(self, load: ModelLoad) -> float:
        """Cycles from release to deadline."""
        if load.deadline_seconds is not None:
            return load.deadline_seconds * self.clock_hz
        return math.inf if load.rate_hz is None else self.clock_hz / load.rate_hz

    def _admit(self, now: int, number: int) -> None:
        """Start queued runs while fewer than ``in_flight`` run."""
        model = self.models[number]
        while model.queued and model.running < self.loads[number].in_flight:
            model.running += 1
            self._ask(now, model.queued.popleft())

    def _ask(self, now: int, run: _Run) -> None:
        """A run asks for the resource of its next stage."""
        load = self.loads[run.model]
        resource = load.stages[run.stage].resource
        server = self.servers[resource]
        run.others_before = server.others(run.model, now)
        self.count += 1
        heapq.heappush(server.waiting, (-load.priority, now, self.count, run))
        self._serve(now, resource)

    def _serve(self, now: int, resource: Resource) -> None:
        server = self.servers[resource]
        if server.served is not None or not server.waiting:
            return
        run = heapq.heappop(server.waiting)[3]
        if resource == "array":
            self._count_wait(now, run)
        server.served, server.since = run, now
        self._schedule(now + self.loads[run.model].stages[run.stage].cycles, run.model, run)

    def _count_wait(self, now: int, run: _Run) -> None:
        others = self.servers["array"].others(run.model, now)
        self.models[run.model].waited += others - run.others_before

    def _account(self, server: _Server, now: int) -> None:
        """Add what the served run has had since it began."""
        assert server.served is not None
        model = server.served.model
        server.busy[model] = server.busy.get(model, 0) + now - server.since
        server.served = None

    def _end_stage(self, now: int, run: _Run) -> None:
        stages = self.loads[run.model].stages
        resource = stages[run.stage].resource
        self._account(self.servers[resource], now)
        run.stage += 1
        if run.stage < len(stages):
            self._ask(now, run)
        else:
            self._finish(now, run)
        self._serve(now, resource)

    def _finish(self, now: int, run: _Run) -> None:
        model = self.models[run.model]
        model.running -= 1
        model.latencies.append(now - run.released)
        model.misses += now > run.deadline
        if self.loads[run.model].rate_hz is None:
            self._release(now, run.model)
        else:
            self._admit(now, run.model)

    def _settle(self) -> None:
        """At the end: misses of runs that are still open, and time that they have waited."""
        waiting = [entry[3] for entry in self.servers["array"].waiting]
        for run in waiting:
            self._count_wait(self.cycles, run)
        queued = [run for model in self.models for run in model.queued]
        host = [entry[3] for entry in self.servers["host"].waiting]
        served = [event[3] for event in self.events if event[3]]
        for run in [*waiting, *host, *queued, *served]:
            self.models[run.model].misses += self.cycles >= run.deadline
