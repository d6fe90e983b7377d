"""DFT, its inverse and STFT against onnx's reference, over their options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frontend_models import check, single

X = np.random.default_rng(0).standard_normal((2, 7, 5, 2)).astype(np.float32)


@pytest.mark.parametrize(
    ("parts", "length", "axis", "inverse", "onesided"),
    [
        (2, None, 1, 0, 0),
        (2, None, 2, 1, 0),
        (1, None, -2, 0, 1),
        (1, 5, 1, 0, 1),
        (1, 9, 1, 0, 0),
        (2, 12, 1, 1, 0),
        (2, 4, 1, 1, 0),
        (2, None, 1, 1, 1),
        (2, 13, 1, 1, 1),
        (2, 9, 1, 1, 1),
        (2, 20, 2, 1, 1),
    ],
)
def test_dft(
    tmp_path: Path, parts: int, length: int | None, axis: int, inverse: int, onesided: int
) -> None:
    x = X[..., :parts]
    constants = {"axis": np.array(axis)}
    if length is not None:
        constants["length"] = np.array(length)
    proto = single(
        "DFT",
        {"x": x},
        constants,
        inputs=["x", "length" if length is not None else "", "axis"],
        opset=20,
        inverse=inverse,
        onesided=onesided,
    )
    check(proto, {"x": x}, tmp_path, atol=1e-5)


@pytest.mark.parametrize("onesided", [{}, {"onesided": 0}])
def test_stft(tmp_path: Path, onesided: dict[str, Any]) -> None:
    x = X.reshape(2, 70, 1)
    window = np.hanning(16).astype(np.float32)
    constants = {"step": np.array(4), "window": window}
    proto = single("STFT", {"x": x}, constants, inputs=["x", "step", "window"], **onesided)
    check(proto, {"x": x}, tmp_path, atol=1e-5)
