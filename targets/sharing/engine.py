"""Runs frames of models stage by stage on an array and a host, event by event.

Array and host each serve one stage at a time and never break one off; at its end the policy
chooses anew among all frames that wait there, so a frame is preempted between its stages. All
that happens at one tick (ends, then deadlines, then releases) happens before anything is chosen.

A frame whose deadline passes before its first stage began is dropped, and with it every frame
that follows it (XRBench's rule, MLSys 2023); each is counted once, for its own model.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from motet.runtime.errors import SpecError
from motet.runtime.policies import Policy, ReadyQueue
from motet.runtime.progress import Show, silent
from motet.runtime.time_shares import TimeShares
from motet.targets.sharing.arrivals import CHANCE, Arrivals, generator
from motet.targets.sharing.frames import Frame, plans
from motet.targets.sharing.loads import RESOURCES, Load, Resource, ordered
from motet.targets.sharing.outcome import ModelOutcome, Outcome

SHOWN_EVERY = 1 << 15
"""Events between two lines of progress."""

END, DEADLINE, RELEASE = 0, 1, 2
"""Kinds of events, in their order at one tick."""

OPEN, FINISHED, DROPPED, ABSENT = 0, 1, 2, 3
"""What became of a frame; absent: no chance asked for it."""


@dataclass(frozen=True)
class Setting:
    """How frames come and are served.

    seconds: of simulated time. clock_hz: ticks a second. drop_late: as the module says; else
    late frames are done nevertheless. pods: of the array, for ``side_by_side``.
    """

    policy: Policy
    seconds: Fraction
    clock_hz: Fraction
    arrivals: Arrivals = field(default_factory=Arrivals)
    drop_late: bool = True
    pods: int = 1


def simulate(
    loads: Sequence[Load],
    setting: Setting,
    seed: int = 0,
    show: Show = silent,
    kind: type[Simulation] | None = None,
) -> Outcome:
    """``loads`` for the setting's seconds; equal arguments give equal outcomes.

    ``show`` is told how far it is. kind: another machine (``side_by_side``).
    Raises ``SpecError`` for loads that cannot be simulated.
    """
    end = math.ceil(setting.seconds * setting.clock_hz)
    if end <= 0:
        raise SpecError(f"simulated seconds must be positive, not {float(setting.seconds):g}")
    simulation = (kind or Simulation)(ordered(loads), setting, end, seed, show)
    simulation.run()
    models = tuple(simulation.outcomes[load.name] for load in loads)
    return Outcome(end, float(setting.clock_hz), models)


@dataclass
class _Server:
    """Array or host: who waits, who is served since when, and ticks served so far by model."""

    waiting: ReadyQueue[Frame]
    shares: TimeShares
    served: Frame | None = None
    since: int = 0
    total: int = 0
    used: dict[str, int] = field(default_factory=dict)

    def take(self, now: int) -> Frame | None:
        """The frame that is served next: of a model over its share where there is no other."""
        if not self.shares:
            return self.waiting.take()
        within = self.waiting.take(lambda frame: not self.shares.is_over(frame.model, now))
        return within or self.waiting.take()

    def others(self, model: str, now: int) -> int:
        """Ticks served to other models until ``now``."""
        going = now - self.since if self.served is not None and self.served.model != model else 0
        return self.total - self.used.get(model, 0) + going


class Simulation:
    """One simulation: who waits, who is served, what happens next."""

    def __init__(
        self,
        loads: list[Load],
        setting: Setting,
        end: int,
        seed: int,
        show: Show,
    ) -> None:
        self.setting, self.end, self.show = setting, end, show
        self.loads = {load.name: load for load in loads}
        self.rank = {load.name: rank for rank, load in enumerate(loads)}
        self.names = list(self.loads)
        self.outcomes = {load.name: ModelOutcome(load) for load in loads}
        self.plans = plans(loads, setting.arrivals, setting.clock_hz, end, seed)
        self.allowed = {load.name: _allowed(load, setting.clock_hz) for load in loads}
        self.fates = {name: bytearray() for name in self.names}
        self.chances = {name: generator(seed, name, CHANCE) for name in self.names}
        self.followers: dict[str, list[str]] = {name: [] for name in self.names}
        for load in loads:
            for source in load.after:
                self.followers[source].append(load.name)
        self.waiters: dict[tuple[str, int], list[Frame]] = {}
        self.live: dict[int, Frame] = {}
        shares = {load.name: load.time_share for load in loads if load.time_share is not None}
        second = float(setting.clock_hz)
        self.servers = {
            r: _Server(ReadyQueue(setting.policy), TimeShares(shares, 1, second)) for r in RESOURCES
        }
        self.events: list[tuple[int, int, int, int]] = []
        self.released = 0
        self.handled = 0

    def run(self) -> None:
        """Work off all events up to the end, then settle what is still open."""
        self._start()
        while self.events and self.events[0][0] <= self.end:
            now = self.events[0][0]
            while self.events and self.events[0][0] == now:
                _, kind, number, index = heapq.heappop(self.events)
                self._handle(now, kind, number, index)
            for resource in RESOURCES:
                self._serve(now, resource)
        self._settle()

    def _start(self) -> None:
        for name, load in self.loads.items():
            if name in self.plans:
                self._plan_release(name, 0)
            elif not load.after:
                self._push(0, RELEASE, self.rank[name], 0)

    def _push(self, at: int, kind: int, number: int, index: int) -> None:
        heapq.heappush(self.events, (at, kind, number, index))

    def _plan_release(self, name: str, index: int) -> None:
        releases = self.plans[name].releases
        if index < len(releases):
            self._push(int(releases[index]), RELEASE, self.rank[name], index)

    def _handle(self, now: int, kind: int, number: int, index: int) -> None:
        self.handled += 1
        if self.handled % SHOWN_EVERY == 0:
            clock = float(self.setting.clock_hz)
            self.show(f"{now / clock:.3g} of {self.end / clock:.3g} simulated seconds")
        if kind == END:
            self._end_stage(now, RESOURCES[number])
        elif kind == RELEASE:
            self._release(now, self.names[number], index)
        elif (frame := self.live.get(number)) is not None and not frame.begun:
            self._drop(frame)

    def _release(self, now: int, name: str, index: int) -> None:
        """A frame is asked for, if its chance wants it and there is one to follow."""
        plan = self.plans.get(name)
        if plan is not None:
            self._plan_release(name, index + 1)
            asked = bool(plan.asked[index])
            sources = [(source, int(frames[index])) for source, frames in plan.sources.items()]
        else:
            asked = bool(self.chances[name].random() < self.loads[name].probability)
            sources = [(source, index) for source in self.loads[name].after]
        fates = [self.fates[source][number] for source, number in sources]
        if asked and ABSENT not in fates:
            self.fates[name].append(OPEN)
            self._enter(now, self._made(now, name, index), sources, fates)
        else:
            self.fates[name].append(ABSENT)
        if plan is None:
            self._release_followers(now, name)

    def _release_followers(self, now: int, name: str) -> None:
        """Frames of models that follow one that runs back to back: one for each of its own."""
        for follower in self.followers[name]:
            sources = self.loads[follower].after
            if all(len(self.fates[s]) > len(self.fates[follower]) for s in sources):
                self._release(now, follower, len(self.fates[follower]))

    def _made(self, now: int, name: str, index: int) -> Frame:
        allowed = self.allowed[name]
        deadline = None if allowed is None else now + allowed
        self.released += 1
        frame = Frame(name, self.released, index, now, deadline, self.loads[name].priority)
        self.outcomes[name].released += 1
        self.live[frame.number] = frame
        if deadline is not None and self.setting.drop_late:
            self._push(deadline, DEADLINE, frame.number, 0)
        return frame

    def _enter(
        self, now: int, frame: Frame, sources: list[tuple[str, int]], fates: list[int]
    ) -> None:
        if DROPPED in fates:
            self._drop(frame)
            return
        for source, fate in zip(sources, fates, strict=True):
            if fate == OPEN:
                frame.missing += 1
                self.waiters.setdefault(source, []).append(frame)
        if not frame.missing:
            frame.ready = now
            self._ask(now, frame)

    def _resource(self, frame: Frame) -> Resource:
        return self.loads[frame.model].stages[frame.stage].resource

    def _ask(self, now: int, frame: Frame) -> None:
        """A frame waits for the resource of its next stage."""
        server = self.servers[self._resource(frame)]
        frame.others_before = server.others(frame.model, now)
        server.waiting.add(frame)

    def _serve(self, now: int, resource: Resource) -> None:
        server = self.servers[resource]
        if server.served is not None or now >= self.end:
            return
        frame = server.take(now)
        if frame is None:
            return
        self._count_wait(now, frame, server, resource)
        frame.begun = True
        server.served, server.since = frame, now
        stage = self.loads[frame.model].stages[frame.stage]
        self._push(now + stage.ticks, END, RESOURCES.index(resource), 0)

    def _count_wait(self, now: int, frame: Frame, server: _Server, resource: Resource) -> None:
        if resource == "array":
            waited = server.others(frame.model, now) - frame.others_before
            self.outcomes[frame.model].waited += waited

    def _account(self, server: _Server, now: int) -> Frame:
        """Add what the served frame has had since it began."""
        frame = server.served
        assert frame is not None
        server.used[frame.model] = server.used.get(frame.model, 0) + now - server.since
        server.total += now - server.since
        server.shares.spend(frame.model, now - server.since, now)
        server.served = None
        return frame

    def _end_stage(self, now: int, resource: Resource) -> None:
        frame = self._account(self.servers[resource], now)
        stages = self.loads[frame.model].stages
        self.outcomes[frame.model].joules += stages[frame.stage].joules
        self._next(now, frame)

    def _next(self, now: int, frame: Frame) -> None:
        """A stage has ended: on to the one after it."""
        stages = self.loads[frame.model].stages
        frame.stage += 1
        if frame.stage < len(stages):
            self._ask(now, frame)
        else:
            self._finish(now, frame)

    def _finish(self, now: int, frame: Frame) -> None:
        outcome = self.outcomes[frame.model]
        outcome.latency.append(now - frame.release)
        outcome.turnaround.append(now - frame.ready)
        if frame.deadline is not None:
            outcome.late.append(now - frame.deadline)
            outcome.missed += now > frame.deadline
        for waiter in self._close(frame, FINISHED):
            waiter.missing -= 1
            if not waiter.missing and not waiter.over:
                waiter.ready = now
                self._ask(now, waiter)
        self._again(now, frame)

    def _drop(self, frame: Frame) -> None:
        """A frame is given up, and those that follow it."""
        if frame.over:
            return
        outcome = self.outcomes[frame.model]
        outcome.dropped += 1
        outcome.missed += frame.deadline is not None
        server = self.servers[self._resource(frame)]
        if frame in server.waiting:
            server.waiting.remove(frame)
        for waiter in self._close(frame, DROPPED):
            self._drop(waiter)
        assert frame.deadline is not None or self.loads[frame.model].after
        self._again(frame.deadline or frame.release, frame)

    def _close(self, frame: Frame, fate: int) -> list[Frame]:
        """The frame is over; gives those that wait for it."""
        frame.over = True
        del self.live[frame.number]
        self.fates[frame.model][frame.index] = fate
        return self.waiters.pop((frame.model, frame.index), [])

    def _again(self, now: int, frame: Frame) -> None:
        """Back to back: the next frame."""
        name = frame.model
        if name not in self.plans and not self.loads[name].after and now < self.end:
            self._push(now, RELEASE, self.rank[name], frame.index + 1)

    def _settle(self) -> None:
        """At the end: what is under way has had the time until then; what is late is missed."""
        for resource, server in self.servers.items():
            for frame in server.waiting:
                self._count_wait(self.end, frame, server, resource)
            if server.served is not None:
                self._account(server, self.end)
            for name, outcome in self.outcomes.items():
                outcome.used[resource] = server.used.get(name, 0)
        for frame in self.live.values():
            late = frame.deadline is not None and frame.deadline <= self.end
            self.outcomes[frame.model].missed += late


def _allowed(load: Load, clock_hz: Fraction) -> int | None:
    """Ticks from a release to its deadline."""
    seconds = load.deadline_seconds
    if seconds is None and load.rate_hz is not None:
        seconds = 1 / load.rate_hz
    return None if seconds is None else max(1, math.floor(seconds * clock_hz))
