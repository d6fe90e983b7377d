"""``motet inspect --passes``: what depth merging did, and why not elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper, numpy_helper

from motet.cli import motet as command
from motet.runtime.errors import SpecError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pointwise convolutions; a ReLU stands between the last two."""
    rng = np.random.default_rng(0)
    shapes = {"a": (32, 8), "b": (8, 32), "c": (4, 8)}
    weights = [
        numpy_helper.from_array(
            rng.normal(size=(*shape, 1, 1)).astype(np.float32), f"{name}.weight"
        )
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["image", "a.weight"], ["a"], "a"),
        helper.make_node("Conv", ["a", "b.weight"], ["b"], "b"),
        helper.make_node("Relu", ["b"], ["active"], "active"),
        helper.make_node("Conv", ["active", "c.weight"], ["scores"], "c"),
    ]
    float32 = onnx.TensorProto.FLOAT
    ports = [
        helper.make_tensor_value_info("image", float32, [1, 8, 24, 24]),
        helper.make_tensor_value_info("scores", float32, None),
    ]
    graph = helper.make_graph(nodes, "three", ports[:1], ports[1:], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = tmp_path_factory.mktemp("passes") / "three.onnx"
    onnx.save(made, path)
    return path


def test_merges_and_reasons_are_listed(model: Path) -> None:
    done = CliRunner().invoke(command, ["inspect", str(model), "--passes"])
    assert done.exit_code == 0, done.output
    assert "three: a + b -> 1x1 (exact), 0.29 -> 0.04 MMACs, estimated" in done.output
    assert "three, block 0: b | c: activation 'active' stands between" in done.output


def test_as_json_with_a_key_overridden(model: Path) -> None:
    setting = "passes.merge_depth.remove_blocks=[0]"
    done = CliRunner().invoke(command, ["inspect", str(model), "--json", "--set", setting])
    assert done.exit_code == 0, done.output
    (entry,) = (one for one in json.loads(done.output)["passes"] if one["name"] == "merge_depth")
    assert "2 convolutions -> 1, 1 activations removed" in entry["summary"]
    assert any("b + c -> 1x1 (exact), without active" in line for line in entry["details"])


def test_a_block_that_is_not_there_is_a_mistake_in_the_specification(model: Path) -> None:
    setting = "passes.merge_depth.remove_blocks=[7]"
    done = CliRunner().invoke(command, ["inspect", str(model), "--set", setting])
    assert isinstance(done.exception, SpecError)
    assert "passes.merge_depth.remove_blocks: model 'three' has 1 blocks" in str(done.exception)
