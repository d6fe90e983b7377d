"""``session.submit`` on compiled bundles: values, other threads, preemption between kernels."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import motet
from motet.runtime.errors import SpecError

LONG = 60.0


@pytest.mark.parametrize("policy", ["fcfs", "priority", "edf"])
def test_many_runs_in_flight_give_the_values_of_run(small: Path, policy: str) -> None:
    with motet.load(small, policy=policy, threads=2) as session:
        session.configure(workers=3)
        given = {name: model.random_inputs(seed=7) for name, model in session.items()}
        expected = {name: session.run(name, inputs) for name, inputs in given.items()}
        futures = [
            (name, session.submit(name, given[name], priority=turn % 3, deadline=LONG - turn))
            for turn in range(20)
            for name in session
        ]
        for name, future in futures:
            found = future.result(LONG)
            for key, value in expected[name].items():
                np.testing.assert_array_equal(found[key], value)
    assert {found.finished for found in session.statistics().values()} == {20}


def test_a_network_gives_way_between_its_kernels(mobile: Path) -> None:
    """One worker: an urgent run ends inside a long one, which then goes on to the right values."""
    with motet.load(mobile, threads=2) as session:
        session.configure(workers=1)
        (model,) = session.values()
        many = model.random_inputs(seed=1, symbols={"batch": 64, "N": 64})
        one = {name: array[:1] for name, array in many.items()}
        right = session.run(None, many)
        order: list[str] = []
        began, go_on = threading.Event(), threading.Event()
        model_pausing = model.pausing

        def watched(arrays: Any, boundary: Any, taken: Any) -> Any:
            steps = model_pausing(arrays, boundary, taken)
            calls = 0
            while not calls:
                boundary.seen -= 1  # as if something had changed: the run stops after a call
                calls = next(steps)
                if not calls:
                    yield 0
            assert calls == 1
            began.set()
            assert go_on.wait(LONG)
            yield 1
            return (yield from steps)

        model.pausing = watched  # type: ignore[method-assign]
        low = session.submit(None, many, priority=0)
        low.add_done_callback(lambda _: order.append("low"))
        assert began.wait(LONG)
        model.pausing = model_pausing  # type: ignore[method-assign]
        high = session.submit(None, one, priority=1)
        high.add_done_callback(lambda _: order.append("high"))
        go_on.set()
        for key, value in right.items():
            np.testing.assert_array_equal(low.result(LONG)[key], value)
        assert high.result(LONG).keys() == right.keys()
    assert order == ["high", "low"]


def test_load_refuses_an_unknown_policy(small: Path) -> None:
    with pytest.raises(SpecError, match="no policy 'lifo': choose one of fcfs, priority, edf"):
        motet.load(small, policy="lifo")
