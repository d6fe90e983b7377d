"""Merges in a compilation: proposed by stages, followed where the simulated program is faster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tvm

import motet

pytest.importorskip("numba")

from onnx import TensorProto, helper, numpy_helper
from relax_modules import calls

from motet.compiler.frontend.load import load_model, merge
from motet.compiler.neutral_passes import neutral_passes
from motet.compiler.parallel_merging import (
    Outcome,
    of_equal_kernels,
    parallel_merging,
    proposed,
)
from motet.compiler.spec import PassesSpec
from motet.passes.op_kinds import op_name
from motet.passes.options import ScheduleOptions
from motet.passes.unit_cost import ArrayTarget, HostTarget
from motet.targets.host.machine import machine_for
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.estimate import with_pods

ON = ("passes.schedule.enabled=true",)
RNG = np.random.default_rng(11)
POD = with_pods(load_architecture("sosa-256x32x32"), 2)
TARGET = ArrayTarget(POD, "fp32", HostTarget(machine_for("x86-64-v3"), 1))


def model(path: Path, branches: int = 3) -> Path:
    """1x1 convolutions with ReLU of one value, and a 3x3 one, concatenated."""
    nodes, weights, results = list[Any](), list[Any](), list[str]()
    for number in range(branches + 1):
        size, name = (1, f"c{number}") if number < branches else (3, "large")
        array = RNG.standard_normal((16, 32, size, size)).astype(np.float32) * 0.1
        bias = RNG.standard_normal(16).astype(np.float32)
        weights += [
            numpy_helper.from_array(array, name + "w"), numpy_helper.from_array(bias, name + "b"),
        ]  # fmt: skip
        nodes.append(
            helper.make_node(
                "Conv", ["x", name + "w", name + "b"], [name], name=name, pads=[size // 2] * 4
            )
        )
        nodes.append(helper.make_node("Relu", [name], [name + "r"], name=name + "r"))
        results.append(name + "r")
    nodes.append(helper.make_node("Concat", results, ["y"], name="join", axis=1))
    outs = 16 * (branches + 1)
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 32, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, outs, 8, 8])], weights,
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, path)
    return path


def record(bundle: Any, name: str) -> list[str]:
    return [one.summary for one in bundle.manifest.passes if one.name == name]


def outputs(bundle: Any, path: Path) -> tuple[Any, Any]:
    x = RNG.standard_normal((1, 32, 8, 8)).astype(np.float32)
    (want,) = onnxruntime.InferenceSession(path.read_bytes()).run(None, {"x": x})
    (session,) = motet.load(bundle).values()
    return session.run(None, {"x": x})[0], want


def test_on_an_array_the_simulated_cycles_decide(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx")
    bundle = motet.compile(path, target="tiny-4x4", settings=ON)
    plain = motet.compile(path, target="tiny-4x4", settings=[*ON, "passes.schedule.merge=false"])
    assert record(plain, "merge_parallel") == []
    for one in (bundle, plain):
        got, want = outputs(one, path)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    (told,) = record(bundle, "merge_parallel")
    assert "simulated cycles" in told
    fewest, without = [int(word) for word in told.replace(",", " ").split() if word.isdigit()][-2:]
    assert fewest <= without


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> tvm.IRModule:
    loaded = load_model(model(tmp_path_factory.mktemp("m") / "m.onnx"), "main")
    return neutral_passes(PassesSpec(), False, False)(merge([loaded]))


def convolutions(mod: tvm.IRModule) -> int:
    return sum(op_name(call) == "relax.nn.conv2d" for call in calls(mod["main"]))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_fewest_cycles_are_followed(module: tvm.IRModule, sign: int) -> None:
    asked: list[int] = []

    def cycles(mod: tvm.IRModule) -> int:
        asked.append(convolutions(mod))
        return 100 + sign * asked[-1]

    outcome = Outcome()
    options = ScheduleOptions(enabled=True)
    after = parallel_merging(TARGET, options, outcome, cycles)(module)
    left = min(asked) if sign > 0 else 4
    assert asked[0] == 4
    assert 2 in asked
    assert convolutions(after) == left
    counts = "0 convolutions become 0" if sign < 0 else f"{5 - left} convolutions become 1"
    assert outcome.summary == (
        f"main: {counts}; simulated cycles {100 + sign * left}, {100 + sign * 4} without"
    )


def test_equal_kernels_are_a_proposal(module: tvm.IRModule) -> None:
    (group,) = of_equal_kernels(module["main"])
    assert group == {f"c{n}{end}" for n in range(3) for end in ("", "r")}


def test_stages_propose_what_the_estimates_say(module: tvm.IRModule) -> None:
    groups = proposed(module["main"], "main", TARGET, ScheduleOptions(enabled=True))
    assert groups
    assert all(len([name for name in one if name in ("c0", "c1", "c2")]) > 1 for one in groups)


def test_on_the_host_values_stay_and_nodes_are_named(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx")
    bundle = motet.compile(path, settings=[*ON, "host.threads=1"])
    got, want = outputs(bundle, path)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    (program,) = bundle.programs.values()
    nodes = {name for one in program.operators for name in one.onnx_nodes}
    assert {"c0", "c1", "c2", "large", "c0r", "larger"} <= nodes
