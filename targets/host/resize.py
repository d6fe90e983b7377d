"""Resizing of images as gathers with weights, one axis after the other.

Every coordinate of ``R.image.resize2d`` is a quotient of integers, so cells and distances
are exact: output cell i lies at input coordinate ``n(i) / d``, its lower neighbour is
``n(i) // d`` and the distance from it ``(n(i) mod d) / d``. Cells and weights of an axis are
tables that a call fills first (they cost as much as one row).

In the plain layout the axis that leaves fewer elements goes first, so that few are gathered
along rows; its result is kept in scratch memory. In a blocked layout a position's channels
are one vector: all neighbours are read at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import relax, te, tirx

from motet.targets.host.blocked import block_of_layout
from motet.targets.host.defaults import by_tvm
from motet.targets.host.loops import Expr, constant_of, index
from motet.targets.host.stages import KEEP

_Call = Any
_Builder = Any

_TAPS = {"nearest_neighbor": 1, "linear": 2, "cubic": 4}
_ROUNDINGS = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")


def _coordinate(mode: str, i: Expr, extent: Expr, output: Expr) -> tuple[Expr, Expr] | None:
    """(n, d): input coordinate n / d of output cell ``i``; None where it is no such quotient."""
    half = (2 * i + 1) * extent - output, 2 * output
    several = output > 1
    quotients: dict[str, Callable[[], tuple[Expr, Expr]]] = {
        "half_pixel": lambda: half,
        "pytorch_half_pixel": lambda: (tirx.Select(several, half[0], index(0)), half[1]),
        "asymmetric": lambda: (i * extent, output),
        "align_corners": lambda: (i * (extent - 1), tirx.max(output - 1, index(1))),
        "tf_half_pixel_for_nn": lambda: ((2 * i + 1) * extent, 2 * output),
    }
    return quotients[mode]() if mode in quotients else None


def _rounded(rounding: str, n: Expr, d: Expr) -> Expr:
    """The quotient as an integer."""
    shift = {
        "floor": (n, d), "ceil": (n + d - 1, d),
        "round_prefer_floor": (2 * n + d - 1, 2 * d), "round_prefer_ceil": (2 * n + d, 2 * d),
    }[rounding]  # fmt: skip
    return tirx.floordiv(*shift)


def _cubic(distance: Expr, a: float) -> Expr:
    """Keys' cubic convolution kernel with parameter ``a``."""
    d = tirx.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1.0
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    zero = tirx.const(0.0, "float64")
    return tirx.Select(d <= 1.0, near, tirx.Select(d < 2.0, far, zero))


@dataclass(frozen=True, eq=False)
class Axis:
    """How one axis is resized: ``cells[tap, i]`` of the input weigh ``weights[tap, i]``."""

    extent: Expr
    output: Expr
    taps: int
    mode: str
    floors: bool
    cells: te.Tensor
    weights: te.Tensor | None

    @property
    def grows(self) -> bool:
        """Whether the output is at least as long; an open size counts as that."""
        sizes = constant_of(self.extent), constant_of(self.output)
        return None in sizes or (sizes[1] or 0) >= (sizes[0] or 0)

    @property
    def times(self) -> int:
        """How often every cell is repeated; 0 where the axis is no such enlargement."""
        sizes = constant_of(self.extent), constant_of(self.output)
        if self.taps > 1 or None in sizes or not all(sizes) or self.mode != "asymmetric":
            return 0
        factor, rest = divmod(sizes[1] or 0, sizes[0] or 1)
        return factor if rest == 0 and self.floors else 0

    @property
    def is_identity(self) -> bool:
        """Whether every cell stays what it is."""
        sizes = constant_of(self.extent), constant_of(self.output)
        return None not in sizes and sizes[0] == sizes[1] and self.mode != "tf_half_pixel_for_nn"

    def weighed(self, i: Expr, dtype: str, read: Callable[[Expr], Expr]) -> Expr:
        """The sum of ``read(cell)`` over the taps of output cell ``i``."""
        if self.times > 1:
            return read(tirx.floordiv(i, index(self.times)))
        if self.weights is None:
            return read(self.cells(0, i).astype("int64"))
        terms = [
            read(self.cells(tap, i).astype("int64")).astype(dtype) * self.weights(tap, i)
            for tap in range(self.taps)
        ]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total


def _axis(attrs: Any, name: str, extent: Expr, output: Expr, dtype: str) -> Axis:
    taps, mode = _TAPS[str(attrs.method)], str(attrs.coordinate_transformation_mode)
    alpha, rounding = float(attrs.cubic_alpha), str(attrs.rounding_method)

    def at(i: Expr) -> tuple[Expr, Expr]:
        found = _coordinate(mode, i.astype("int64"), extent, output)
        assert found is not None
        return found

    def cell(tap: Expr, i: Expr) -> Expr:
        n, d = at(i)
        first = _rounded(rounding, n, d) if taps == 1 else tirx.floordiv(n, d) + tap - taps // 2 + 1
        return tirx.max(tirx.min(first, extent - 1), index(0)).astype("int32")

    def weight(tap: Expr, i: Expr) -> Expr:
        n, d = at(i)
        past = tirx.floormod(n, d).astype("float64") / d.astype("float64")
        distance = past - (tap - taps // 2 + 1).astype("float64")
        if taps == 4:
            return _cubic(distance, alpha).astype(dtype)
        return (1.0 - tirx.abs(distance)).astype(dtype)

    shape = (taps, output)
    cells = te.compute(shape, cell, name=f"{name}_cells", attrs={KEEP: 1})
    weights = None if taps == 1 else te.compute(shape, weight, name=f"{name}_weights",
                                                attrs={KEEP: 1})  # fmt: skip
    return Axis(extent, output, taps, mode, rounding == "floor", cells, weights)


def _plain(x: te.Tensor, rows: Axis, columns: Axis, dtype: str) -> te.Tensor:
    """``x`` (N, C, H, W) resized, one axis after the other."""
    lead = x.shape[:2]

    def along_rows(y: te.Tensor, **options: Any) -> te.Tensor:
        return te.compute(
            (*lead, y.shape[2], columns.output),
            lambda n, c, h, w: columns.weighed(w, dtype, lambda at: y(n, c, h, at)),
            **options,
        )

    def along_columns(y: te.Tensor, **options: Any) -> te.Tensor:
        return te.compute(
            (*lead, rows.output, y.shape[3]),
            lambda n, c, h, w: rows.weighed(h, dtype, lambda at: y(n, c, at, w)),
            **options,
        )

    kept = {"name": "resized_axis", "attrs": {KEEP: 1}}
    if rows.is_identity:
        return along_rows(x, name="resize")
    if rows.times and columns.times:
        return te.compute(
            (*lead, rows.output, columns.output),
            lambda n, c, h, w: rows.weighed(
                h, dtype, lambda y: columns.weighed(w, dtype, lambda at: x(n, c, y, at))
            ),
            name="resize",
        )
    if columns.is_identity:
        return along_columns(x, name="resize")
    if rows.grows:
        return along_columns(along_rows(x, **kept), name="resize")
    return along_rows(along_columns(x, **kept), name="resize")


def _blocked(x: te.Tensor, rows: Axis, columns: Axis, dtype: str) -> te.Tensor:
    """``x`` (N, C / block, H, W, block) resized, both axes at once."""

    def element(n: Expr, c: Expr, h: Expr, w: Expr, lane: Expr) -> Expr:
        def row(y: Expr) -> Expr:
            return columns.weighed(w, dtype, lambda at: x(n, c, y, at, lane))

        return rows.weighed(h, dtype, row)

    shape = (*x.shape[:2], rows.output, columns.output, x.shape[4])
    return te.compute(shape, element, name="resize")


def _is_ours(attrs: Any) -> bool:
    method, mode = str(attrs.method), str(attrs.coordinate_transformation_mode)
    if method not in _TAPS or _coordinate(mode, index(0), index(1), index(1)) is None:
        return False
    if method == "nearest_neighbor" and str(attrs.rounding_method) not in _ROUNDINGS:
        return False
    return not int(attrs.cubic_exclude)


def resize(builder: _Builder, call: _Call) -> relax.Expr:
    """Legalisation of ``R.image.resize2d`` in plain and blocked layouts."""
    attrs, dtype = call.attrs, str(call.ty.dtype)
    block = block_of_layout(str(attrs.layout))
    if block is None or not _is_ours(attrs) or dtype != str(call.args[0].ty.dtype):
        return by_tvm(builder, call)
    sizes: Sequence[Expr] = call.args[1].values
    wide = "float64" if dtype == "float64" else "float32"

    def compute(x: te.Tensor) -> te.Tensor:
        pairs = zip(("row", "column"), x.shape[2:4], sizes, strict=True)
        rows, columns = (_axis(attrs, name, index(d), index(s), wide) for name, d, s in pairs)
        result = (_blocked if block else _plain)(x, rows, columns, wide)
        if result.dtype == dtype:
            return result
        return te.compute(result.shape, lambda *i: result(*i).astype(dtype), name="narrowed")

    return builder.call_te(compute, call.args[0], primfunc_name_hint="resize")


LEGALIZATIONS: dict[str, Callable[[_Builder, _Call], relax.Expr]] = {"relax.image.resize2d": resize}
