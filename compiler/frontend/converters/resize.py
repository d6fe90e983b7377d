"""Resize and Upsample.

Images by Relax's own operator where their sizes say it all; all else as gathers (nearest) or
products with constant interpolation matrices (antialiased, cropped, other scales and ranks),
one per resized axis, or where an axis is symbolic as ``runtime_resize`` does it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from tvm import relax, tirx

from motet.compiler.frontend.node import Node, is_float
from motet.compiler.frontend.shape_data import same, simplify
from motet.compiler.frontend.values import Dim, constant, shape_value

from .interpolation import Axis, coordinates, matrix, nearest
from .runtime_resize import resized

# A scale such as 0.5 or 1.25 over a symbolic size is a quotient of small integers.
_MAX_DENOMINATOR = 64
# Coordinates that Relax's operator derives from the sizes alone, as quotients of integers.
_QUOTIENTS = frozenset(
    ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "tf_half_pixel_for_nn")
)


def resize(node: Node) -> relax.Expr:
    """Resize, opset 10 to today."""
    old = node.opset < 11
    scales_at, sizes_at = (1, 3) if old else (2, 3)
    dims, rank = node.shape(), node.rank()
    axes = [node.normal_axis(a, rank) for a in node.attr("axes") or range(rank)]
    scales = _scales(node, scales_at, len(axes))
    sizes = node.dims(sizes_at, "sizes") if scales is None and not old else None
    if scales is None and sizes is None:
        node.refuse("neither its scales nor its sizes are given")
    coordinate = node.attr("coordinate_transformation_mode", "half_pixel")
    mode = node.attr("mode", "nearest")
    rounding = node.attr("nearest_mode", "round_prefer_floor")
    if old:
        coordinate, rounding = "asymmetric", "floor"
    if sizes is not None:
        sizes, scales = _kept_aspect(node, [dims[a] for a in axes], sizes)
    plan = _Plan(node, mode, coordinate, rounding)
    return plan.apply(axes, scales, sizes)


def upsample(node: Node) -> relax.Expr:
    """Upsample (deprecated): Resize with asymmetric coordinates, rounded down."""
    scales = node.attr("scales") if node.opset < 9 else _scales(node, 1, node.rank())
    if scales is None:
        node.refuse("its scales are missing")
    plan = _Plan(node, node.attr("mode", "nearest"), "asymmetric", "floor")
    return plan.apply(list(range(node.rank())), [float(s) for s in scales], None)


def _scales(node: Node, index: int, count: int) -> list[float] | None:
    if not node.has(index):
        return None
    array = node.needed_constant(index, "scales")
    if array.size == 0:
        return None
    if array.size != count:
        node.refuse(f"{array.size} scales for {count} axes")
    return [float(s) for s in array]


def _kept_aspect(
    node: Node, dims: list[Dim], sizes: list[Dim]
) -> tuple[list[Dim], list[float] | None]:
    """Sizes as the policy rounds them, and the one scale that coordinates then follow."""
    policy = node.attr("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return sizes, None
    fixed, asked = node.static(dims, "sizes that keep the aspect"), node.static(sizes, "sizes")
    ratios = [s / d for s, d in zip(asked, fixed, strict=True)]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [math.floor(scale * d + 0.5) for d in fixed], [scale] * len(fixed)


class _Plan:
    """How one node resizes: mode, coordinates, rounding."""

    def __init__(self, node: Node, mode: str, coordinate: str, rounding: str) -> None:
        self.node = node
        self.mode = "linear" if mode in ("linear", "bilinear") else mode
        self.coordinate = coordinate
        self.rounding = rounding

    def apply(
        self, axes: list[int], scales: list[float] | None, sizes: list[Dim] | None
    ) -> relax.Expr:
        """The resized tensor: by Relax's operator, or axis by axis."""
        node, dims = self.node, self.node.shape()
        outputs = [
            sizes[i] if sizes else self._output(dims[a], scales[i] if scales else 1.0)
            for i, a in enumerate(axes)
        ]
        todo = [i for i, a in enumerate(axes) if self._is_resized(dims[a], outputs[i], scales, i)]
        if not todo:
            return node.x()
        direct = self._direct(axes, todo, outputs, scales)
        if direct is not None:
            return direct
        if not is_float(node.dtype()) and self.mode != "nearest":
            node.refuse(f"mode '{self.mode}' on {node.dtype()}: cast it to float32 first")
        x = node.x()
        for i in todo:
            extent, output = dims[axes[i]], outputs[i]
            if not isinstance(extent, int) or not isinstance(output, int):
                x = node.emit(
                    self._at_run_time(
                        x, axes[i], (extent, output), None if scales is None else scales[i]
                    )
                )
                continue
            scale = output / extent if scales is None else scales[i]
            start, end = self._region(axes[i], len(axes), i)
            x = node.emit(self._along(x, axes[i], Axis(extent, output, scale, start, end)))
        return x

    def _output(self, extent: Dim, scale: float) -> Dim:
        if isinstance(extent, int):
            return math.floor(extent * scale + 1e-9)
        ratio = Fraction(scale).limit_denominator(_MAX_DENOMINATOR)
        if float(ratio) != scale:
            self.node.refuse(
                f"scale {scale} over the symbolic size {extent}: give sizes instead",
                shape_value([extent]),
            )
        return simplify(tirx.floordiv(extent * ratio.numerator, ratio.denominator))

    def _is_resized(self, extent: Dim, output: Dim, scales: list[float] | None, index: int) -> bool:
        unit = scales is None or scales[index] == 1.0
        return not (same(extent, output) and unit and self.coordinate != "tf_crop_and_resize")

    def _at_run_time(
        self, x: relax.Expr, axis: int, sizes: tuple[Dim, Dim], scale: float | None
    ) -> relax.Expr:
        """``x`` resized along an axis that is, or becomes, symbolic."""
        if self.node.attr("antialias", 0) or self.node.attr("exclude_outside", 0):
            shown = "antialias or exclude_outside over a symbolic size"
            self.node.refuse(shown, shape_value(list(sizes)))
        if self.mode not in ("nearest", "linear", "cubic"):
            self.node.refuse(f"mode '{self.mode}'")
        if scale is not None and self.coordinate == "align_corners":
            self.node.refuse(f"align_corners with a scale of {sizes[0]}: give sizes instead")
        return resized(self.node, x, axis, sizes, scale, self.mode, self.coordinate, self.rounding)

    def _region(self, axis: int, count: int, index: int) -> tuple[float, float]:
        if self.coordinate != "tf_crop_and_resize":
            return 0.0, 1.0
        roi = self.node.needed_constant(1, "roi").reshape(-1)
        if roi.size != 2 * count:
            self.node.refuse(f"a roi of {roi.size} values for {count} axes")
        return float(roi[index]), float(roi[count + index])

    def _direct(
        self, axes: list[int], todo: list[int], outputs: list[Dim], scales: list[float] | None
    ) -> relax.Expr | None:
        """``R.image.resize2d`` where it does exactly what ONNX says, else None."""
        node, dims = self.node, self.node.shape()
        if len(dims) != 4 or any(axes[i] < 2 for i in todo):
            return None
        size = [dims[2], dims[3]]
        for i in todo:
            size[axes[i] - 2] = outputs[i]
        pairs = [(dims[axes[i]], outputs[i], None if scales is None else scales[i]) for i in todo]
        nearest_floor = self.mode == "nearest" and self._repeats(pairs)
        if not is_float(node.dtype()) or not (nearest_floor or self._weighs(pairs)):
            return None
        return relax.op.image.resize2d(
            node.x(),
            size=relax.ShapeExpr(size),
            layout="NCHW",
            method="nearest_neighbor" if self.mode == "nearest" else self.mode,
            coordinate_transformation_mode="asymmetric" if nearest_floor else self.coordinate,
            rounding_method="floor" if self.mode == "nearest" else "round",
            cubic_alpha=float(node.attr("cubic_coeff_a", -0.75)),
        )

    def _repeats(self, pairs: list[tuple[Dim, Dim, float | None]]) -> bool:
        """Whether nearest takes for cell i the input's cell ``floor(i / scale)``."""
        if (self.coordinate, self.rounding) == ("asymmetric", "floor"):
            return all(_enlarges(*pair) for pair in pairs)
        # By a whole factor every cell is nearest to the one it lies in, and never in between.
        inside = self.coordinate == "half_pixel" and self.rounding.startswith("round_prefer")
        return inside and all(_is_exact(*pair) and pair[1] % pair[0] == 0 for pair in pairs)

    def _weighs(self, pairs: list[tuple[Dim, Dim, float | None]]) -> bool:
        """Whether Relax's operator interpolates these axes (extent, output, scale) as asked."""
        if self.node.attr("antialias", 0) or self.node.attr("exclude_outside", 0):
            return False
        if self.mode == "linear" and self.coordinate in ("half_pixel", "asymmetric"):
            return all(_is_exact(*pair) or _enlarges(*pair) for pair in pairs)
        known = self.coordinate in _QUOTIENTS and self.mode in ("linear", "cubic")
        return known and all(_is_exact(*pair) for pair in pairs)

    def _along(self, x: relax.Expr, number: int, axis: Axis) -> relax.Expr:
        """``x`` resized along axis ``number``."""
        node, places = self.node, coordinates(axis, self.coordinate)
        outside = (places < 0) | (places > axis.extent - 1)
        if self.coordinate != "tf_crop_and_resize" or not outside.any():
            outside = np.zeros_like(outside)
        if self.mode == "nearest":
            cells = nearest(places, self.rounding, axis.extent)
            result = relax.op.take(x, constant(cells), number, mode="clip")
        elif self.mode in ("linear", "cubic"):
            weights = matrix(
                axis,
                places,
                self.mode,
                float(node.attr("cubic_coeff_a", -0.75)),
                bool(node.attr("antialias", 0)),
                bool(node.attr("exclude_outside", 0)),
            )
            result = _product(node, x, number, weights)
        else:
            node.refuse(f"mode '{self.mode}'")
        if not outside.any():
            return result
        mask = outside.reshape([-1 if i == number else 1 for i in range(node.rank())])
        fill = node.scalar(float(node.attr("extrapolation_value", 0.0)))
        return relax.op.where(constant(mask), fill, node.emit(result))


def _is_exact(extent: Dim, output: Dim, scale: float | None) -> bool:
    """Whether a fixed axis is scaled by exactly the quotient of its sizes."""
    if not isinstance(extent, int) or not isinstance(output, int) or not extent or not output:
        return False
    return scale is None or output == extent * scale


def _enlarges(extent: Dim, output: Dim, scale: float | None) -> bool:
    """Whether an axis grows by exactly its scale, as Relax's operator derives it."""
    if isinstance(extent, int) and isinstance(output, int):
        return output >= extent and (scale is None or output == extent * scale)
    return scale is not None and scale >= 1 and scale == int(scale)


def _product(node: Node, x: relax.Expr, number: int, weights: Any) -> relax.Expr:
    """``weights [output, input]`` applied along axis ``number`` of ``x``."""
    rank, weights = node.rank(), weights.astype(node.dtype())
    if number == rank - 1:
        return relax.op.matmul(x, constant(np.ascontiguousarray(weights.T)))
    perm = [i for i in range(rank) if i != number]
    perm.insert(rank - 2, number)  # [..., number, last]
    moved = x if perm == list(range(rank)) else relax.op.permute_dims(x, perm)
    result = relax.op.matmul(constant(weights), moved)
    if perm == list(range(rank)):
        return result
    return relax.op.permute_dims(result, [perm.index(i) for i in range(rank)])


CONVERTERS: dict[str, Callable[[Node], Any]] = {"Resize": resize, "Upsample": upsample}
