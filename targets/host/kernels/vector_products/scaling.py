"""Sums of vectors times the scales of data and weights.

With scales' product of fewer bits than both have, that is rounded first. Where the weights' scales
are in the sums already, one factor of 32 bits is left, and ``pmuldq`` multiplies it: of every pair
of lanes the even one, so that lanes then come *in turns*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from motet.targets.host.kernels.vector_products.form import Form, Sums
from motet.targets.host.loops import Expr, broadcast, index


def in_turns(form: Form, lanes: int) -> bool:
    """Whether sums are of the even lanes, then of the odd ones."""
    return form.sums is Sums.WIDE and form.scaled and lanes > 1


@dataclass(frozen=True, eq=False)
class Scaling:
    """Of vectors of ``lanes``; ``bind`` names a value where the statements are written."""

    form: Form
    lanes: int
    bind: Callable[[str, Expr], Expr]

    def scaled(self, part: Expr, x: Expr | None, weights: Expr | None) -> Expr:
        """A part as it is added; scales in it already are None."""
        form, lanes = self.form, self.lanes
        if x is None:
            return part
        if form.sums is Sums.FLOAT:
            return part.astype(f"float32x{lanes}") * (x * weights)
        if form.what.dropped:
            return self._sums_type(part) * self._sums_type(self._rounded(x, weights))
        if in_turns(form, self.lanes):
            return self._product_in_turns(part, x)
        wide = self._sums_type(part) * self._sums_type(x)
        return wide if weights is None else self._sums_type(weights) * wide

    def _product_in_turns(self, part: Expr, x: Expr) -> Expr:
        """Both sides' int32 multiplied to int64: even lanes, then odd ones (``pmuldq``)."""
        lanes = self.lanes
        pairs = f"int64x{lanes // 2}"
        half = broadcast(tirx.const(32, "int64"), lanes // 2)
        left, right = (tirx.reinterpret(pairs, value) for value in (part, x))
        right = (right << half) >> half
        even, odd = ((left << half) >> half) * right, (left >> half) * right
        return tirx.Shuffle([even, odd], list(map(index, range(lanes))))

    def _sums_type(self, value: Expr) -> Expr:
        if self.form.sums is Sums.NARROW or "int64" in str(value.ty.dtype):
            return value
        return value.astype(f"int64x{self.lanes}")

    def _rounded(self, x: Expr, weights: Expr) -> Expr:
        """A product of scales without its dropped bits: nearest, halves to even."""
        form, lanes = self.form, self.lanes
        what, ranges = form.what, form.ranges
        assert what.product_bits is not None
        dtype = "int32" if ranges.x_scale * ranges.w_scale < 2**30 else "int64"
        if dtype == "int64":
            x, weights = (v.astype(f"int64x{lanes}") for v in (x, weights))

        def every(value: int) -> Expr:
            return broadcast(tirx.const(value, dtype), lanes)

        product = self.bind("product", x * weights)
        odd = (product >> every(what.dropped)) & every(1)
        up = product + every((1 << (what.dropped - 1)) - 1) + odd
        most = every((1 << what.product_bits) - 1)
        rounded = self.bind("rounded", tirx.min(up >> every(what.dropped), most))
        return rounded.astype(f"int32x{lanes}") if form.sums is Sums.NARROW else rounded
