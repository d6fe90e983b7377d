"""Stages of steps in given places: by hand, and laws on random graphs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from motet.passes.scheduling.pins import Place
from motet.passes.scheduling.placed_stages import placed_stages

A, B, LATER = Place(0, 0), Place(0, 1), Place(1, 0)


def steps_of(stages):
    return [[group.steps for group in stage] for stage in stages]


def test_places_are_kept_where_data_allows():
    needs = [set(), set(), {0}, {1}, {2, 3}]
    stages = placed_stages(needs, [A, B, A, B, LATER], may_wait=False)
    assert steps_of(stages) == [[(0, 2), (1, 3)], [(4,)]]


def test_a_step_waits_for_what_is_made_later():
    assert steps_of(placed_stages([set(), {0}], [LATER, A], may_wait=False)) == [[(0,)], [(1,)]]
    assert steps_of(placed_stages([set(), {0}], [LATER, A], may_wait=True)) == [[(0,), (1,)]]


def test_groups_wait_or_what_they_share_comes_before():
    needs, places = [set(), {0}, {0}, set()], [A, A, B, B]
    assert steps_of(placed_stages(needs, places, may_wait=True)) == [[(0, 1), (2, 3)]]
    assert steps_of(placed_stages(needs, places, may_wait=False)) == [[(0,)], [(1,), (2, 3)]]


def test_groups_that_wait_for_each_other_are_one():
    needs, places = [set(), {0}, {1}], [A, B, A]  # each waits for the other
    assert steps_of(placed_stages(needs, places, may_wait=True)) == [[(0, 1, 2)]]


def test_what_reads_a_group_follows_it():
    needs, places = [set(), set(), {1}], [B, A, B]
    assert steps_of(placed_stages(needs, places, may_wait=True)) == [[(1,), (0, 2)]]


def test_a_step_without_a_place_goes_with_its_first_reader():
    needs = [set(), {0}, {0}, set()]
    stages = placed_stages(needs, [None, LATER, A, None], may_wait=False)
    assert steps_of(stages) == [[(0, 2, 3)], [(1,)]]


def test_what_runs_alone_has_a_stage_of_its_own():
    needs = [set(), set(), {0, 1}, {2}]
    stages = placed_stages(needs, [A, B, A, B], {2}, may_wait=False)
    assert steps_of(stages) == [[(0,), (1,)], [(2,)], [(3,)]]


@st.composite
def problems(draw):
    count = draw(st.integers(1, 12))
    needs = [
        draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        for number in range(count)
    ]
    place = st.builds(Place, st.integers(0, 4), st.integers(0, 3))
    places = draw(st.lists(st.none() | place, min_size=count, max_size=count))
    alone = draw(st.sets(st.integers(0, count - 1), max_size=3))
    return needs, places, alone


@given(problems(), st.booleans())
def test_every_step_runs_once_and_after_what_it_reads(problem, may_wait):
    needs, places, alone = problem
    stages = placed_stages(needs, places, alone, may_wait=may_wait)
    order = [n for stage in stages for group in stage for n in group.steps]
    assert sorted(order) == list(range(len(needs)))
    at = {number: turn for turn, number in enumerate(order)}
    assert all(at[read] < at[number] for number, reads in enumerate(needs) for read in reads)
    for stage in stages:
        owner = {n: number for number, group in enumerate(stage) for n in group.steps}
        if alone & owner.keys():
            assert len(stage) == 1
        reads = {(n, read) for n in owner for read in needs[n] if read in owner}
        assert may_wait or all(owner[n] == owner[read] for n, read in reads)
