"""``motet check`` of quantised models: right ones pass without a tolerance, wrong ones do not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from front_outcome import Motet
from onnx import TensorProto, helper, numpy_helper

import motet
from motet.check import Difference, onnxruntime_session
from motet.quantized_model import QuantizeOptions
from motet.roundings import (
    OFF,
    Roundings,
    differences_beside_rounding,
    judged,
    scales_off,
)

LAYERS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network deep enough that a step of its first layers is carried on, in 8/8 and 4/6."""
    folder = tmp_path_factory.mktemp("quantized")
    rng = np.random.default_rng(0)
    nodes, weights, value = list[onnx.NodeProto](), list[onnx.TensorProto](), "x"
    for layer in range(LAYERS):
        w = rng.standard_normal((24, 24, 3, 3)).astype(np.float32) / np.float32(216**0.5 / 1.4)
        b = rng.standard_normal(24).astype(np.float32) / 5
        weights += [
            numpy_helper.from_array(w, f"w{layer}"),
            numpy_helper.from_array(b, f"b{layer}"),
        ]
        nodes.append(
            helper.make_node("Conv", [value, f"w{layer}", f"b{layer}"], [f"c{layer}"],
                             f"conv{layer}", pads=[1] * 4)
        )  # fmt: skip
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"], f"relu{layer}"))
        value = f"r{layer}"
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["y"], "pool"))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 24, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 24, 1, 1])], weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, folder / "net.onnx")
    data = {"x": rng.standard_normal((8, 24, 12, 12)).astype(np.float32)}
    for name, text in (("q8", "8/8"), ("q7", "7/8")):
        made = motet.quantize(folder / "net.onnx", data, options=QuantizeOptions(setting=text))
        made.save(folder / f"{name}.onnx")
    return folder


@pytest.mark.parametrize("name", ["q8", "q7"])
def test_right_models_pass(run_motet: Motet, folder: Path, name: str) -> None:
    done = run_motet("check", folder / f"{name}.onnx", "--runs", "3", "--json")
    assert done.code == 0, done.out + done.err
    (fact,) = json.loads(done.out)
    assert fact["passed"]


def test_inner_values_are_judged_alike(run_motet: Motet, folder: Path) -> None:
    done = run_motet("check", folder / "q8.onnx", "--outputs", "all", "--json")
    facts = json.loads(done.out)
    assert done.code == 0, [fact for fact in facts if not fact["passed"]]
    assert len(facts) > LAYERS


def test_a_tolerance_that_is_given_is_the_only_one(run_motet: Motet, folder: Path) -> None:
    done = run_motet("check", folder / "q8.onnx", "--runs", "3", "--rtol", "1e-7", "--json")
    (fact,) = json.loads(done.out)
    assert done.code == (0 if fact["absolute"] == 0 else 1)
    assert "rounding" not in fact["note"]


def altered(path: Path, kind: str) -> onnx.ModelProto:
    """The model as a wrong compiler might have it."""
    model = onnx.load(path)
    stored = {t.name: t for t in model.graph.initializer}
    if kind == "scale":  # of a layer's weights, a third too large
        name = next(n for n in stored if n.startswith("w3") and n.endswith("_step"))
        values = numpy_helper.to_array(stored[name]) * np.float32(4 / 3)
    elif kind == "bias":  # left out
        name = next(node.input[2] for node in model.graph.node if node.name == "conv2")
        values = 0 * numpy_helper.to_array(stored[name])
    else:  # taps of a kernel the wrong way round
        name = next(n for n in stored if n.startswith("w4") and n.endswith("_quantized"))
        values = numpy_helper.to_array(stored[name])[:, :, ::-1].copy()
    stored[name].CopyFrom(numpy_helper.from_array(values, name))
    return model


@pytest.mark.parametrize("kind", ["scale", "bias", "taps"])
def test_wrong_models_fail(folder: Path, kind: str, tmp_path: Path) -> None:
    """What a compiler's mistake would compute, held against the right model."""
    right, wrong = folder / "q8.onnx", tmp_path / "wrong.onnx"
    onnx.save(altered(right, kind), wrong)
    rng = np.random.default_rng(1)
    inputs = {"x": rng.standard_normal((1, 24, 12, 12)).astype(np.float32)}
    reference = onnxruntime_session(str(right), "q8")
    for path, passes in ((right, True), (wrong, False)):
        session = motet.load(motet.compile(path))["q8" if passes else "wrong"]
        (found,) = differences_beside_rounding(
            session, reference, Roundings("q8", str(right)), inputs
        )
        assert found.passed is passes, (path, found)


def test_scales_of_the_copies_are_off_and_nothing_else(folder: Path) -> None:
    right = onnx.load(folder / "q8.onnx")
    copy = onnx.load_from_string(scales_off((folder / "q8.onnx").read_bytes(), 0) or b"")
    stored = {
        t.name: numpy_helper.to_array(t)
        for t in (*right.graph.initializer, *copy.graph.initializer)
    }
    count = 0
    for one, other in zip(right.graph.node, copy.graph.node, strict=True):
        assert one.op_type == other.op_type
        for place, (name, off) in enumerate(zip(one.input, other.input, strict=True)):
            if name != off:
                assert (one.op_type, place) == ("QuantizeLinear", 1)
                ratio = stored[off].astype(np.float64) / stored[name]
                np.testing.assert_allclose(np.abs(ratio - 1), OFF, rtol=1e-2)
                count += 1
    assert count == LAYERS
    assert scales_off((folder / "net.onnx").read_bytes(), 0) is None


def test_vectors_are_quantisers_too(folder: Path) -> None:
    """Functions of the file are opened; scales that are found as it runs are off as well."""
    made = motet.quantize(
        folder / "net.onnx", {"x": np.ones((1, 24, 12, 12), np.float32)},
        options=QuantizeOptions(setting="4/8/6/10"),
    )  # fmt: skip
    copy = onnx.load_from_string(scales_off(made.model.SerializeToString(), 0) or b"")
    assert sum(".motet.off" in node.name for node in copy.graph.node) == LAYERS
    assert onnxruntime_session(copy.SerializeToString(), "copy").get_outputs()[0].name == "y"


def test_judgement_by_hand() -> None:
    beyond = Difference("m", "y", "float32", 0.5, 0.1, 40.0)
    kept = judged(beyond, (0.1, 0.5), (0.1, 0.3))
    assert kept.passed
    assert kept.worst == pytest.approx(0.5 / (2 * 0.3))
    assert "rounding" in kept.note
    assert not judged(beyond, (0.3, 0.5), (0.1, 0.3)).passed  # many elements, each small
    assert judged(beyond, (0.1, 0.5), (0.0, 0.0)) == beyond  # rounding moves nothing
    step = Difference("m", "y", "int8", 1.0, 0.1, np.inf)
    assert judged(step, (0.2, 1.0), (0.0, 0.0)).passed
    assert not judged(step, (0.2, 2.0), (0.0, 0.0)).passed
