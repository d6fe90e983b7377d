"""What a quantisation of vectors is made of: buffers, extents, and the arithmetic of one step.

The arithmetic is that of ``targets/quantized/scales``: float32, divisions included, halves to
even.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx

from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    broadcast,
    constant_of,
    index,
    loop,
    seq,
    simplify,
)
from motet.targets.operators.vectors import Quantizing

_TINY = 2.0**-126
"""The least normal float32."""


@dataclass(frozen=True, eq=False)
class QuantizingWork:
    """``buffers``: data (outer, size, inner), integers (outer, inner, G, V), scales; all flat."""

    what: Quantizing
    gamma: Expr | None
    outer: Expr
    size: Expr
    inner: Expr
    buffers: tuple[Buffer, Buffer, Buffer]
    lanes: int

    @property
    def length(self) -> int:
        """V."""
        return self.what.kind.vector

    @property
    def count(self) -> Expr:
        """G."""
        return simplify(tirx.floordiv(self.size + self.length - 1, index(self.length)))

    def const(self, value: float, lanes: int) -> Expr:
        """A float32 in every lane."""
        return broadcast(tirx.const(value, "float32"), lanes)

    def steps(self, top: Expr, lanes: int, bind: Any) -> tuple[Expr, Expr]:
        """Scales (uint16 as float32, or float32) and divisors, of the largest magnitudes."""
        kind, gamma = self.what.kind, self.gamma
        zero = self.const(0, lanes)
        s = bind("s", top / self.const(kind.largest, lanes))
        infinite = self.const(float("inf"), lanes)
        if gamma is None:
            step = tirx.max(s, self.const(_TINY, lanes))
            step = bind("step", tirx.Select(s > zero, step, self.const(1, lanes)))
            return step, step
        scale = tirx.nearbyint(s / broadcast(gamma, lanes))
        scale = tirx.min(scale, self.const(kind.largest_scale, lanes))
        if self.what.paper:
            return bind("scale", scale), bind("step", tirx.Select(s > zero, s, infinite))
        scale = tirx.Select(s > zero, tirx.max(scale, self.const(1, lanes)), scale)
        scale = bind("scale", scale)
        step = bind("product", scale * broadcast(gamma, lanes))
        return scale, bind("step", tirx.Select(step > zero, step, infinite))

    def rounded(self, x: Expr, step: Expr, lanes: int) -> Expr:
        """Integers, as float32."""
        kind = self.what.kind
        if not kind.signed:
            x = tirx.max(x, self.const(0, lanes))
        ratio = tirx.nearbyint(x / step)
        low, high = (self.const(v, lanes) for v in (kind.least, kind.largest))
        return tirx.min(tirx.max(ratio, low), high)

    def magnitude(self, x: Expr, lanes: int) -> Expr:
        """|x|; of unsigned types what is not negative."""
        other = -x if self.what.kind.signed else self.const(0, lanes)
        return tirx.max(x, other)

    def scale_out(self, scale: Expr) -> Expr:
        """A scale as it is stored."""
        dtype = str(self.buffers[2].dtype)
        return scale if dtype == "float32" else scale.astype("int32").astype(dtype)


def cut_loop(name: str, count: Expr, lanes: int, body: Any) -> Stmt:
    """``body(start, width)`` over ``count``: whole vectors, then single elements."""
    if lanes == 1:
        return loop(name, count, lambda i: body(i, 1))
    whole = simplify(tirx.floordiv(count, index(lanes)))
    rest = simplify(count - whole * lanes)
    main = loop(name, whole, lambda i: body(i * lanes, lanes))
    if constant_of(rest) == 0:
        return main
    return seq(main, loop(f"{name}_rest", rest, lambda i: body(whole * lanes + i, 1)))
