"""Tuning: what is measured and kept, and what compiling then chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import toy_family
from toy_family import FAMILY, MACHINE, problem

from motet.targets.host.choosing import Chooser, chooser_for, choosing_by_hand
from motet.targets.host.cost_model.dataset import DataSet, Sample, this_host
from motet.targets.host.cost_model.features import Situation
from motet.targets.host.cost_model.learning import train
from motet.targets.host.cost_model.measure import Candidates
from motet.targets.host.cost_model.model import CostModel
from motet.targets.host.machine import Caches
from motet.targets.host.space import Point, Problem, choose, forced, selecting
from motet.targets.host.tuned_model import model_path, refit, tuned_model
from motet.targets.host.tuning import Operator, Tuning, budget
from motet.targets.host.tuning_store import TuningStore, scope_of

OPERATORS = [
    Operator(problem(8, 8, 8), 1, ("a",)),
    Operator(problem(100, 72, 50), 2, ("b", "c")),
    Operator(problem(30, 24, 900), 1, ("d",)),
    Operator(Problem.of("unknown", n=3), 1, ("e",)),
]


class Clock:
    """Measures the toy family by its formula, a little slower at every call."""

    def __init__(self, calls: int = 10**9) -> None:
        self.calls, self.points, self.drift = calls, 0, 1.0

    def measure(self, batch: Sequence[Candidates], threads: int) -> list[Sample | None]:
        if not self.calls:
            raise KeyboardInterrupt
        self.calls -= 1
        self.drift *= 1.1
        found = list[Sample | None]()
        for candidates in batch:
            self.points += len(candidates.points)
            times = [self.drift * toy_family.seconds(candidates.problem, p)
                     for p in candidates.points]  # fmt: skip
            found.append(Sample(candidates.problem, threads, candidates.points, tuple(times)))
        return found


@pytest.fixture
def tuning(tmp_path: Path) -> Tuning:
    """Of the toy family, without a model."""
    scope = scope_of(this_host(), 2)
    store = TuningStore(tmp_path / "tuned.sqlite")
    return Tuning(MACHINE, Caches(), {"toy": FAMILY}, None, store, scope, lambda _: True)


def best_point(wanted: Problem) -> Point:
    points = toy_family.points(wanted, MACHINE)
    return min(points, key=lambda point: toy_family.seconds(wanted, point))


def test_everything_is_measured_and_the_best_is_found(tuning: Tuning) -> None:
    shown = list[str]()
    assert tuning.run(OPERATORS, Clock(), budget(None), shown.append)
    outcomes = tuning.outcomes(OPERATORS)
    assert [o.operator.nodes for o in outcomes] == [("b", "c"), ("d",), ("a",)]
    for outcome in outcomes:
        wanted = outcome.operator.problem
        first = toy_family.points(wanted, MACHINE)[0]
        assert outcome.measured == outcome.points == 21
        assert outcome.point == best_point(wanted)
        assert outcome.before is not None
        assert outcome.after is not None
        ratio = toy_family.seconds(wanted, first) / toy_family.seconds(wanted, outcome.point)
        assert outcome.before / outcome.after == pytest.approx(ratio)  # in spite of the drift
    assert {line.partition(" of ")[0] for line in shown} == {"toy"}
    clock = Clock()
    assert tuning.run(OPERATORS, clock, budget(None))
    assert clock.points == 0


class Noisy(Clock):
    """Says of the reference's second kernel that it takes 8 % longer."""

    def measure(self, batch: Sequence[Candidates], threads: int) -> list[Sample | None]:
        found = super().measure(batch, threads)
        return [replace(s, seconds=(*s.seconds[:-1], 1.08 * s.seconds[-1])) for s in found if s]


def test_gains_within_the_noise_are_none(tuning: Tuning) -> None:
    assert tuning.run(OPERATORS, Noisy(), budget(None))
    for outcome in tuning.outcomes(OPERATORS):
        assert outcome.noise == pytest.approx(0.08)
        assert outcome.after is not None
        for before, gain in ((1.07, None), (1.09, pytest.approx(1.09))):
            assert replace(outcome, before=before * outcome.after).gain == gain
    assert tuning.store.noises(replace(tuning.scope, threads=9)) == {}


def test_the_budget_knows_how_long_a_step_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("motet.targets.host.tuning.time.monotonic", lambda: now[0])
    over = budget(1.0, kept_seconds=10.0)  # 50 s to measure in
    for now[0], expected in ((0.0, False), (20.0, False), (29.0, False), (31.0, True)):
        assert over() is expected


def test_a_run_goes_on_where_one_stopped(tuning: Tuning) -> None:
    assert not tuning.run(OPERATORS, Clock(), budget(-1.0))
    assert all(outcome.after is None for outcome in tuning.outcomes(OPERATORS))
    with pytest.raises(KeyboardInterrupt):
        tuning.run(OPERATORS, Clock(calls=1), budget(None))
    kept = sum(outcome.measured for outcome in tuning.outcomes(OPERATORS))
    assert 0 < kept < 63
    clock = Clock()
    assert tuning.run(OPERATORS, clock, budget(None))
    assert 63 - kept <= clock.points <= 63 - kept + 18  # the reference twice, with every few


def test_a_problem_whose_kernel_crashes_is_left(tuning: Tuning) -> None:
    class Crashing(Clock):
        def measure(self, batch: Sequence[Candidates], threads: int) -> list[Sample | None]:
            found = super().measure(batch, threads)
            wrong = OPERATORS[0].problem
            return [s if s is not None and s.problem != wrong else None for s in found]

    assert tuning.run(OPERATORS, Crashing(), budget(None))
    measured = {o.operator.nodes: o.measured for o in tuning.outcomes(OPERATORS)}
    assert measured == {("d",): 21, ("b", "c"): 21, ("a",): 0}


def test_compiling_takes_measured_then_predicted_then_the_first(tuning: Tuning) -> None:
    model = toy_model()
    tuned, predicted = (operator.problem for operator in OPERATORS[:2])
    points = toy_family.points(predicted, MACHINE)
    tuning.run(OPERATORS[:1], Clock(), budget(None))
    chooser = Chooser(Caches(), 2, model, tuning.store, tuning.scope)
    with selecting(chooser):
        assert choose(FAMILY, tuned, MACHINE) == best_point(tuned)
        ranked = model.ranked(
            FAMILY,
            predicted,
            toy_family.points(predicted, MACHINE),
            Situation(MACHINE, Caches(), 2),
        )
        assert choose(FAMILY, predicted, MACHINE) == ranked[0] != points[0]
        with forced({predicted: ranked[-1]}):
            assert choose(FAMILY, predicted, MACHINE) == ranked[-1]
    assert chooser.summary == (
        "2 settings: 1 measured on this machine, 1 by the cost model, 0 by hand"
    )
    by_hand = Chooser(Caches(), 2, CostModel(model.host, {}))
    assert by_hand(FAMILY, tuned, ("one", "two"), MACHINE) == "one"  # type: ignore[arg-type]
    assert by_hand.summary.endswith("1 by hand")


def test_a_measured_point_that_is_no_longer_legal_is_not_chosen(tuning: Tuning) -> None:
    wanted, point = problem(8, 8, 8), Point.of(rows=99, vectors=1)
    tuning.store.add(tuning.scope, Sample(wanted, 2, (point,), (1e-9,)))
    chooser = Chooser(Caches(), 2, None, tuning.store, tuning.scope)
    points = toy_family.points(wanted, MACHINE)
    assert chooser(FAMILY, wanted, points, MACHINE) == points[0]


def test_the_model_learns_what_was_measured_here(tuning: Tuning) -> None:
    folder = tuning.store.path.parent
    assert tuned_model(folder, tuning.scope) is None
    tuning.run(OPERATORS, Clock(), budget(None))
    model = refit(tuning.store, tuning.scope, this_host(), {"toy": FAMILY})
    assert set(model.predictors) == {"toy"}
    again = tuned_model(folder, tuning.scope)
    assert again is not None
    assert again.content() == model.content()
    assert model_path(folder, tuning.scope) in list(folder.iterdir())


def test_what_a_compilation_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTET_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("MOTET_CACHE", raising=False)
    assert chooser_for(native=True, threads=None, cores=3).store is None
    assert chooser_for(native=True, threads=None, cores=3).threads == 3
    with choosing_by_hand():
        assert chooser_for(native=True, threads=1, cores=3).model is None
    assert chooser_for(native=True, threads=1, cores=3).model is not None
    store = TuningStore(tmp_path / "tuned.sqlite")
    wanted = problem(8, 8, 8)
    scope = scope_of(this_host(), 1)
    store.add(scope, Sample(wanted, 1, (Point.of(rows=12, vectors=3),), (1.0,)))
    asked = {
        "tuned": chooser_for(native=True, threads=1, cores=2),
        "other threads": chooser_for(native=True, threads=2, cores=2),
        "not wanted": chooser_for(native=True, threads=1, cores=2, tuned=False),
        "another machine": chooser_for(native=False, threads=1, cores=2),
    }
    points = toy_family.points(wanted, MACHINE)
    chosen = {name: c(FAMILY, wanted, points, MACHINE) for name, c in asked.items()}
    first = points[0]
    assert chosen == {
        "tuned": Point.of(rows=12, vectors=3), "other threads": first, "not wanted": first,
        "another machine": first,
    }  # fmt: skip
    assert asked["another machine"].caches == Caches()


def toy_model() -> CostModel:
    """Trained on true times."""
    samples = []
    for m in (4, 30, 100, 300):
        for n in (8, 24, 200):
            for k in (8, 64, 700):
                wanted = problem(m, n, k)
                points = tuple(toy_family.points(wanted, MACHINE))
                times = tuple(toy_family.seconds(wanted, point) for point in points)
                samples.append(Sample(wanted, 2, points, times))
    return train(DataSet(this_host(), tuple(samples)), {"toy": FAMILY})
