"""Models side by side on shares of the array's pods that move with the load.

As ``engine``, but the array serves as many stages at once as have pods of their own. Whenever a
stage ends or a frame comes, the free pods are dealt anew among those that wait (``deal``); what
runs keeps its pods to the end of its stage. A model's time on the array is weighted by its pods.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from motet.runtime.progress import Show
from motet.targets.sharing.deal import Dealt, Run, deal
from motet.targets.sharing.engine import END, Setting, Simulation
from motet.targets.sharing.frames import Frame
from motet.targets.sharing.loads import RESOURCES, Load, Resource, Share, Stage
from motet.targets.sharing.lookahead import Expected, Move, Task

ARRAY = RESOURCES.index("array")


@dataclass(frozen=True)
class _Running:
    """A frame's stage on pods."""

    frame: Frame
    pods: Run
    share: Share
    since: int

    @property
    def end(self) -> int:
        return self.since + self.share.ticks


class SideBySide(Simulation):
    """The array as pods that are dealt."""

    def __init__(
        self,
        loads: list[Load],
        setting: Setting,
        end: int,
        seed: int,
        show: Show,
    ) -> None:
        super().__init__(loads, setting, end, seed, show)
        self.running: dict[int, _Running] = {}
        self.pod_ticks: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self.periods = {
            load.name: None if load.rate_hz is None else math.ceil(setting.clock_hz / load.rate_hz)
            for load in loads
        }
        self.tasks = {
            load.name: tuple(_task(stage, setting.pods) for stage in load.stages) for load in loads
        }

    def _handle(self, now: int, kind: int, number: int, index: int) -> None:
        if kind == END and number == ARRAY:
            self.handled += 1
            self._end_share(now, index)
        else:
            super()._handle(now, kind, number, index)

    def _ask(self, now: int, frame: Frame) -> None:
        super()._ask(now, frame)
        if self._resource(frame) == "array":
            frame.others_before = now

    def _serve(self, now: int, resource: Resource) -> None:
        if resource == "host":
            super()._serve(now, resource)
            return
        while now < self.end and self._deal(now):
            pass

    def _deal(self, now: int) -> bool:
        """Give free pods to waiting frames; False: none begins.

        Frames of models over their share of the time wait until no other frame does.
        """
        waiting = sorted(self.servers["array"].waiting, key=lambda frame: self._key(now, frame))
        shares = self.servers["array"].shares
        frames = [frame for frame in waiting if not shares.is_over(frame.model, now)] or waiting
        busy = list(self.running.values())
        if not frames or sum(one.share.pods for one in busy) >= self.setting.pods:
            return False
        known = [*frames, *(one.frame for one in busy)]
        expected = self._expected(now, known)
        going = [
            (one.pods, Move(len(frames) + at, one.share, one.end)) for at, one in enumerate(busy)
        ]
        begun = deal(expected, range(len(frames)), self.setting.pods, now, going)
        for dealt in begun:
            self._begin(now, frames[dealt.frame], dealt)
        return bool(begun)

    def _key(self, now: int, frame: Frame) -> tuple[float, ...]:
        """The policy's, behind those whose models have not had more than their share."""
        over = self.servers["array"].shares.is_over(frame.model, now)
        return (float(over), *self.setting.policy.key(frame))

    def _expected(self, now: int, known: list[Frame]) -> list[Expected]:
        """Frames on and before the array, those that wait for them, and the next of every model."""
        numbers = {(frame.model, frame.index): n for n, frame in enumerate(known)}
        found = [self._seen(now, frame, ()) for frame in known]
        for frame in self.live.values():
            key = (frame.model, frame.index)
            if key in numbers or frame.over:
                continue
            sources = tuple(numbers[s] for s in self._sources(frame) if s in numbers)
            if sources or not frame.missing:
                numbers[key] = len(found)
                found.append(self._seen(now, frame, sources))
        for name, load in self.loads.items():
            made = self._next_of(now, name, load, numbers)
            if made is not None:
                numbers[name, -1] = len(found)
                found.append(made)
        return found

    def _sources(self, frame: Frame) -> list[tuple[str, int]]:
        """The frames that it follows."""
        plan = self.plans.get(frame.model)
        if plan is None:
            return [(source, frame.index) for source in self.loads[frame.model].after]
        return [(source, int(of[frame.index])) for source, of in plan.sources.items()]

    def _seen(self, now: int, frame: Frame, sources: tuple[int, ...]) -> Expected:
        tasks = self.tasks[frame.model][frame.stage :]
        dropped = self.setting.drop_late and not frame.begun
        return Expected(self._key(now, frame), tasks, now, frame.deadline, sources, 1.0, dropped)

    def _next_of(
        self, now: int, name: str, load: Load, numbers: dict[tuple[str, int], int]
    ) -> Expected | None:
        """The next frame of a model, a period after its last; with its sources' next, if any."""
        last, period = self.last.get(name), self.periods[name]
        if period is None:
            return None
        release = now + period if last is None else max(last + period, now + 1)
        allowed = self.allowed[name]
        deadline = None if allowed is None else release + allowed
        frame = Frame(name, self.released + len(numbers), 0, release, deadline, load.priority)
        sources = tuple(numbers[s, -1] for s in load.after if (s, -1) in numbers)
        return Expected(
            self._key(now, frame), self.tasks[name], release, deadline, sources,
            load.probability, self.setting.drop_late,
        )  # fmt: skip

    def _made(self, now: int, name: str, index: int) -> Frame:
        self.last[name] = now
        return super()._made(now, name, index)

    def _begin(self, now: int, frame: Frame, dealt: Dealt) -> None:
        self.servers["array"].waiting.remove(frame)
        self.outcomes[frame.model].waited += now - frame.others_before
        frame.begun = True
        pods = (dealt.first, dealt.first + dealt.share.pods)
        self.running[frame.number] = _Running(frame, pods, dealt.share, now)
        self._push(now + dealt.share.ticks, END, ARRAY, frame.number)

    def _end_share(self, now: int, number: int) -> None:
        one = self.running.pop(number)
        self._spent(one, now)
        self.outcomes[one.frame.model].joules += one.share.joules
        self._next(now, one.frame)

    def _spent(self, one: _Running, now: int) -> None:
        ticks = one.share.pods * (now - one.since)
        self.pod_ticks[one.frame.model] = self.pod_ticks.get(one.frame.model, 0) + ticks
        self.servers["array"].shares.spend(one.frame.model, ticks / self.setting.pods, now)

    def _settle(self) -> None:
        for frame in self.servers["array"].waiting:
            self.outcomes[frame.model].waited += self.end - frame.others_before
        for one in self.running.values():
            self._spent(one, self.end)
        super()._settle()
        for name, outcome in self.outcomes.items():
            outcome.used["array"] = round(self.pod_ticks.get(name, 0) / self.setting.pods)

    def _count_wait(self, now: int, frame: Frame, server: object, resource: Resource) -> None:
        """Waits for pods are counted where they end."""


def _task(stage: Stage, pods: int) -> Task:
    if stage.resource == "host":
        return Task(stage.ticks)
    return Task(stage.ticks, stage.shares or (Share(pods, stage.ticks, stage.joules),))
