"""Seconds of simulated time in which the models of a bundle share one array.

Each region of a model is a stage with the cycles that the timing view gives it; ``bundle_time``
serves stages by priority. Operators of the host are left out: they take no time here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from motet.placement_words import nothing_line
from motet.runtime.errors import SpecError
from motet.simulating import SimulatedModel
from motet.simulation_input import Schedule, Show, Work
from motet.targets.systolic.simulation.bundle_time import (
    ModelLoad,
    ModelTiming,
    Stage,
    simulate_bundle,
)

MAX_STAGES = 10_000_000
"""Stages served in one simulation: about two minutes."""


@dataclass(frozen=True)
class ModelSeconds:
    """One model over the simulated time; latencies are None where no run finished.

    rate_hz: None for back to back. deadline_seconds: the specification's, else the period; None
    where there is neither. host_operators: left out of every run. waiting_cycles: in which a
    run was ready for the array and another model had it.
    """

    model: str
    priority: int
    rate_hz: float | None
    deadline_seconds: float | None
    released: int
    finished: int
    deadline_misses: int
    mean_latency_seconds: float | None
    p50_latency_seconds: float | None
    p99_latency_seconds: float | None
    maximum_latency_seconds: float | None
    run_cycles: int
    array_cycles: int
    waiting_cycles: int
    host_operators: int


@dataclass(frozen=True)
class BundleSeconds:
    """All models over ``cycles``.

    array_busy: share of the time in which a model had the array, 0 to 1. utilisation:
    multiply-accumulates of finished runs / (cycles x processing elements of all pods).
    """

    array: str
    number_format: str
    clock_hz: float
    seconds_simulated: float
    cycles: int
    array_busy: float
    utilisation: float
    models: tuple[ModelSeconds, ...]

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain data; the keys name their units."""
        return {**asdict(self), "models": [asdict(model) for model in self.models]}


def bundle_seconds(
    work: Work,
    models: Sequence[SimulatedModel],
    seconds: float,
    show: Show = lambda line: None,
) -> BundleSeconds:
    """``models``, the simulated ones of ``work``, for ``seconds`` with their schedules.

    ``show`` is told how many simulated seconds are done.

    Raises ``SpecError`` where a model has nothing on the array, or ``seconds`` is too little or
    too much.
    """
    schedules = [work.schedules.get(model.model, Schedule()) for model in models]
    loads = [_load(m, schedule) for m, schedule in zip(models, schedules, strict=True)]
    _check_length(loads, seconds, work.description.clock_hz)
    timing = simulate_bundle(loads, work.description, seconds, show)
    macs = sum(m.array_macs * t.finished for m, t in zip(models, timing.models, strict=True))
    return BundleSeconds(
        array=work.description.name,
        number_format=work.number_format,
        clock_hz=work.description.clock_hz,
        seconds_simulated=seconds,
        cycles=timing.cycles,
        array_busy=timing.array_utilisation,
        utilisation=macs / (timing.cycles * work.description.elements),
        models=tuple(_results(models, loads, timing.models)),
    )


def _load(model: SimulatedModel, schedule: Schedule) -> ModelLoad:
    stages = tuple(Stage("array", region.cycles) for region in model.regions)
    if not stages:
        raise SpecError(
            f"{nothing_line(f'model {model.model!r}', repr(model.array), model.placement)}; "
            "it has no time there: choose others with --model"
        )
    late = None if schedule.deadline_ms is None else schedule.deadline_ms / 1e3
    return ModelLoad(model.model, stages, schedule.rate_hz, late, schedule.priority)


def _check_length(loads: Sequence[ModelLoad], seconds: float, clock_hz: float) -> None:
    """Refuse more stages than can be simulated in minutes; says how long would do."""
    unpaced = sum(load.rate_hz is None for load in loads)
    total = 0.0
    for load in loads:
        if load.rate_hz is not None:
            runs = load.rate_hz * seconds
        else:
            runs = seconds * clock_hz / sum(stage.cycles for stage in load.stages) / unpaced
        total += runs * len(load.stages)
    if total > MAX_STAGES:
        raise SpecError(
            f"{seconds:g} simulated seconds are about {total:.2g} stages of models; at most "
            f"{MAX_STAGES:,} are simulated: give at most {seconds * MAX_STAGES / total:.2g} seconds"
        )


def _results(
    models: Sequence[SimulatedModel], loads: Sequence[ModelLoad], timings: Sequence[ModelTiming]
) -> Iterator[ModelSeconds]:
    for model, load, timing in zip(models, loads, timings, strict=True):
        mean, middle, p99, most = _latencies(timing)
        yield ModelSeconds(
            model=model.model,
            priority=load.priority,
            rate_hz=load.rate_hz,
            deadline_seconds=_deadline(load),
            released=timing.released,
            finished=timing.finished,
            deadline_misses=timing.misses,
            mean_latency_seconds=mean,
            p50_latency_seconds=middle,
            p99_latency_seconds=p99,
            maximum_latency_seconds=most,
            run_cycles=model.cycles,
            array_cycles=timing.array_cycles,
            waiting_cycles=timing.waiting_cycles,
            host_operators=len(model.host),
        )


def _deadline(load: ModelLoad) -> float | None:
    if load.deadline_seconds is not None:
        return load.deadline_seconds
    return None if load.rate_hz is None else 1 / load.rate_hz


def _latencies(timing: ModelTiming) -> tuple[float | None, ...]:
    """Mean, median, 99th percentile and maximum, each one of a run's but the mean."""
    latencies = timing.latency_seconds
    if not latencies.size:
        return (None,) * 4
    middle, p99 = np.percentile(latencies, (50, 99), method="higher")
    return float(latencies.mean()), float(middle), float(p99), float(latencies.max())
