"""The learned cost model: its trees, its data set, what it learns, what is measured for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import toy_family
import xgboost
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from motet.runtime.errors import SpecError
from motet.targets.host.cost_model import training
from motet.targets.host.cost_model.dataset import (
    DataSet,
    Sample,
    merged,
    packed,
    read_lines,
    sample_line,
    this_host,
    unpacked,
)
from motet.targets.host.cost_model.features import Situation, described
from motet.targets.host.cost_model.forest import Forest
from motet.targets.host.cost_model.learning import fold_of, train
from motet.targets.host.cost_model.measure import Measurer
from motet.targets.host.cost_model.model import CostModel, shipped_data, shipped_model
from motet.targets.host.cost_model.noise import Noise, noise_of
from motet.targets.host.cost_model.prepared import Candidates, keep, kept
from motet.targets.host.cost_model.report import report, spearman
from motet.targets.host.cost_model.stopwatch import Argument, Contest
from motet.targets.host.cost_model.units import kernel_of
from motet.targets.host.families import families
from motet.targets.host.machine import Caches, Machine, native_machine
from motet.targets.host.space import Family, Point, Problem, alignment


def convolution(**changes: int) -> Problem:
    """A 3x3 convolution of 16 channels, with ``changes``."""
    lanes = native_machine().vector_bytes // 4
    sizes = {
        "batch": 1, "channels": 16, "outs": 32, "groups": 1, "height": 9, "width": 11,
        "out_height": 9, "out_width": 11, "kernel_h": 3, "kernel_w": 3, "stride_h": 1,
        "stride_w": 1, "dilation_h": 1, "dilation_w": 1, "top": 1, "left": 1, "block": lanes,
        "block_in": lanes, "block_out": lanes, "prologue": 0, "constant": 1, "reassociate": 0,
    }  # fmt: skip
    return Problem.of("blocked_conv", **{**sizes, **changes})


@pytest.fixture(scope="module")
def measured() -> DataSet:
    """Products of the toy family with their true times."""
    random = np.random.default_rng(1)
    samples = []
    for _ in range(120):
        problem = toy_family.problem(*(int(2**e) for e in random.uniform(0, 9, 3)))
        points = tuple(toy_family.points(problem, toy_family.MACHINE))
        times = tuple(round(toy_family.seconds(problem, p), 9) for p in points)
        samples.append(Sample(problem, 1, points, times))
    return DataSet(this_host(), tuple(samples))


def test_a_forest_predicts_what_xgboost_does() -> None:
    random = np.random.default_rng(0)
    table = random.standard_normal((300, 9)).astype(np.float32)
    target = table[:, 0] * table[:, 1] + np.sin(3 * table[:, 2])
    booster = training.fit_booster(table, target, np.ones(300, np.float32), rounds=80)
    forest = training.to_forest(booster, [str(i) for i in range(9)])
    unseen = np.vstack([random.standard_normal((500, 9)).astype(np.float32), table])
    np.testing.assert_array_equal(forest.predict(unseen), booster.predict(xgboost.DMatrix(unseen)))
    assert np.abs(forest.predict(table) - target).mean() < 0.2
    other = training.fit(table, -target, np.ones(300, np.float32), forest.names, rounds=9, seed=5)
    mean = (forest.predict(unseen) + other.predict(unseen)) / 2
    both = Forest.averaged([forest, other])
    np.testing.assert_allclose(both.predict(unseen), mean, rtol=1e-4, atol=1e-5)


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=12), st.randoms())
def test_rank_correlation(left: list[int], chance: object) -> None:
    right = [chance.randint(-3, 3) for _ in left]  # type: ignore[attr-defined]
    ours = spearman(np.array(left, float), np.array(right, float))
    if len(set(left)) == 1 or len(set(right)) == 1:
        assert ours == 0
    else:
        assert ours == pytest.approx(spearmanr(left, right).statistic)


@given(
    st.lists(
        st.tuples(st.integers(-1, 9), st.lists(st.integers(1, 10**9), min_size=1, max_size=4)),
        max_size=6, unique_by=lambda pair: pair[0],
    )
)  # fmt: skip
def test_a_packed_data_set_is_the_data_set(content: list[tuple[int, list[int]]]) -> None:
    samples = [
        Sample(
            Problem.of("f", size=size, other=3), 1 + len(times) % 2,
            tuple(Point.of(**{"a": i, "bc"[i % 2]: 7}) for i in range(len(times))),
            tuple(n * 1e-9 for n in times),
        )
        for size, times in content
    ]  # fmt: skip
    data = DataSet(this_host(), tuple(samples))
    again = unpacked(packed(data))
    assert again.host == data.host
    assert set(again.samples) == {
        Sample(s.problem, s.threads, s.points, tuple(round(1e9 * t) / 1e9 for t in s.seconds))
        for s in samples
    }
    assert packed(DataSet(data.host, data.samples[::-1])) == packed(data)


def test_lines_of_measurements(tmp_path: Path) -> None:
    path, host = tmp_path / "lines.jsonl", this_host()
    sample = Sample(Problem.of("f", n=-1), 2, (Point.of(a=1), Point.of(a=2)), (1e-6, 2e-6))
    line = sample_line(host, sample)
    path.write_text(f"{line}\n{line[:-9]}")
    assert read_lines(path) == DataSet(host, (sample,))
    other = json.loads(line)
    other["host"]["cpu"] = "another"
    path.write_text(f"{line}\n{json.dumps(other)}\n")
    with pytest.raises(SpecError, match="several computers"):
        read_lines(path)
    path.write_text("")
    with pytest.raises(SpecError, match="nothing"):
        read_lines(path)


def test_the_least_of_several_times_counts() -> None:
    problem, points = Problem.of("f", n=1), tuple(Point.of(a=i) for i in range(3))
    first = Sample(problem, 1, points, (3.0, 1.0, 2.0))
    again = Sample(problem, 1, points[::-1], (4.0, 3.0, 2.0))
    other = Sample(problem, 2, points[:1], (9.0,))
    assert merged([first, other, again]) == (
        Sample(problem, 1, points, (2.0, 1.0, 2.0)), other,
    )  # fmt: skip


def test_noise_is_what_two_measurements_differ_by() -> None:
    points = tuple(Point.of(a=i) for i in range(3))
    once = Sample(Problem.of("f", n=1), 1, points, (1.0, 1.1, 2.0))
    assert noise_of([once]) is None
    quieter = Sample(once.problem, 1, points, (0.5, 0.55, 1.0))  # all alike: the clock's speed
    assert noise_of([once, quieter]) == Noise(1, 0, 0, 0, 0)
    other = Sample(once.problem, 1, points, (1.2, 1.0, 2.0))
    found = noise_of([once, other])
    assert found is not None
    assert found.median_difference == pytest.approx(0.1)
    assert found.median_regret == pytest.approx(0.15)  # 1.2 / 1.0 and 1.1 / 1.0


def test_a_model_learns_to_choose(measured: DataSet) -> None:
    known = {"toy": toy_family.FAMILY}
    (toy, everything) = report(measured, known)
    assert toy.problems == len(measured.samples)
    assert toy.rank_correlation > 0.9
    assert toy.median_regret <= 0.02
    assert toy.p95_regret <= 0.15
    assert toy.first_median_regret > 0.1
    assert toy.mean_speedup > 1.1
    assert everything.median_regret == toy.median_regret
    assert report(measured, known) == [toy, everything]


def test_a_models_file_is_the_model(measured: DataSet) -> None:
    model = train(measured, {"toy": toy_family.FAMILY})
    again = CostModel.from_content(model.content())
    assert (
        again.content() == model.content() == train(measured, {"toy": toy_family.FAMILY}).content()
    )
    problem = toy_family.problem(100, 200, 300)
    points = toy_family.points(problem, toy_family.MACHINE)
    situation = Situation(toy_family.MACHINE, Caches())
    seconds = again.seconds(toy_family.FAMILY, problem, points, situation)
    np.testing.assert_array_equal(
        seconds, model.seconds(toy_family.FAMILY, problem, points, situation)
    )
    true = [toy_family.seconds(problem, point) for point in points]
    assert np.median(np.abs(seconds / true - 1)) < 0.2
    best = again.ranked(toy_family.FAMILY, problem, points, situation)[0]
    assert toy_family.seconds(problem, best) < 1.1 * min(true)
    assert not again.knows(families()["blocked_conv"], toy_family.MACHINE)
    assert not again.knows(toy_family.FAMILY, Machine("x86-64-v4", 2, 64, ()))
    assert not again.knows(toy_family.FAMILY, Machine("generic", 2, 32, (), "aarch64"))


def test_problems_of_one_shape_stay_in_one_fold() -> None:
    shapes = [convolution(outs=8 * n) for n in range(1, 60)]
    assert {fold_of(problem) for problem in shapes} == set(range(5))
    for problem in shapes[:9]:
        outs = problem["outs"]
        relatives = (
            convolution(outs=outs, batch=4), convolution(outs=outs, prologue=1),
            convolution(outs=outs, batch=-1, reassociate=1),
        )  # fmt: skip
        assert {fold_of(relative) for relative in relatives} == {fold_of(problem)}


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"batch": -1}, {"prologue": 1}, {"reassociate": 1}, {"constant": 0}, {"block_out": 0},
        {"channels": 3, "block_in": 0}, {"out_height": 4, "stride_h": 2},
        {"channels": 32, "groups": 32}, {"channels": 32, "groups": 2},
    ],
)  # fmt: skip
def test_units_ask_for_their_problem(changes: dict[str, int]) -> None:
    machine, family = native_machine(), families()["blocked_conv"]
    problem = convolution(**changes)
    points = family.points(problem, machine)
    for point in (points[0], points[-1]):
        assert kernel_of(problem, point, machine).func is not None
    situation = Situation(machine, Caches(), 2)
    names = ("flops", "inner_l1", "balance", "size outs", "knob algorithm", "no such name")
    table = described(family, problem, points, situation).table(names)
    assert table.shape == (len(points), len(names))
    assert np.isfinite(table).all()
    assert (table[:, -1] == -1).all()


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"constant": 0}, {"rows": 1}, {"rows": -1}, {"batch": 4, "constant": 0},
        {"transposed": 1, "computed": 1}, {"transposed": 1, "computed": 1, "constant": 0},
        {"transposed": 1, "computed": 1, "constant": 0, "batch": 3},
        {"computed": 1, "constant": 0, "batch": 3}, {"computed": 1, "constant": 0},
        {"batch": -1, "rows": 8, "constant": 0}, {"columns": -1, "constant": 0},
    ],
)  # fmt: skip
def test_products_ask_for_their_problem(changes: dict[str, int]) -> None:
    machine, family = native_machine(), families()["matmul"]
    sizes = {
        "batch": 1, "rows": 20, "columns": 48, "depth": 30, "constant": 1, "paired": 0,
        "transposed": 0, "computed": 0, "bits": 32,
    }  # fmt: skip
    problem = Problem.of("matmul", **{**sizes, **changes})
    points = family.points(problem, machine)
    with Measurer(machine, jobs=1) as measurer:
        (found,) = measurer.measure(
            [Candidates(problem, (points[0], points[-1]))], threads=1, seconds=0.01
        )
    assert found is not None
    assert 0 < min(found.seconds) <= max(found.seconds) < 0.1


@pytest.mark.parametrize(
    ("family", "sizes"),
    [
        ("pool", {"maximum": 1}), ("pool", {"maximum": 0, "batch": -1}),
        ("pool", {"maximum": 1, "block": 0}),
        ("recurrence", {"gates": 4, "together": 4}), ("recurrence", {"gates": 3, "together": 2}),
        ("recurrence", {"gates": 3, "together": 3, "steps": -1, "batch": 3}),
        ("recurrence", {"gates": 1, "together": 1, "batch": -1}),
    ],
)  # fmt: skip
def test_other_units_ask_for_their_problem(family: str, sizes: dict[str, int]) -> None:
    machine = native_machine()
    common = {
        "pool": {
            "batch": 1, "channels": 16, "height": 9, "width": 11, "out_height": 5, "out_width": 6,
            "kernel_h": 3, "kernel_w": 3, "stride_h": 2, "stride_w": 2, "dilation_h": 1,
            "dilation_w": 1, "top": 1, "left": 1, "block": machine.vector_bytes // 4,
            "item_bytes": 4,
        },
        "recurrence": {"steps": 5, "batch": 1, "hidden": 40, "lengths": 0, "bits": 32},
    }  # fmt: skip
    problem = Problem.of(family, **{**common[family], **sizes})
    assert_measured(problem, families()[family])


@pytest.mark.parametrize(
    "changes",
    [
        {"group": 4}, {"group": 4, "batch": -1}, {"group": 4, "block_out": 0}, {"group": 2},
        {"group": 2, "constant": 0}, {"group": 2, "channels": 2, "block_in": 0},
        {"group": 2, "groups": 2, "channels": 32}, {"groups": 32, "channels": 32, "prologue": 1},
        {"groups": 32, "channels": 32, "batch": 2},
    ],
)  # fmt: skip
def test_integer_convolutions_ask_for_their_problem(changes: dict[str, int]) -> None:
    family = families()["blocked_conv_integer"]
    sizes = dict(convolution(**changes).sizes)
    if "group" in changes:
        sizes["channels"] //= 1 if "channels" in changes else changes["group"]
        sizes["block_in"] //= changes["group"]
        sizes["prologue"] = int(changes["group"] == 2)
    problem = Problem.of("blocked_conv_integer", **sizes)
    assert_measured(problem, family)


@pytest.mark.parametrize("changes", [{}, {"mask": 1}, {"batch": -1, "queries": -1, "keys": -1}])
def test_attention_asks_for_its_problem(changes: dict[str, int]) -> None:
    sizes = {"batch": 2, "heads": 2, "queries": 9, "keys": 20, "depth": 12, "width": 10, "mask": 0}
    assert_measured(Problem.of("attention", **{**sizes, **changes}), families()["attention"])


def assert_measured(problem: Problem, family: Family) -> None:
    """The first point and the last have a time."""
    machine = native_machine()
    points = family.points(problem, machine)
    with Measurer(machine, jobs=1) as measurer:
        (found,) = measurer.measure([Candidates(problem, (points[0], points[-1]))], 1, 0.01)
    assert found is not None
    assert 0 < min(found.seconds) <= max(found.seconds) < 0.1
    table = described(family, problem, points, Situation(machine, Caches(), 2)).table(["flops"])
    assert (table > 0).all()


def test_steps_that_meet_in_few_sets_of_a_cache() -> None:
    assert [alignment(step) for step in (0, 1, 24, 4096, 3 << 20)] == [0, 0, 3, 12, 12]


def test_kernels_are_timed_and_a_crash_ends_nothing() -> None:
    machine, family = native_machine(), families()["blocked_conv"]
    small, large = convolution(), convolution(outs=128, height=18, out_height=18)
    batch = [
        Candidates(problem, tuple(family.points(problem, machine)[:2]))
        for problem in (small, large)
    ]
    warnings: list[str] = []
    with Measurer(machine, jobs=1, warn=warnings.append) as measurer:
        first, second = measurer.measure(batch, threads=1, seconds=0.05)
        assert first is not None
        assert second is not None
        assert first.points == batch[0].points
        assert 0 < min(first.seconds) < min(second.seconds) < 0.1
        library = next(iter(measurer._folder.glob("*.so")))
        kernel = Argument((1, 2, 9, 11, 8), "float32", False)
        wrong = Contest({"no_such_kernel": (kernel,)}, 0.05)
        assert measurer.timed(library, 1, [wrong, wrong]) == [None, None]
        assert measurer.measure(batch[:1], threads=2, seconds=0.05) != [None]
    assert len(warnings) == 2


def test_kernels_are_compiled_at_one_time_and_measured_at_another(tmp_path: Path) -> None:
    machine, family, problem = native_machine(), families()["blocked_conv"], convolution()
    batch = [Candidates(problem, tuple(family.points(problem, machine)[:2]))]
    assert list(kept(tmp_path / "none")) == []
    with Measurer(machine, jobs=1) as measurer:
        keep(measurer.prepared(batch, 0.01), tmp_path / "kernels", "0")
    (tmp_path / "kernels" / "1.part").write_text("of a run that was stopped")
    (again,) = kept(tmp_path / "kernels")
    assert list(again.batch) == batch
    with Measurer(machine) as measurer:
        (found,) = measurer.run(again, 1)
    assert found is not None
    assert found.points == batch[0].points
    assert 0 < min(found.seconds) <= max(found.seconds) < 0.1


def test_the_shipped_model_ranks_every_point() -> None:
    model, data = shipped_model(), shipped_data()
    machine, known = data.host.machine, families()
    assert set(model.predictors) <= {sample.problem.family for sample in data.samples}
    situation = Situation(machine, data.host.caches)
    for name in model.predictors:
        problem = next(s.problem for s in data.samples if s.problem.family == name)
        points = known[name].points(problem, machine)
        ranked = model.ranked(known[name], problem, points, situation)
        assert sorted(ranked, key=lambda p: p.key) == sorted(points, key=lambda p: p.key)


@pytest.mark.slow
def test_what_the_shipped_data_claims() -> None:
    (*_, everything) = report(shipped_data(), families())
    assert everything.median_regret <= 0.05
    assert everything.p95_regret <= 0.15
