"""Element-wise operators: Clip as one Relax operator, and those that TVM gets wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend.node import Node, is_float
from motet.compiler.frontend.values import Constant, Value, constant


def _bound(node: Node, index: int, name: str) -> Value | None:
    """A bound of Clip: attribute (opset < 11), input, or None for none."""
    if node.opset < 11:
        value = node.attr(name)
        return None if value is None else Constant(np.array(value, dtype=node.dtype()))
    return node.inputs[index] if node.has(index) else None


def _known(bound: Value | None) -> float | int | None:
    """A constant bound as a number; NaN bounds nothing, as in onnxruntime."""
    if not isinstance(bound, Constant) or bound.array.size != 1:
        return None
    number = bound.array.reshape(()).item()
    return None if number != number else number


def clip(node: Node) -> relax.Expr:
    """Clip: ``R.clip`` for two constant bounds (ReLU6 is one operator), else minimum/maximum."""
    x, low, high = node.x(), _bound(node, 1, "min"), _bound(node, 2, "max")
    a, b = _known(low), _known(high)
    if a is not None and b is not None and np.isfinite([a, b]).all():
        # With the bounds crossed ONNX takes the upper one, whatever x is.
        return relax.op.clip(x, min(a, b), b)
    if low is not None and not (isinstance(low, Constant) and a is None):
        x = node.emit(relax.op.maximum(x, node.tensor(low)))
    if high is not None and not (isinstance(high, Constant) and b is None):
        x = node.emit(relax.op.minimum(x, node.tensor(high)))
    return x


def _variadic(operator: Callable[[Any, Any], Any]) -> Callable[[Node], relax.Expr]:
    def convert(node: Node) -> relax.Expr:
        inputs = [node.x(i) for i in range(len(node.inputs))]
        return reduce(lambda a, b: node.emit(operator(a, b)), inputs)

    return convert


def mean(node: Node) -> relax.Expr:
    """Mean of tensors, element by element."""
    total = _variadic(relax.op.add)(node)
    return relax.op.divide(total, node.scalar(len(node.inputs)))


def power(node: Node) -> relax.Expr:
    """Pow: the exponent takes the base's type; squares and roots become their own operators."""
    x, exponent = node.x(), node.constant(1)
    if not is_float(node.dtype()):
        return _integer_power(node, exponent)
    if exponent is not None and exponent.size == 1 and exponent.ndim <= node.rank():
        number = float(exponent.reshape(-1)[0])
        if number == 2:
            return relax.op.multiply(x, x)
        if number == 0.5:
            return relax.op.sqrt(x)
        if number == 1:
            return x
        return relax.op.power(x, constant(exponent.astype(node.dtype())))
    y = node.x(1)
    dtype = node.dtype()
    if node.dtype(y) == dtype:
        return relax.op.power(x, y)
    return relax.op.power(x, relax.op.astype(y, dtype))


def _integer_power(node: Node, exponent: Any) -> relax.Expr:
    """An integer to a small constant power, by multiplication (Relax's power is for floats)."""
    count = None if exponent is None or exponent.size != 1 else float(exponent.reshape(-1)[0])
    if count is None or count != int(count) or not 1 <= count <= 8:
        return _run_time_power(node)
    result = node.x()
    for _ in range(int(count) - 1):
        result = node.emit(relax.op.multiply(result, node.x()))
    return result


def _run_time_power(node: Node) -> relax.Expr:
    """An integer to a power that the run gives.

    A floating-point exponent: in float64, rounded towards zero. An integer one: by squaring,
    exact as long as the result fits its type; powers below 0 are 0 but for a base of 1 or -1.
    """
    x, y, dtype = node.x(), node.x(1), node.dtype()
    if is_float(node.dtype(y)):
        wide = (relax.op.astype(v, "float64") for v in (x, y))
        return relax.op.astype(relax.op.trunc(relax.op.power(*wide)), dtype)
    y = node.emit(relax.op.astype(y, "int64"))
    zero, one = node.scalar(0, "int64"), node.scalar(1)
    # Only 0, 1 and -1 have powers beyond 64 that fit: there parity says all.
    few = node.emit(relax.op.bitwise_and(y, node.scalar(63, "int64")))
    few = relax.op.where(
        relax.op.logical_and(relax.op.equal(few, zero), relax.op.not_equal(y, zero)),
        node.scalar(2, "int64"),
        few,
    )
    few, result, square = node.emit(few), one, x
    for bit in range(6):
        taken = relax.op.bitwise_and(few, node.scalar(1 << bit, "int64"))
        factor = relax.op.where(relax.op.not_equal(taken, zero), square, one)
        result = node.emit(relax.op.multiply(result, factor))
        square = node.emit(relax.op.multiply(square, square))
    unit = relax.op.equal(x, one)
    if dtype.startswith("int"):
        unit = relax.op.logical_or(unit, relax.op.equal(x, node.scalar(-1)))
    whole = relax.op.logical_or(relax.op.greater_equal(y, zero), node.emit(unit))
    return relax.op.where(node.emit(whole), result, node.scalar(0))


def modulo(node: Node) -> relax.Expr:
    """Mod: sign of the divisor for integers, C's fmod where ``fmod = 1``."""
    x, y = node.x(), node.x(1)
    if node.attr("fmod", 0):
        return relax.op.mod(x, y)
    if is_float(node.dtype()):
        return _floor_mod(node, x, y)
    return relax.op.floor_mod(x, y)


def _floor_mod(node: Node, x: relax.Expr, y: relax.Expr) -> relax.Expr:
    """The remainder of floating-point numbers with the divisor's sign, as numpy has it."""
    rest = node.emit(relax.op.mod(x, y))
    zero = node.scalar(0)
    differ = relax.op.not_equal(relax.op.less(rest, zero), relax.op.less(y, zero))
    moved = relax.op.logical_and(relax.op.not_equal(rest, zero), node.emit(differ))
    return relax.op.where(node.emit(moved), relax.op.add(rest, y), rest)


def divide(node: Node) -> relax.Expr:
    """Div; a constant integer divisor of zero is refused."""
    divisor = node.constant(1)
    if divisor is not None and not is_float(node.dtype()) and (divisor == 0).any():
        node.refuse("integer division by the constant 0")
    return relax.op.divide(node.x(), node.x(1))


def bit_shift(node: Node) -> relax.Expr:
    """BitShift; beyond the width all bits leave, where machine shifts wrap around."""
    x, amount, dtype = node.x(), node.x(1), node.dtype()
    operator = relax.op.left_shift if node.attr("direction") == "LEFT" else relax.op.right_shift
    inside = relax.op.less(amount, node.scalar(np.iinfo(dtype).bits))
    if dtype.startswith("int"):
        inside = relax.op.logical_and(inside, relax.op.greater_equal(amount, node.scalar(0)))
    inside = node.emit(inside)
    emptied = node.scalar(0)
    if dtype.startswith("int") and node.attr("direction") == "RIGHT":
        negative = relax.op.less(x, node.scalar(0))
        emptied = relax.op.where(negative, node.scalar(-1), node.scalar(0))
    safe = node.emit(relax.op.where(inside, amount, node.scalar(0)))
    return relax.op.where(inside, operator(x, safe), emptied)


def is_inf(node: Node) -> relax.Expr:
    """IsInf with ``detect_positive`` and ``detect_negative``."""
    x = node.x()
    positive, negative = node.attr("detect_positive", 1), node.attr("detect_negative", 1)
    if positive and negative:
        return relax.op.isinf(x)
    if not positive and not negative:
        return relax.op.zeros(relax.ShapeExpr(node.shape()), "bool")
    return relax.op.equal(x, node.scalar(np.inf if positive else -np.inf))


def elu(node: Node) -> relax.Expr:
    """Elu: x above 0, alpha (exp(x) - 1) below; exp only sees x <= 0, so it cannot overflow."""
    return _elu(node, float(node.attr("alpha", 1.0)))


def _elu(node: Node, alpha: float) -> relax.Expr:
    x = node.x()
    below = node.emit(relax.op.minimum(x, node.scalar(0)))
    bent = relax.op.subtract(relax.op.exp(below), node.scalar(1))
    if alpha != 1.0:
        bent = relax.op.multiply(bent, node.scalar(alpha))
    return relax.op.add(relax.op.nn.relu(x), bent)


def selu(node: Node) -> relax.Expr:
    """Selu: gamma times Elu."""
    gamma = float(node.attr("gamma", 1.05070102214813232421875))
    scaled = _elu(node, float(node.attr("alpha", 1.67326319217681884765625)))
    return relax.op.multiply(scaled, node.scalar(gamma))


def thresholded_relu(node: Node) -> relax.Expr:
    """ThresholdedRelu: x above alpha, else 0."""
    above = relax.op.greater(node.x(), node.scalar(float(node.attr("alpha", 1.0))))
    return relax.op.where(above, node.x(), node.scalar(0))


def gelu(node: Node) -> relax.Expr:
    """Gelu, exact or with the tanh approximation that the node asks for."""
    if node.attr("approximate", "none") == "tanh":
        return relax.op.nn.gelu_tanh(node.x())
    return relax.op.nn.gelu(node.x())


def mish(node: Node) -> relax.Expr:
    """Mish: x tanh(softplus(x)), with a softplus that does not overflow."""
    x = node.x()
    tail = relax.op.exp(relax.op.negative(relax.op.abs(x)))
    softplus = relax.op.add(relax.op.nn.relu(x), relax.op.log(relax.op.add(tail, node.scalar(1))))
    return relax.op.multiply(x, relax.op.tanh(softplus))


def swish(node: Node) -> relax.Expr:
    """Swish: x sigmoid(alpha x)."""
    x, alpha = node.x(), float(node.attr("alpha", 1.0))
    inner = x if alpha == 1.0 else relax.op.multiply(x, node.scalar(alpha))
    return relax.op.multiply(x, relax.op.sigmoid(inner))


def reciprocal(node: Node) -> relax.Expr:
    """Reciprocal: 1 / x."""
    return relax.op.divide(node.scalar(1), node.x())


def identity(node: Node) -> Value:
    """Identity."""
    return node.value(0)


def dropout(node: Node) -> list[Value | relax.Expr]:
    """Dropout at inference: the input, and a mask of ones where it is asked for."""
    training = node.constant(2)
    if node.has(2) and (training is None or training.any()):
        node.refuse("training_mode must be a constant false: Motet runs inference only")
    outputs: list[Value | relax.Expr] = [node.value(0)]
    if node.outputs > 1:
        # Before opset 10 the mask has the type of the data.
        dtype = "bool" if node.opset >= 10 else node.dtype()
        outputs.append(relax.op.ones(relax.ShapeExpr(node.shape()), dtype))
    return outputs


def prelu(node: Node) -> relax.Expr:
    """PRelu: x, times its slope where it is negative; the slope stretches to x."""
    x, slope = node.x(), node.x(1)
    dims, sizes = node.shape(x), node.shape(slope)
    wide = [axis - len(sizes) for axis, size in enumerate(sizes) if size != 1]
    if len(sizes) > len(dims) or any(
        isinstance(sizes[a], int) and isinstance(dims[a], int) and sizes[a] != dims[a] for a in wide
    ):
        node.refuse(f"its slope of shape {list(sizes)} does not stretch to x of {list(dims)}")
    known = node.constant(1)
    if known is not None and known.size == 1 and is_float(node.dtype(x)):
        return relax.op.nn.leakyrelu(x, float(known.item()))
    if len(wide) == 1 and isinstance(dims[wide[0]], int) and sizes[wide[0]] == dims[wide[0]]:
        axis = len(dims) + wide[0]
        return relax.op.nn.prelu(x, _flat(node, slope, known), axis)
    negative = relax.op.less(x, node.scalar(0))
    return relax.op.where(negative, relax.op.multiply(x, slope), x)


def _flat(node: Node, x: relax.Expr, known: Any) -> relax.Expr:
    """``x``, whose constant value is ``known`` or None, as a list."""
    return relax.op.reshape(x, (-1,)) if known is None else constant(known.reshape(-1))


def equal(node: Node) -> relax.Expr:
    """Equal; of booleans as what it is, since vector units compare numbers only."""
    if node.dtype() != "bool":
        return relax.op.equal(node.x(), node.x(1))
    return relax.op.logical_not(node.emit(relax.op.logical_xor(node.x(), node.x(1))))


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "Clip": clip,
    "Min": _variadic(relax.op.minimum),
    "Max": _variadic(relax.op.maximum),
    "Sum": _variadic(relax.op.add),
    "Mean": mean,
    "Pow": power,
    "Mod": modulo,
    "Div": divide,
    "BitShift": bit_shift,
    "IsInf": is_inf,
    "Equal": equal,
    "PRelu": prelu,
    "Elu": elu,
    "Selu": selu,
    "ThresholdedRelu": thresholded_relu,
    "Gelu": gelu,
    "Mish": mish,
    "Swish": swish,
    "Reciprocal": reciprocal,
    "Identity": identity,
    "Dropout": dropout,
}
