"""Instance and group normalisation: ``(x - mean) / sqrt(variance + epsilon) * scale + shift``.

TVM takes the variance as the mean of squares minus the square of the mean, which cancels
where the mean is large, and writes it as a sum of pairs, which cannot be tiled. Here the
variance is the mean of squared deviations. Data is (N, C, *spatial); statistics are of one
channel, or of ``C / num_groups`` neighbouring ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax, te, tirx

from motet.targets.host.defaults import by_tvm
from motet.targets.host.loops import Expr, constant_of, index, product


def _statistics(x: te.Tensor, groups: Expr, epsilon: float) -> tuple[te.Tensor, te.Tensor, Expr]:
    """Mean and 1 / deviation, [N, groups], and the channels of a group."""
    batch, channels, *spatial = x.shape
    each = tirx.floordiv(channels, index(groups))
    one = constant_of(each) == 1
    extents: list[Expr] = [*([] if one else [each]), *spatial]
    count = product(extents)

    def total(of: Callable[[Expr, Expr, Sequence[Expr]], Expr], name: str) -> te.Tensor:
        axes = [te.reduce_axis((0, d), f"k{i}") for i, d in enumerate(extents)]

        def element(n: Expr, g: Expr) -> Expr:
            channel = g if one else g * each + axes[0]
            return te.sum(of(n, g, [channel, *(axes if one else axes[1:])]), axis=axes)

        return te.compute((batch, groups), element, name=name)

    sums = total(lambda n, g, at: x(n, *at), "sums")
    size = count.astype(x.dtype)
    mean = te.compute((batch, groups), lambda n, g: sums(n, g) / size, name="mean")

    def squared(n: Expr, g: Expr, at: Sequence[Expr]) -> Expr:
        deviation = x(n, *at) - mean(n, g)
        return deviation * deviation

    squares = total(squared, "squares")
    small = tirx.const(epsilon, x.dtype)
    inverse = te.compute(
        (batch, groups), lambda n, g: tirx.rsqrt(squares(n, g) / size + small), name="inverse"
    )
    return mean, inverse, each


def _normalize(
    x: te.Tensor, scale: te.Tensor, shift: te.Tensor, groups: Expr, epsilon: float
) -> te.Tensor:
    mean, inverse, each = _statistics(x, groups, epsilon)

    def element(n: Expr, c: Expr, *at: Expr) -> Expr:
        g = c if constant_of(each) == 1 else tirx.floordiv(c, each)
        return (x(n, c, *at) - mean(n, g)) * inverse(n, g) * scale(c) + shift(c)

    return te.compute(x.shape, element, name="normalized")


def _legalize(builder: Any, call: Any) -> relax.Expr:
    x, scale, shift = call.args
    rank = len(x.ty.shape.values)
    axes = sorted(int(a) % rank for a in call.attrs.axes)
    plain = int(call.attrs.channel_axis) % rank == 1 and axes == list(range(2, rank))
    if str(x.ty.dtype) != "float32" or not plain:
        return by_tvm(builder, call)
    groups = getattr(call.attrs, "num_groups", None)
    count = x.ty.shape.values[1] if groups is None else index(int(groups))

    def compute(x: te.Tensor, scale: te.Tensor, shift: te.Tensor) -> te.Tensor:
        return _normalize(x, scale, shift, count, float(call.attrs.epsilon))

    return builder.call_te(compute, x, scale, shift, primfunc_name_hint="normalize")


LEGALIZATIONS: dict[str, Callable[[Any, Any], relax.Expr]] = {
    "relax.nn.instance_norm": _legalize,
    "relax.nn.group_norm": _legalize,
}
