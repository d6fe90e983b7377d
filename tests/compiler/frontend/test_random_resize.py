"""Resize over random sizes, scales, modes and coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np
from random_uses import Draw, Use, check_uses, drawn, int64, seeds

COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric",
               "half_pixel_symmetric")  # fmt: skip


def sized(draw: Draw) -> Use:
    """To sizes; linear and cubic, up and down, along any axes."""
    x = draw.tensor((1, draw.int(1, 2), *draw.shape(1, 2, 7)))
    mode = draw.of("linear", "cubic") if x.ndim < 5 else "linear"
    given: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": draw.of(*COORDINATES)}
    target = [*x.shape[:2], *(draw.int(2, 9) for _ in x.shape[2:])]
    if mode == "cubic":
        given["cubic_coeff_a"] = draw.of(-0.75, -0.5)
        given["exclude_outside"] = draw.int(0, 1)
    if given["coordinate_transformation_mode"] == "half_pixel":
        given["antialias"] = draw.int(0, 1)
    return Use("Resize", {"x": x}, {"s": int64(*target)}, given, order=["x", "", "", "s"])


def scaled(draw: Draw) -> Use:
    """By scales; to the nearest cell with every rounding."""
    x = draw.tensor(
        (1, draw.int(1, 2), draw.int(2, 6), draw.int(2, 6)), draw.of("float32", "uint8"), 0, 9
    )
    scales = np.array([1, 1, draw.of(0.5, 1, 1.5, 2, 3), draw.of(0.6, 1, 2, 2.5)], "float32")
    rounding = draw.of("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
    coordinate = draw.of("half_pixel", "asymmetric", "half_pixel_symmetric")
    given = {"mode": "nearest", "nearest_mode": rounding,
             "coordinate_transformation_mode": coordinate}  # fmt: skip
    return Use("Resize", {"x": x}, {"s": scales}, given, order=["x", "", "s"])


def chosen(draw: Draw) -> Use:
    """Of some axes, keeping the aspect."""
    x = draw.tensor((draw.int(1, 2), draw.int(3, 6), draw.int(3, 6)))
    policy = draw.of("stretch", "not_larger", "not_smaller")
    given = {"mode": "linear", "axes": [1, 2], "keep_aspect_ratio_policy": policy}
    sizes = int64(draw.int(2, 9), draw.int(2, 9))
    return Use("Resize", {"x": x}, {"s": sizes}, given, order=["x", "", "", "s"])


@seeds(3)
def test_sizes(seed: int) -> None:
    check_uses(drawn(seed, 6, sized), opset=19, rtol=1e-4, atol=1e-4)


@seeds(3)
def test_scales_and_axes(seed: int) -> None:
    check_uses(drawn(seed, 4, scaled, chosen), opset=19, rtol=1e-4, atol=1e-4)
