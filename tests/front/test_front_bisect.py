"""``motet check --outputs all`` and ``--bisect``, on compilers that are wrong on purpose."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import front_models
import numpy as np
import pytest
from front_outcome import Motet, assert_plain, rows_of
from onnx import TensorProto, helper
from tvm import relax

import motet
from motet.bisect import VANISHES, FirstDifference
from motet.check import Difference
from motet.commands.check_nodes import _how
from motet.compiler import kernels
from motet.compiler.frontend.converters import CONVERTERS
from motet.compiler.frontend.reading import read_model
from motet.node_graph import node_graph
from motet.node_values import NodeChecker
from motet.runtime.program import Operator
from motet.survivors import claims, faithful

FLOAT = TensorProto.FLOAT


def waves(path: Path) -> Path:
    """Two products with sin, cos, add and relu between them, a residual, and a reshape."""
    weights = np.random.default_rng(0).standard_normal((8, 8)).astype("float32")
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "w"], ["a"], "first"),
        node("Sin", ["a"], ["b"], "sine"),
        node("Cos", ["b"], ["c"], "cosine"),
        node("Add", ["c", "a"], ["d"], "residual"),
        node("Relu", ["d"], ["e"], "relu"),
        node("MatMul", ["e", "w"], ["f"], "second"),
        node("Flatten", ["f"], ["y"], "flat"),
    ]
    x, y = ("x", FLOAT, ["N", 8]), ("y", FLOAT, ["N", 8])
    return front_models.write(path, nodes, [x], [y], w=weights)


def convolutions(path: Path, count: int) -> Path:
    """3x3 convolutions of 16 channels, one after the other."""
    rng = np.random.default_rng(0)
    weights = {f"w{i}": rng.standard_normal((16, 16, 3, 3)).astype("float32") for i in range(count)}
    nodes = [
        helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], f"conv{i}", pads=[1] * 4)
        for i in range(count)
    ]
    shape = [1, 16, 9, 7]
    x, y = ("x0", FLOAT, shape), (f"x{count}", FLOAT, shape)
    return front_models.write(path, nodes, [x], [y], **weights)


@pytest.fixture
def wrong_cos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONVERTERS, ("", "Cos"), lambda node: relax.op.sin(node.x()))


def test_all_outputs_of_a_right_model(run_motet: Motet, tmp_path: Path) -> None:
    outcome = run_motet("check", waves(tmp_path / "waves.onnx"), "--outputs", "all")
    assert (outcome.code, outcome.err) == (0, "")
    assert_plain(outcome.out)
    assert "waves: 4 of 7 values compared; 3 did not survive" in outcome.out
    outcome = run_motet("check", "waves.onnx", "--bisect")
    assert (outcome.code, outcome.err) == (0, "")
    assert "host agrees with onnxruntime in all of them" in outcome.out


@pytest.mark.usefixtures("wrong_cos")
def test_a_wrong_converter_is_found_inside_a_fused_unit(run_motet: Motet, tmp_path: Path) -> None:
    outcome = run_motet("check", waves(tmp_path / "waves.onnx"), "--bisect")
    assert (outcome.code, outcome.err) == (1, "")
    assert "the first value that differs is output 'c' of node 'cosine' (Cos)" in outcome.out
    assert "input 'b' of node 'sine' (Sin): agrees" in outcome.out
    assert "read by node 'residual' (Add)" in outcome.out
    assert "of nodes sine, cosine, residual, relu" in outcome.out


@pytest.mark.usefixtures("wrong_cos")
def test_the_rows_for_machines(run_motet: Motet, tmp_path: Path) -> None:
    assert run_motet("compile", waves(tmp_path / "waves.onnx"), "-o", "w.motet").code == 0
    outcome = run_motet("check", "w.motet", "--bisect", "--json", "--runs", "2")
    [found] = json.loads(outcome.out)
    assert (outcome.code, found["compared"], found["total"]) == (1, 4, 7)
    assert (found["first"]["node"], found["first"]["operator"]) == ("cosine", "Cos")
    assert found["first"]["suspects"] == ["sine", "cosine", "residual", "relu"]
    assert [row["node"] for row in found["rows"]] == ["first", "relu", "second", "flat"]
    assert [row["passed"] for row in found["rows"]] == [True, False, False, False]
    outcome = run_motet("check", "w.motet", "--outputs", "all", "--csv")
    assert outcome.code == 1
    assert [row["node"] for row in rows_of(outcome.out)] == ["first", "relu", "second", "flat"]


def test_a_unit_of_one_node_is_seen_in_the_own_run(
    run_motet: Motet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def doubled(node: Any) -> Any:
        return relax.op.matmul(relax.op.add(node.x(), node.x()), node.x(1))

    monkeypatch.setitem(CONVERTERS, ("", "MatMul"), doubled)
    path = front_models.affine(tmp_path / "affine.onnx")
    outcome = run_motet("check", path, "--bisect", "--json")
    [found] = json.loads(outcome.out)
    assert (found["first"]["node"], found["first"]["found_by"]) == (
        "product", "the bundle's own run",
    )  # fmt: skip
    assert [each["state"] for each in found["first"]["inputs"]] == ["input of the model", "weight"]


def test_a_fault_of_fusion_vanishes_apart(
    run_motet: Motet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = kernels.lower_unit
    monkeypatch.setattr(kernels, "lower_unit", _wrong_when_fused(right))
    outcome = run_motet("check", waves(tmp_path / "waves.onnx"), "--bisect")
    assert (outcome.code, outcome.err) == (1, "")
    assert "output 'e' of node 'relu' (Relu)" in outcome.out
    assert "one of sine, cosine, residual, relu is at fault: compiled apart" in outcome.out
    assert "so fusion or a pass over more nodes matters" in outcome.out


def _wrong_when_fused(right: Callable[..., Any]) -> Callable[..., Any]:
    """Takes the cosine for the sine in a unit of more than two calls."""

    @relax.expr_functor.mutator
    class Wrong(relax.PyExprMutator):
        def visit_call_(self, call: relax.Call) -> relax.Expr:
            call = super().visit_call_(call)
            return relax.op.sin(call.args[0]) if call.op.name == "relax.cos" else call

    def lower(unit: Any, *rest: Any) -> Any:
        calls = len(unit.body.blocks[0].bindings)
        return right(Wrong().visit_expr(unit) if calls > 2 else unit, *rest)

    return lower


def test_another_source_is_refused(run_motet: Motet, tmp_path: Path, models: Path) -> None:
    assert run_motet("compile", waves(tmp_path / "waves.onnx"), "-o", "w.motet").code == 0
    outcome = run_motet("check", "w.motet", "--bisect", "--onnx", models / "half.onnx")
    assert outcome.code == 2
    assert "half.onnx is not the file that was compiled" in outcome.err


def test_values_on_the_array_are_compared(run_motet: Motet) -> None:
    model = Path(__file__).parents[2] / "examples/models/digits_inception.onnx"
    target = ("--target", "gemmini-16x16", "--shape", "image:1x1x32x32")
    single = ("--set", "passes.regions.enabled=false", "-o", "single.motet")
    assert run_motet("compile", model, *target, *single).code == 0
    outcome = run_motet("check", "single.motet", "--outputs", "all", "--json")
    assert outcome.code == 0
    rows = json.loads(outcome.out)
    assert sum(row["operator"] == "Conv" or row["operator"] == "Relu" for row in rows) > 10


def units(*nodes: tuple[str, ...]) -> list[Operator]:
    return [Operator(f"m/{i}", "k", names, "host", 0) for i, names in enumerate(nodes)]


def graph_of(path: Path) -> Any:
    """b = Sin(a), twice; a dead node; top-k with two outputs; a split of which one is read."""
    node = helper.make_node
    nodes = [
        node("Relu", ["x"], ["a"], "relu"),
        node("Sin", ["a"], ["b"], "one"),
        node("Sin", ["a"], ["c"], "other"),
        node("Neg", ["c"], ["unread"], "dead"),
        node("Add", ["b", "c"], ["d"], "sum"),
        node("TopK", ["d", "k"], ["values", "places"], "top"),
        node("Split", ["values"], ["left", "right"], "halves", num_outputs=2),
        node("Exp", ["left"], ["y"]),
    ]
    outputs = [("y", FLOAT, [2]), ("places", TensorProto.INT64, [4])]
    opsets = [("", 18)]
    front_models.write(
        path, nodes, [("x", FLOAT, [8])], outputs, opsets, k=np.array([4], dtype="int64")
    )
    return node_graph(read_model(path).proto)


def test_what_units_claim(tmp_path: Path) -> None:
    graph = graph_of(tmp_path / "m.onnx")
    found = claims(
        units(("relu",), ("one", "other", "dead"), ("sum",), ("top",), ("halves",), ("Exp_7",)),
        graph,
    )
    tensors = {n: [claim.tensors for claim in each] for n, each in found.items()}
    assert tensors == {
        0: [("a",)], 1: [("b", "c")], 2: [("d",)], 3: [("values",), ("places",)],
        4: [("left",)], 5: [("y",)],
    }  # fmt: skip
    both = [np.zeros(4), np.ones(4)]
    places, left = found[3][1], found[4][0]
    assert places.value(both) is both[1]
    assert places.value(both[:1]) is None
    assert left.value(both[:1]) is both[0]


def test_what_units_do_not_claim(tmp_path: Path) -> None:
    graph = graph_of(tmp_path / "m.onnx")
    assert claims(units(("relu", "one"), ("relu", "sum")), graph).keys() == {0, 1}
    assert claims(units(("one",), ("one", "sum")), graph).keys() == {1}
    assert claims(units(("dead",), ("stranger",)), graph) == {}


def test_names_that_are_not_unique_are_not_claimed(tmp_path: Path) -> None:
    node = helper.make_node
    nodes = [node("Relu", ["x"], ["a"], "same"), node("Neg", ["a"], ["y"], "same")]
    tensors = ("x", FLOAT, [8]), ("y", FLOAT, [8])
    path = front_models.write(tmp_path / "m.onnx", nodes, tensors[:1], tensors[1:])
    assert claims(units(("same",)), node_graph(read_model(path).proto)) == {}


def test_other_layouts_are_no_value_of_the_graph() -> None:
    value = np.arange(32, dtype="float32")
    assert faithful(value.reshape(1, 2, 4, 4), value.reshape(2, 4, 4)) is not None
    assert faithful(value.reshape(1, 1, 4, 4, 2), value.reshape(1, 2, 4, 4)) is None
    assert faithful(value, value.astype("float64")) is None


def test_blocks_of_channels_are_values_of_the_graph() -> None:
    plain = np.arange(2 * 16 * 3 * 5, dtype="float32").reshape(2, 16, 3, 5)
    blocked = plain.reshape(2, 2, 8, 3, 5).transpose(0, 1, 3, 4, 2)
    found = faithful(np.ascontiguousarray(blocked), plain)
    assert found is not None
    np.testing.assert_array_equal(found, plain)
    either = np.zeros((1, 1, 8, 8, 8), "float32")
    assert faithful(either, either[0]) is None


def test_convolutions_in_blocks_are_compared(run_motet: Motet, tmp_path: Path) -> None:
    model = convolutions(tmp_path / "convolutions.onnx", 3)
    outcome = run_motet("check", model, "--outputs", "all")
    assert (outcome.code, outcome.err) == (0, "")
    assert "convolutions: 3 of 3 values compared" in outcome.out


def test_a_line_names_few_nodes() -> None:
    found = FirstDifference(
        "n20", "Relu", Difference("m", "y", "float32", 1.0, 1.0, 2.0), None, (), (),
        tuple(f"n{i}" for i in range(21)), VANISHES,
    )  # fmt: skip
    (line,) = _how(found)
    assert "one of n0, n1, " in line
    assert "n11 and 9 more (--json has all) is at fault" in line


def test_symbolic_sizes_and_an_if(tmp_path: Path) -> None:
    node = helper.make_node
    branches = {
        f"{name}_branch": helper.make_graph(
            [node(kind, ["a"], [name])], name, [], [helper.make_tensor_value_info(name, 1, ["N"])]
        )
        for name, kind in (("then", "Neg"), ("else", "Exp"))
    }
    nodes = [
        node("Relu", ["x"], ["a"], "relu"),
        node("If", ["flag"], ["b"], "choice", **branches),
        node("Sin", ["b"], ["y"], "sine"),
    ]
    inputs = [("x", FLOAT, ["N"]), ("flag", TensorProto.BOOL, [])]
    path = front_models.write(tmp_path / "m.onnx", nodes, inputs, [("y", FLOAT, ["N"])])
    [model] = motet.load(motet.compile(path)).values()
    checker = NodeChecker(model, path, model.entry.source.sha256)
    x = np.array([1.0, -2.0, 3.0], dtype="float32")
    for flag in (True, False):
        compared = checker.compare({"x": x, "flag": np.array(flag)})
        assert compared.passed
        assert [row.node.name for row in compared.rows] == ["relu", "sine"]
        assert compared.lost == 1


def test_a_fixed_input_is_a_weight(run_motet: Motet, tmp_path: Path) -> None:
    node = helper.make_node
    nodes = [
        node("Relu", ["x"], ["a"], "relu"),
        node("ReduceSum", ["a", "axes"], ["b"], "sum"),
        node("Sin", ["b"], ["y"], "sine"),
    ]
    inputs = [("x", FLOAT, [2, 3]), ("axes", TensorProto.INT64, [1])]
    front_models.write(tmp_path / "m.onnx", nodes, inputs, [("y", FLOAT, [2, 1])])
    outcome = run_motet("check", "m.onnx", "--value", "axes=1", "--bisect")
    assert (outcome.code, outcome.err) == (0, "")
    assert "host agrees with onnxruntime in all of them" in outcome.out
