"""Laws of shared machines: nothing is lost, EDF's optimality, a queue's mean, reproducibility."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sharing_loads import host, load, models, run

from motet.runtime.policies import POLICIES
from motet.targets.sharing.arrivals import Arrivals
from motet.targets.sharing.loads import Load, Stage

stages = st.lists(
    st.builds(Stage, st.sampled_from(["array", "host"]), st.integers(1, 9), st.just(0.25)),
    min_size=1,
    max_size=3,
).map(tuple)


@st.composite
def bundles(draw: st.DrawFn) -> list[Load]:
    """Models with and without rates; some follow earlier ones."""
    found: list[Load] = []
    for number in range(draw(st.integers(1, 4))):
        paced = [one.name for one in found if one.rate_hz is not None or one.after]
        free = [one.name for one in found if one.rate_hz is None]
        after: tuple[str, ...] = ()
        rate = draw(st.sampled_from([None, "1/50", "7/100", "1/3", "1/2"]))
        source = draw(st.sampled_from(["none", "paced", "free"]))
        if source == "paced" and paced and not any(name in free for name in paced):
            after = tuple(draw(st.lists(st.sampled_from(paced), min_size=1, unique=True)))
        elif source == "free" and free:
            after, rate = (draw(st.sampled_from(free)),), None
        deadline = draw(st.sampled_from([None, "5", "40"]))
        found.append(
            Load(
                f"m{number}",
                draw(stages),
                None if rate is None else Fraction(rate),
                None if deadline is None else Fraction(deadline),
                draw(st.integers(0, 2)),
                after,
                draw(st.sampled_from([1.0, 0.5])) if after else 1.0,
            )
        )
    return found


@settings(deadline=None, max_examples=200)
@given(
    bundles(),
    st.integers(1, 200),
    st.sampled_from(sorted(POLICIES)),
    st.booleans(),
    st.sampled_from(["periodic", "poisson"]),
    st.integers(0, 3),
)
def test_nothing_is_lost(
    drawn: list[Load], seconds: int, policy: str, drop: bool, kind: str, seed: int
) -> None:
    asked = {"seconds": seconds, "policy": policy, "drop_late": drop, "seed": seed}
    outcome = run(*drawn, arrivals=Arrivals(kind), **asked)  # type: ignore[arg-type]
    for resource in ("array", "host"):
        assert 0 <= outcome.busy(resource) <= 1  # type: ignore[arg-type]
    for model in outcome.models:
        own = model.load
        assert model.finished + model.dropped <= model.released
        assert model.finished + model.dropped + model.unfinished == model.released
        due = own.deadline_seconds is not None or own.rate_hz is not None
        assert (model.dropped if due else 0) <= model.missed <= model.released
        assert drop or model.dropped == 0
        assert all(ticks >= own.ticks for ticks in model.turnaround)
        assert all(a >= b for a, b in zip(model.latency, model.turnaround, strict=True))
        done = {r: sum(s.ticks for s in own.stages if s.resource == r) for r in model.used}
        for resource, used in model.used.items():
            assert used >= model.finished * done[resource]
            assert used <= model.released * done[resource]
        assert model.joules >= model.finished * own.joules
        assert 0 <= model.waited <= seconds * max(model.released, 1)
    again = run(*drawn, arrivals=Arrivals(kind), **asked)  # type: ignore[arg-type]
    for one, other in zip(outcome.models, again.models, strict=True):
        assert vars(one) == {**vars(other), "load": one.load}


@settings(deadline=None)
@given(bundles(), st.sampled_from(sorted(POLICIES)))
def test_an_idle_machine_never_lets_a_frame_wait(drawn: list[Load], policy: str) -> None:
    """Work conservation: one model alone on one resource is served as soon as it asks."""
    first = replace(drawn[0], stages=(host(3),), deadline_seconds=None)
    (model,) = run(first, seconds=100, policy=policy, drop_late=False).models
    backlog = 0
    for index, latency in enumerate(model.latency):
        release = 0 if first.rate_hz is None else -(-index // first.rate_hz)
        if first.rate_hz is not None:
            backlog = max(backlog, release) + 3
            assert latency == backlog - release
        else:
            assert latency == 3


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([2, 3, 4, 5, 6, 10, 12]).flatmap(
            lambda period: st.tuples(st.just(period), st.integers(1, period))
        ),
        min_size=1,
        max_size=4,
    )
)
def test_edf_meets_every_deadline_that_can_be_met(drawn: list[tuple[int, int]]) -> None:
    """Stages of one tick are as good as preemption at any moment: late only where U > 1."""
    loads = [load(f"m{n}", *[1] * cost, period=period) for n, (period, cost) in enumerate(drawn)]
    demand = sum(Fraction(cost, period) for period, cost in drawn)
    outcome = run(*loads, seconds=120, policy="edf", drop_late=False)
    assert (sum(model.missed for model in outcome.models) == 0) == (demand <= 1)
    if demand <= 1:
        assert outcome.busy("array") == pytest.approx(float(demand))


@pytest.mark.parametrize("load_factor", [0.3, 0.7, 0.9])
def test_the_mean_of_an_m_d_1_queue(load_factor: float) -> None:
    """Pollaczek and Khinchine: with Poisson arrivals and a fixed service time D the mean wait
    before service is rho D / (2 (1 - rho)); within 4 standard errors of 30 seeds.
    """
    service = 1000
    one = Load("m", (host(service),), Fraction(str(load_factor)), None)
    waits = []
    for seed in range(30):
        outcome = run(
            one, seconds=2000, clock=service, arrivals=Arrivals("poisson"), seed=seed,
            drop_late=False,
        )  # fmt: skip
        (model,) = outcome.models
        waits.append(np.mean(model.latency) / service - 1)
    expected = load_factor / (2 * (1 - load_factor))
    error = np.std(waits, ddof=1) / np.sqrt(len(waits))
    assert error < 0.12 * expected
    assert abs(np.mean(waits) - expected) < 4 * error + 0.001


def test_chances_are_those_of_the_specification_and_of_the_seed() -> None:
    pair = (
        load("a", 1, period=10, deadline=10),
        load("b", 1, period=10, after=("a",), probability=0.2),
    )
    found = [models(run(*pair, seconds=20000, seed=seed))["b"] for seed in (1, 1, 2)]
    assert found[0].latency == found[1].latency
    assert found[0].released != found[2].released
    for model in found:
        assert model.released == model.finished
        assert abs(model.released - 400) < 4 * np.sqrt(2000 * 0.2 * 0.8)


def test_policies_and_other_models_leave_the_frames_that_are_asked_for() -> None:
    pair = (
        load("a", 3, period=10),
        load("b", 4, period=10, after=("a",), probability=0.5, deadline=100),
    )
    arrivals = Arrivals(jitter_seconds=Fraction(5))
    counts = set()
    for policy in POLICIES:
        for others in ((), (load("z", 2, period=7, priority=-1),)):
            found = models(run(*others, *pair, seconds=3000, policy=policy, arrivals=arrivals))
            counts.add((found["a"].released, found["b"].released))
    assert len(counts) == 1


def test_jitter_is_between_nothing_and_its_most() -> None:
    arrivals = Arrivals(jitter_seconds=Fraction(4))
    one = load("a", 1, period=10)
    times = arrivals.ticks(one, Fraction(100), 100_000, seed=3)
    late = times - 1000 * np.arange(len(times))
    assert len(times) == 100
    assert (late >= 0).all()
    assert (late <= 400).all()
    assert 150 < late.mean() < 250


def test_poisson_arrivals_have_their_rate_and_their_gaps() -> None:
    times = Arrivals("poisson").ticks(load("a", 1, period=1), Fraction(1000), 10**7, seed=0)
    gaps = np.diff(times)
    assert abs(gaps.mean() - 1000) < 4 * 1000 / np.sqrt(len(gaps))
    assert abs(gaps.std() / gaps.mean() - 1) < 0.05
