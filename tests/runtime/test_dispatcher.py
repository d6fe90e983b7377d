"""Workers and queues, with fake runs that a test holds back and lets go step by step."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, Future, as_completed, wait
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from motet.runtime.boundaries import Boundary
from motet.runtime.dispatcher import Dispatcher
from motet.runtime.errors import LateError, QueueFullError, SubmitError, TimedOutError
from motet.runtime.queueing import Miss, Queueing

LONG = 30.0
"""Seconds until a test that hangs fails."""


class Fake:
    """A run of ``steps`` steps; each waits until the test has let it go."""

    def __init__(self, steps: int = 1, free: bool = True) -> None:
        self.steps = steps
        self.turns = threading.Semaphore(steps if free else 0)
        self.begun = threading.Event()
        self.ended = threading.Event()
        self.done = 0

    def __call__(self, _boundary: Boundary) -> Generator[int, None, int]:
        self.begun.set()
        try:
            yield 0
            for _ in range(self.steps):
                assert self.turns.acquire(timeout=LONG)
                self.done += 1
                yield 1
            return self.done
        finally:
            self.ended.set()

    def go(self, steps: int = 1) -> None:
        self.turns.release(steps)


@contextmanager
def dispatcher(models: str = "ab", workers: int = 1, **settings: Any) -> Iterator[Dispatcher]:
    made = Dispatcher(models, Queueing(**settings), workers)
    try:
        yield made
    finally:
        made.close(cancel=True)


@contextmanager
def busy(queue: Dispatcher, model: str = "a", **asked: Any) -> Iterator[Future[Any]]:
    """A worker that is held by a run of one step while the context lasts."""
    holder = Fake(1, free=False)
    future = queue.submit(model, holder, **asked)
    assert holder.begun.wait(LONG)
    yield future
    holder.go()


def begun_in_time(queue: Dispatcher, key: str, steps: int = 1) -> tuple[Fake, Future[Any], float]:
    """A held run that began before its ``key`` (timeout, deadline), and that many seconds.

    On a busy machine a worker may come too late for a short one: then the next is longer.
    """
    seconds = 0.02
    while True:
        fake = Fake(steps, free=False)
        future = queue.submit("a", fake, **{key: seconds})
        within(lambda fake=fake, future=future: fake.begun.is_set() or future.done())
        if fake.begun.is_set():
            return fake, future, seconds
        seconds *= 4


def within(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_run_and_its_figures() -> None:
    with dispatcher() as queue:
        assert not queue.used
        assert queue.submit("a", Fake(3)).result(LONG) == 3
        assert queue.used
        found = queue.statistics()
    assert (found["a"].released, found["a"].finished, found["a"].missed) == (1, 1, 0)
    assert found["a"].p50_seconds == found["a"].p99_seconds
    assert 0 < (found["a"].p50_seconds or 0) < LONG
    assert found["b"].released == 0
    assert found["b"].p50_seconds is None


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("fcfs", [0, 1, 2]), ("priority", [1, 2, 0]), ("edf", [2, 0, 1])],
)
def test_waiting_runs_go_in_the_policys_order(policy: str, expected: list[int]) -> None:
    order: list[int] = []
    with dispatcher(policy=policy) as queue:
        with busy(queue, priority=9, deadline=1e-9):
            futures = []
            for number, (priority, deadline) in enumerate([(1, 50.0), (3, 60.0), (2, 40.0)]):
                future = queue.submit("b", Fake(), priority=priority, deadline=deadline)
                future.add_done_callback(lambda _, n=number: order.append(n))
                futures.append(future)
        wait(futures, LONG)
    assert order == expected


@pytest.mark.parametrize(
    ("policy", "first"), [("fcfs", "low"), ("priority", "high"), ("edf", "high")]
)
def test_a_run_is_broken_off_at_a_boundary(policy: str, first: str) -> None:
    order: list[str] = []
    with dispatcher(policy=policy) as queue:
        slow = Fake(4, free=False)
        low = queue.submit("a", slow, priority=0, deadline=50)
        low.add_done_callback(lambda _: order.append("low"))
        slow.go(2)
        within(lambda: slow.done == 2)
        high = queue.submit("b", Fake(), priority=1, deadline=5)
        high.add_done_callback(lambda _: order.append("high"))
        assert not high.done()  # the third step is under way, and is never broken off
        slow.go(1)
        if first == "high":
            assert high.result(LONG) == 1
            assert slow.done == 3
            assert (low.running(), low.done()) == (True, False)
        slow.go(1)
        assert low.result(LONG) == 4
        assert high.result(LONG) == 1
    assert order[0] == first


def test_the_least_urgent_worker_gives_way() -> None:
    with dispatcher("abc", workers=2) as queue:
        runs = {name: Fake(3, free=False) for name in "ab"}
        low = queue.submit("a", runs["a"], priority=1)
        middle = queue.submit("b", runs["b"], priority=2)
        assert runs["a"].begun.wait(LONG)
        assert runs["b"].begun.wait(LONG)
        high = Fake(1, free=False)
        queue.submit("c", high, priority=3)
        runs["b"].go()  # its boundary comes first, but it is not the one to go
        within(lambda: runs["b"].done == 1)
        runs["b"].go()
        within(lambda: runs["b"].done == 2)
        assert not high.begun.is_set()
        runs["a"].go()
        assert high.begun.wait(LONG)
        runs["b"].go()
        assert middle.result(LONG) == 3
        runs["a"].go(2)
        assert low.result(LONG) == 3
        high.go()


def test_a_slow_model_never_has_all_workers() -> None:
    with dispatcher("ab", workers=2, policy="fcfs") as queue:
        endless = [Fake(1, free=False) for _ in range(3)]
        slow = [queue.submit("a", fake) for fake in endless]
        assert endless[0].begun.wait(LONG)
        for _ in range(5):
            assert queue.submit("b", Fake(2)).result(LONG) == 2
        assert not endless[1].begun.is_set()
        assert queue.statistics()["a"].waiting == 2
        for fake in endless:
            fake.go()
        assert [future.result(LONG) for future in slow] == [1, 1, 1]


def test_one_model_alone_has_all_workers() -> None:
    with dispatcher("a", workers=2) as queue:
        both = [Fake(1, free=False) for _ in range(2)]
        for fake in both:
            queue.submit("a", fake)
        assert all(fake.begun.wait(LONG) for fake in both)
        for fake in both:
            fake.go()


def test_a_failing_model_stops_no_other() -> None:
    def failing(_boundary: Boundary) -> Generator[int, None, None]:
        yield 1
        raise SystemExit("a kernel's end")

    with dispatcher() as queue:
        futures = [queue.submit(name, failing if name == "a" else Fake()) for name in "abab"]
        for future in futures[::2]:
            with pytest.raises(SystemExit, match="a kernel's end"):
                future.result(LONG)
        assert [future.result(LONG) for future in futures[1::2]] == [1, 1]
        found = queue.statistics()
    assert (found["a"].failed, found["a"].finished) == (2, 0)
    assert (found["b"].failed, found["b"].finished) == (0, 2)


def test_a_full_queue_is_its_models_alone() -> None:
    with dispatcher(queue_size=2, when_full="raise") as queue, busy(queue):
        futures = [queue.submit("a", Fake()) for _ in range(2)]
        with pytest.raises(QueueFullError, match="model 'a': 2 runs wait already"):
            queue.submit("a", Fake())
        futures.append(queue.submit("b", Fake()))
        assert queue.statistics()["a"].refused == 1
    assert all(future.done() for future in futures)


def test_back_pressure_waits_for_a_place_and_no_longer_than_asked() -> None:
    with dispatcher(queue_size=1) as queue:
        with busy(queue):
            queue.submit("a", Fake())
            started = time.monotonic()
            with pytest.raises(QueueFullError):
                queue.submit("a", Fake(), timeout=0.05)
            assert time.monotonic() - started >= 0.05
            pressed: list[Future[Any]] = []
            caller = threading.Thread(target=lambda: pressed.append(queue.submit("a", Fake())))
            caller.start()
            time.sleep(0.02)
            assert not pressed
        caller.join(LONG)
        assert pressed[0].result(LONG) == 1


def test_a_callback_may_submit_and_is_refused_rather_than_waits_for_itself() -> None:
    refused: list[BaseException] = []

    def more(_: Future[Any]) -> None:
        queue.submit("a", Fake())
        try:
            queue.submit("a", Fake())
        except QueueFullError as error:
            refused.append(error)

    with dispatcher(queue_size=1) as queue:
        with busy(queue) as future:
            future.add_done_callback(more)
        within(lambda: queue.statistics()["a"].finished == 2)
    assert len(refused) == 1


def test_a_timeout_ends_what_waits_at_once() -> None:
    with dispatcher() as queue, busy(queue):
        waiting = queue.submit("b", Fake(), timeout=0.02)
        with pytest.raises(TimedOutError, match="model 'b': its timeout passed while the run wait"):
            waiting.result(LONG)
        assert queue.statistics()["b"].timed_out == 1
        assert queue.statistics()["b"].waiting == 0


def test_a_timeout_ends_what_runs_at_its_next_boundary() -> None:
    with dispatcher() as queue:
        slow, future, seconds = begun_in_time(queue, "timeout", steps=3)
        time.sleep(1.5 * seconds)
        assert not future.done()
        slow.go()
        with pytest.raises(TimeoutError, match="after 1 calls"):
            future.result(LONG)
        assert slow.ended.is_set()
        assert queue.submit("a", Fake()).result(LONG) == 1


def test_an_endless_timeout_is_none() -> None:
    with dispatcher(queue_size=1, drop_late=True) as queue:
        with busy(queue):
            queue.submit("a", Fake(), timeout=math.inf, deadline=math.inf)
            caller = threading.Thread(
                target=lambda: queue.submit("a", Fake(), timeout=1e300, deadline=1e300)
            )
            caller.start()
        caller.join(LONG)
        within(lambda: queue.statistics()["a"].finished == 3)


def test_a_result_is_told_although_the_next_run_hangs() -> None:
    with dispatcher() as queue:
        first, second = Fake(1, free=False), Fake(1, free=False)
        result = queue.submit("a", first)
        hanging = queue.submit("b", second)
        sleeper = threading.Thread(target=lambda: (result.result(LONG), told.set()))
        told = threading.Event()
        sleeper.start()
        within(lambda: getattr(result, "sleepers", None) is not None)
        first.go()
        assert told.wait(LONG)
        assert not hanging.done()
        second.go()


def test_a_result_is_told_although_a_run_that_was_broken_off_hangs() -> None:
    with dispatcher() as queue:
        slow, urgent = Fake(2, free=False), Fake(1, free=False)
        low = queue.submit("a", slow)
        assert slow.begun.wait(LONG)
        result, told = queue.submit("b", urgent, priority=1), threading.Event()
        sleeper = threading.Thread(target=lambda: (result.result(LONG), told.set()))
        sleeper.start()
        within(lambda: getattr(result, "sleepers", None) is not None)
        slow.go()
        assert urgent.begun.wait(LONG)
        urgent.go()
        assert told.wait(LONG / 2)
        assert not low.done()
        slow.go()


def test_sleepers_are_told_before_a_callback_of_the_next_run() -> None:
    """It may wait for them; the next run fails at once, or is cancelled before it began."""

    def failing(_boundary: Boundary) -> Generator[int, None, None]:
        raise ValueError("at once")
        yield 0

    with dispatcher() as queue:
        first = Fake(1, free=False)
        result, told = queue.submit("a", first), threading.Event()
        sleeper = threading.Thread(target=lambda: (result.result(LONG), told.set()))
        sleeper.start()
        within(lambda: getattr(result, "sleepers", None) is not None)
        found: list[bool] = []
        failed = queue.submit("b", failing)
        failed.add_done_callback(lambda _: found.append(told.wait(LONG / 2)))
        first.go()
        with pytest.raises(ValueError, match="at once"):
            failed.result(LONG)
        within(lambda: bool(found))
    assert found == [True]


def test_a_callback_may_wait_for_a_run_of_another_worker() -> None:
    found: list[int] = []
    with dispatcher("a", workers=2) as queue:
        held = [Fake(1, free=False) for _ in range(2)]
        first, second = (queue.submit("a", fake) for fake in held)
        assert all(fake.begun.wait(LONG) for fake in held)
        waiting = queue.submit("a", Fake())
        first.add_done_callback(lambda _: found.append(waiting.result(LONG)))
        held[0].go()
        within(lambda: not first.running())
        held[1].go()
        assert second.result(LONG) == 1
        within(lambda: found == [1])


def test_a_run_that_is_broken_off_times_out_at_once() -> None:
    with dispatcher() as queue:
        slow = Fake(2, free=False)
        future = queue.submit("a", slow, timeout=3)
        assert slow.begun.wait(LONG)
        urgent = Fake(1, free=False)
        queue.submit("b", urgent, priority=1)
        slow.go()
        assert urgent.begun.wait(LONG)
        with pytest.raises(TimedOutError, match="after 1 calls"):
            future.result(LONG)
        assert slow.ended.is_set()
        urgent.go()


def test_cancelling_what_waits() -> None:
    with dispatcher() as queue, busy(queue):
        fake = Fake()
        future = queue.submit("b", fake)
        assert future.cancel()
        assert (future.cancelled(), future.done(), future.running()) == (True, True, False)
        assert future.cancel()
        with pytest.raises(CancelledError):
            future.result(0)
        assert next(as_completed([future])) is future
        assert not fake.begun.is_set()
        assert queue.statistics()["b"].cancelled == 1


def test_cancelling_what_runs() -> None:
    with dispatcher() as queue:
        fake = Fake(3, free=False)
        future = queue.submit("b", fake)
        assert fake.begun.wait(LONG)
        assert future.cancel()
        assert not future.done()
        fake.go()
        with pytest.raises(CancelledError):
            future.result(LONG)
        assert future.cancelled()
        assert fake.done == 1
        assert fake.ended.is_set()
        assert queue.submit("b", Fake()).result(LONG) == 1


def test_what_has_ended_cannot_be_cancelled() -> None:
    with dispatcher() as queue:
        future = queue.submit("a", Fake())
        assert future.result(LONG) == 1
        assert not future.cancel()
        assert not future.cancelled()


def test_a_late_end_is_a_miss_and_is_told() -> None:
    told: list[Miss] = []
    with dispatcher(on_miss=told.append) as queue:
        with busy(queue, deadline=0.01) as late:
            time.sleep(0.03)
        assert late.result(LONG) == 1
        assert queue.submit("b", Fake(), deadline=LONG).result(LONG) == 1
        within(lambda: bool(told))
        found = queue.statistics()
    assert (found["a"].missed, found["a"].finished, found["b"].missed) == (1, 1, 0)
    assert [(miss.model, miss.outcome) for miss in told] == [("a", "finished")]
    assert told[0].late_seconds >= 0.02


def test_late_runs_are_dropped_where_asked() -> None:
    told: list[Miss] = []
    with dispatcher(on_miss=told.append, drop_late=True) as queue:
        holder, begun, seconds = begun_in_time(queue, "deadline")
        late = queue.submit("b", Fake(), deadline=1.5 * seconds)
        with pytest.raises(LateError, match="model 'b': the deadline passed before"):
            late.result(LONG)
        holder.go()
        assert begun.result(LONG) == 1  # what has begun is not dropped
        queue.close()
        found = queue.statistics()["b"]
    assert (found.released, found.dropped, found.missed, found.finished) == (1, 1, 1, 0)
    ends = {(miss.model, miss.outcome) for miss in told}
    assert {("b", "dropped"), ("a", "finished")} <= ends


def test_a_callback_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Miss) -> None:
        raise ValueError("mine")

    with dispatcher(on_miss=broken) as queue:
        assert queue.submit("a", Fake(), deadline=1e-9).result(LONG) == 1
        assert queue.submit("b", Fake()).result(LONG) == 1
    assert "on_miss raised for model 'a'" in caplog.text


def test_close_does_what_was_submitted() -> None:
    with dispatcher() as queue:
        futures = [queue.submit(name, Fake(2)) for name in "abab"]
        queue.close()
        assert [future.result(0) for future in futures] == [2, 2, 2, 2]
        with pytest.raises(SubmitError, match="model 'a': the session is closed"):
            queue.submit("a", Fake())
        queue.close()


def test_close_can_cancel() -> None:
    with dispatcher() as queue:
        fake = Fake(2, free=False)
        running, waiting = queue.submit("a", fake), queue.submit("b", Fake())
        assert fake.begun.wait(LONG)
        closing = threading.Thread(target=queue.close, args=(True,))
        closing.start()
        with pytest.raises(CancelledError):
            waiting.result(LONG)
        fake.go()
        closing.join(LONG)
        assert running.cancelled()


def test_close_lets_go_who_waits_for_a_place() -> None:
    errors: list[BaseException] = []

    def press() -> None:
        try:
            queue.submit("a", Fake())
        except SubmitError as error:
            errors.append(error)

    with dispatcher(queue_size=1) as queue, busy(queue):
        queue.submit("a", Fake())
        caller = threading.Thread(target=press)
        caller.start()
        time.sleep(0.02)
        queue.end_soon()
        caller.join(LONG)
        assert len(errors) == 1


def test_nothing_is_lost_among_many_threads() -> None:
    """Every release ends in just one way, under cancels, time-outs and failures at random."""

    def body(fail: bool) -> Callable[[Boundary], Generator[int, None, int]]:
        def run(_boundary: Boundary) -> Generator[int, None, int]:
            for _ in range(3):
                yield 1
            if fail:
                raise ValueError("asked for")
            return 1

        return run

    def submit(number: int) -> None:
        for i in range(150):
            timeout = 0.003 if i % 11 == 0 else None
            asked = {"priority": i % 5, "deadline": 0.002 * (1 + i % 4), "timeout": timeout}
            with suppress(QueueFullError):
                futures.append(queue.submit("abc"[i % 3], body(i % 7 == 0), **asked))
                if i % 5 == number:
                    futures[-1].cancel()

    futures: list[Future[Any]] = []
    with dispatcher("abc", workers=3, policy="edf", queue_size=8, drop_late=True) as queue:
        callers = [threading.Thread(target=submit, args=(n,)) for n in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(LONG)
        queue.close()
        found = queue.statistics()
    assert all(future.done() for future in futures)
    refused = sum(model.refused for model in found.values())
    assert sum(model.released for model in found.values()) == len(futures) == 600 - refused
    for model in found.values():
        ends = (model.finished, model.failed, model.dropped, model.timed_out, model.cancelled)
        assert sum(ends) == model.released
        assert (model.waiting, model.running) == (0, 0)
    ways = [type(f.exception()) if not f.cancelled() else CancelledError for f in futures]
    assert ways.count(ValueError) == sum(model.failed for model in found.values())
    assert ways.count(LateError) == sum(model.dropped for model in found.values())
    assert ways.count(CancelledError) == sum(model.cancelled for model in found.values())


def test_a_finished_run_is_let_go() -> None:
    import gc
    import weakref

    class Big:
        pass

    big = Big()
    seen = weakref.ref(big)

    def run(_boundary: Boundary, held: Big = big) -> Generator[int, None, None]:
        yield 1
        del held

    with dispatcher() as queue:
        future = queue.submit("a", lambda boundary, begin=run: begin(boundary), timeout=LONG)
        future.result(LONG)
        run.__defaults__ = None
        del run, big
        within(lambda: gc.collect() >= 0 and seen() is None)
