"""Laws of timetables on random problems: legal, never below bounds, never worse than EDF, exact."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from timetable_loads import load, make, problems

from motet.targets.sharing.loads import RESOURCES
from motet.targets.timetables.bounds import bounds
from motet.targets.timetables.exact import search
from motet.targets.timetables.jobs import Joint, Problem
from motet.targets.timetables.kinds import timetables
from motet.targets.timetables.list_order import RULES, by_deadline, list_starts
from motet.targets.timetables.placing import Cost, Layout, Place, Placer, Slot, Table
from motet.targets.timetables.timeline import Ring
from motet.targets.timetables.verify import plain, verified

EASE = 1e-6


def whole(problem: Problem) -> Placer:
    return Placer(problem, Layout((Place(problem.pods, 0),) * len(problem.loads)))


def plainly_listed(problem: Problem) -> Table | None:
    """EDF list scheduling as it is, stages where it begins them; None where it does not end."""
    placer = whole(problem)
    starts = list_starts(placer, by_deadline)
    slots, ends = [], {}
    for number, (job, at) in enumerate(problem.stages):
        stage = problem.stage(number)
        host = stage.resource == "host"
        ticks = stage.ticks if host else placer.shares[problem.jobs[job].model][at].ticks
        ends[number] = int(starts[number]) + ticks
        joules = stage.joules if host else placer.shares[problem.jobs[job].model][at].joules
        slots.append(
            Slot((number,), int(starts[number]), ticks, range(0 if host else problem.pods), joules)
        )
    if max(ends.values()) > problem.ticks:
        return None
    last = [j.first + len(problem.loads[j.model].stages) - 1 for j in problem.jobs]
    return Table(problem, tuple(slots), tuple(ends[n] for n in last))


@settings(deadline=None, max_examples=60)
@given(problems(pods=4))
def test_timetables_are_legal_within_bounds_and_no_worse_than_edf(problem: Problem) -> None:
    listed = plainly_listed(problem)
    costs = {}
    for found in timetables(problem, placements=2000):
        if found.table is None:
            assert found.why
            continue
        table, least = found.table, found.bounds
        costs[found.kind] = table.cost
        # Every job once, alone, in order: an independent reader says so.
        again = verified(plain(table, found.kind, "m", ""), problem)
        assert again.ends == table.ends
        assert again.cost[:2] == table.cost[:2]
        assert table.missed >= least.missed
        assert table.cost[1] >= least.used * (1 - EASE)
        assert table.joules >= least.joules - EASE
        for resource in RESOURCES:
            lanes = problem.pods if resource == "array" else 1
            spent = sum(
                slot.ticks * max(1, len(slot.pods))
                for slot in table.slots
                if bool(slot.pods) == (resource == "array")
            )
            assert spent >= least.utilisation[resource] * lanes * problem.ticks - EASE
        for job, end in zip(problem.jobs, table.ends, strict=True):
            assert end - job.release >= 0
    if listed is not None:
        assert costs["time"] <= listed.cost
    for kind in ("time", "space"):
        if kind in costs:
            assert costs["both"] <= costs[kind]


def brute_force(problem: Problem) -> Cost | None:
    """The least cost of all orders of all stages, each as early as the order lets it."""
    best: Cost | None = None
    numbers = range(len(problem.stages))
    for order in itertools.permutations(numbers):
        table = _in_order(problem, order)
        if table is not None and (best is None or table.cost < best):
            best = table.cost
    return best


def _in_order(problem: Problem, order: tuple[int, ...]) -> Table | None:
    free = {"array": 0, "host": 0}
    ends: dict[int, int] = {}
    slots = []
    for number in order:
        at, stage = problem.stages[number]
        job = problem.jobs[at]
        if stage:
            if number - 1 not in ends:
                return None
            ready = ends[number - 1]
        else:
            before = [problem.jobs[s] for s in job.sources]
            lasts = [j.first + len(problem.loads[j.model].stages) - 1 for j in before]
            if any(last not in ends for last in lasts):
                return None
            ready = max([job.release, *(ends[last] for last in lasts)])
        made = problem.stage(number)
        if not made.ticks:
            ends[number] = ready
            slots.append(Slot((number,), ready, 0, range(0), 0.0))
            continue
        start = max(ready, free[made.resource])
        free[made.resource] = ends[number] = start + made.ticks
        if ends[number] > problem.ticks:
            return None
        slots.append(Slot((number,), start, made.ticks, range(0), made.joules))
    lasts = [j.first + len(problem.loads[j.model].stages) - 1 for j in problem.jobs]
    return Table(problem, tuple(slots), tuple(ends[last] for last in lasts))


@settings(deadline=None, max_examples=120)
@given(problems(models=3, periods=(12, 24), longest=7))
def test_branch_and_bound_is_a_brute_force(problem: Problem) -> None:
    if len(problem.stages) > 6:
        problem = make(*problem.loads[:1])
    if len(problem.stages) > 6:
        return
    expected = brute_force(problem)
    placer = whole(problem)
    done = search(placer, None)
    assert done.complete
    if expected is None:
        assert done.keys is None
        return
    assert done.keys is not None
    table = placer.table(done.keys)
    assert table is not None
    assert table.cost == expected


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_ring_gives_the_earliest_free_place(data: st.DataObject) -> None:
    ticks = data.draw(st.integers(1, 12))
    ring, taken = Ring(2, ticks), [[False] * ticks for _ in range(2)]
    for _ in range(data.draw(st.integers(0, 6))):
        first = data.draw(st.integers(0, 1))
        stop = data.draw(st.integers(first + 1, 2))
        ready, needed = data.draw(st.integers(0, 20)), data.draw(st.integers(1, ticks))

        def is_free(at: int, lanes: range, ticks: int, needed: int) -> bool:
            return not any(taken[n][(at + i) % ticks] for n in lanes for i in range(needed))

        places = (
            at
            for at in range(ready, ready + ticks)
            if is_free(at, range(first, stop), ticks, needed)
        )
        expected = next(places, None)
        assert ring.earliest(first, stop, ready, needed) == expected
        if expected is not None:
            ring.take(first, stop, expected, needed)
            for lane in range(first, stop):
                for i in range(needed):
                    taken[lane][(expected + i) % ticks] = True


def test_the_same_problem_has_the_same_timetable() -> None:
    loads = [load(f"m{n}", 3 + n, period=24 * (1 + n % 2), deadline=24) for n in range(4)]
    one, other = (timetables(make(*loads))[0].table for _ in range(2))
    assert one is not None
    assert other is not None
    assert one.slots == other.slots


def test_a_clock_that_does_not_divide_the_hyperperiod() -> None:
    """Of 1/3 s at 100 Hz: 33 ticks, and no deadline is a tick later than it may be."""
    problem = make(
        load("a", 20, period=Fraction(1, 3)), load("b", 5, period=Fraction(1, 6)), clock=100
    )
    assert problem.ticks == 33
    assert [job.release for job in problem.jobs] == [0, 0, 17]
    for job in problem.jobs:
        exact = Fraction(100, 3) if problem.loads[job.model].name == "a" else Fraction(100, 6)
        assert job.deadline - job.release <= exact - 1 + 1
    table = timetables(problem)[0].table
    assert table is not None
    assert table.missed == 0


@settings(deadline=None, max_examples=40)
@given(problems(pods=2, models=3), st.integers(1, 9), st.integers(1, 9))
def test_bounds_hold_with_joints(problem: Problem, ticks: int, end: int) -> None:
    """Two models with a stage of the array each; the joint may be quicker than either."""
    with_array = [
        (model, [s.resource for s in one.stages].index("array"))
        for model, one in enumerate(problem.loads)
        if not one.after and any(stage.resource == "array" for stage in one.stages)
    ]
    if len(with_array) < 2:
        return
    joint = Joint(with_array[0], with_array[1], max(ticks, end), (ticks, end), 0.5)
    joined = replace(problem, joints=(joint,))
    least = bounds(joined)
    for rule, fused in itertools.product(RULES, (frozenset(), frozenset({0}))):
        layout = Layout((Place(problem.pods),) * len(problem.loads), fused)
        placer = Placer(joined, layout)
        table = placer.table(list_starts(placer, rule))
        if table is None:
            continue
        assert table.missed >= least.missed
        assert table.cost[1] >= least.used * (1 - EASE)
        assert table.joules >= least.joules - EASE
        again = verified(plain(table, "both", "m", ""), joined)
        assert again.ends == table.ends
