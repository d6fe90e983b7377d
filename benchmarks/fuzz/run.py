"""All cases through worker processes, with a time and a memory limit each.

Motet and the references have a pool each: a crash of the latter says nothing of Motet.
A worker serves many cases, because importing the compiler takes seconds, and is replaced
after ``CASES_A_WORKER``, or when a case ended it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, TimeoutError, wait  # noqa: A004 - as in 3.10
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from pebble import ProcessExpired, ProcessPool

from .cases import Case
from .judge import Verdict, by_onnxruntime, by_reference, settled
from .subject import Outcome, examine, prepare

CASES_A_WORKER = 400
UNJUDGED = "unjudged"
FINE = ("right", "right by onnx.reference", "refused", UNJUDGED)
"""Kinds of results that are no findings."""


@dataclass(frozen=True)
class Limits:
    """Of one case: seconds, and bytes beyond what the compiler itself takes."""

    seconds: float = 60.0
    memory_bytes: int = 4 << 30


@dataclass(frozen=True)
class Result:
    """How a case ended. kind: one of ``FINE``, else it is a finding."""

    case: Case
    kind: str
    detail: str
    trace: str = ""

    @property
    def is_finding(self) -> bool:
        """Whether Motet has a defect here."""
        return self.kind not in FINE


class Runner:
    """Worker processes that take cases; use as a context."""

    def __init__(self, jobs: int, limits: Limits) -> None:
        self.jobs = jobs
        self.limits = limits
        context: Any = get_context("spawn")
        arguments = (limits.memory_bytes,)
        self._subjects = ProcessPool(jobs, CASES_A_WORKER, prepare, arguments, context)
        self._judges = ProcessPool(jobs, CASES_A_WORKER, context=context)

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        pools: tuple[Any, ...] = (self._subjects, self._judges)
        for pool in pools:
            pool.stop()
            pool.join()

    def results(self, cases: Iterable[Case]) -> Iterator[Result]:
        """The results of ``cases`` as they come, of any number of cases."""
        waiting: dict[Any, Case] = {}
        source = iter(cases)
        while True:
            for case in source:
                waiting[self._subjects.schedule(examine, (case,), timeout=self.limits.seconds)] = (
                    case
                )
                if len(waiting) >= 2 * self.jobs:
                    break
            if not waiting:
                return
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield self._result(waiting.pop(future), future)

    def _result(self, case: Case, future: Any) -> Result:
        try:
            outcome: Outcome = future.result()
        except TimeoutError:
            return Result(case, "time out", f"more than {self.limits.seconds:g} s")
        except ProcessExpired as error:
            return Result(case, "crash", f"the worker ended with {error.exitcode}")
        if outcome.kind != "answer":
            return Result(case, outcome.kind, outcome.detail, outcome.trace)
        verdict = self._judged(case, outcome)
        return Result(case, verdict.kind, verdict.detail)

    def _judged(self, case: Case, outcome: Outcome) -> Verdict:
        first = self._ask(by_onnxruntime, case, outcome)
        if first.kind == "right":
            return first
        return settled(first, self._ask(by_reference, case, outcome))

    def _ask(self, judge: Callable[..., Verdict], case: Case, outcome: Outcome) -> Verdict:
        """A reference's verdict; "cannot" where it crashes or takes too long."""
        arguments = (case.content, outcome.inputs, outcome.outputs)
        future = self._judges.schedule(judge, arguments, timeout=self.limits.seconds)
        try:
            return future.result()
        except (TimeoutError, ProcessExpired) as error:
            return Verdict("cannot", f"it ended with {type(error).__name__}")
