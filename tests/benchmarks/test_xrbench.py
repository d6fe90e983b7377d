"""XRBench's scenarios: what they ask for, the work of their networks, and a short simulation."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import onnx
import pytest

from motet.benchmarks.xrbench import SCENARIOS, Machine, plot, rows, specification
from motet.benchmarks.xrbench_networks import GIGA_MACS, macs, network, sizes
from motet.benchmarks.zoo.building import without_weights
from motet.compiler.spec_file import load_spec
from motet.runtime.device import ProgramCounts
from motet.simulating import SimulatedModel, SimulatedStage
from motet.simulation_input import Work, array_of


def test_frames_asked_for_per_second() -> None:
    asked = {
        scenario: sum(frames.rate_hz * frames.probability for frames in models.values())
        for scenario, models in SCENARIOS.items()
    }
    assert asked == {
        "social_a": 180, "social_b": 150, "outdoor_a": pytest.approx(43.6),
        "outdoor_b": pytest.approx(33.6), "ar_assistant": 69.5, "ar_gaming": 90,
        "vr_gaming": 165,
    }  # fmt: skip


@pytest.mark.parametrize("name", GIGA_MACS)
def test_networks_do_the_published_work(name: str) -> None:
    assert macs(*sizes(name)) == pytest.approx(GIGA_MACS[name] * 1e9, rel=0.09)
    with without_weights():
        model = onnx.shape_inference.infer_shapes(network(name))
    assert macs(*sizes(name)) == _counted(model)


def _counted(model: onnx.ModelProto) -> int:
    """Multiply-accumulates by the shapes of the file."""
    values = [*model.graph.value_info, *model.graph.output, *model.graph.input]
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    shapes |= {weight.name: list(weight.dims) for weight in model.graph.initializer}
    total = 0
    for node in model.graph.node:
        if node.op_type == "Conv":
            _, ins, kernel, _ = shapes[node.input[1]]
            _, outs, height, width = shapes[node.output[0]]
            total += outs * height * width * ins * kernel * kernel
        elif node.op_type == "Gemm":
            rows_, columns = shapes[node.input[1]]
            total += rows_ * columns
    return total


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_specifications_are_good(scenario: str, tmp_path: Path) -> None:
    for model in SCENARIOS[scenario]:
        (tmp_path / f"{model}.onnx").touch()
    path = tmp_path / "s.toml"
    path.write_text(specification(scenario, "edge-64x64"))
    spec = load_spec(path)
    found = {m.name: (m.rate_hz, m.after, m.probability) for m in spec.models}
    assert found == {
        name: (f.rate_hz, () if f.after is None else (f.after,), f.probability)
        for name, f in SCENARIOS[scenario].items()
    }


def _model(name: str, cycles: int) -> SimulatedModel:
    counts = ProgramCounts(cycles, 1, 0.5, 1, 0, 0, 0, {}, {"mac": 0.01}, ())
    stage = SimulatedStage(f"{name}/0", "conv2d", (), 1, counts)
    return SimulatedModel(name, "edge-64x64", "int8", 8e8, 4096, (stage,))


def test_every_scenario_under_every_policy(tmp_path: Path) -> None:
    # 500 GMAC/s, each network one stage: vr_gaming asks for 73 % of that, social_a for 162 %.
    description = array_of("edge-64x64")
    models = {name: _model(name, round(giga * 1.6e6)) for name, giga in GIGA_MACS.items()}
    made = Machine(Work((), description, "int8"), models)
    policies = ["fcfs", "priority", "edf"]
    found = rows(made, policies, Fraction(2), 3, Fraction(1, 2))
    assert [(one.scenario, one.policy) for one in found] == [
        (scenario, policy) for scenario in SCENARIOS for policy in policies
    ]
    by = {(one.scenario, one.policy): one for one in found}
    assert by["vr_gaming", "edf"].late == 0
    assert by["vr_gaming", "edf"].array_busy == pytest.approx(0.73, abs=0.01)
    assert min(by["social_a", policy].dropped for policy in policies) > 0.2
    assert by["vr_gaming", "edf"].score == pytest.approx(100 * (1490 / 1500), rel=0.01)
    for one in found:
        assert one.score is not None
        assert 0 < one.score < 100
        assert 0 <= one.dropped <= one.late <= 1
        assert 0 < one.array_busy <= 1
        assert (one.antt or 1) >= 1
        assert 0 <= (one.stp or 0) <= len(SCENARIOS[one.scenario])
        assert one.p99_seconds.keys() == SCENARIOS[one.scenario].keys()
        assert (one.p99_over_deadline or 0) > 0
    at_ease = by["vr_gaming", "edf"]
    assert max(v or 0 for v in at_ease.p99_seconds.values()) < 1 / 45
    assert (at_ease.p99_over_deadline or 9) < 1 < (by["social_a", "fcfs"].p99_over_deadline or 0)
    pytest.importorskip("matplotlib")
    plot(found, tmp_path / "xr.svg")
    assert (tmp_path / "xr.svg").stat().st_size > 1000
