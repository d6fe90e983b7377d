"""Seconds of simulated time in which the models of a bundle share a machine: the figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from motet.runtime.errors import SpecError
from motet.runtime.policies import policy_named
from motet.runtime.progress import Show, silent
from motet.targets.sharing.arrivals import Arrivals, read_trace
from motet.targets.sharing.engine import Setting, simulate
from motet.targets.sharing.intervals import Interval, interval
from motet.targets.sharing.metrics import ModelScores, Scores, scores
from motet.targets.sharing.outcome import ModelOutcome, Outcome
from motet.targets.sharing.side_by_side import SideBySide
from motet.together import Together, TogetherModel

MAX_STAGES = 10_000_000
"""Stages served in one simulation: some minutes."""


PERIODIC, POISSON = "periodic", "poisson"


@dataclass(frozen=True)
class Question:
    """What is simulated; arrivals: ``periodic``, ``poisson`` or a trace's path. share_pods: models
    run side by side on shares of the array's pods, whose times the loads have.
    """

    seconds: Fraction
    policy: str
    seed: int = 0
    seeds: int = 1
    arrivals: str = PERIODIC
    jitter_ms: Fraction = Fraction(0)
    keep_late: bool = False
    all_metrics: bool = False
    share_pods: bool = False

    def __post_init__(self) -> None:
        if self.jitter_ms and self.arrivals != PERIODIC:
            raise SpecError(
                f"--jitter is of periodic arrivals, and those of --arrivals {self.arrivals} have "
                "times of their own: leave one of them out"
            )

    @property
    def trace(self) -> str | None:
        """The path of the trace that arrivals are read from."""
        return None if self.arrivals in (PERIODIC, POISSON) else self.arrivals

    @property
    def policy_text(self) -> str:
        """The policy, and whether pods are shared."""
        return f"{self.policy}, pods shared" if self.share_pods else self.policy


@dataclass(frozen=True)
class ModelSeconds:
    """One model over the simulated time; latencies are None where no run finished.

    rate_hz: None for back to back. deadline_seconds: the specification's, else the period; None
    where there is neither. released: each is finished, dropped or unfinished. waiting_seconds: in
    which a run was ready for the array and another model had it. run_array_seconds,
    run_host_seconds: of one run; host_times: how the latter are known. scores: with all metrics.
    """

    model: str
    priority: int
    rate_hz: float | None
    deadline_seconds: float | None
    probability: float
    released: int
    finished: int
    dropped: int
    unfinished: int
    deadline_misses: int
    mean_latency_seconds: float | None
    p50_latency_seconds: float | None
    p95_latency_seconds: float | None
    p99_latency_seconds: float | None
    maximum_latency_seconds: float | None
    array_seconds: float
    host_seconds: float
    waiting_seconds: float
    energy_joules: float | None
    run_array_seconds: float
    run_host_seconds: float
    host_operators: int
    host_times: str
    scores: ModelScores | None = None

    def to_dict(self) -> dict[str, Any]:
        """All figures as flat data; the keys name their units."""
        facts = asdict(self)
        facts.pop("scores")
        return facts | (asdict(self.scores) if self.scores is not None else {})


@dataclass(frozen=True)
class BundleSeconds:
    """All models over ``seconds_simulated``.

    array_busy, host_busy: share of the time in which a model had it, 0 to 1. utilisation:
    multiply-accumulates of finished runs / (cycles x processing elements of all pods); None
    without an array. energy_joules: the array's, at rest too; None where it is not known.
    """

    machine: str
    number_format: str
    clock_hz: float
    policy: str
    arrivals: str
    seed: int
    seconds_simulated: float
    array_busy: float
    host_busy: float
    utilisation: float | None
    energy_joules: float | None
    models: tuple[ModelSeconds, ...]
    scores: Scores | None = None

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain data; the keys name their units."""
        facts = asdict(self)
        found = facts.pop("scores")
        if found is not None:
            facts |= {key: found[key] for key in ("stp", "antt", "fairness", "xrbench")}
        return facts | {"models": [model.to_dict() for model in self.models]}


def bundle_seconds(
    together: Together, question: Question, show: Show = silent
) -> list[BundleSeconds]:
    """The simulation for each of the seeds, from the first on.

    Raises ``SpecError`` where it would be too long, or cannot be simulated at all.
    """
    _check_length(together, question.seconds)
    arrivals = _arrivals(question, together)
    setting = Setting(
        policy_named(question.policy),
        question.seconds,
        together.clock_hz,
        arrivals,
        not question.keep_late,
        together.pods,
    )
    kind = SideBySide if question.share_pods else None
    found = []
    for seed in range(question.seed, question.seed + question.seeds):
        outcome = simulate(together.loads, setting, seed, show, kind)
        found.append(figures(together, question, seed, outcome))
    return found


def _arrivals(question: Question, together: Together) -> Arrivals:
    if question.trace is None:
        return Arrivals(question.arrivals, question.jitter_ms / 1000)
    first = [load.name for load in together.loads if not load.after]
    return read_trace(question.trace, first)


def beyond_the_end(question: Question, together: Together) -> list[str]:
    """A warning where frames of the trace come after the simulated time."""
    if question.trace is None:
        return []
    times = [time for own in _arrivals(question, together).trace.values() for time in own]
    within = sum(time < question.seconds for time in times)
    if times and within == len(times):
        return []
    remedy = "the others are not simulated: give a longer --duration" if times else "it has no rows"
    return [
        f"{question.trace}: {within} of {len(times)} frames lie within "
        f"{1e3 * float(question.seconds):g} ms: {remedy} (seconds count from the start)"
    ]


def _check_length(together: Together, seconds: Fraction) -> None:
    """Refuse more stages than can be simulated in minutes; says how long would do."""
    unpaced = sum(load.rate_hz is None for load in together.loads)
    total = 0.0
    for load in together.loads:
        if load.rate_hz is not None:
            runs = float(load.rate_hz * seconds)
        else:
            runs = float(seconds * together.clock_hz) / max(load.ticks, 1) / unpaced
        total += runs * len(load.stages)
    if total > MAX_STAGES:
        most = float(seconds) * MAX_STAGES / total
        raise SpecError(
            f"{float(seconds):g} simulated seconds are about {total:.2g} stages of models; at most "
            f"{MAX_STAGES:,} are simulated: give at most {most:.2g} seconds"
        )


def figures(together: Together, question: Question, seed: int, outcome: Outcome) -> BundleSeconds:
    """What became of frames, of models in the order of ``together``, as figures."""
    judged = None
    if question.all_metrics:
        judged = scores(outcome, together.rest_watts is not None)
    each = judged.models if judged is not None else [None] * len(together.models)
    triples = zip(together.models, outcome.models, each, strict=True)
    has_array = together.elements > 0
    macs = sum(
        m.array_macs * o.finished for m, o in zip(together.models, outcome.models, strict=True)
    )
    busy = outcome.busy("array")
    return BundleSeconds(
        machine=together.machine,
        number_format=together.number_format,
        clock_hz=float(together.clock_hz),
        policy=question.policy_text,
        arrivals=question.arrivals,
        seed=seed,
        seconds_simulated=float(question.seconds),
        array_busy=busy,
        host_busy=outcome.busy("host"),
        utilisation=macs / (outcome.ticks * together.elements) if has_array else None,
        energy_joules=_energy(together, outcome, 0.0 if question.share_pods else busy),
        models=tuple(_model(together, m, o, outcome, s) for m, o, s in triples),
        scores=judged,
    )


def _energy(together: Together, outcome: Outcome, busy: float) -> float | None:
    """The stages' energy holds what the array takes at rest while it works (``busy``), that of
    shares does not; this adds the rest.
    """
    if together.rest_watts is None:
        return None
    idle = (1 - busy) * outcome.ticks / outcome.ticks_per_second
    return outcome.joules + together.rest_watts * idle


def _model(
    together: Together,
    model: TogetherModel,
    found: ModelOutcome,
    outcome: Outcome,
    judged: ModelScores | None,
) -> ModelSeconds:
    load = found.load
    mean, middle, p95, p99, most = _latencies(outcome, found)
    rate, clock = load.rate_hz, outcome.ticks_per_second
    due = load.deadline_seconds
    due = 1 / rate if due is None and rate is not None else due
    spent = {r: sum(s.ticks for s in load.stages if s.resource == r) / clock for r in found.used}
    return ModelSeconds(
        model=load.name,
        priority=load.priority,
        rate_hz=None if rate is None else float(rate),
        deadline_seconds=None if due is None else float(due),
        probability=load.probability,
        released=found.released,
        finished=found.finished,
        dropped=found.dropped,
        unfinished=found.unfinished,
        deadline_misses=found.missed,
        mean_latency_seconds=mean,
        p50_latency_seconds=middle,
        p95_latency_seconds=p95,
        p99_latency_seconds=p99,
        maximum_latency_seconds=most,
        array_seconds=found.used["array"] / clock,
        host_seconds=found.used["host"] / clock,
        waiting_seconds=found.waited / clock,
        energy_joules=found.joules if together.rest_watts is not None else None,
        run_array_seconds=spent["array"],
        run_host_seconds=spent["host"],
        host_operators=model.host_operators,
        host_times=model.host_times,
        scores=judged,
    )


def _latencies(outcome: Outcome, model: ModelOutcome) -> tuple[float | None, ...]:
    """Mean, median, 95th and 99th percentile and maximum, each one of a run's but the mean."""
    latencies = outcome.seconds(model.latency)
    if not latencies.size:
        return (None,) * 5
    middle, p95, p99 = np.percentile(latencies, (50, 95, 99), method="higher")
    return float(latencies.mean()), float(middle), float(p95), float(p99), float(latencies.max())


Facts = dict[str, Any]


def over_seeds(found: Sequence[BundleSeconds]) -> tuple[Facts, list[Facts]]:
    """Figures of the machine, and of each model, as means and intervals over the seeds.

    What is no figure, or the same by its nature (name, rate, deadline), is itself.
    """
    facts = [one.to_dict() for one in found]
    models = [one.pop("models") for one in facts]
    for one in facts:
        one.pop("seed")
    by_model = zip(*models, strict=True)
    return _spread(facts), [_spread(list(one)) for one in by_model]


_GIVEN = frozenset(
    (
        "priority", "rate_hz", "deadline_seconds", "probability", "run_array_seconds",
        "run_host_seconds", "host_operators", "clock_hz", "seconds_simulated",
    )
)  # fmt: skip


def _spread(facts: Sequence[Facts]) -> Facts:
    return {key: _one([fact[key] for fact in facts], key) for key in facts[0]}


def _one(values: Sequence[Any], key: str) -> Any:
    first = next((value for value in values if value is not None), None)
    figure = isinstance(first, (int, float)) and key not in _GIVEN
    return interval(values) if figure else first


def plain(value: Any, half: Callable[[Interval], Any] = asdict) -> Any:
    """An interval as plain data; anything else itself."""
    return half(value) if isinstance(value, Interval) else value
