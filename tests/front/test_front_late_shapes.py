"""Models whose shapes depend on data, through every command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from front_models import write
from front_outcome import Motet
from onnx import TensorProto, helper

import motet

FLOAT = TensorProto.FLOAT


@pytest.fixture(scope="module")
def finder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``chosen = x[mask > 0] @ w``: x [6, 8], w [8, 4]; mask is [6, 4] @ ones [4, 1]."""
    nodes = [
        helper.make_node("MatMul", ["mask", "ones"], ["weighed"], name="weigh"),
        helper.make_node("Reshape", ["weighed", "six"], ["flat"], name="flatten"),
        helper.make_node("Relu", ["flat"], ["kept"], name="keep"),
        helper.make_node("NonZero", ["kept"], ["found"], name="find"),
        helper.make_node("Transpose", ["found"], ["places"], name="turn"),
        helper.make_node("GatherND", ["x", "places"], ["rows"], name="gather"),
        helper.make_node("MatMul", ["rows", "w"], ["chosen"], name="project"),
    ]
    constants = {
        "ones": np.ones((4, 1), np.float32),
        "six": np.array([6]),
        "w": np.ones((8, 4), np.float32),
    }
    return write(
        tmp_path_factory.mktemp("late") / "finder.onnx",
        nodes,
        [("x", FLOAT, [6, 8]), ("mask", FLOAT, [6, 4])],
        [("chosen", FLOAT, ["rows", 4])],
        **constants,
    )


def test_run_bench_and_check(run_motet: Motet, finder: Path) -> None:
    assert run_motet("compile", finder, "-o", "f.motet").code == 0
    np.save("mask.npy", np.array([[1, 0, 0, 0]] * 2 + [[-1, 0, 0, 0]] * 4, np.float32))
    outcome = run_motet("run", "f.motet", "--input", "mask=@mask.npy", "--output", "chosen=@y.npy")
    assert (outcome.code, outcome.err) == (0, "")
    assert np.load("y.npy").shape == (2, 4)
    assert run_motet("bench", "f.motet", "--iterations", "3").code == 0
    assert run_motet("check", finder).code == 0


def test_inspect_names_late_dimensions(run_motet: Motet, finder: Path) -> None:
    outcome = run_motet("inspect", finder, "--json")
    (model,) = json.loads(outcome.out)["models"]
    assert model["outputs"][0]["shape"] == ["nonzero_0_count", 4]
    assert "arena depends on open sizes" in run_motet("inspect", finder).out


def test_late_products_stay_on_the_host(run_motet: Motet, finder: Path) -> None:
    outcome = run_motet("compile", finder, "--target", "tiny-4x4", "-o", "f.motet")
    assert outcome.code == 0
    assert "the sizes of 1 of its products depend on data, so they stay on the host" in outcome.err
    outcome = run_motet("simulate", finder, "--target", "tiny-4x4", "--json")
    assert "its shape [nonzero_0_count, 8] is symbolic: project" in outcome.out


def test_a_late_output_along_a_wire(finder: Path, tmp_path: Path) -> None:
    node = helper.make_node("Neg", ["x"], ["y"], name="negate")
    tensors = ([(name, FLOAT, ["N", 4])] for name in "xy")
    scale = write(tmp_path / "scale.onnx", [node], *tensors)
    (tmp_path / "two.toml").write_text(
        f"[models.find]\npath = '{finder}'\n"
        f"[models.scale]\npath = '{scale}'\ninputs = {{ x = 'find.chosen' }}\n"
    )
    session = motet.load(motet.compile(tmp_path / "two.toml"))
    random = np.random.default_rng(0)
    for _ in range(4):
        x, mask = (random.standard_normal(s).astype(np.float32) for s in ((6, 8), (6, 4)))
        results = session.run_all({"find": {"x": x, "mask": mask}})
        want = x[mask.sum(1) > 0].sum(1, keepdims=True).repeat(4, 1)
        np.testing.assert_allclose(results["find"]["chosen"], want, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(results["scale"]["y"], -results["find"]["chosen"])
