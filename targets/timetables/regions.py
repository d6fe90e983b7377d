"""Which models share which pods for the whole hyperperiod: a dynamic programme.

A group of models gets pods of its own and time-multiplexes them. What a group costs on a number of
pods does not depend on the others where no frame waits for another group's and the host is idle;
then the best division is exactly (what models are over their shares of the time and missed frames
first, summed over groups, then the largest share of a deadline used)

    best(models, pods) = min over groups G with the first model, counts k:
                         cost(G, k) + best(models - G, pods - k)

Costs are those of the best of list scheduling's orders. Where groups do depend on each other the
division is a start for the search, which has all models.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from motet.targets.timetables.jobs import Job, Problem, shares_of
from motet.targets.timetables.list_order import RULES, list_starts
from motet.targets.timetables.placing import Layout, Place, Placer
from motet.targets.timetables.quotas import rank

MOST_MODELS = 8
"""For which all groups are tried; of more only runs of models by their periods."""

GroupCost = tuple[tuple[int, ...], float, float]
"""Ticks over shares of the time and misses by priority, largest share of a deadline, energy."""

Division = tuple[tuple[tuple[int, ...], int], ...]
"""Groups of models with their pods."""


def counts_of_problem(problem: Problem) -> list[int]:
    """Numbers of pods for which some stage has times, rising."""
    return sorted(
        {
            share.pods
            for load in problem.loads
            for stage in load.stages
            if stage.resource == "array"
            for share in shares_of(stage, problem.pods)
        }
    )


def layout_of(problem: Problem, division: Division) -> Layout:
    """The pods of every model, the largest groups first, so that they lie evenly."""
    places = [Place(problem.pods, 0)] * len(problem.loads)
    at = 0
    for models, pods in sorted(division, key=lambda one: (-one[1], one[0])):
        for model in models:
            places[model] = Place(pods, at)
        at += pods
    return Layout(tuple(places))


def best_division(problem: Problem, apart: bool = False) -> Division | None:
    """The division of least cost; None where there is none. apart: every model on its own."""
    counts = counts_of_problem(problem)
    order = sorted(range(len(problem.loads)), key=lambda m: (_period(problem, m), m))
    few = len(order) <= MOST_MODELS

    @lru_cache(None)
    def cost(group: tuple[int, ...], pods: int) -> GroupCost | None:
        return group_cost(problem, group, pods)

    @lru_cache(None)
    def best(left: tuple[int, ...], pods: int) -> tuple[GroupCost, Division] | None:
        if not left:
            return ((0,) * (1 + len(problem.levels)), 0.0, 0.0), ()
        found: tuple[GroupCost, Division] | None = None
        for group in _groups(left, apart, few):
            rest = tuple(model for model in left if model not in group)
            for count in counts:
                if count > pods:
                    break
                own = cost(group, count)
                others = best(rest, pods - count) if own is not None else None
                if own is None or others is None:
                    continue
                made = _sum(own, others[0]), ((group, count), *others[1])
                if found is None or made < found:
                    found = made
        return found

    answer = best(tuple(order), problem.pods)
    return None if answer is None else answer[1]


def _period(problem: Problem, model: int) -> float:
    rate = problem.loads[model].rate_hz
    assert rate is not None
    return float(1 / rate)


def _sum(one: GroupCost, other: GroupCost) -> GroupCost:
    missed = tuple(a + b for a, b in zip(one[0], other[0], strict=True))
    return missed, max(one[1], other[1]), one[2] + other[2]


def _groups(left: tuple[int, ...], apart: bool, few: bool) -> list[tuple[int, ...]]:
    """Groups with the first model of those left."""
    first, rest = left[0], left[1:]
    if apart:
        return [(first,)]
    if not few:
        return [left[: count + 1] for count in range(len(left))]
    return [
        (first, *(model for at, model in enumerate(rest) if mask >> at & 1))
        for mask in range(1 << len(rest))
    ]


def group_cost(problem: Problem, group: tuple[int, ...], pods: int) -> GroupCost | None:
    """Of some models alone on ``pods``; None where a stage has no place on so few."""
    part = subproblem(problem, group)
    placer = Placer(part, Layout((Place(pods, 0),) * len(group)))
    if any(
        all(share.pods > pods for share in shares_of(stage, problem.pods))
        for load in part.loads
        for stage in load.stages
        if stage.resource == "array"
    ):
        return None
    found: GroupCost | None = None
    for rule in RULES[:3]:
        table = placer.table(list_starts(placer, rule))
        if table is None:
            continue
        missed = [0] * len(problem.levels)
        for level, count in zip(part.levels, table.cost[0], strict=True):
            missed[problem.levels.index(level)] = count
        made = (rank(table)[0], *missed), table.cost[1], table.joules
        if found is None or made < found:
            found = made
    return found


def subproblem(problem: Problem, group: tuple[int, ...]) -> Problem:
    """The frames of some models; those of others that they wait for are done at their fastest."""
    chosen = sorted(group)
    ends: dict[int, int] = {}
    jobs: list[Job] = []
    new: dict[int, int] = {}
    first = 0
    for job in problem.jobs:
        load = problem.loads[job.model]
        ready = max([job.release, *(ends[source] for source in job.sources)])
        ends[job.number] = ready + load.ticks
        if job.model not in chosen:
            continue
        inside = tuple(new[source] for source in job.sources if source in new)
        outside = [ends[source] for source in job.sources if source not in new]
        new[job.number] = len(jobs)
        model = chosen.index(job.model)
        release = max([job.release, *outside])
        deadline = max(job.deadline, release + 1)
        jobs.append(Job(len(jobs), model, job.frame, release, deadline, inside, first))
        first += len(load.stages)
    loads = tuple(problem.loads[model] for model in chosen)
    return replace(problem, loads=loads, jobs=tuple(jobs), joints=(), rest_watts=None)
