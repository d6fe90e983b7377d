"""The host suite: its networks, its results file, its arithmetic, and that engines take turns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

from motet.benchmarks.host_profile import main as profile_main
from motet.benchmarks.host_profile import side_by_side
from motet.benchmarks.host_suite import limits, networks, onnx_models
from motet.benchmarks.host_suite.__main__ import main
from motet.benchmarks.host_suite.engines import Contender, take_turns
from motet.benchmarks.host_suite.limits import Limits
from motet.benchmarks.host_suite.measuring import difference
from motet.benchmarks.host_suite.node_times import NodeTime, origin
from motet.benchmarks.host_suite.report import geometric_mean
from motet.benchmarks.host_suite.results import Result, ResultFile, Timing
from motet.benchmarks.zoo import figures
from motet.errors import SpecError
from motet.runtime.profiler import CallProfile, Profile


def result(network: str, threads: int = 1, **medians: float) -> Result:
    timings = {name: Timing.of("as it is", [value, value / 2]) for name, value in medians.items()}
    return Result(network, threads, 10**6, 100, 1e9, 1e9, 2e-3, timings)


@pytest.mark.parametrize(
    ("name", "millions", "mega_macs"),
    # The authors' SqueezeNet 1.1; Szegedy et al. 2014, section 5; Zhang et al. 2017, table 2.
    # The last two are round figures of the papers.
    [("squeezenet", 1.24, 349), ("inception_v1", 7.0, 1500), ("shufflenet", 1.4, 140)],
)
def test_onnx_architectures_have_their_known_sizes(name, millions, mega_macs):
    model = onnx_models.build(name)
    assert figures.parameters(model) / 1e6 == pytest.approx(millions, rel=0.01)
    assert figures.macs(model) / 1e6 == pytest.approx(mega_macs, rel=0.12)


def test_onnx_architectures_are_as_exporters_write_them():
    model = onnx_models.build("shufflenet")
    onnx.checker.check_model(model, full_check=True)
    assert [info.name for info in model.graph.input] == ["gpu_0/data_0"]
    assert "ConstantOfShape" not in {node.op_type for node in model.graph.node}
    again, other = onnx_models.build("shufflenet"), onnx_models.build("shufflenet", seed=1)
    assert model.SerializeToString() == again.SerializeToString() != other.SerializeToString()


def test_random_weights_keep_values_finite():
    model = onnx_models.build("inception_v1")
    session = onnxruntime.InferenceSession(model.SerializeToString())
    image = np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32)
    (probabilities,) = session.run(None, {"data_0": image})
    assert probabilities.sum() == pytest.approx(1, abs=1e-4)
    assert probabilities.min() > 0


def test_networks_are_chosen_by_name_group_and_file(tmp_path, monkeypatch):
    monkeypatch.setenv("MOTET_MODELS", str(tmp_path))
    (tmp_path / "mine.onnx").write_bytes(b"")
    assert [one.name for one in networks.chosen(("onnx",))] == [
        f"onnx/{name}" for name in onnx_models.NAMES
    ]
    names = ("models/mine", "lstm@2", str(tmp_path / "mine.onnx"))
    found = networks.chosen(names)
    assert [one.name for one in found] == ["models/mine", "lstm@2", "mine"]
    assert found[0].path(tmp_path) == found[2].path(tmp_path) == tmp_path / "mine.onnx"
    assert {"mobilenet_v2", "bert_base", "models/mine"} <= {one.name for one in networks.suite()}
    with pytest.raises(SpecError, match="no network 'alexnet'; it has onnx/bvlc_alexnet, "):
        networks.chosen(("alexnet",))


@pytest.mark.parametrize(("form", "operator"), [("qdq", "Conv"), ("qlinear", "QLinearConv")])
def test_networks_in_8_bits(tmp_path, form, operator):
    (network,) = networks.chosen((f"int8/mobilenet_v2@32-{form}",))
    model = onnx.load(network.path(tmp_path))
    types = [node.op_type for node in model.graph.node]
    assert types.count(operator) == 52
    assert not {"BatchNormalization", "Clip"} & set(types)
    assert network.in_fp32 is not None
    assert network.in_fp32.name == "mobilenet_v2@32"
    with pytest.raises(SpecError, match="no network 'int8/lstm-q'"):
        networks.chosen(("int8/lstm-q",))


def test_a_network_is_made_once(tmp_path):
    (network,) = networks.chosen(("lstm@2",))
    path = network.path(tmp_path)
    (info,) = onnx.load(path).graph.input
    assert info.type.tensor_type.shape.dim[0].dim_value == 2
    before = path.stat().st_mtime_ns
    assert network.path(tmp_path).stat().st_mtime_ns == before


def test_ratios_and_shares():
    found = result("x", motet=4e-3, onnxruntime=6e-3)
    assert found.ratio("onnxruntime") == pytest.approx(1.5)
    assert found.ratio("openvino") is None
    assert found.share_of_light == pytest.approx(2e-3 / 3e-3)
    assert geometric_mean([2.0, 0.5, 4.0, 0.25]) == pytest.approx(1)
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4)


def test_the_speed_of_light_is_the_slower_of_the_two():
    bound = Limits(1, flops_per_second=100e9, bytes_per_second=10e9)
    assert bound.seconds(macs=10**9, size=0) == pytest.approx(0.02)
    assert bound.seconds(macs=10**6, size=10**9) == pytest.approx(0.1)


def test_outputs_are_compared_by_their_largest_value():
    theirs = [np.array([1.0, -4.0]), np.zeros(0), np.zeros(2)]
    assert difference([np.array([1.0, -3.0]), np.zeros(0), np.zeros(2)], theirs) == 0.25
    assert difference(theirs, theirs) == 0


def test_limits_are_measured():
    bound = limits.measure(1)
    assert 1e9 < bound.flops_per_second < 1e12
    assert 1e8 < bound.bytes_per_second < 1e12


def test_results_are_kept_and_gone_on_with(tmp_path):
    path = tmp_path / "r.jsonl"
    first = ResultFile(path)
    first.add(result("x", motet=1.0, onnxruntime=2.0))
    first.add(result("y", threads=2, motet=1.0, onnxruntime=2.0))
    again = ResultFile(path)
    assert again.limits(1) == Limits(1, 1e9, 1e9)
    assert again.limits(4) is None
    assert again.results == first.results
    assert again.has("x", 1, ["motet", "onnxruntime"])
    assert not again.has("x", 1, ["motet", "onnxruntime", "openvino"])
    assert not again.has("x", 2, ["motet"])
    path.write_text("no result\n")
    with pytest.raises(SpecError, match=r"r\.jsonl is no file of results"):
        ResultFile(path)


def test_an_engine_that_does_not_take_a_model_says_why(tmp_path):
    model, inputs = tmp_path / "x.onnx", tmp_path / "x.npz"
    model.write_bytes(b"nothing")
    np.savez(inputs, x=np.zeros(1))
    found, refused = take_turns([Contender("onnxruntime", model)], inputs, 1, 1, 0.01)
    assert not found
    assert "INVALID_PROTOBUF" in refused["onnxruntime"]


def test_engines_take_turns_and_what_is_there_is_not_measured_again(tmp_path):
    file = tmp_path / "r.jsonl"
    arguments = ["--networks", "lstm@2", "--threads", "1", "--turns", "2", "--turn-seconds", "0.02"]
    arguments += ["--results", str(file), "--json"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)
    assert (found["network"], found["threads"]) == ("lstm@2", 1)
    assert found["macs"] == 2 * 2 * (4 * 512 * 512 * 2)
    assert found["bytes"] > 4 * 4 * 4 * 512 * 512
    ours, theirs = (found["timings"][name] for name in ("motet", "onnxruntime"))
    assert min(ours["runs"], theirs["runs"]) >= 2
    assert found["onnxruntime_over_motet"] == pytest.approx(
        theirs["median_seconds"] / ours["median_seconds"]
    )
    assert found["difference"] < 1e-5
    before = file.read_bytes()
    table = CliRunner().invoke(main, arguments[:-1])
    assert table.exit_code == 0, table.output
    assert file.read_bytes() == before
    assert "geometric mean" in table.output


def test_bf16_stands_beside_fp32_with_its_error():
    model = str(Path(__file__).parents[2] / "examples/models/digits_mobile.onnx")
    options = ["--threads", "1", "--turns", "1", "--turn-seconds", "0.01", "--bf16"]
    done = CliRunner().invoke(main, ["--networks", model, *options, "--json"])
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)
    assert list(found["timings"]) == ["motet", "onnxruntime", "motet_bf16"]
    assert found["motet_bf16_over_motet"] > 0
    assert found["difference"] < 1e-5 < found["in_bf16"]["motet_bf16"] < 0.05


def test_mistakes_are_told_at_once():
    done = CliRunner().invoke(main, ["--networks", "lstm@2", "--networks", "alexnet"])
    assert done.exit_code == 2
    assert "the suite has no network 'alexnet'" in done.output


def test_nodes_of_onnxruntime_are_put_beside_the_calls_that_compute_them():
    def node(op, x, y, name):
        return onnx.helper.make_node(op, [x], [y], name=name)

    nodes = [node("Relu", "x", "r/output", "r"), node("Abs", "r/output", "y", "last_abs")]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], []))
    assert origin("r", model) == "r"
    assert origin("r/output_nchwc", model) == "r"
    assert origin("y_nchwc", model) == "last_abs"
    assert origin("ReorderOutput_token_3", model) is None
    calls = [call("m/0", ("r",), 2e-3), call("m/1", ("last_abs",), 1e-3)]
    theirs = [NodeTime("r/output_nchwc", "Relu", 3e-3), NodeTime("ReorderOutput", "Reorder", 1e-3)]
    rows, rest = side_by_side(Profile("m", 1, 3e-3, tuple(calls)), theirs, model)
    assert [row.their_seconds for row in rows] == [3e-3, 0]
    assert [one.node for one in rest] == ["ReorderOutput"]


def call(op: str, nodes: tuple[str, ...], time: float) -> CallProfile:
    return CallProfile(op, "relu", "relu_1", nodes, ((4,),), 10, 32, time, time, 0.5)


def test_a_profile_names_the_nodes_of_both():
    model = str(Path(__file__).parents[2] / "examples/models/digits_mobile.onnx")
    done = CliRunner().invoke(profile_main, [model, "--duration", "0.05", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    first = found["calls"][0]
    assert first["call"]["onnx_nodes"][0] == "stem/conv"
    assert [one["op_type"] for one in first["theirs"]] == ["Conv"]
    matched = [one for one in found["calls"] if one["theirs"]]
    assert len(matched) == len(found["calls"])
