"""Shares of time: the bucket by hand, and a dispatcher whose greedy model gives way."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

import pytest

from motet.runtime.boundaries import Boundary
from motet.runtime.dispatcher import Dispatcher
from motet.runtime.queueing import Queueing
from motet.runtime.time_shares import WINDOW_SECONDS, TimeShares

LONG = 30.0


def test_a_bucket_by_hand() -> None:
    shares = TimeShares({"a": 0.25}, machines=2)
    assert "a" in shares
    assert "b" not in shares
    room = 0.5 * WINDOW_SECONDS
    assert shares.left("a", 0.0) == pytest.approx(room / 0.5)
    shares.spend("a", room, 0.0)
    assert not shares.is_over("a", 0.0)
    shares.spend("a", 0.1, 0.0)
    assert shares.is_over("a", 0.0)
    assert shares.back("a", 0.0) == pytest.approx(0.2)
    assert shares.is_over("a", 0.19)
    assert not shares.is_over("a", 0.21)
    shares.spend("b", 9.0, 0.3)
    assert not shares.is_over("b", 0.3)
    assert shares.left("b", 0.3) == float("inf")


def test_who_is_within_its_share_never_goes_over_on_one_of_its_machines() -> None:
    assert TimeShares({"a": 0.5}, machines=2).left("a", 0.0) == float("inf")


def test_without_shares_there_is_nothing_to_keep() -> None:
    assert not TimeShares({})


def _busy(
    spent: dict[str, float], model: str, end: float
) -> Callable[[Boundary], Generator[int, None, None]]:
    """Steps of half a millisecond until ``end``, counted by model."""

    def run(_boundary: Boundary) -> Generator[int, None, None]:
        while time.monotonic() < end:
            began = time.perf_counter()
            while time.perf_counter() < began + 5e-4:
                pass
            spent[model] += 5e-4
            yield 1

    return run


@pytest.mark.parametrize("policy", ["priority", "edf", "fcfs"])
def test_a_greedy_model_gives_way_beyond_its_share(policy: str) -> None:
    """Whatever the policy would give it: it is first, most urgent and never ends."""
    spent = {"greedy": 0.0, "meek": 0.0}
    queue = Dispatcher(spent, Queueing(policy=policy), 1, {"greedy": 0.25})
    end = time.monotonic() + 1.0
    futures = [
        queue.submit("greedy", _busy(spent, "greedy", end), priority=9, deadline=1.0),
        queue.submit("meek", _busy(spent, "meek", end), priority=0, deadline=9.0),
    ]
    for future in futures:
        future.result(LONG)
    queue.close()
    share = spent["greedy"] / sum(spent.values())
    # A window's worth more, as it begins with an empty bucket; fcfs too has it come back.
    assert 0.15 < share < 0.25 + 0.25 * WINDOW_SECONDS + 0.1


def test_what_nobody_else_wants_a_model_may_have() -> None:
    spent = {"greedy": 0.0, "meek": 0.0}
    queue = Dispatcher(spent, Queueing(), 1, {"greedy": 0.1})
    began = time.monotonic()
    queue.submit("greedy", _busy(spent, "greedy", began + 0.4)).result(LONG)
    queue.close()
    assert time.monotonic() - began < 5
    assert spent["greedy"] > 0.1  # the machine may be busy beside
    assert queue.statistics()["greedy"].finished == 1
