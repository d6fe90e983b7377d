"""Real trained models of the folder that MOTET_MODELS names, against onnxruntime."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import motet
from motet.check import differences, reference_session
from motet.errors import UnsupportedOperatorError

FOLDER = os.environ.get("MOTET_MODELS")
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="MOTET_MODELS is unset: no folder with trained models to try"
)

FLOAT32, FLOAT16 = (1e-4, 1e-3), (2e-3, 3e-2)
"""Tolerances (absolute, relative). In fp16 both sides round every layer to 11 bits."""
DEEP = (1e-3, 1e-3)
"""113 convolutions: onnxruntime with and without its optimiser differs by 3e-4 itself."""
ONE_STEP = (0.1725, 0.0)
"""The output's scale: equal but for a float mean before the last layer, summed in any order."""

AGREES = {
    "magika_v3_3": FLOAT32,
    "minifas": FLOAT32,
    "mnist": FLOAT32,
    "ncf": FLOAT32,
    "squeezenet_fp16": FLOAT16,
    "toy_transformer": FLOAT32,
    "ttm": FLOAT32,
    "ultraface_rfb320": FLOAT32,
    "ultraface_rfb320_simp": FLOAT32,
    "yolox_nano": DEEP,
    "yunet_n_320": FLOAT32,
    "shufflenet_v2_int8": ONE_STEP,
    "silero_vad_openvino_16k": FLOAT32,
}
REFUSED = {
    "fns_candy": "Affine .*Crop .*ImageScaler",
}
SYMBOLS = {"sequence_length": 512, "tokens": 9}
"""Sizes for symbolic dimensions at which a model is used; the others are 1."""


def model_path(name: str) -> Path:
    path = Path(str(FOLDER)) / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in the folder that MOTET_MODELS names")
    return path


@pytest.mark.parametrize("name", AGREES)
def test_agrees_with_onnxruntime(name):
    path = model_path(name)
    (model,) = motet.load(motet.compile(path)).values()
    reference = reference_session(path, model.entry.source.sha256, name)
    inputs = model.random_inputs(7, SYMBOLS)
    atol, rtol = AGREES[name]
    for difference in differences(model, reference, inputs, atol, rtol):
        assert difference.passed, difference


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_every_operator_listed(name):
    with pytest.raises(UnsupportedOperatorError, match=REFUSED[name]):
        motet.compile(model_path(name))


@pytest.mark.parametrize("name", ["mnist", "ultraface_rfb320_simp", "minifas"])
def test_agrees_on_the_array(name):
    path = model_path(name)
    shapes = {"input": (1, 3, 128, 128)} if name == "minifas" else None
    (model,) = motet.load(motet.compile(path, target="edge-64x64", shapes=shapes)).values()
    reference = reference_session(path, model.entry.source.sha256, name)
    inputs = model.random_inputs(7)
    assert all(d.passed for d in differences(model, reference, inputs, *FLOAT32))
    assert model.simulate(inputs).array_share > 0.9


def test_a_picture_gets_the_class_that_onnxruntime_gives_it():
    picture = Path(str(FOLDER)) / "data" / "grace_hopper_1x3x224x224.npy"
    if not picture.is_file():
        pytest.skip("the picture is not in the folder that MOTET_MODELS names")
    path = model_path("squeezenet_fp16")
    (model,) = motet.load(motet.compile(path)).values()
    inputs = {"data_0": np.load(picture).astype(np.float16)}
    reference = reference_session(path, model.entry.source.sha256, model.name)
    assert model.run(None, inputs)[0].argmax() == reference.run(None, inputs)[0].argmax()
