"""Models on a simulated array: regions as one call with several results, shared programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, checker, helper, numpy_helper, save

import motet
from motet.runtime.program import ArrayCall
from motet.runtime.report import RunReport

RANDOM = np.random.default_rng(0)
WEIGHTS = {
    "w1": RANDOM.uniform(-0.5, 0.5, (6, 3, 3, 3)).astype("float32"),
    "b1": RANDOM.uniform(-0.5, 0.5, 6).astype("float32"),
    "w2": RANDOM.uniform(-0.5, 0.5, (6, 6, 3, 3)).astype("float32"),
    "w3": RANDOM.uniform(-0.5, 0.5, (6, 5)).astype("float32"),
}


def network(path: Path, prefix: str = "") -> Path:
    """A residual block whose inner value the host reads too, a pooled head, two outputs."""

    def node(operator: str, inputs: list[str], output: str, **attributes: object) -> object:
        return helper.make_node(operator, inputs, [output], prefix + output, **attributes)

    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        node("Conv", ["x", "w1", "b1"], "conv1", **pads),
        node("Relu", ["conv1"], "relu1"),
        node("Sin", ["relu1"], "side"),
        node("Conv", ["relu1", "w2"], "conv2", **pads),
        node("Add", ["conv2", "relu1"], "sum"),
        node("Relu", ["sum"], "relu2"),
        node("GlobalAveragePool", ["relu2"], "pool"),
        node("Flatten", ["pool"], "flat"),
        node("MatMul", ["flat", "w3"], "gemm"),
        node("Softmax", ["gemm"], "y", axis=-1),
    ]
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "network",
        [tensor("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [tensor("y", TensorProto.FLOAT, [1, 5]), tensor("side", TensorProto.FLOAT, [1, 6, 8, 8])],
        [numpy_helper.from_array(array, name) for name, array in WEIGHTS.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    checker.check_model(model)
    save(model, str(path))
    return path


X = RANDOM.standard_normal((1, 3, 8, 8)).astype("float32")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network(tmp_path_factory.mktemp("network") / "first.onnx")


def outputs(bundle: motet.Bundle) -> dict[str, np.ndarray]:
    return motet.load(bundle, threads=1).run(None, {"x": X})


def wanted(path: Path) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path))
    return dict(zip(("y", "side"), session.run(["y", "side"], {"x": X}), strict=True))


def array_calls(bundle: motet.Bundle, model: str) -> list[ArrayCall]:
    return [i for i in bundle.programs[model].instructions if isinstance(i, ArrayCall)]


@pytest.mark.parametrize("joined", ["true", "false"])
@pytest.mark.parametrize("target", ["tiny-4x4", "mixed-64x64-4x16x16"])
def test_values_are_those_of_onnxruntime(path: Path, joined: str, target: str) -> None:
    bundle = motet.compile(path, target=target, settings=[f"passes.regions.enabled={joined}"])
    assert len(array_calls(bundle, "first")) == (1 if joined == "true" else 5)
    found = outputs(bundle)
    for name, value in wanted(path).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


def test_operators_side_by_side_keep_values_and_names(path: Path) -> None:
    settings = ["passes.schedule.enabled=true"]
    bundle = motet.compile(path, target="mixed-64x64-4x16x16", settings=settings)
    found = outputs(bundle)
    for name, value in wanted(path).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)
    steps = motet.load(bundle, threads=1).simulate("first", {"x": X}).steps
    assert [(step.name, step.macs) for step in steps][:2] == [
        ("conv1+relu1", 8 * 8 * 6 * 9 * 3),
        ("conv2+sum+relu2", 8 * 8 * 6 * 9 * 6),
    ]


def test_what_the_host_reads_is_a_second_result(path: Path) -> None:
    bundle = motet.compile(path, target="tiny-4x4")
    (call,) = array_calls(bundle, "first")
    assert len(call.outputs) == 2
    operator = bundle.programs["first"].operators[call.operator]
    assert operator.steps == ("conv1+relu1", "conv2+sum+relu2", "pool", "gemm", "y")
    assert operator.macs == 8 * 8 * 6 * 9 * (3 + 6) + 6 * 5


def test_equal_regions_share_a_program_and_keep_their_names(path: Path) -> None:
    second = network(path.with_name("second.onnx"), prefix="other_")
    bundle = motet.compile([path, second], target="tiny-4x4")
    assert len(bundle.array_programs) == 1
    session = motet.load(bundle, threads=1)
    for model, prefix in (("first", ""), ("second", "other_")):
        names = [step.name for step in session.simulate(model, {"x": X}).steps]
        assert names[0] == f"{prefix}conv1+{prefix}relu1"
        assert len(names) == 5


def test_what_a_report_adds_up(path: Path) -> None:
    report: RunReport = motet.load(motet.compile(path, target="tiny-4x4"), threads=1).simulate()
    (program,) = report.programs
    assert report.cycles == program.cycles >= program.speed_of_light > 0
    assert sum(report.stall_cycles.values()) == report.cycles
    assert report.array_macs == sum(step.macs for step in program.steps) == report.macs
    assert report.utilisation == pytest.approx(report.macs / (report.cycles * 16))
    assert set(report.energy_joules) >= {"mac", "dram"}


def test_bf16_is_near_and_only_when_asked(path: Path) -> None:
    exact = outputs(motet.compile(path, target="tiny-4x4"))
    rounded = outputs(motet.compile(path, target="tiny-4x4", settings=["array.format=bf16"]))
    error = np.abs(rounded["y"] - exact["y"]).max()
    assert 0 < error < 0.02


def test_a_node_pinned_to_the_host_parts_the_region(path: Path) -> None:
    pinned = ['passes.place.host_ops=["relu2"]']
    bundle = motet.compile(path, target="tiny-4x4", settings=pinned)
    assert len(array_calls(bundle, "first")) == 2  # pooling, too, follows the data to the host
    operators = bundle.programs["first"].operators
    on_host = {name for o in operators if o.target == "host" for name in o.onnx_nodes}
    assert "relu2" in on_host
    found = outputs(bundle)
    np.testing.assert_allclose(found["y"], wanted(path)["y"], rtol=1e-5, atol=1e-6)
