"""MetaSchedule's evolutionary search for one kernel, with this project's own measurements.

The search itself (schedule rules, mutation, the ranking of candidates) is TVM's; candidates
are compiled and timed by whoever calls, so that they run as kernels of a bundle run, and
nothing of TVM's worker processes is needed (nor cloudpickle and psutil, which those need).

Two things of TVM's own search are left out. Its tensor intrinsics, of integers and half
precision alone and half a minute to import (``_no_intrinsics``); and candidates that compute
the same values again and again (``_MOST_WORK``), some of which run for minutes.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from tvm import IRModule
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.analysis import estimate_tir_flops

from motet.targets.host.machine import Machine
from motet.targets.host.meta_schedule.lowering import as_loops
from motet.targets.host.target import tvm_target

BATCH = 16
"""Candidates that are compiled and timed together, and that the search then learns from."""
_POPULATION, _UNMEASURED, _GENERATIONS = 32, 16, 2
"""Smaller than TVM's own: tens of trials learn nothing from hundreds of individuals."""
_MOST_WORK = 2.0
"""Times the operations of the workload that a candidate may have."""
_INTRINSICS = "tvm.s_tir.tensor_intrin"
_FAILED = 1e10
"""Seconds that TVM gives a candidate that could not be run."""
_SEED = 1

Time = Callable[[Sequence[Any]], Sequence[float | None]]
"""Seconds of kernels (plain loops), in their order; None for one that cannot be run."""


@dataclass(frozen=True)
class Found:
    """The fastest kernel that the search met (plain loops), and the candidates it tried."""

    kernel: Any
    seconds: float
    trials: int


def search(workload: Any, machine: Machine, trials: int, time: Time) -> Found | None:
    """Search schedules of ``workload``; None where none could be run.

    Parameters
    ----------
    workload : tirx.PrimFunc
        Naive nests in blocks, of static shapes (``lower_unit.fuse``).
    trials : int
        Candidates to measure.
    time : Callable
        Measures kernels; where it raises, the search ends with that error.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        Whatever TVM makes of a workload that its rules cannot schedule.
    """
    module = _without_rules(workload)
    target = tvm_target(machine)
    database = ms.database.MemoryDatabase()
    model = _cost_model()
    context = _context(module, target)
    context.pre_tuning(trials, BATCH, None, database, model)
    record = database.commit_workload(module)
    work = _MOST_WORK * estimate_tir_flops(module)
    best, tried = None, 0
    while candidates := context.generate_measure_candidates():
        kernels = [_loops(candidate.sch.mod, work) for candidate in candidates]
        known = [kernel for kernel in kernels if kernel is not None]
        answers = iter(time(known) if known else ())
        seconds = [None if kernel is None else next(answers) for kernel in kernels]
        tried += len(candidates)
        for kernel, taken in zip(kernels, seconds, strict=True):
            if taken is not None and (best is None or taken < best.seconds):
                best = Found(kernel, taken, tried)
        _tell(context, model, database, record, target, candidates, seconds)
    context.post_tuning()
    return best and Found(best.kernel, best.seconds, tried)


def _without_rules(workload: Any) -> IRModule:
    """The workload as a module; blocks that ask for rules of their own, which CPUs have not,
    are scheduled as all others.
    """
    schedule = Schedule(IRModule({"main": workload.with_attr("global_symbol", "main")}))
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        if "schedule_rule" in schedule.get(block).annotations:
            schedule.unannotate(block, "schedule_rule")
    return schedule.mod


def _context(module: IRModule, target: Any) -> Any:
    """One thread: a search takes the machine's other cores from nobody."""
    strategy = ms.search_strategy.EvolutionarySearch(
        population_size=_POPULATION,
        init_min_unmeasured=_UNMEASURED,
        genetic_num_iters=_GENERATIONS,
    )
    # TVM's rules for any CPU: those it would take for AVX512 need its intrinsics.
    space = ms.space_generator.PostOrderApply(
        sch_rules="llvm", postprocs="llvm", mutator_probs="llvm"
    )
    with _no_intrinsics():
        return ms.TuneContext(
            module,
            target=target,
            space_generator=space,
            search_strategy=strategy,
            num_threads=1,
            rand_state=_SEED,
            logger=_quiet(),
        )


@contextmanager
def _no_intrinsics() -> Iterator[None]:
    """An empty module stands for TVM's tensor intrinsics, which a context imports for nothing."""
    known = sys.modules.get(_INTRINSICS)
    sys.modules[_INTRINSICS] = known or ModuleType(_INTRINSICS)
    try:
        yield
    finally:
        if known is None:
            del sys.modules[_INTRINSICS]


def _cost_model() -> Any:
    return ms.CostModel.create("xgb", num_tuning_cores=1, tree_method="auto")


def _quiet() -> logging.Logger:
    """TVM logs tables of its search as news; only warnings are."""
    logger = logging.getLogger("motet.meta_schedule")
    logger.setLevel(logging.WARNING)
    logging.getLogger("tvm.s_tir.meta_schedule").setLevel(logging.WARNING)
    return logger


def _loops(module: IRModule, most_work: float) -> Any:
    """None for a candidate that cannot be lowered, as some are that break a pass's rules, or
    that computes much again.
    """
    if estimate_tir_flops(module) > most_work:
        return None
    try:
        return as_loops(module)
    except (RuntimeError, ValueError):
        return None


def _tell(
    context: Any, model: Any, database: Any, record: Any, target: Any,
    candidates: Sequence[Any], seconds: Sequence[float | None],
) -> None:  # fmt: skip
    """What TVM's task scheduler does with the results of a batch."""
    results = [
        ms.runner.RunnerResult([taken], None)
        if taken is not None
        else ms.runner.RunnerResult(None, "it could not be run")
        for taken in seconds
    ]
    context.notify_runner_results(candidates, results)
    model.update(context, candidates, results)
    for candidate, taken in zip(candidates, seconds, strict=True):
        times = [_FAILED if taken is None else taken]
        database.commit_tuning_record(
            ms.database.TuningRecord(
                candidate.sch.trace, record, times, target, candidate.args_info
            )
        )
