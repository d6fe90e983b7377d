"""Tensors without elements: what is left of them has the value that ONNX gives it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frontend_models import check, saved, single

import motet

NONE = np.zeros((3, 0), np.float32)
LONE = np.array([1], np.int64)


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize(
    ("op", "dtype"),
    [
        *((op, "f4") for op in ("ReduceSum", "ReduceProd", "ReduceL2", "ReduceLogSum")),
        *((op, dtype) for op in ("ReduceMax", "ReduceMin") for dtype in ("f4", "i4", "bool")),
    ],
)
def test_reduction_of_nothing(tmp_path: Path, op: str, dtype: str, keep: int) -> None:
    x = NONE.astype(dtype)
    proto = single(op, {"x": x}, {"a": LONE}, keepdims=keep, opset=20)
    check(proto, {"x": x}, tmp_path)


@pytest.mark.parametrize("constants", [{}, {"w": np.zeros((0, 4), np.float32)}], ids=["run", "w"])
def test_product_over_nothing(tmp_path: Path, constants: dict[str, Any]) -> None:
    feeds = {"x": NONE} if constants else {"x": NONE, "w": np.zeros((0, 4), np.float32)}
    check(single("MatMul", feeds, constants), feeds, tmp_path)


def test_gemm_over_nothing_is_its_bias(tmp_path: Path) -> None:
    constants = {"w": np.zeros((0, 4), np.float32), "b": np.arange(4, dtype=np.float32)}
    check(single("Gemm", {"x": NONE}, constants), {"x": NONE}, tmp_path)


def test_the_first_none_of_all(tmp_path: Path) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    constants = {"k": np.array([0], np.int64)}
    check(single("TopK", {"x": x}, constants, outputs=2), {"x": x}, tmp_path)


@pytest.mark.parametrize("k", [-2, 0, 1])
@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("known", [True, False])
def test_triangles(tmp_path: Path, k: int, upper: int, known: bool) -> None:
    x, diagonal = np.arange(1, 25, dtype=np.float32).reshape(2, 3, 4), np.array(k, np.int64)
    feeds = {"x": x} if known else {"x": x, "k": diagonal}
    constants = {"k": diagonal} if known else {}
    check(single("Trilu", feeds, constants, upper=upper), feeds, tmp_path)


def test_reshape_of_nothing(tmp_path: Path) -> None:
    constants = {"s": np.array([2, 0, 5], np.int64)}
    check(single("Reshape", {"x": NONE}, constants, allowzero=1), {"x": NONE}, tmp_path)


def test_logarithm_of_a_sum_of_infinities(tmp_path: Path) -> None:
    x = np.array([[np.inf, 1], [1, 2], [-np.inf, 0]], np.float32)
    check(single("ReduceLogSumExp", {"x": x}, {"a": LONE}), {"x": x}, tmp_path)


@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_layer_normalization_of_nothing(tmp_path: Path, outputs: int) -> None:
    constants = {"scale": np.zeros(0, np.float32)}
    proto = single("LayerNormalization", {"x": NONE}, constants, outputs=outputs)
    bundle = motet.compile(saved(proto, tmp_path))
    results = motet.load(bundle).run(inputs={"x": NONE}).values()
    assert [array.shape for array in results] == [(3, 0), (3, 1), (3, 1)][:outputs]
    assert all(np.isnan(array).all() for array in results)
