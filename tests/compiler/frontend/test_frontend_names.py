"""Every call carries its ONNX node's name; shape arithmetic leaves nothing to run."""

import numpy as np
import pytest
from frontend_models import calls, check, load, model, operators, relu_model, run, saved, value
from onnx import TensorProto, helper, numpy_helper

from motet.compiler.frontend.load import load_model, merge
from motet.passes.names import names_of


def test_calls_carry_node_names(tmp_path):
    nodes = [
        helper.make_node("Softplus", ["x"], ["a"], name="soft"),
        helper.make_node("HardSwish", ["a"], ["y"]),
    ]
    imported = load(model(nodes, [value("x", [4])], [value("y", [4])]), tmp_path)
    names = [names_of(call) for call in calls(imported)]
    assert set(names) == {("soft",), ("HardSwish_1",)}
    assert names.count(("soft",)) > 1


def test_function_bodies_carry_the_outer_name(tmp_path):
    node = helper.make_node("Celu", ["x"], ["y"], name="outer")
    imported = load(model([node], [value("x", [4])], [value("y", [4])]), tmp_path)
    assert {names_of(call) for call in calls(imported)} == {("outer",)}


def test_local_functions_are_inlined(tmp_path):
    body = [helper.make_node("Relu", ["a"], ["t"]), helper.make_node("Neg", ["t"], ["b"])]
    opsets = [helper.make_opsetid("", 18)]
    function = helper.make_function("mine", "NegRelu", ["a"], ["b"], body, opsets)
    node = helper.make_node("NegRelu", ["x"], ["y"], domain="mine", name="call")
    proto = model([node], [value("x", [2])], [value("y", [2])])
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    imported = check(proto, {"x": np.array([-1, 2], np.float32)}, tmp_path)
    assert operators(imported) == ["relax.nn.relu", "relax.negative"]
    assert all(names_of(call) for call in calls(imported))


def branch(op: str) -> object:
    node = helper.make_node(op, ["x"], [f"out_{op}"], name=f"node_{op}")
    return helper.make_graph([node], op, [], [value(f"out_{op}", [3])])


def conditional() -> object:
    node = helper.make_node(
        "If", ["c"], ["y"], name="choice", then_branch=branch("Exp"), else_branch=branch("Neg")
    )
    flag = value("c", [], TensorProto.BOOL)
    return model([node], [flag, value("x", [3])], [value("y", [3])])


@pytest.mark.parametrize("flag", [True, False])
def test_if_runs_and_names_its_branches(tmp_path, flag):
    feeds = {"c": np.array(flag), "x": np.array([1, -2, 3], np.float32)}
    imported = check(conditional(), feeds, tmp_path)
    assert {names_of(call) for call in calls(imported)} >= {("node_Exp",), ("node_Neg",)}


def test_constant_if_takes_its_branch(tmp_path):
    proto = conditional()
    del proto.graph.input[0]
    proto.graph.initializer.append(numpy_helper.from_array(np.array(False), "c"))
    assert operators(load(proto, tmp_path)) == ["relax.negative"]


def flattening(batch: object) -> object:
    """The Shape, Gather, Unsqueeze, Concat, Reshape chain that PyTorch exports."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axis"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    constants = {"zero": np.int64(0), "axis": np.array([0]), "rest": np.array([-1])}
    arrays = {k: np.asarray(v, np.int64) for k, v in constants.items()}
    return model(nodes, [value("x", [batch, 3, 4])], [value("y", [batch, 12])], arrays)


@pytest.mark.parametrize("batch", [2, "N"])
def test_shape_chains_fold_away(tmp_path, batch):
    imported = load(flattening(batch), tmp_path)
    assert operators(imported) == ["relax.reshape"]
    assert imported.inputs[0].shape == (batch, 3, 4)
    assert imported.outputs[0].shape == (batch, 12)


def test_symbolic_batch_runs_at_any_size(tmp_path):
    imported = load(flattening("N"), tmp_path)
    for size in (1, 5):
        x = np.arange(size * 12, dtype=np.float32).reshape(size, 3, 4)
        np.testing.assert_array_equal(run(imported, {"x": x})[0], x.reshape(size, 12))


def test_shapes_bind_symbols(tmp_path):
    imported = load(flattening("N"), tmp_path, shapes={"x": [7, 3, 4]})
    assert imported.outputs[0].shape == (7, 12)


def test_onnx_names_and_order_survive(tmp_path):
    node = helper.make_node("Sub", ["b/x:0", "1.a"], ["out/y:0"])
    inputs = [value(n, [2]) for n in ("1.a", "w", "b/x:0")]
    proto = model([node], inputs, [value("out/y:0", [2])], {"w": np.ones(2, np.float32)})
    imported = check(
        proto,
        {"1.a": np.array([1, 2], np.float32), "b/x:0": np.array([5, 5], np.float32)},
        tmp_path,
    )
    assert [i.name for i in imported.inputs] == ["1.a", "b/x:0"]
    assert [o.name for o in imported.outputs] == ["out/y:0"]


def test_the_same_file_gives_the_same_module(tmp_path):
    first, second = (load(flattening("N"), tmp_path) for _ in range(2))
    assert first.sha256 == second.sha256
    assert first.module.script() == second.module.script()


def test_merge_keeps_every_entry(tmp_path):
    path = saved(relu_model(), tmp_path)
    module = merge([load_model(path, "first"), load_model(path, "second")])
    assert {v.name_hint for v in module.get_global_vars()} == {"first", "second"}
    assert {str(f.attrs["global_symbol"]) for f in module.functions.values()} == {"first", "second"}
