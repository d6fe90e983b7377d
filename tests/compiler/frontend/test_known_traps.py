"""Where stock TVM 0.27's importer gives a wrong answer without a word: right here, or refused.

One test a trap, compiled and run by Motet, against onnx's reference evaluator or
onnxruntime, whichever does as ONNX says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_uses import Use, check_uses, int64, model_of

import motet
from motet.errors import UnsupportedOperatorError

RANDOM = np.random.default_rng(11)


def f(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def test_is_inf_looks_at_its_flags() -> None:
    x = np.array([np.inf, -np.inf, np.nan, 0, 3e38], np.float32)
    flags = [{"detect_positive": p, "detect_negative": n} for p in (0, 1) for n in (0, 1)]
    check_uses([Use("IsInf", {"x": x}, attributes=one) for one in flags])


def test_depth_to_space_knows_both_modes_and_space_to_depth_one() -> None:
    uses = [
        Use("DepthToSpace", {"x": f(2, 18, 2, 3)}, attributes={"blocksize": 3, "mode": mode})
        for mode in ("DCR", "CRD")
    ]
    check_uses([*uses, Use("SpaceToDepth", {"x": f(2, 3, 6, 4)}, attributes={"blocksize": 2})])


def regions(**attributes: Any) -> Use:
    rois = np.array([[1, 2, 13, 11], [0, 0, 5, 15], [3, 3, 3.5, 4]], np.float32)
    feeds = {"x": f(2, 3, 16, 16), "r": rois, "b": int64(0, 1, 1)}
    sizes = {"output_height": 3, "output_width": 2, "sampling_ratio": 2, "spatial_scale": 0.75}
    return Use("RoiAlign", feeds, attributes={**sizes, **attributes})


@pytest.mark.parametrize("mode", ["half_pixel", "output_half_pixel"])
def test_roi_align_by_averages_and_by_maxima(mode: str) -> None:
    given = {"coordinate_transformation_mode": mode}
    check_uses([regions(**given)], truth="onnxruntime", rtol=1e-4, atol=1e-4)
    check_uses([regions(**given, mode="max")], truth="onnx", rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("antialias", [0, 1])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_resize_that_shrinks(mode: str, antialias: int) -> None:
    given = {"mode": mode, "antialias": antialias}
    uses = [
        Use("Resize", {"x": f(1, 2, 9, 12)}, {"s": int64(1, 2, h, w)}, given,
            order=["x", "", "", "s"])
        for h, w in ((4, 5), (3, 12), (9, 4))
    ]  # fmt: skip
    check_uses(uses, opset=19, rtol=1e-4, atol=1e-4)


def test_conv_transpose_makes_the_output_shape_asked_for() -> None:
    uses = [
        Use("ConvTranspose", {"x": f(1, 2, 4, 5)}, {"w": f(2, 3, 3, 3)},
            {"strides": [2, 2], "output_shape": [h, w]})
        for h, w in ((8, 10), (7, 11), (9, 9))
    ]  # fmt: skip
    check_uses(uses, truth="onnxruntime", rtol=1e-4, atol=1e-4)


def test_expand_keeps_what_its_shape_leaves_at_one() -> None:
    targets = ([2, 1, 4], [4], [1], [3, 1], [5, 2, 3, 4])
    uses = [Use("Expand", {"x": f(3, 1)}, {"s": int64(*target)}) for target in targets]
    uses.append(Use("Expand", {"x": f(2, 3, 4)}, {"s": int64(3, 1)}))
    check_uses(uses, rtol=0, atol=0)


def test_float_mod_with_and_without_fmod() -> None:
    """Without, the remainder has the sign of the divisor, as numpy's; with, of the dividend."""
    x, y = np.array([-7.5, 7.5, -7.5, 7.5], "f"), np.array([2, -2, -2, 2], "f")
    check_uses(
        [
            Use("Mod", {"x": x, "y": y}, attributes={"fmod": 0}, want=[np.mod(x, y)]),
            Use("Mod", {"x": x, "y": y}, attributes={"fmod": 1}, want=[np.fmod(x, y)]),
        ]
    )


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
def test_shifts_past_the_width_leave_nothing(dtype: str, direction: str) -> None:
    bits = np.iinfo(dtype).bits
    x = np.full(4, np.iinfo(dtype).max, dtype)
    amount = np.array([1, bits - 1, bits, bits + 1], dtype)
    moved = [int(v) << int(n) if direction == "LEFT" else int(v) >> int(n)
             for v, n in zip(x, amount, strict=True)]  # fmt: skip
    want = np.array([v % 2**bits for v in moved], dtype)
    given = {"direction": direction}
    check_uses([Use("BitShift", {"x": x, "y": amount}, attributes=given, want=[want])])


def boxes() -> dict[str, np.ndarray]:
    corners = np.sort(RANDOM.random((1, 20, 2, 2), np.float32), axis=2).reshape(1, 20, 4)
    return {"b": corners, "s": RANDOM.random((1, 2, 20), np.float32)}


def suppressed(known: bool, center: int = 0) -> None:
    """NonMaxSuppression with limits that are constants, or inputs of the run."""
    limits = {"n": int64(4), "i": np.array([0.3], "f"), "t": np.array([0.2], "f")}
    feeds = boxes()
    use = Use(
        "NonMaxSuppression", feeds if known else {**feeds, **limits}, limits if known else {},
        {"center_point_box": center}, order=["b", "s", "n", "i", "t"],
    )  # fmt: skip
    check_uses([use], truth="onnxruntime")


@pytest.mark.parametrize("center", [0, 1])
@pytest.mark.parametrize("known", [True, False])
def test_thresholds_of_non_max_suppression(known: bool, center: int) -> None:
    suppressed(known, center)


@pytest.mark.parametrize(
    ("op", "value"),
    [
        ("ReduceSum", 0), ("ReduceProd", 1), ("ReduceMax", -np.inf), ("ReduceMin", np.inf),
        ("ReduceL1", 0), ("ReduceL2", 0), ("ReduceSumSquare", 0), ("ReduceLogSum", -np.inf),
        ("ReduceLogSumExp", -np.inf),
    ],
)  # fmt: skip
def test_reductions_over_no_elements(op: str, value: float) -> None:
    x = np.zeros((2, 0, 3), np.float32)
    uses = [
        Use(op, {"x": x}, {"a": int64(1)}, {"keepdims": keep},
            want=[np.full((2, 1, 3) if keep else (2, 3), value, np.float32)])
        for keep in (0, 1)
    ]  # fmt: skip
    check_uses(uses, opset=20)


def test_an_operator_of_another_domain_is_not_taken_for_onnxs() -> None:
    use = Use("Relu", {"x": f(3)}, want=[f(3)], domain="my.domain")
    with pytest.raises(UnsupportedOperatorError, match=r"my\.domain::Relu"):
        check_uses([use])


def test_a_symbolic_axis_without_elements(tmp_path: Path) -> None:
    """The run decides that there is nothing to reduce."""
    proto = model_of([Use("ReduceSum", {"x": f(3, 2)}, {"a": int64(0)}, {"keepdims": 0})], 18)
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    dims[0].ClearField("dim_value")
    dims[0].dim_param = "N"
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    session = motet.load(motet.compile(tmp_path / "m.onnx"))
    for rows in (0, 1, 4):
        x = f(rows, 2)
        [[name, found]] = session.run(inputs={proto.graph.input[0].name: x}).items()
        np.testing.assert_allclose(found, x.sum(0), rtol=1e-6, err_msg=name)
