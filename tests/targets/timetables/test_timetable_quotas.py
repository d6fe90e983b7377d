"""Timetables and shares of the time, with buckets worked by hand: a tick is a tenth of a second."""

from __future__ import annotations

from dataclasses import replace

import pytest
from timetable_loads import array, host, load, make

from motet.runtime.errors import SpecError
from motet.targets.timetables.jobs import Problem
from motet.targets.timetables.kinds import best_of, timetables
from motet.targets.timetables.quotas import over_share, refuse_demand
from motet.targets.timetables.verify import plain, verified


def shared(share: float, *stages: int, period: int = 2) -> Problem:
    """Model a of ``share`` with some stages on one pod every ``period`` seconds, beside b."""
    return make(
        load("a", *stages, period=period, time_share=share), load("b", 1, period=period), clock=10
    )


def test_a_model_that_asks_for_more_than_its_share_is_refused() -> None:
    with pytest.raises(SpecError, match=r"'a': its frames take at least 40 % of the array's time"):
        timetables(shared(0.3, 4, 4), ["time"])
    refuse_demand(shared(0.4, 4, 4))
    held = make(load("a", host(8), period=2, time_share=0.3), clock=10)
    with pytest.raises(SpecError, match=r"at least 40 % of the host's time, and quota.time_share"):
        refuse_demand(held)


def test_fewer_pods_count_for_less() -> None:
    # 8 ticks on 1 of 4 pods are 2 of the whole array, of 20; 4 ticks on all of them would be 4.
    slow = load("a", array(8, 6, 4), period=2, time_share=0.15)
    refuse_demand(make(slow, pods=4, clock=10))
    with pytest.raises(SpecError, match="at least 10 % of the array"):
        refuse_demand(make(replace(slow, time_share=0.09), pods=4, clock=10))


def test_a_share_that_no_order_keeps_makes_no_timetable() -> None:
    # Three stages of 2 ticks in 20 and a share of 0.3: 6 ticks, all that it has. The bucket has
    # room for 0.3 of a tick and holds 1.4 after each, so for four ticks none may begin: there
    # are three gaps of 4 or 5 ticks for b, whose two stages fit if they are as short.
    held = load("a", 2, 2, 2, period=2, time_share=0.3)
    for ticks, is_there in ((4, True), (7, False)):
        made = make(held, load("b", *[ticks] * 2, period=2), clock=10)
        [found] = timetables(made, ["time"], 4000)
        assert (found.table is not None) == is_there
        if found.table is not None:
            assert over_share(found.table) is None
            continue
        assert "model 'a' would be over its quota.time_share of 0.3 when its frame 0" in found.why
        with pytest.raises(SpecError, match=r"time: model 'a' would be over its quota.time_share"):
            best_of([found])


def test_a_file_is_held_to_the_share_too() -> None:
    free = make(load("a", 4, 4, period=2), load("b", 1, period=2), clock=10)
    [found] = timetables(free, ["time"])
    assert found.table is not None
    text = plain(found.table, "time", "m", "int8")
    assert verified(text, free).slots == found.table.slots
    with pytest.raises(SpecError, match=r"over its quota.time_share of 0.45"):
        verified(text, shared(0.45, 4, 4))
