"""Timetables worked by hand: each kind, preemption, cascades, the host, wrapping, joints."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from timetable_loads import array, host, load, make, pods_of, shown

from motet.runtime.errors import SpecError
from motet.targets.sharing.loads import Load, Share, Stage, fraction_of
from motet.targets.timetables.bounds import bounds
from motet.targets.timetables.hyperperiod import checked_hyperperiod, frames, hyperperiod, rounding
from motet.targets.timetables.jobs import Joint
from motet.targets.timetables.kinds import best_of, timetables
from motet.targets.timetables.placing import Table
from motet.targets.timetables.replay import replay


def best(kind: str, *loads: Load, pods: int = 1) -> Table:
    [found] = timetables(make(*loads, pods=pods), [kind])
    assert found.table is not None
    return found.table


def test_hyperperiods() -> None:
    assert hyperperiod([Fraction(60), Fraction(45), Fraction(30)]) == Fraction(1, 15)
    assert frames([Fraction(60), Fraction(45), Fraction(30)]) == 4 + 3 + 2
    assert hyperperiod([fraction_of(29.97), Fraction(30)]) == Fraction(100, 3)
    assert hyperperiod([Fraction(1, 3), Fraction(1, 2)]) == 6


def test_too_many_frames_name_the_rate_to_round() -> None:
    rates = {"a": fraction_of(59.94), "b": Fraction(60), "c": fraction_of(23.976)}
    with pytest.raises(SpecError) as caught:
        checked_hyperperiod(rates, 1000)
    text = str(caught.value)
    assert "only after 83.3333 s, 11,993 frames, and a timetable has at most 1,000" in text
    assert "models.b.rate_hz = 60" in text
    # 23.976 : 59.94 is 2 : 5, so one model is enough.
    assert "round b to 59.94 Hz, which gives 0.0834168 s and 12 frames" in text
    odd = {"a": fraction_of(7.13), "b": fraction_of(11.7), "c": fraction_of(13.9)}
    found = rounding(odd, 100)
    assert found is not None
    assert frames([*{**odd, **found}.values()]) <= 100


def test_a_short_frame_breaks_up_a_long_one_at_the_end_of_a_stage() -> None:
    # b, due 4 after its release every 10, has to go in between a's stages of 4.
    table = best("time", load("a", 4, 4, period=20), load("b", 2, period=10, deadline=4))
    assert shown(table)["b"] == [(0, 2), (10, 12)]
    assert shown(table)["a"] == [(2, 6), (6, 10)]
    assert table.missed == 0
    late = best("time", load("a", 9, 5, period=20), load("b", 2, period=10, deadline=3))
    # a in one piece of 14 would make b late; 9 fits only after b's second frame.
    assert late.missed == 0
    assert shown(late)["b"] == [(0, 2), (10, 12)] or shown(late)["b"][1][1] <= 13


def test_not_working_though_there_is_work_pays() -> None:
    # EDF begins a at 0 and misses b, released at 1 and due at 3; to wait is better.
    loads = (load("a", 4, period=12), load("b", 2, period=12, deadline=2, phase=1))
    table = best("time", *loads)
    assert table.missed == 0
    assert shown(table) == {"b": [(1, 3)], "a": [(3, 7)]}


def test_a_cascade_goes_over_the_host_while_the_array_works() -> None:
    table = best(
        "time",
        load("eyes", array(3), host(4), period=20),
        load("gaze", 2, period=20, after=("eyes",)),
        load("other", 4, period=20),
    )
    assert shown(table)["eyes"] == [(0, 3), (3, 7)]
    assert shown(table)["gaze"] == [(7, 9)]
    assert shown(table)["other"] == [(3, 7)]


def test_space_gives_every_model_pods_of_its_own() -> None:
    # On all pods a blocks b (due at 5) for 10; side by side nobody waits.
    a = load("a", array(19, 12, 10), period=20)
    b = load("b", array(4, 3, 2), period=20, deadline=5, phase=1)
    problem = make(a, b, pods=4)
    found = {one.kind: one for one in timetables(problem)}
    assert found["time"].table is not None
    assert found["space"].table is not None
    space = found["space"].table
    assert {len(pods) for pods in pods_of(space, "a")} == {2}
    assert shown(space)["a"] == [(0, 12)]
    assert shown(space)["b"] == [(1, 4)]
    assert not set(pods_of(space, "a")[0]) & set(pods_of(space, "b")[0])
    # In turn, a's 10 and b's 2 end at 12 at the earliest: 12 of 20.
    assert found["time"].bounds.used == pytest.approx(0.6, abs=1e-6)


def test_pods_of_their_own_fit_where_taking_turns_does_not() -> None:
    # Stages that gain nothing from more pods: 10 + 8 + 6 + 9 > 20 in turn, side by side 10.
    loads = [
        load(name, array(ticks, ticks, ticks), period=20)
        for name, ticks in (("a", 10), ("b", 8), ("c", 6), ("d", 9))
    ]
    found = timetables(make(*loads, pods=4))
    assert [one.table is not None for one in found] == [False, True, True]
    assert found[0].why == "the rates ask for 165 % of the array"
    assert best_of(found).kind == "space"
    assert found[1].table is not None
    assert found[1].table.missed == 0
    with pytest.raises(SpecError, match="165 % of the array's time: 65 % too much"):
        best_of(found[:1])


def test_both_changes_shares_from_stage_to_stage() -> None:
    # a halves with pods; b and c gain nothing. Best: b, c and so on one pod, a on the rest.
    a = load("a", array(16, 8, 4), period=16, deadline=5)
    b = load("b", array(6, 6, 6), period=16)
    c = load("c", array(6, 6, 6), period=16)
    problem = make(a, b, c, pods=4)
    found = {one.kind: one.table for one in timetables(problem)}
    both = found["both"]
    assert both is not None
    assert both.missed == 0
    assert shown(both)["a"] == [(0, 4)]
    assert shown(both)["b"] == shown(both)["c"] == [(4, 10)]
    assert found["space"] is not None
    assert found["space"].missed == 1


def test_a_stage_that_does_not_fit_few_pods_has_enough() -> None:
    big = Load("a", (Stage("array", 4, 0.0, (Share(4, 4),)),), Fraction(1, 20))
    small = load("b", array(6, 6, 6), period=20)
    problem = make(big, small, pods=4)
    found = {one.kind: one for one in timetables(problem)}
    assert found["space"].table is None
    assert found["space"].why == "some model does not keep up on its pods"
    assert found["both"].table is not None
    assert set(pods_of(found["both"].table, "a")) == {range(4)}


def test_a_joint_stage_is_used_where_it_pays() -> None:
    problem = make(load("a", 5, period=20, deadline=10), load("b", 5, period=20, deadline=10))
    joint = Joint((0, 0), (1, 0), 6, (5, 6))
    found = timetables(replace(problem, joints=(joint,)))
    table = best_of(found).table
    assert table is not None
    assert best_of(found).kind == "both"
    assert shown(table) == {"a": [(0, 6)], "b": [(0, 6)]}
    assert table.ends == (5, 6)
    worse = replace(problem, joints=(Joint((0, 0), (1, 0), 11, (11, 11)),))
    assert best_of(timetables(worse)).kind == "time"


def test_a_frame_may_go_on_in_the_next_hyperperiod() -> None:
    table = best("time", load("a", 6, period=10, phase=7), load("b", 4, period=10, deadline=10))
    assert table.missed == 0
    assert shown(table)["a"] in ([(7, 13)], [(10, 16)], [(8, 14)], [(9, 15)])


def test_late_frames_count_by_priority() -> None:
    # Both are due at 5 and take 4: one is late, and it is the less urgent one.
    for urgent in "ab":
        loads = [load(n, 4, period=20, deadline=5, priority=int(n == urgent)) for n in "ab"]
        table = best("time", *loads)
        assert table.cost[0] == (0, 1)
        assert shown(table)[urgent] == [(0, 4)]


def test_bounds_by_hand() -> None:
    # Two frames of 4 due 5 after their release at 0: 8 into 5 needs 1.6 of it; one is late.
    pair = make(load("a", 4, period=20, deadline=5), load("b", 4, period=20, deadline=5))
    found = bounds(pair)
    assert found.used == pytest.approx(1.6, abs=1e-6)
    assert found.missed == 1
    assert found.utilisation == {"array": 0.4, "host": 0}
    assert found.latencies == (4, 4)
    chain = make(load("a", 3, host(2), period=9), load("b", 4, period=9, after=("a",), deadline=8))
    assert bounds(chain).latencies == (5, 9)
    assert bounds(chain).missed == 1
    assert bounds(chain).used == pytest.approx(9 / 8)


def test_what_has_no_timetable() -> None:
    with pytest.raises(SpecError, match="model 'a' runs back to back: a timetable needs its rate"):
        make(Load("a", (array(1),)))
    with pytest.raises(SpecError, match="a, b follow each other in a circle"):
        make(load("a", 1, period=2, after=("b",)), load("b", 1, period=2, after=("a",)))
    heavy = make(load("a", 3, period=2))
    with pytest.raises(SpecError, match=r"150 % of the array's time: 50 % too .*0\.667 of"):
        best_of(timetables(heavy))


def test_a_replay_keeps_latencies_and_leaves_slots_empty_by_chance() -> None:
    table = best(
        "time",
        load("a", 3, period=10),
        load("b", 2, period=10, after=("a",), probability=0.5),
        load("c", 1, period=10, after=("b",)),
    )
    a, b, c = replay(table, Fraction(10_000), 3).models
    assert (a.released, a.finished, set(a.latency)) == (1000, 1000, {3})
    assert 400 < b.finished < 600
    assert c.finished == b.finished
    assert set(c.latency) == {6}
    assert b.used["array"] == 2 * b.finished
    again = replay(table, Fraction(10_000), 3).models[1]
    assert again.released == b.released
    assert replay(table, Fraction(10_000), 4).models[1].released != b.released
