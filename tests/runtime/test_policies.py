"""Orders of jobs: by hand, against a sort, and EDF's optimality on one machine."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet.runtime.errors import SpecError
from motet.runtime.policies import POLICIES, ReadyQueue, policy_named


@dataclass
class Task:
    number: int
    release: int = 0
    deadline: int | None = None
    priority: int = 0
    stage: int = 0
    model: str = "m"


def order(policy: str, tasks: list[Task]) -> list[int]:
    queue = ReadyQueue[Task](policy_named(policy))
    for task in tasks:
        queue.add(task)
    taken = []
    while (task := queue.take()) is not None:
        taken.append(task.number)
    return taken


THREE = [
    Task(0, release=3, deadline=9, priority=1),
    Task(1, release=2, deadline=20, priority=1),
    Task(2, release=5, deadline=None, priority=7),
    Task(3, release=3, deadline=9, priority=2),
]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("fcfs", [1, 0, 3, 2]), ("priority", [2, 3, 1, 0]), ("edf", [3, 0, 1, 2])],
)
def test_orders_by_hand(policy: str, expected: list[int]) -> None:
    assert order(policy, THREE) == expected
    assert order(policy, THREE[::-1]) == expected


def test_an_unknown_policy_is_named_with_the_others() -> None:
    with pytest.raises(SpecError, match="no policy 'lifo': choose one of fcfs, priority, edf"):
        policy_named("lifo")


tasks = st.builds(
    Task,
    st.just(0),
    st.integers(0, 3),
    st.none() | st.integers(0, 3),
    st.integers(-1, 1),
).flatmap(st.just)


@given(st.sampled_from(sorted(POLICIES)), st.lists(tasks, max_size=12), st.randoms())
def test_any_order_of_arrival_gives_one_order(
    policy: str, drawn: list[Task], random: Random
) -> None:
    numbered = [replace(task, number=n) for n, task in enumerate(drawn)]
    shuffled = list(numbered)
    random.shuffle(shuffled)
    found = order(policy, shuffled)
    assert found == order(policy, numbered)
    first = {"fcfs": _released, "priority": _urgent, "edf": _deadline}[policy]
    assert [first(numbered[n]) for n in found] == sorted(map(first, numbered))


def _released(task: Task) -> float:
    return task.release


def _urgent(task: Task) -> float:
    return -task.priority


def _deadline(task: Task) -> float:
    return math.inf if task.deadline is None else task.deadline


@given(
    st.lists(st.tuples(st.sampled_from("arft"), st.integers(0, 5)), max_size=60),
    st.sampled_from(sorted(POLICIES)),
)
def test_a_queue_is_a_sorted_list(actions: list[tuple[str, int]], policy: str) -> None:
    """Adding, removing, looking and taking, against the plainest model of it."""
    chosen = policy_named(policy)
    queue, model = ReadyQueue[Task](chosen), dict[int, Task]()
    for number, (action, value) in enumerate(actions):
        if action == "a":
            task = Task(number, value % 3, value, -value)
            queue.add(task)
            model[number] = task
        elif action == "r" and model:
            task = list(model.values())[value % len(model)]
            queue.remove(task)
            if value % 2:  # a job that was broken off comes again
                queue.add(task)
            else:
                del model[task.number]
        else:

            def even(task: Task, every: bool = value % 2 == 0) -> bool:
                return every or task.number % 2 == 0

            best = min(filter(even, model.values()), key=chosen.key, default=None)
            assert queue.first(even) is best
            if action == "t":
                assert queue.take(even) is best
                model.pop(-1 if best is None else best.number, None)
        assert len(queue) == len(model)
        assert {task.number for task in queue} == set(model)


def misses(policy: str, periods: list[int], costs: list[int], until: int) -> int:
    """Late unit stages of periodic tasks, each with its period as deadline; ticks of 1."""
    queue, late, left = ReadyQueue[Task](policy_named(policy)), 0, dict[int, int]()
    for now in range(until):
        for task, period in enumerate(periods):
            if now % period == 0:
                number = len(left)
                left[number] = costs[task]
                queue.add(Task(number, now, now + period, -period))
        running = queue.take()
        if running is not None:
            left[running.number] -= 1
            if left[running.number]:
                queue.add(running)
            else:
                assert running.deadline is not None
                late += now + 1 > running.deadline
    return late + sum(task.deadline is not None and task.deadline <= until for task in queue)


@given(
    st.lists(
        st.sampled_from([2, 3, 4, 5, 6, 8, 10, 12]).flatmap(
            lambda period: st.tuples(st.just(period), st.integers(1, period))
        ),
        min_size=1,
        max_size=4,
    )
)
def test_edf_is_late_only_where_the_machine_is_too_small(drawn: list[tuple[int, int]]) -> None:
    """Liu and Layland: every deadline is met exactly where the sum of C / T is at most 1."""
    periods, costs = [period for period, _ in drawn], [cost for _, cost in drawn]
    load = sum(Fraction(cost, period) for period, cost in drawn)
    # Over two hyperperiods (of 120) a machine that is too small falls behind by more than a tick.
    assert (misses("edf", periods, costs, 240) == 0) == (load <= 1)


def test_fixed_priorities_are_late_where_edf_is_not() -> None:
    """Rate-monotonic priorities on 2 of 5 and 4 of 7: the sum is 34/35, above their bound."""
    assert misses("edf", [5, 7], [2, 4], 70) == 0
    assert misses("priority", [5, 7], [2, 4], 70) > 0
