"""Mean, variance and deviation of no elements: NaN, as numpy and onnxruntime have it.

TVM divides by the number of elements, a constant, and refuses to divide by 0. Extents that
are symbolic are divided by at run time, which gives NaN by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tvm import relax, te, tirx

from motet.targets.host.defaults import by_tvm
from motet.targets.host.loops import Expr, constant_of


def _statistic(builder: Any, call: Any) -> relax.Expr:
    """Legalisation: TVM's own, but NaN everywhere where there is nothing to average."""
    x = call.args[0]
    if all(constant_of(extent) != 0 for extent in x.ty.shape.values):
        return by_tvm(builder, call)

    def compute(x: te.Tensor) -> te.Tensor:
        def element(*_: Expr) -> Expr:
            return tirx.const(math.nan, x.dtype)

        return te.compute(call.ty.shape.values, element, name="nothing")

    return builder.call_te(compute, x, primfunc_name_hint="nothing")


LEGALIZATIONS: dict[str, Callable[[Any, Any], relax.Expr]] = {
    f"relax.{name}": _statistic for name in ("mean", "variance", "std")
}
