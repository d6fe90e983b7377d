"""LSTM, GRU and RNN: a matrix product over the inputs of all steps, then the recurrence.

The recurrence is one operator, ``motet.recurrence``, over any number of steps; weights may
come at run time. What is known at compile time (transposed weights, joined biases) is
computed here. Gate orders are ONNX's: i, o, f, c for LSTM and z, r, h for GRU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import constant
from motet.targets.operators.recurrence import GATES, Recurrence, recurrence

_DEFAULTS = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"], "RNN": ["tanh"]}
# Alpha and beta where the node gives none (ONNX, operator RNN, attribute activation_alpha).
_PARAMETERS = {
    "sigmoid": (0.0, 0.0),
    "tanh": (0.0, 0.0),
    "relu": (0.0, 0.0),
    "affine": (1.0, 0.0),
    "leakyrelu": (0.01, 0.0),
    "thresholdedrelu": (1.0, 0.0),
    "scaledtanh": (1.0, 1.0),
    "hardsigmoid": (0.2, 0.5),
    "elu": (1.0, 0.0),
    "softsign": (0.0, 0.0),
    "softplus": (0.0, 0.0),
}
_TAKES_ALPHA = frozenset(
    ("affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu")
)
_TAKES_BETA = frozenset(("affine", "scaledtanh", "hardsigmoid"))


def recurrent(node: Node) -> list[relax.Expr]:
    """Outputs Y, Y_h and, of LSTM, Y_c."""
    layout = int(node.attr("layout", 0))
    x = node.emit(relax.op.permute_dims(node.x(), [1, 0, 2]) if layout else node.x())
    kind = node.attr("direction", "forward")
    count = 2 if kind == "bidirectional" else 1
    functions = _activations(node, count)
    runs = [_run(node, x, d, kind == "reverse" or d == 1, functions[d]) for d in range(count)]
    return _outputs(node, runs, layout)


def _outputs(node: Node, runs: list[list[relax.Expr]], layout: int) -> list[relax.Expr]:
    """Y ``[steps, directions, batch, hidden]`` and the last states, in the node's layout."""
    whole = node.emit(relax.op.stack([run[0] for run in runs], 1))
    lasts = [node.emit(relax.op.stack([run[i] for run in runs], 0)) for i in range(1, len(runs[0]))]
    if layout:
        whole = relax.op.permute_dims(whole, [2, 0, 1, 3])
        lasts = [relax.op.permute_dims(last, [1, 0, 2]) for last in lasts]
    return [whole, *lasts]


def _run(
    node: Node, x: relax.Expr, d: int, reverse: bool, functions: Sequence[tuple[str, float, float]]
) -> list[relax.Expr]:
    """One direction: the states of all steps ``[steps, batch, hidden]``, and the last one(s)."""
    wide = "float64" if node.dtype() == "float64" else "float32"
    operands = {
        name: node.emit(relax.op.astype(value, wide)) if node.dtype() != wide else value
        for name, value in _operands(node, x, d).items()
    }
    if node.has(4):
        operands["lengths"] = node.emit(relax.op.astype(node.x(4), "int32"))
    what = Recurrence(
        node.op_type,
        tuple(operands),
        tuple(functions),
        reverse,
        bool(node.attr("linear_before_reset", 0)),
        float(node.attr("clip", float("inf"))),
        bool(node.attr("input_forget", 0)),
    )
    result = node.emit(recurrence(what, list(operands.values())))
    fields = [node.emit(relax.TupleGetItem(result, i)) for i in range(1 + what.states)]
    if node.dtype() == wide:
        return fields
    return [node.emit(relax.op.astype(field, node.dtype())) for field in fields]


def _operands(node: Node, x: relax.Expr, d: int) -> dict[str, relax.Expr]:
    """The floating-point operands of direction ``d``, in the operator's order."""
    batch, hidden = node.shape(x)[1], _of_direction(node, 2, d).ty.shape.values[1]
    joined, held = _biases(node, d, int(hidden))
    projected = node.emit(relax.op.matmul(x, _transposed(node, 1, d)))
    if joined is not None:
        projected = node.emit(relax.op.add(projected, joined))
    operands = {
        "projected": projected,
        "recurrent": _transposed(node, 2, d),
        "h": _initial(node, 5, d, batch, hidden),
    }
    if node.op_type == "LSTM":
        operands["c"] = _initial(node, 6, d, batch, hidden)
    if node.op_type == "GRU" and node.attr("linear_before_reset", 0):
        zeros = constant(np.zeros(int(hidden), node.dtype()))
        operands["held"] = zeros if held is None else held
    if node.op_type == "LSTM" and node.has(7):
        if node.rank(node.x(7)) != 2:
            node.refuse("its P (input 7) is no matrix")
        operands["peephole"] = _of_direction(node, 7, d)
    return operands


def _of_direction(node: Node, index: int, d: int) -> relax.Expr:
    """Direction ``d`` of an input whose first axis is the directions."""
    array = node.constant(index)
    if array is not None:
        return constant(array[d])
    return node.emit(relax.op.take(node.x(index), constant(np.int64(d)), 0, mode="clip"))


def _transposed(node: Node, index: int, d: int) -> relax.Expr:
    """W or R of direction ``d``, with the gates as columns."""
    array = node.constant(index)
    if array is not None:
        return constant(np.ascontiguousarray(array[d].T))
    return node.emit(relax.op.permute_dims(_of_direction(node, index, d), [1, 0]))


def _biases(node: Node, d: int, hidden: int) -> tuple[relax.Expr | None, relax.Expr | None]:
    """The bias that joins the inputs' product, and GRU's that stays inside the reset product."""
    if not node.has(3):
        return None, None
    size = GATES[node.op_type] * hidden
    apart = node.op_type == "GRU" and node.attr("linear_before_reset", 0)
    array = node.constant(3)
    if array is not None:
        of_w, of_r = array[d][:size], array[d][size:].copy()
        held = constant(of_r[-hidden:].copy())
        if apart:
            of_r[-hidden:] = 0
        return constant(of_w + of_r), held
    of_w, of_r = _slice(node, d, 0, size), _slice(node, d, size, 2 * size)
    held = _slice(node, d, 2 * size - hidden, 2 * size)
    if apart:
        gates = _slice(node, d, size, 2 * size - hidden)
        zeros = constant(np.zeros(hidden, node.dtype()))
        of_r = node.emit(relax.op.concat([gates, zeros], 0))
    return node.emit(relax.op.add(of_w, of_r)), held


def _slice(node: Node, d: int, begin: int, end: int) -> relax.Expr:
    """Elements of a run-time bias of direction ``d``."""
    return node.emit(relax.op.strided_slice(_of_direction(node, 3, d), [0], [begin], [end]))


def _initial(node: Node, index: int, d: int, batch: Any, hidden: Any) -> relax.Expr:
    """State before the first step, ``[batch, hidden]``."""
    if not node.has(index):
        return node.emit(relax.op.zeros(relax.ShapeExpr([batch, hidden]), node.dtype()))
    axis = 1 if node.attr("layout", 0) else 0
    return node.emit(relax.op.take(node.x(index), constant(np.int64(d)), axis, mode="clip"))


def _activations(node: Node, directions: int) -> list[list[tuple[str, float, float]]]:
    """Per direction its activations, each with alpha and beta.

    ONNX lists alphas and betas of those activations only that take one, in order.
    """
    default = _DEFAULTS[node.op_type]
    names = [str(n).lower() for n in node.attr("activations") or default * directions]
    if len(names) != len(default) * directions or any(n not in _PARAMETERS for n in names):
        node.refuse(
            f"activations {names}: {len(default)} for each direction are needed, of "
            + ", ".join(sorted(_PARAMETERS))
        )
    alphas, betas = list(node.attr("activation_alpha", [])), list(node.attr("activation_beta", []))
    chosen = []
    for name in names:
        alpha, beta = _PARAMETERS[name]
        if name in _TAKES_ALPHA and alphas:
            alpha = float(alphas.pop(0))
        if name in _TAKES_BETA and betas:
            beta = float(betas.pop(0))
        chosen.append((name, alpha, beta))
    return [chosen[d * len(default) : (d + 1) * len(default)] for d in range(directions)]


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "LSTM": recurrent,
    "GRU": recurrent,
    "RNN": recurrent,
}
