"""What leaves the front end is Relax that passes can read: no kernels, one form of ReLU6."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from frontend_models import calls, load, model, operators, saved, single, value
from onnx import helper
from random_uses import Use, int64, model_of

import motet
from motet.compiler.frontend.load import ImportedModel
from motet.passes.canonicalize import canonicalize
from motet.targets.host.user_kernel import kernel_of

KERNELS = ("relax.call_tir", "relax.call_tir_inplace", "relax.call_dps_packed",
           "relax.call_pure_packed", "relax.call_builtin_with_ctx")  # fmt: skip
EXAMPLES = Path(__file__).parents[3] / "examples" / "models"
ZERO, SIX, THREE = np.float32(0), np.float32(6), np.float32(3)


def assert_high_level(imported: ImportedModel) -> None:
    """No call of a kernel, but for a user's own; nothing but functions in the module."""
    assert len(imported.module.functions_items()) == 1
    opaque = [c for c in calls(imported) if not hasattr(c.op, "name") or c.op.name in KERNELS]
    assert [call for call in opaque if kernel_of(call) is None] == []


def f(*shape: int) -> Any:
    return np.ones(shape, np.float32)


USES = [
    Use("Pad", {"x": f(2, 3)}, {"p": int64(1, 0, 2, 1)}),
    Use("Pad", {"x": f(4, 5)}, {"p": int64(1, 2, 3, 1)}, {"mode": "reflect"}),
    Use("Pad", {"x": f(4, 5)}, {"p": int64(1, 2, 3, 1)}, {"mode": "edge"}),
    Use("Resize", {"x": f(1, 2, 4, 4)}, {"s": np.array([1, 1, 2, 2], "f")},
        {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        order=["x", "", "s"]),
    Use("Resize", {"x": f(1, 2, 4, 4)}, {"s": int64(1, 2, 3, 7)}, {"mode": "cubic"},
        order=["x", "", "", "s"]),
    Use("Tile", {"x": f(2, 3)}, {"r": int64(2, 3)}),
    Use("CumSum", {"x": f(2, 3)}, {"a": np.array(1)}, {"reverse": 1}),
    Use("Einsum", {"a": f(2, 3, 4), "b": f(2, 5, 4)}, {}, {"equation": "bij,bkj->bki"}),
    Use("Einsum", {"a": f(3, 4), "b": f(4, 5), "c": f(5, 2)}, {}, {"equation": "ab,bc,cd->da"}),
    Use("Dropout", {"x": f(2, 3)}, outputs=2),
    Use("HardSwish", {"x": f(2, 3)}),
    Use("HardSigmoid", {"x": f(2, 3)}),
    Use("TopK", {"x": f(2, 6)}, {"k": int64(3)}, outputs=2),
    Use("OneHot", {"i": int64(0, 2)}, {"d": np.array(3), "v": np.array([0, 1], "f")}),
    Use("ScatterND", {"x": f(4, 2), "u": f(2, 2)}, {"i": np.array([[1], [3]])},
        order=["x", "i", "u"]),
    Use("LayerNormalization", {"x": f(2, 4)}, {"s": f(4)}),
    Use("Trilu", {"x": f(3, 3)}),
    Use("GridSample", {"x": f(1, 1, 4, 4), "g": f(1, 2, 2, 2)}),
    Use("LSTM", {"x": f(3, 1, 2)}, {"w": f(1, 8, 2), "r": f(1, 8, 2)}, {"hidden_size": 2}, 3),
    Use("Celu", {"x": f(3)}),
]  # fmt: skip


def test_operators_are_no_kernels(tmp_path: Path) -> None:
    imported = load(model_of(USES, 18), tmp_path)
    assert_high_level(imported)
    found = set(operators(imported))
    assert {"relax.nn.pad", "relax.tile", "relax.cumsum", "relax.image.resize2d"} <= found
    assert {"relax.matmul", "relax.einsum", "relax.clip", "relax.topk"} <= found


def test_dropout_and_identity_leave_nothing(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Dropout", ["x"], ["a"], "drop"),
        helper.make_node("Identity", ["a"], ["b"], "same"),
        helper.make_node("Relu", ["b"], ["y"], "relu"),
    ]
    proto = model(nodes, [value("x", [2, 3])], [value("y", [2, 3])])
    assert operators(load(proto, tmp_path)) == ["relax.nn.relu"]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.onnx")), ids=lambda path: path.stem)
def test_whole_models_are_no_kernels(path: Path, tmp_path: Path) -> None:
    imported = load(onnx.load(str(path)), tmp_path)
    assert_high_level(imported)
    assert len(calls(imported)) > 20


def node(op: str, reads: list[str], makes: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, reads, [makes], f"to_{makes}", **attributes)


def constants() -> list[onnx.NodeProto]:
    return [node("Constant", [], n, value_float=v) for n, v in (("lo", 0.0), ("hi", 6.0))]


BOTH = {"lo": ZERO, "hi": SIX}
RELU6: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], int]] = {
    "clip of initialisers": ([node("Clip", ["x", "lo", "hi"], "y")], BOTH, 13),
    "clip of constants": ([*constants(), node("Clip", ["x", "lo", "hi"], "y")], {}, 13),
    "clip by attributes": ([node("Clip", ["x"], "y", min=0.0, max=6.0)], {}, 7),
    "max, min": ([node("Max", ["x", "lo"], "a"), node("Min", ["a", "hi"], "y")], BOTH, 13),
    "min, max": ([node("Min", ["x", "hi"], "a"), node("Max", ["a", "lo"], "y")], BOTH, 13),
    "limits first": ([node("Max", ["lo", "x"], "a"), node("Min", ["hi", "a"], "y")], BOTH, 13),
    "relu, clip": ([node("Relu", ["x"], "a"), node("Clip", ["a", "", "hi"], "y")], {"hi": SIX}, 13),
    "relu, both": ([node("Relu", ["x"], "a"), node("Clip", ["a", "lo", "hi"], "y")], BOTH, 13),
    "relu, min": ([node("Relu", ["x"], "a"), node("Min", ["a", "hi"], "y")], {"hi": SIX}, 13),
    "min, relu": ([node("Min", ["x", "hi"], "a"), node("Relu", ["a"], "y")], {"hi": SIX}, 13),
    "clip, relu": ([node("Clip", ["x", "", "hi"], "a"), node("Relu", ["a"], "y")], {"hi": SIX}, 13),
    "clip, clip": (
        [node("Clip", ["x", "lo"], "a"), node("Clip", ["a", "", "hi"], "y")], BOTH, 13,
    ),
    "lists of one": (
        [node("Max", ["x", "lo"], "a"), node("Min", ["a", "hi"], "y")],
        {"lo": ZERO.reshape(1), "hi": SIX.reshape(1)}, 13,
    ),
}  # fmt: skip


@pytest.mark.parametrize("spelling", RELU6)
def test_relu6_is_one_operator(tmp_path: Path, spelling: str) -> None:
    nodes, weights, opset = RELU6[spelling]
    proto = model(nodes, [value("x", [2, 3])], [value("y", [2, 3])], weights, opset)
    imported = load(proto, tmp_path)
    clean = replace(imported, module=canonicalize(imported.module))
    [call] = calls(clean)
    assert call.op.name == "relax.clip"
    assert [float(limit.value) for limit in call.args[1:]] == [0, 6]
    x = np.array([[-1, 0, 3], [6, 7, np.nan]], np.float32)
    session = motet.load(motet.compile(saved(proto, tmp_path)))
    np.testing.assert_array_equal(session.run(inputs={"x": x})["y"], np.clip(x, 0, 6))


@pytest.mark.parametrize("op", ["HardSwish", "HardSigmoid"])
def test_hard_functions_hold_one_clip(tmp_path: Path, op: str) -> None:
    imported = load(single(op, {"x": f(2, 3)}), tmp_path)
    clean = replace(imported, module=canonicalize(imported.module))
    assert operators(clean).count("relax.clip") == 1
    assert set(operators(clean)) <= {"relax.clip", "relax.add", "relax.multiply", "relax.divide"}
