"""Replacements in ONNX models and their refit: equal to the Relax pass, and better with data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import motet
from motet.benchmarks.zoo import registry
from motet.benchmarks.zoo.building import GraphBuilder
from motet.compiler.refit_depthwise import decided_for
from motet.compiler.replaced_onnx import apply_replacements
from motet.passes.decisions import write_decisions
from motet.passes.options import ReplaceDepthwiseOptions

EXAMPLES = Path(__file__).parents[2] / "examples"


def onnxruntime_outputs(model: onnx.ModelProto, inputs: dict[str, Any]) -> list[Any]:
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=providers)
    return list(session.run(None, inputs))


def assert_same(path: Path, inputs: dict[str, Any], tmp_path: Path, variant: str) -> None:
    """The ONNX model that decisions make, in onnxruntime, and the bundle that they make."""
    options = ReplaceDepthwiseOptions(enabled=True, variant=variant)  # type: ignore[arg-type]
    decided = decided_for(path, "m", options)
    assert decided.decisions.replacements
    write_decisions(decided, tmp_path / "d.json")
    made = apply_replacements(onnx.load(path), decided, path.name)
    wanted = onnxruntime_outputs(made, inputs)
    settings = [
        "passes.replace_depthwise.enabled=true",
        f"passes.replace_depthwise.decisions={tmp_path / 'd.json'}",
    ]
    bundle = motet.compile(path, settings=settings)
    (session,) = motet.load(bundle).values()
    for mine, other in zip(session.run(None, inputs), wanted, strict=True):
        np.testing.assert_allclose(mine, other, atol=2e-5 * max(1.0, np.abs(other).max()))


@pytest.mark.parametrize("variant", ["half", "full"])
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mobilenet_v1"])
def test_networks_of_the_zoo(name: str, variant: str, tmp_path: Path) -> None:
    """Squeeze-and-excitation and hard swish; a layer between two depthwise ones."""
    model = registry.build(name, "0.25@32" if name == "mobilenet_v1" else "@32")
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    image = np.random.default_rng(0).random((1, 3, 32, 32), dtype=np.float32)
    assert_same(path, {"image": image}, tmp_path, variant)


def padded_model(pads: list[int], opset: int = 17) -> onnx.ModelProto:
    graph = GraphBuilder("padded", 3, opset)
    x = graph.input("x", (1, 6, 11, 12))
    weight = graph.normal("w", (6, 1, 5, 5), 0.3)
    size = [(n + pads[a] + pads[a + 2] - 5) // 2 + 1 for a, n in enumerate((11, 12))]
    y = graph.node("Conv", [x, weight], "dw", (1, 6, *size), pads=pads, strides=[2, 2], group=6)
    slopes = graph.constant("slopes", np.linspace(0.1, 0.9, 6, dtype=np.float32).reshape(6, 1, 1))
    y = graph.node("PRelu", [y, slopes], "prelu", y.shape)
    shift = graph.normal("shift", (1, 6, 1, 1), 1.0)
    y = graph.add(y, shift, "shifted")
    return graph.model(y=graph.conv(y, "p", 4, 1, bias=True))


@pytest.mark.parametrize("variant", ["half", "full"])
@pytest.mark.parametrize("pads", [[0, 0, 1, 1], [0, 3, 2, 0], [4, 4, 4, 4]])
def test_cropping_slopes_and_constants_of_a_channel(
    pads: list[int], variant: str, tmp_path: Path
) -> None:
    path = tmp_path / "padded.onnx"
    onnx.save(padded_model(pads), path)
    x = np.random.default_rng(1).standard_normal((1, 6, 11, 12)).astype(np.float32)
    assert_same(path, {"x": x}, tmp_path, variant)


def test_nodes_without_names_and_old_slices(tmp_path: Path) -> None:
    model = padded_model([0, 0, 1, 1], opset=9)
    for node in model.graph.node:
        node.name = ""
    path = tmp_path / "old.onnx"
    onnx.save(model, path)
    x = np.random.default_rng(1).standard_normal((1, 6, 11, 12)).astype(np.float32)
    assert_same(path, {"x": x}, tmp_path, "half")


def test_the_file_keeps_what_is_not_replaced(tmp_path: Path) -> None:
    path = EXAMPLES / "models" / "digits_mobile.onnx"
    options = ReplaceDepthwiseOptions(enabled=True, which=(7,))
    old, decided = onnx.load(path), decided_for(path, "m", options)
    new = apply_replacements(old, decided, path.name)
    gone = {n.name for n in old.graph.node} - {n.name for n in new.graph.node}
    assert gone == {
        "block8/depthwise/conv", "block8/depthwise/norm", "block8/expand/norm",
        "block8/project/norm",
    }  # fmt: skip
    assert list(new.graph.output) == list(old.graph.output)
    assert not any(t.name.startswith("block8/depthwise/norm") for t in new.graph.initializer)
    onnx.checker.check_model(new, full_check=True)


def test_old_files_list_weights_as_inputs(tmp_path: Path) -> None:
    """What is taken out must not become an input that has to be given."""
    path = EXAMPLES / "models" / "digits_mobile.onnx"
    old = onnx.load(path)
    old.graph.input.extend(
        onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims)
        for t in old.graph.initializer
    )
    decided = decided_for(path, "m", ReplaceDepthwiseOptions(enabled=True))
    new = apply_replacements(old, decided, path.name)
    stored = {tensor.name for tensor in new.graph.initializer}
    assert [info.name for info in new.graph.input if info.name not in stored] == ["image"]


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    data = np.load(EXAMPLES / "data" / "digits_heldout.npz")
    return (data["images"] / np.float32(255)).astype(np.float32)[:, None], data["labels"]


def accuracy(model: onnx.ModelProto, images: Any, labels: Any) -> float:
    (logits,) = onnxruntime_outputs(model, {"image": images})
    return float((logits.argmax(1) == labels).mean())


@pytest.mark.parametrize(("variant", "plain", "refitted"), [("half50", 0.9, 0.98)])
def test_a_refit_brings_accuracy_back(
    variant: Any, plain: float, refitted: float, digits: tuple[Any, Any]
) -> None:
    """Fitted on 96 images, judged on the 264 others; without a fit 94 %."""
    path = EXAMPLES / "models" / "digits_mobile.onnx"
    images, labels = digits
    options = ReplaceDepthwiseOptions(enabled=True, variant=variant)
    found = []
    for data in (None, [{"image": images[at : at + 32]} for at in (0, 32, 64)]):
        decided = decided_for(path, "m", options, data=data)
        model = apply_replacements(onnx.load(path), decided, path.name)
        found.append(accuracy(model, images[96:], labels[96:]))
    assert plain < found[0] < found[1]
    assert found[1] > refitted
    assert {one.error_of for one in decided.decisions.replacements} == {"outputs"}
    assert all(0 < one.error < 0.5 for one in decided.decisions.replacements)


@pytest.mark.parametrize("name", ["yolox_nano", "ultraface_rfb320", "minifas", "yunet_n_320"])
def test_real_models(name: str, tmp_path: Path) -> None:
    folder = os.environ.get("MOTET_MODELS")
    if folder is None:
        pytest.skip("set MOTET_MODELS to a folder of real models")
    path = Path(folder) / f"{name}.onnx"
    options = ReplaceDepthwiseOptions(enabled=True)
    decided = decided_for(path, "m", options)
    assert decided.decisions.replacements
    made = apply_replacements(onnx.load(path), decided, path.name)
    onnx.checker.check_model(made, full_check=True)
