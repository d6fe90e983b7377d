"""Whether plain data is a timetable of given frames, and back.

Every stage of every frame is there once, on a machine that does it in the slot's ticks; no pod and
not the host has two at a time, also across the hyperperiod's end; stages of a frame follow each
other, no frame begins before its release or before those that it waits for have ended.
No stage begins while its model is over its share of the time (``quotas``). What ends after its
deadline is a miss, which the table's cost counts.
"""

from __future__ import annotations

from motet.runtime.errors import SpecError
from motet.runtime.exact_numbers import exact
from motet.runtime.timetable import Timetable, TimetableSlot, TimetableStage
from motet.runtime.verify_timetable import name_of as _of
from motet.runtime.verify_timetable import shared_lane
from motet.targets.sharing.loads import Stage
from motet.targets.timetables.jobs import Joint, Problem, shares_of
from motet.targets.timetables.placing import Slot, Table
from motet.targets.timetables.quotas import over_share


def plain(table: Table, kind: str, machine: str, number_format: str) -> Timetable:
    """A table as plain data."""
    problem = table.problem
    return Timetable(
        machine,
        number_format,
        str(problem.clock_hz),
        str(problem.hyperperiod),
        problem.ticks,
        problem.pods,
        kind,
        tuple(_plain_slot(problem, slot) for slot in table.slots),
    )


def _plain_slot(problem: Problem, slot: Slot) -> TimetableSlot:
    joint = _joint_of(problem, slot.stages)
    done = (slot.ticks,) if joint is None else joint[1]
    stages = []
    for number, ticks in zip(slot.stages, done, strict=True):
        job, stage = problem.stages[number]
        name = problem.loads[problem.jobs[job].model].name
        stages.append(TimetableStage(name, problem.jobs[job].frame, stage, ticks))
    return TimetableSlot(
        "array" if slot.pods else "host",
        slot.start,
        slot.ticks,
        slot.pods.start,
        len(slot.pods),
        tuple(stages),
    )


def _joint_of(problem: Problem, numbers: tuple[int, ...]) -> tuple[Joint, tuple[int, ...]] | None:
    """The joint of two stages, and when each of them, in this order, is done."""
    if len(numbers) != 2:
        return None
    keys = []
    for number in numbers:
        job, stage = problem.stages[number]
        keys.append((problem.jobs[job].model, stage))
    for joint in problem.joints:
        if (joint.first, joint.second) == tuple(keys):
            return joint, joint.ends
        if (joint.second, joint.first) == tuple(keys):
            return joint, joint.ends[::-1]
    return None


def verified(timetable: Timetable, problem: Problem, where: str = "timetable") -> Table:
    """The table; raises ``SpecError`` for the first thing that is wrong, by frame and moment."""
    return _Reader(timetable, problem, where).table()


class _Reader:
    def __init__(self, timetable: Timetable, problem: Problem, where: str) -> None:
        self.timetable, self.problem, self.where = timetable, problem, where
        self.numbers = {
            (problem.loads[problem.jobs[job].model].name, problem.jobs[job].frame, stage): number
            for number, (job, stage) in enumerate(problem.stages)
        }

    def table(self) -> Table:
        self._check_machine()
        starts: dict[int, int] = {}
        ends: dict[int, int] = {}
        slots = []
        for slot in self.timetable.slots:
            numbers = tuple(self._number(stage, starts) for stage in slot.stages)
            for number, stage in zip(numbers, slot.stages, strict=True):
                starts[number] = slot.start_tick
                ends[number] = slot.start_tick + stage.done_ticks
            slots.append(self._slot(slot, numbers))
        missing = next((key for key, n in self.numbers.items() if n not in ends), None)
        if missing is not None:
            self._fail(f"{_name(missing)} has no slot: every stage of every frame has one")
        self._check_order(starts, ends)
        self._check_alone()
        last = [
            job.first + len(self.problem.loads[job.model].stages) - 1 for job in self.problem.jobs
        ]
        slots.sort(key=lambda slot: (slot.start, slot.stages))
        made = Table(self.problem, tuple(slots), tuple(ends[number] for number in last))
        if (why := over_share(made)) is not None:
            self._fail(why)
        return made

    def _fail(self, what: str) -> None:
        raise SpecError(f"{self.where}: {what}; make it anew with 'motet timetable'")

    def _check_machine(self) -> None:
        facts = (
            ("clock_hz", exact(self.timetable.clock_hz), self.problem.clock_hz),
            ("hyperperiod_seconds", self.timetable.hyperperiod, self.problem.hyperperiod),
            ("ticks", self.timetable.ticks, self.problem.ticks),
            ("pods", self.timetable.pods, self.problem.pods),
        )
        for key, said, wanted in facts:
            if said != wanted:
                self._fail(f"{key} is {said}, and these models and machine have {wanted}")

    def _number(self, stage: TimetableStage, starts: dict[int, int]) -> int:
        key = stage.model, stage.frame, stage.stage
        number = self.numbers.get(key)
        if number is None:
            self._fail(
                f"{_name(key)} is none of these models' in a hyperperiod (which stages there are "
                "depends on --host, too)"
            )
        assert number is not None
        if number in starts:
            self._fail(f"{_name(key)} has two slots, at ticks {starts[number]} and later")
        return number

    def _slot(self, slot: TimetableSlot, numbers: tuple[int, ...]) -> Slot:
        stages = [self.problem.stage(number) for number in numbers]
        for stage, made in zip(slot.stages, stages, strict=True):
            if made.resource != slot.resource:
                self._fail(f"{_of(stage)} is of the {made.resource}, not of the {slot.resource}")
        if slot.first_pod + slot.pods > self.problem.pods or (slot.pods == 0) != (
            slot.resource == "host"
        ):
            self._fail(f"{_of(slot.stages[0])} has no pods of the array's {self.problem.pods}")
        if slot.ticks > self.problem.ticks:
            self._fail(f"{_of(slot.stages[0])} takes longer than a hyperperiod")
        pods = range(slot.first_pod, slot.first_pod + slot.pods)
        joules = self._joules(slot, numbers, stages)
        return Slot(tuple(sorted(numbers)), slot.start_tick, slot.ticks, pods, joules)

    def _joules(self, slot: TimetableSlot, numbers: tuple[int, ...], stages: list[Stage]) -> float:
        """Energy of a slot that is long enough for what is in it."""
        if len(numbers) > 1:
            found = _joint_of(self.problem, numbers)
            if found is None or slot.pods != self.problem.pods:
                self._fail(f"{_of(slot.stages[0])} shares a slot with no partner that it has")
            assert found is not None
            done = tuple(stage.done_ticks for stage in slot.stages)
            if slot.ticks < found[0].ticks or any(
                a < b for a, b in zip(done, found[1], strict=True)
            ):
                self._fail(f"{_of(slot.stages[0])} and its partner need {found[0].ticks} ticks")
            return found[0].joules
        [stage] = stages
        said = slot.stages[0].done_ticks
        if said != slot.ticks:
            self._fail(f"{_of(slot.stages[0])} is done at {said} of its slot's {slot.ticks} ticks")
        if stage.resource == "host":
            if slot.ticks < stage.ticks:
                self._fail(f"{_of(slot.stages[0])} needs {stage.ticks} ticks, not {slot.ticks}")
            return 0.0
        shares = shares_of(stage, self.problem.pods)
        fits = [s for s in shares if s.pods <= slot.pods and s.ticks <= slot.ticks]
        if not fits:
            known = ", ".join(f"{s.ticks} on {s.pods}" for s in shares)
            self._fail(
                f"{_of(slot.stages[0])} is not done in {slot.ticks} ticks on {slot.pods} pods (it "
                f"takes {known})"
            )
        return min(fits, key=lambda share: (share.ticks, share.joules, share.pods)).joules

    def _check_order(self, starts: dict[int, int], ends: dict[int, int]) -> None:
        for job in self.problem.jobs:
            load = self.problem.loads[job.model]
            if starts[job.first] < job.release:
                self._fail(
                    f"{_name((load.name, job.frame, 0))} begins at tick {starts[job.first]}, "
                    f"before its release at {job.release}"
                )
            for number in range(job.first + 1, job.first + len(load.stages)):
                if starts[number] < ends[number - 1]:
                    stage = number - job.first
                    self._fail(
                        f"{_name((load.name, job.frame, stage))} begins before the stage before it "
                        "has ended"
                    )
            for source in job.sources:
                before = self.problem.jobs[source]
                other = self.problem.loads[before.model]
                if starts[job.first] < ends[before.first + len(other.stages) - 1]:
                    self._fail(
                        f"{_name((load.name, job.frame, 0))} begins before frame {before.frame} of "
                        f"{other.name!r}, which it follows, has ended"
                    )

    def _check_alone(self) -> None:
        if (shared := shared_lane(self.timetable)) is not None:
            self._fail(shared)


def _name(key: tuple[str, int, int]) -> str:
    return f"model {key[0]!r} frame {key[1]} stage {key[2]}"
