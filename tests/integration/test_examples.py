"""The example models on both targets: values against onnxruntime, and equal bytes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import motet
from motet.compiler.spec import BundleSpec, ModelSpec
from motet.runtime.bundle import Bundle

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("mobile", "inception", "transformer")
ARRAY = "gemmini-16x16"


def spec(target: str) -> BundleSpec:
    """The three examples as one bundle; static shapes where the array needs them."""
    shapes = {} if target == "host" else {"image": (1, 1, 32, 32)}
    models = tuple(
        ModelSpec(path=str(EXAMPLES / "models" / f"digits_{name}.onnx"), name=name, shapes=shapes)
        for name in NAMES
    )
    return BundleSpec(name="digits", models=models, target=target)


@pytest.fixture(scope="module")
def bundles() -> dict[str, Bundle]:
    return {target: motet.compile(spec(target)) for target in ("host", ARRAY)}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    with np.load(EXAMPLES / "data" / "digits_heldout.npz") as archive:
        return archive["images"][:, None].astype(np.float32) / np.float32(255)


def expected(name: str, pixels: np.ndarray) -> np.ndarray:
    path = EXAMPLES / "models" / f"digits_{name}.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": pixels})[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_host_agrees_with_onnxruntime_at_any_batch(bundles, images, name, batch):
    model = motet.load(bundles["host"])[name]
    pixels = images[100 : 100 + batch]
    (logits,) = model.run(None, {"image": pixels})
    np.testing.assert_allclose(logits, expected(name, pixels), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_array_agrees_with_onnxruntime(bundles, images, name):
    model = motet.load(bundles[ARRAY])[name]
    pixels = images[:8]
    logits = np.concatenate(
        [model.run(["logits"], {"image": pixels[i : i + 1]})[0] for i in range(len(pixels))]
    )
    np.testing.assert_allclose(logits, expected(name, pixels), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_nine_tenths_of_the_macs_run_on_the_array(bundles, name):
    report = motet.load(bundles[ARRAY]).simulate(name)
    assert report.array_share >= 0.9
    assert report.cycles > 0
    assert all(0 < layer.array.utilisation <= 1 for layer in report.layers if layer.array)


def test_every_operator_names_its_onnx_nodes(bundles):
    for bundle in bundles.values():
        for name, program in bundle.programs.items():
            assert all(operator.onnx_nodes for operator in program.operators)
            assert all(operator.op.startswith(f"{name}/") for operator in program.operators)


def test_accuracy_is_what_is_recorded(bundles, images):
    with np.load(EXAMPLES / "data" / "digits_heldout.npz") as archive:
        labels = archive["labels"]
    recorded = {"mobile": 360, "inception": 359, "transformer": 355}
    session = motet.load(bundles["host"])
    for name, correct in recorded.items():
        logits = session.run(name, {"image": images})["logits"]
        assert int((logits.argmax(axis=1) == labels).sum()) == correct


def test_the_same_model_twice_costs_no_kernels_and_no_weights():
    path = str(EXAMPLES / "models" / "digits_inception.onnx")
    one = motet.compile(BundleSpec(models=(ModelSpec(path=path, name="a"),)))
    two = motet.compile(
        BundleSpec(models=(ModelSpec(path=path, name="a"), ModelSpec(path=path, name="b")))
    )
    assert two.kernels == one.kernels
    assert len(two.weights) == len(one.weights)


COMPILE = """
import sys, motet
motet.compile(sys.argv[1], target=sys.argv[2]).save(sys.argv[3])
"""


@pytest.mark.parametrize("target", ["host", "tiny-4x4"])
def test_two_processes_write_the_same_bytes(tmp_path, target):
    digests, model = set(), EXAMPLES / "models" / "digits_mobile.onnx"
    for seed in ("1", "2"):
        out = tmp_path / f"{seed}.motet"
        subprocess.run(
            [sys.executable, "-c", COMPILE, str(model), target, str(out)],
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
        digests.add(hashlib.sha256(out.read_bytes()).hexdigest())
    assert len(digests) == 1
