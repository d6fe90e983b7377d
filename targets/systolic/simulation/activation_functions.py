"""Activation functions of the vector unit, in fp32, as compiled loops over accumulators.

Formulas are ONNX's; SOFTPLUS and SIGMOID are written so that they do not overflow.
Integers have ABS and NEGATE only (modulo 2**32).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from motet.targets.systolic.instructions.isa import Activation
from motet.targets.systolic.simulation.compiled import kernel

INTEGER_ACTIVATIONS = (Activation.NONE, Activation.ABS, Activation.NEGATE)

_ONE, _HALF = np.float32(1.0), np.float32(0.5)
_ROOT_HALF = np.float32(math.sqrt(0.5))
_GELU_SCALE, _GELU_CUBE = np.float32(math.sqrt(2.0 / math.pi)), np.float32(0.044715)
_SIXTH = np.float32(1.0 / 6.0)

(
    _SIGMOID,
    _TANH,
    _ERF,
    _GELU,
    _GELU_TANH,
    _SILU,
    _HARD_SIGMOID,
    _HARD_SWISH,
    _LEAKY_RELU,
    _ELU,
    _SOFTPLUS,
    _MISH,
    _EXP,
    _SQRT,
    _RECIPROCAL,
    _RSQRT,
    _ABS,
    _NEGATE,
) = (int(one) for one in Activation if one is not Activation.NONE)


@kernel
def _sigmoid(x: Any) -> Any:
    small = math.exp(-abs(x))
    return _ONE / (_ONE + small) if x >= 0 else small / (_ONE + small)


@kernel
def _softplus(x: Any) -> Any:
    return max(x, np.float32(0)) + math.log1p(math.exp(-abs(x))) if x == x else x


@kernel
def _unit(x: Any) -> Any:
    """``x`` limited to [0, 1]; a NaN stays one."""
    low = np.float32(0) if x < 0 else x
    return _ONE if low > _ONE else low


@kernel
def _smooth(kind: int, x: Any) -> Any:
    """Those that need an exponential or an error function, and no parameter."""
    if kind == _SIGMOID:
        return _sigmoid(x)
    if kind == _TANH:
        return math.tanh(x)
    if kind == _ERF:
        return math.erf(x)
    if kind == _GELU:
        return _HALF * x * (_ONE + math.erf(x * _ROOT_HALF))
    if kind == _GELU_TANH:
        return _HALF * x * (_ONE + math.tanh(_GELU_SCALE * (x + _GELU_CUBE * x * x * x)))
    if kind == _SILU:
        return x * _sigmoid(x)
    if kind == _SOFTPLUS:
        return _softplus(x)
    if kind == _MISH:
        return x * math.tanh(_softplus(x))
    return math.exp(x)


@kernel
def _piecewise(kind: int, x: Any, alpha: Any) -> Any:
    """The others."""
    if kind == _HARD_SIGMOID:
        return _unit(alpha * x + _HALF)
    if kind == _HARD_SWISH:
        return x * _unit(x * _SIXTH + _HALF)
    if kind == _LEAKY_RELU:
        return alpha * x if x < 0 else x
    if kind == _ELU:
        return alpha * np.float32(math.expm1(x)) if x < 0 else x
    if kind == _SQRT:
        return math.sqrt(x)
    if kind == _RECIPROCAL:
        return _ONE / x
    if kind == _RSQRT:
        return _ONE / math.sqrt(x)
    return abs(x) if kind == _ABS else -x


def activate(kind: int, sums: Any, alpha: Any) -> None:
    """Apply ``Activation`` ``kind`` (not NONE) to every value of ``sums`` in place."""
    raise NotImplementedError("compiled code only")


@overload(activate, strict=False)
def _activate(kind: Any, sums: Any, alpha: Any) -> Any:
    if not isinstance(sums.dtype, types.Float):
        return _activate_integers
    return _activate_floats


def _activate_integers(kind: Any, sums: Any, alpha: Any) -> None:
    for i in range(len(sums)):
        sums[i] = -sums[i] if kind == _NEGATE or sums[i] < 0 else sums[i]


def _activate_floats(kind: Any, sums: Any, alpha: Any) -> None:
    smooth = kind <= _SILU or (kind >= _SOFTPLUS and kind <= _EXP)
    for i in range(len(sums)):
        if smooth:
            sums[i] = _smooth(kind, sums[i])
        else:
            sums[i] = _piecewise(kind, sums[i], alpha)
