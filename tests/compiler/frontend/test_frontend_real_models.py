"""Trained models from the folder that MOTET_MODELS names; skipped where it is unset."""

import os
from pathlib import Path

import pytest
from frontend_models import calls, operators

from motet.compiler.frontend.load import load_model
from motet.passes.names import names_of
from motet.runtime.errors import UnsupportedOperatorError

IMPORTABLE = [
    "magika_v3_3",
    "minifas",
    "mnist",
    "ncf",
    "silero_vad_openvino_16k",
    "squeezenet_fp16",
    "toy_transformer",
    "ttm",
    "ultraface_rfb320",
    "ultraface_rfb320_simp",
    "yolox_nano",
    "yunet_n_320",
]
AT_RUN_TIME = {"relax.shape_of", "relax.shape_to_tensor", "relax.tensor_to_shape", "relax.call_tir"}


def path_of(name: str) -> Path:
    folder = os.environ.get("MOTET_MODELS")
    if not folder:
        pytest.skip("MOTET_MODELS is not set")
    path = Path(folder) / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    return path


@pytest.mark.parametrize("name", IMPORTABLE)
def test_import(name):
    imported = load_model(path_of(name), "m")
    assert all(names_of(call) for call in calls(imported))
    assert not AT_RUN_TIME & set(operators(imported))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fns_candy", ["Affine (1x", "Crop (7x", "ImageScaler (1x"]),
        ("shufflenet_v2_int8", ["QLinearConv (56x", "com.microsoft::QLinearAdd (1x"]),
    ],
)
def test_unsupported_operators_are_listed(name, words):
    with pytest.raises(UnsupportedOperatorError) as caught:
        load_model(path_of(name), "m")
    for word in (f"{name}.onnx", *words):
        assert word in str(caught.value)
