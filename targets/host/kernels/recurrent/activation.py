"""ONNX's activations of recurrent operators."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from motet.targets.host.fast_math import fast
from motet.targets.host.loops import Expr


def activation(name: str, alpha: float, beta: float, x: Expr) -> Expr:
    """Activation ``name`` (lower case) of one element."""
    dtype = str(x.ty.dtype)

    def c(value: float) -> Expr:
        return tirx.const(value, dtype)

    zero, one = c(0.0), c(1.0)
    formulas: dict[str, Callable[[], Expr]] = {
        "sigmoid": lambda: fast(tirx.sigmoid(x)),
        "tanh": lambda: fast(tirx.tanh(x)),
        "relu": lambda: tirx.max(x, zero),
        "affine": lambda: x * c(alpha) + c(beta),
        "leakyrelu": lambda: tirx.Select(x >= zero, x, x * c(alpha)),
        "thresholdedrelu": lambda: tirx.Select(x > c(alpha), x, zero),
        "scaledtanh": lambda: c(alpha) * fast(tirx.tanh(x * c(beta))),
        "hardsigmoid": lambda: tirx.max(tirx.min(x * c(alpha) + c(beta), one), zero),
        "elu": lambda: tirx.Select(x >= zero, x, c(alpha) * (fast(tirx.exp(x)) - one)),
        "softsign": lambda: x / (one + tirx.abs(x)),
        "softplus": lambda: tirx.log(fast(tirx.exp(x)) + one),
    }
    return formulas[name]()
