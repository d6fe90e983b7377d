"""All cases through worker processes with a time limit each; a crash never ends the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, TimeoutError, wait  # noqa: A004 - as in 3.10
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from pebble import ProcessExpired, ProcessPool

from .cases import Case
from .left_out import why_left_out
from .subject import Outcome, Payload, examine, quiet

CASES_A_WORKER = 200
"""A worker imports the compiler once (seconds) and is replaced after so many cases."""


@dataclass(frozen=True)
class Result:
    """A case's result: "passed", "failed" or "skipped", and why, in one line.

    fixed: inputs specialised to their values; constant: whether none was left for the run.
    """

    case: Case
    result: str
    reason: str
    seconds: float
    fixed: tuple[str, ...] = ()
    constant: bool = False


Examine = Callable[[Payload], Outcome]


def results(
    cases: Iterable[Case],
    jobs: int,
    limit_seconds: float,
    engine: str = "motet",
    examine_one: Examine = examine,
) -> Iterator[Result]:
    """The results of ``cases`` as they come.

    limit_seconds: for one case, the worker's start included. engine: "motet" or
    "onnxruntime". examine_one: what a worker does; importable by name.
    """
    context: Any = get_context("spawn")
    source, waiting = iter(cases), dict[Any, tuple[Case, str | None]]()
    pool: Any = ProcessPool(jobs, CASES_A_WORKER, quiet, context=context)
    try:
        while True:
            for case in source:
                model = case.model()
                sets = case.data_sets(model)
                content = model.SerializeToString()
                payload = Payload(engine, content, sets, case.rtol, case.atol)
                future = pool.schedule(examine_one, (payload,), timeout=limit_seconds)
                waiting[future] = case, why_left_out(case, model)
                if len(waiting) >= 2 * jobs:
                    break
            if not waiting:
                return
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield _result(*waiting.pop(future), future, limit_seconds)
    finally:
        pool.stop()
        pool.join()


def _result(case: Case, left_out: str | None, future: Any, limit_seconds: float) -> Result:
    try:
        outcome: Outcome = future.result()
    except TimeoutError:
        reason = f"internal: took more than {limit_seconds:g} s"
        return Result(case, "failed", reason, limit_seconds)
    except ProcessExpired as error:
        return Result(case, "failed", f"internal: its worker died, code {error.exitcode}", 0.0)
    if outcome.kind == "passed":
        return Result(case, "passed", "", outcome.seconds, outcome.fixed, outcome.constant)
    if outcome.kind == "refused" and left_out is not None:
        return Result(case, "skipped", f"{left_out}: {outcome.reason}", outcome.seconds)
    marks = {"wrong": "wrong: ", "internal": "internal: "}
    reason = f"{marks.get(outcome.kind, '')}{outcome.reason}"
    return Result(case, "failed", reason, outcome.seconds, outcome.fixed, outcome.constant)
