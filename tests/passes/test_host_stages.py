"""Kernels of the host side by side: what it costs, when it pays, and that values stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import motet
from motet.passes.host_stage_costs import HostCosts
from motet.runtime.program import Fork, Kernel
from motet.targets.host.unit_time import FORK_SECONDS

RNG = np.random.default_rng(0)


def branches(widths: list[int], size: int) -> onnx.ModelProto:
    """Convolutions of one input side by side, a chain of them in each branch, concatenated."""
    nodes, weights = list[Any](), list[Any]()
    for branch, depth in enumerate(widths):
        value = "x"
        for layer in range(depth):
            name = f"b{branch}_{layer}"
            array = RNG.standard_normal((8, 8, 3, 3)).astype(np.float32) * 0.1
            weights.append(numpy_helper.from_array(array, f"{name}_w"))
            pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
            nodes.append(helper.make_node("Conv", [value, f"{name}_w"], [name], name=name, **pads))
            value = name
    last = [f"b{branch}_{depth - 1}" for branch, depth in enumerate(widths)]
    nodes.append(helper.make_node("Concat", last, ["y"], name="join", axis=1))
    shape = [1, 8, size, size]
    graph = helper.make_graph(
        nodes, "branches", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8 * len(widths), size, size])],
        weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def compiled(model: onnx.ModelProto, folder: Path, *settings: str) -> Any:
    path = folder / "branches.onnx"
    onnx.save(model, path)
    return motet.compile(path, settings=["host.threads=2", *settings])


def forks(bundle: Any) -> list[tuple[int, ...]]:
    (program,) = bundle.programs.values()
    return [one.groups for one in program.instructions if isinstance(one, Fork)]


ON = "passes.schedule.enabled=true"


def test_small_branches_run_side_by_side_and_give_the_same_values(tmp_path: Path) -> None:
    model = branches([1, 2, 3], 12)
    bundle = compiled(model, tmp_path, ON)
    assert sum(map(sum, forks(bundle))) >= 5
    x = RNG.standard_normal((1, 8, 12, 12)).astype(np.float32)
    (want,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    plain = compiled(model, tmp_path)
    assert forks(plain) == []
    for one in (bundle, plain):
        (session,) = motet.load(one).values()
        for _ in range(20):
            (got,) = session.run(None, {"x": x})
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_names_and_reports_stay(tmp_path: Path) -> None:
    bundle = compiled(branches([1, 2, 3], 12), tmp_path, ON)
    (program,) = bundle.programs.values()
    calls = [one for one in program.instructions if isinstance(one, Kernel)]
    nodes = [name for one in calls for name in program.operators[one.operator].onnx_nodes]
    assert {n for n in nodes if n.startswith("b")} == {"b0_0", "b1_0", "b1_1", "b2_0", "b2_1",
                                                      "b2_2"}  # fmt: skip
    (session,) = motet.load(bundle).values()
    assert len(session.simulate().layers) == len(calls)


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ((ON,), 160), ((ON, "host.threads=1"), 12),
        ((ON, "passes.schedule.algorithm=sequential"), 12),
    ],
)  # fmt: skip
def test_where_it_does_not_pay_the_program_is_a_sequence(
    settings: tuple[str, ...], size: int, tmp_path: Path
) -> None:
    assert forks(compiled(branches([1, 1], size), tmp_path, *settings)) == []


def test_groups_are_dealt_to_threads_longest_first() -> None:
    alone = {"a": 5e-6, "b": 4e-6, "c": 3e-6, "d": 3e-6}
    costs = HostCosts(alone, {**alone, "a": 2e-6}, frozenset("d"), 2)
    assert costs.concurrent((("a", "b"),)) == pytest.approx(6e-6)
    assert costs.concurrent((("a",), ("b",), ("c",))) == pytest.approx(7e-6 + FORK_SECONDS)
    assert costs.concurrent((("a",), ("d",))) == float("inf")
    assert costs.concurrent((("d",),)) == pytest.approx(3e-6)
