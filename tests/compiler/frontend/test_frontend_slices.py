"""Slices at constant places, backwards and beyond the ends, as ONNX clamps them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from frontend_models import check, single

END = 2**63 - 1


@pytest.mark.parametrize(
    ("start", "end", "step"),
    [
        (-1, -END, -1), (4, 1, -1), (-2, -6, -2), (9, 0, -3), (2, 9, -2), (-4, 9, -2),
        (-1, 9, -1), (-11, -10, -1), (-8, -END, -2), (0, -9, -1), (3, 3, -1), (0, 0, -1),
        (1, END, 2), (-99, 3, 1), (4, 2, 1), (5, 9, 1), (7, 9, 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("extent", [5, 1])
def test_slice(tmp_path: Path, extent: int, start: int, end: int, step: int) -> None:
    x = np.arange(2 * extent, dtype=np.float32).reshape(2, extent)
    places = {"s": start, "e": end, "a": 1, "t": step}
    constants = {name: np.array([place], np.int64) for name, place in places.items()}
    # onnx's evaluator slices as Python does, which is not what ONNX's text says backwards.
    check(single("Slice", {"x": x}, constants), {"x": x}, tmp_path, truth="onnxruntime")
