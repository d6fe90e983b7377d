"""Sweeps: their grammar, descriptions with changed keys, the Pareto front, and going on."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from motet.exploring import (
    Point,
    Workers,
    described,
    explore,
    grid,
    pareto,
    parse_sweeps,
    stored,
)
from motet.runtime.errors import SpecError
from motet.simulation_input import Work
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.workload.graph import single
from motet.targets.systolic.workload.layers import MatrixProduct
from motet.targets.systolic.workload.work import ModelWork, stages_of


def work() -> Work:
    layers = single(MatrixProduct(1, 20, 24, 28), "gemm")
    models = (ModelWork("m", stages_of(layers)),)
    return Work(models, load_architecture("tiny-4x4"), "fp32")


def test_sweeps_are_keys_with_values():
    swept = parse_sweeps(["rows=4,8", "interconnect=bus,crossbar", "dram.bytes_per_second=1.5e9"])
    assert swept == {
        "rows": [4, 8],
        "interconnect": ["bus", "crossbar"],
        "dram.bytes_per_second": [1500000000],
    }
    assert len(grid(swept)) == 4
    assert grid(swept)[1] == {
        "rows": 4,
        "interconnect": "crossbar",
        "dram.bytes_per_second": 1500000000,
    }


@pytest.mark.parametrize("sweep", ["rows", "rows=", "=4", "rows=,"])
def test_what_is_no_sweep_is_refused(sweep):
    with pytest.raises(SpecError, match="KEY=VALUE"):
        parse_sweeps([sweep])


def test_a_key_is_swept_once():
    with pytest.raises(SpecError, match="twice"):
        parse_sweeps(["rows=4", "rows=8"])


def test_settings_change_the_description():
    made = described(
        load_architecture("tiny-4x4"), {"size": 8, "pods": 2, "dram.latency_cycles": 7}
    )
    assert (made.pods[0].rows, made.pods[0].columns, made.pods[0].count) == (8, 8, 2)
    assert made.dram.latency_cycles == 7


@pytest.mark.parametrize("key", ["row", "pods.1.rows", "dram.speed", "pods.0.scratchpad.bytes.x"])
def test_unknown_keys_are_named(key):
    with pytest.raises(SpecError, match=key):
        described(load_architecture("tiny-4x4"), {key: 4})


numbers = st.floats(0.1, 10.0)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(numbers, numbers, numbers), max_size=12))
def test_no_point_of_the_front_is_beaten_and_every_other_one_is(figures):
    points = [
        Point({"n": i}, seconds_simulated=s, energy_joules=e, watts=w)
        for i, (s, e, w) in enumerate(figures)
    ]
    front = pareto(points)
    for point in points:
        beaten = any(
            all(a <= b for a, b in zip(other.objectives, point.objectives, strict=True))
            and other.objectives != point.objectives
            for other in points
        )
        assert (point in front) != beaten


def test_a_sweep_goes_on_from_its_results(tmp_path):
    store, points = tmp_path / "sweep.jsonl", grid({"size": [4, 8], "bandwidth": [1e9]})
    seen: list[Point] = []
    first = explore(work(), points[:1], Workers(jobs=1), store, seen.append)
    store.write_text(store.read_text() + '{"key": "half a li')  # as an interrupt leaves it
    both = explore(work(), points, Workers(jobs=1), store, seen.append)
    assert [point.settings for point in seen] == points  # each simulated once
    assert both[0] == first[0]
    assert len(list(stored(store))) == 2
    assert both[1].cycles < both[0].cycles


def test_an_array_that_cannot_work_is_a_point_with_the_reason():
    (point,) = explore(work(), [{"scratchpad_bytes": 16}], Workers(jobs=1))
    assert point.cycles is None
    assert "scratchpad" in point.error
    assert pareto([point]) == []


def test_a_file_of_something_else_is_not_overwritten(tmp_path):
    store = tmp_path / "notes.txt"
    store.write_text("something\nelse\n")
    with pytest.raises(SpecError, match="line 1"):
        explore(work(), [{"size": 4}], Workers(jobs=1), store)
    assert store.read_text() == "something\nelse\n"
