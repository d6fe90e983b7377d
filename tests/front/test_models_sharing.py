"""Equal weights and kernels of models are stored and loaded once; what that saves is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from front_models import write
from front_outcome import Motet
from onnx import TensorProto, helper

import motet
from motet.console import quantity

RANDOM = np.random.default_rng(0)
BACKBONE = RANDOM.standard_normal((64, 64)).astype(np.float32)
HEADS = {name: RANDOM.standard_normal((64, width)).astype(np.float32)
         for name, width in (("faces", 4), ("hands", 12))}  # fmt: skip


def network(path: Path, head: str, backbone: np.ndarray[Any, Any]) -> Path:
    """Relu(x B) H: ``backbone`` [64, 64] and a head of its own."""
    nodes = [
        helper.make_node("MatMul", ["x", "b"], ["t"], "backbone"),
        helper.make_node("Relu", ["t"], ["u"], "rectify"),
        helper.make_node("MatMul", ["u", "h"], ["y"], "head"),
    ]
    width = HEADS[head].shape[1]
    x, y = ("x", TensorProto.FLOAT, [8, 64]), ("y", TensorProto.FLOAT, [8, width])
    return write(path / f"{head}.onnx", nodes, [x], [y], b=backbone, h=HEADS[head])


def compiled(run_motet: Motet, *arguments: object) -> dict[str, Any]:
    """What ``motet compile`` says; the bundle is pair.motet where no other is named."""
    done = run_motet("compile", "-o", "pair.motet", *arguments, "--json")
    assert done.code == 0, done.err
    facts: dict[str, Any] = json.loads(done.out)
    return facts


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    return [network(tmp_path, head, BACKBONE) for head in HEADS]


def test_a_backbone_of_two_models_is_stored_and_loaded_once(
    run_motet: Motet, pair: list[Path]
) -> None:
    made = compiled(run_motet, *pair)
    shared = dict(made["sharing"])
    saved = shared.pop("weight_bytes_saved")
    assert BACKBONE.nbytes <= saved <= 1.25 * BACKBONE.nbytes  # packed for its kernel
    assert shared == {
        "weights_saved": 1, "kernels_saved": 1, "array_programs_saved": 0,
        "array_program_bytes_saved": 0,
    }  # fmt: skip
    text = run_motet("inspect", "pair.motet").out
    assert f"sharing between models saves {quantity(saved, 'B')} of weights and 1 kernel\n" in text
    alone = [compiled(run_motet, path, "-o", f"{path.stem}.motet") for path in pair]
    assert made["kernel_count"] == sum(one["kernel_count"] for one in alone) - 1
    sizes = [motet.load(f"{path.stem}.motet").bundle.weights for path in pair]
    stored = sum(weight.nbytes for weights in sizes for weight in weights)
    session = motet.load("pair.motet")
    assert sum(w.nbytes for w in session.bundle.weights) == stored - saved
    x = RANDOM.standard_normal((8, 64)).astype(np.float32)
    for name, head in HEADS.items():
        expected = np.maximum(x @ BACKBONE, 0) @ head
        np.testing.assert_allclose(session.run(name, {"x": x})["y"], expected, rtol=1e-4, atol=1e-4)


def test_array_programs_are_shared_too(run_motet: Motet, tmp_path: Path) -> None:
    for name in ("one", "two"):
        onnx.save(onnx.load(network(tmp_path, "faces", BACKBONE)), str(tmp_path / f"{name}.onnx"))
    files = [str(tmp_path / f"{name}.onnx") for name in ("one", "two")]
    made = compiled(run_motet, *files, "--target", "tiny-4x4")
    assert made["sharing"]["array_programs_saved"] == made["array_program_count"] > 0
    assert made["sharing"]["array_program_bytes_saved"] > 0


def test_models_that_have_nothing_in_common(run_motet: Motet, tmp_path: Path) -> None:
    files = [network(tmp_path, "faces", BACKBONE), network(tmp_path, "hands", BACKBONE[::-1])]
    made = compiled(run_motet, *files)
    assert made["sharing"]["weight_bytes_saved"] == 0
    assert made["sharing"]["kernels_saved"] == 1  # the same work on other weights
