"""The operators that are measured for the cost model, and the commands that do it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from motet.benchmarks import cost_model, cost_model_collecting, cost_model_networks
from motet.benchmarks.cost_model_convolutions import layers_of, problem_of
from motet.benchmarks.cost_model_problems import problems
from motet.targets.host.cost_model.dataset import DataSet, merged, read_lines, unpacked
from motet.targets.host.cost_model.model import DATA_FILE, MODEL_FILE, CostModel
from motet.targets.host.cost_model.unit_builders import measurable, unit_of
from motet.targets.host.families import families
from motet.targets.host.machine import native_machine

LANES = native_machine().vector_bytes // 4


def test_problems_are_fair_samples_of_every_family() -> None:
    found, machine, known = problems(LANES), native_machine(), families()
    assert known.pop("blocked_conv_tiled_integer")  # its points are ordered by hand
    assert len(set(found)) == len(found)
    for part in (found[:80], found):
        assert {problem.family for problem in part} == set(known)
    for problem in found[:60]:
        assert measurable(problem)
        assert len(known[problem.family].points(problem, machine)) >= 1
        assert unit_of(problem).function.params
    assert problems(LANES) == found


def test_layers_are_those_of_the_network() -> None:
    layers = layers_of("resnet50")
    shapes = {
        (layer.channels, layer.outs, layer.size, layer.kernel, layer.stride) for layer in layers
    }
    assert (3, 64, 224, 7, 2) in shapes
    assert (512, 2048, 7, 1, 1) in shapes
    assert all(problem_of(layer, 8) is not None for layer in layers)
    first = next(layer for layer in layers if layer.channels == 3)
    problem = problem_of(first, 8)
    assert problem is not None
    assert (problem["block_in"], problem["block_out"], problem["out_width"]) == (0, 8, 112)
    deep = [problem_of(layer, 8) for layer in layers_of("mobilenet_v1") if layer.depthwise]
    assert max(found["groups"] for found in deep if found is not None) == 1024


def test_networks_by_hand_and_by_the_model() -> None:
    path = Path(__file__).parents[2] / "examples" / "models" / "digits_mobile.onnx"
    done = CliRunner().invoke(cost_model_networks.main, [str(path), "--duration", "0.05", "--json"])
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.output)
    assert found["network"] == "digits_mobile"
    assert found["ratio"] == found["by_hand"] / found["by_model"]
    assert 0.2 < found["ratio"] < 5


def test_collecting_goes_on_and_is_trained_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [p for p in problems(LANES) if p.family == "pool" and p["height"] <= 14][:3]
    monkeypatch.setattr(cost_model_collecting, "problems", lambda lanes: few)
    monkeypatch.setattr(cost_model_collecting, "BATCH_KERNELS", 1)
    folder, out, run = tmp_path / "kernels", tmp_path / "points.jsonl", CliRunner()
    where = ["--folder", str(folder), "--minutes", "0"]
    for expected in (1, 2, 3, 3):
        done = run.invoke(cost_model.main, ["compile", *where, "--jobs", "1"])
        assert done.exit_code == 0, done.output
        assert len(list(folder.glob("*.json"))) == expected
    for expected in (1, 2, 3, 4):
        done = run.invoke(cost_model.main, ["collect", *where, "--out", str(out)])
        assert done.exit_code == 0, done.output
        assert len(read_lines(out).samples) == expected
    assert [sample.problem for sample in read_lines(out).samples] == [*few, few[0]]
    done = run.invoke(cost_model.main, ["noise", str(out)])
    assert done.exit_code == 0, done.output
    done = run.invoke(cost_model.main, ["train", str(out), "--to", str(tmp_path)])
    assert done.exit_code == 0, done.output
    data = DataSet(read_lines(out).host, merged(read_lines(out).samples))
    assert unpacked((tmp_path / DATA_FILE).read_bytes()).rows == data.rows
    model = CostModel.from_content((tmp_path / MODEL_FILE).read_bytes())
    assert not model.predictors  # three operators say nothing
    done = run.invoke(cost_model.main, ["report", "--files", str(out), "--json"])
    assert done.exit_code == 0, done.output
