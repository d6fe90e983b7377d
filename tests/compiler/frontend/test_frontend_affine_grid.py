"""AffineGrid against onnx's reference evaluator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from frontend_models import check, single


@pytest.mark.parametrize("align_corners", [0, 1])
@pytest.mark.parametrize("size", [[2, 3, 4, 5], [2, 1, 2, 3, 4]])
def test_affine_grid(tmp_path: Path, size: list[int], align_corners: int) -> None:
    axes = len(size) - 2
    theta = np.random.default_rng(1).standard_normal((2, axes, axes + 1)).astype(np.float32)
    constants = {"size": np.array(size)}
    proto = single("AffineGrid", {"theta": theta}, constants, opset=20, align_corners=align_corners)
    check(proto, {"theta": theta}, tmp_path)
