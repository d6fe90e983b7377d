"""``motet.merge`` of convolutions with nodes between them that compute what they read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from motet.merging import merge

ort = pytest.importorskip("onnxruntime")

FLOAT = TensorProto.FLOAT
INTEGERS = {
    "no_pads": [0] * 8, "axes": [0], "sizes": [1, 16, 10, 10], "kept_sizes": [0, 0, 0, 0],
    "split": [16], "starts": [0], "ends": [16], "slice_axes": [1],
}  # fmt: skip
Step = tuple[str, list[str], dict[str, Any]]
NEUTRAL: dict[str, list[Step]] = {
    "Identity": [("Identity", [], {})],
    "two": [("Identity", [], {}), ("Dropout", [], {})],
    "Dropout": [("Dropout", [], {})],
    "Cast": [("Cast", [], {"to": FLOAT})],
    "Clip": [("Clip", [], {})],
    "Sum": [("Sum", [], {})],
    "Pow": [("Pow", ["one"], {})],
    "Mul": [("Mul", ["one"], {})],
    "Squeeze": [("Unsqueeze", ["axes"], {}), ("Squeeze", ["axes"], {})],
    "Reshape": [("Reshape", ["sizes"], {})],
    "Reshape_0": [("Reshape", ["kept_sizes"], {})],
    "Pad": [("Pad", ["no_pads"], {})],
    "Slice": [("Slice", ["starts", "ends", "slice_axes"], {})],
    "Transpose": [("Transpose", [], {"perm": [0, 1, 2, 3]})],
    "two Transposes": [
        ("Transpose", [], {"perm": [0, 2, 3, 1]}), ("Transpose", [], {"perm": [0, 3, 1, 2]}),
    ],
}  # fmt: skip


def _model(steps: list[Step], padded: int, named: bool, shortcut: str = "") -> onnx.ModelProto:
    """Two convolutions, of which the one in front widens, with ``steps`` between them."""
    random = np.random.default_rng(0)
    weights = {
        "w0": random.standard_normal((16, 4, 1, 1)) / 2, "b0": random.standard_normal(16),
        "w1": random.standard_normal((4, 16, 3, 3)) / 12, "b1": random.standard_normal(4),
        "one": np.array(1.0),
    }  # fmt: skip
    nodes = [helper.make_node("Conv", ["x", "w0", "b0"], ["v0"])]
    value = "v0"
    for index, (kind, more, attributes) in enumerate(steps):
        name = f"extra{index}" if named else ""
        nodes.append(helper.make_node(kind, [value, *more], [f"e{index}"], name, **attributes))
        value = f"e{index}"
    nodes.append(helper.make_node("Conv", [value, "w1", "b1"], ["v1"], pads=[padded] * 4))
    if shortcut:
        nodes.append(helper.make_node(shortcut, ["x"], ["same"]))
        nodes.append(helper.make_node("Add", ["v1", "same"], ["v2"]))
    nodes.append(helper.make_node("Relu", ["v2" if shortcut else "v1"], ["y"]))
    constants = [numpy_helper.from_array(np.asarray(w, "f4"), n) for n, w in weights.items()]
    constants += [numpy_helper.from_array(np.array(v, "i8"), n) for n, v in INTEGERS.items()]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", FLOAT, [1, 4, 10, 10])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        constants,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _run(model: onnx.ModelProto) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    x = np.random.default_rng(1).standard_normal((1, 4, 10, 10)).astype("f4")
    return np.asarray(session.run(None, {"x": x})[0])


def _check(
    model: onnx.ModelProto, path: Path, kinds: set[str], settings: tuple[str, ...] = ()
) -> None:
    onnx.save(model, path)
    made = merge(path, settings=settings)
    assert len(made.decided.decisions.merges) == 1
    np.testing.assert_allclose(_run(made.model), _run(model), atol=1e-5)
    if kinds:
        assert {node.op_type for node in made.model.graph.node} == kinds


@pytest.mark.parametrize("kind", NEUTRAL)
@pytest.mark.parametrize("named", [False, True])
def test_neutral_nodes_between_go_with_the_merge(kind: str, named: bool, tmp_path: Path) -> None:
    _check(_model(NEUTRAL[kind], 0, named), tmp_path / "m.onnx", {"Conv", "Relu"})


@pytest.mark.parametrize("kind", [k for k in NEUTRAL if "Transpose" not in k])
def test_a_padded_border_passes_neutral_nodes(kind: str, tmp_path: Path) -> None:
    _check(_model(NEUTRAL[kind], 1, False), tmp_path / "m.onnx", {"Conv", "Add", "Relu"})


@pytest.mark.parametrize("kind", ["Identity", "Dropout", "Sum"])
def test_a_shortcut_may_pass_a_neutral_node(kind: str, tmp_path: Path) -> None:
    model = _model(NEUTRAL["Identity"], 1, False, shortcut=kind)
    _check(model, tmp_path / "m.onnx", {"Conv", "Add", "Relu"})


def test_what_others_read_of_a_neutral_node_stays(tmp_path: Path) -> None:
    model = _model(NEUTRAL["two"], 0, True)
    model.graph.node.append(helper.make_node("Neg", ["e0"], ["z"]))
    model.graph.output.append(helper.make_tensor_value_info("z", FLOAT, None))
    onnx.save(model, tmp_path / "m.onnx")
    made = merge(tmp_path / "m.onnx")
    np.testing.assert_allclose(_run(made.model), _run(model), atol=1e-5)
