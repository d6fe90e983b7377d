"""The future of a submitted run against what ``concurrent.futures`` promises of one."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import (
    CancelledError,
    Future,
    as_completed,
    wait,
)
from concurrent.futures import (
    TimeoutError as FutureTimeoutError,
)
from typing import Any

import pytest

from motet.runtime.run_future import RunFuture

LONG = 30.0


def made(stop: Callable[[], bool] = lambda: False) -> RunFuture:
    return RunFuture(stop, threading.RLock())


def finish(future: RunFuture, result: Any) -> None:
    """As the dispatcher does."""
    with future._guard:
        quietly = future.finish(result)
    if quietly:
        future.wake()
    else:
        future.set_result(result)


def looked_at(future: RunFuture) -> bool:
    return "_condition" in vars(future)


def later(call: Callable[[], Any]) -> threading.Thread:
    def run() -> None:
        time.sleep(0.01)
        call()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_future_from_beginning_to_end() -> None:
    future = made()
    assert isinstance(future, Future)
    assert (future.running(), future.done(), future.cancelled()) == (False, False, False)
    future.begin()
    assert (future.running(), future.done()) == (True, False)
    assert "state=running" in repr(future)
    finish(future, 7)
    assert (future.running(), future.done(), future.result(), future.exception()) == (
        False, True, 7, None,
    )  # fmt: skip
    assert "state=finished" in repr(future)


def test_a_result_is_had_without_a_condition() -> None:
    future = made()
    assert not future.done()
    finish(future, 7)
    assert future.done()
    assert future.result() == 7
    sleeping = made()
    thread = later(lambda: finish(sleeping, 8))
    assert sleeping.result(LONG) == 8
    thread.join(LONG)
    assert not looked_at(future)
    assert not looked_at(sleeping)


@pytest.mark.parametrize("ask", [Future.result, RunFuture.result, RunFuture.exception])
@pytest.mark.parametrize("timeout", [0, 0.01, -1])
def test_waiting_ends_with_the_timeout(ask: Callable[..., Any], timeout: float) -> None:
    future = made()
    with pytest.raises(FutureTimeoutError):
        ask(future, timeout)
    assert not future.sleepers
    finish(future, 1)
    assert future.result(timeout) == 1


def test_all_who_wait_are_told_in_any_way() -> None:
    future = made()
    found: list[Any] = []
    ways: list[Callable[[], Any]] = [
        future.result,
        future.result,
        lambda: future.result(LONG),
        lambda: future.exception(LONG),
        lambda: wait([future], LONG).done.pop().result(),
        lambda: next(as_completed([future], LONG)).result(),
    ]
    threads = [threading.Thread(target=lambda way=way: found.append(way())) for way in ways]
    for thread in threads:
        thread.start()
    future.add_done_callback(lambda done: found.append(done.result()))
    time.sleep(0.02)
    assert not found
    finish(future, 5)
    for thread in threads:
        thread.join(LONG)
    assert sorted(map(str, found)) == sorted(["5"] * 6 + ["None"])


def test_an_exception_is_raised_for_all() -> None:
    error = ValueError("mine")
    future = made()
    thread = later(lambda: future.set_exception(error))
    with pytest.raises(ValueError, match="mine"):
        future.result()
    assert future.exception() is error
    thread.join(LONG)


def test_ends_of_a_cancelled_run() -> None:
    waiting, running = made(lambda: True), made(lambda: True)
    running.begin()
    for future in (waiting, running):
        assert future.cancel()
        thread = later(future.end_cancelled)
        with pytest.raises(CancelledError):
            future.result(LONG)
        thread.join(LONG)
        assert future.cancelled()
        with pytest.raises(CancelledError):
            future.result()
    ended = made(lambda: False)
    finish(ended, 1)
    assert not ended.cancel()


def test_asyncio_may_wait_for_it() -> None:
    async def both() -> list[Any]:
        futures = [made(), made()]
        finish(futures[0], 1)
        thread = later(lambda: finish(futures[1], 2))
        found = [await asyncio.wrap_future(future) for future in futures]
        thread.join(LONG)
        return found

    assert asyncio.run(both()) == [1, 2]


def test_nobody_sleeps_through_the_end() -> None:
    """Threads that come to sleep while the result comes, many times."""
    for number in range(300):
        future = made()
        found: list[Any] = []
        threads = [
            threading.Thread(target=lambda f=future, to=found: to.append(f.result(LONG)))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        if number % 2:
            finish(future, number)
        else:
            future.set_result(number)
        for thread in threads:
            thread.join(LONG)
        assert found == [number] * 3


def test_what_it_has_not_got() -> None:
    with pytest.raises(AttributeError, match="no attribute 'gone'"):
        made().gone  # noqa: B018
