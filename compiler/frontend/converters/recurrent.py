"""LSTM, GRU and RNN over a static number of steps, unrolled.

The products with the inputs of all steps are one matrix product; a step then adds its
product with the state. Gate orders are ONNX's: i, o, f, c for LSTM and z, r, h for GRU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import constant

MAX_STEPS = 512
_DEFAULTS = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"], "RNN": ["tanh"]}
_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "sigmoid": relax.op.sigmoid,
    "tanh": relax.op.tanh,
    "relu": relax.op.nn.relu,
}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@dataclass(frozen=True)
class _Direction:
    """One direction's weights.

    projected: inputs of all steps times W plus biases, ``[steps, batch, gates x hidden]``.
    recurrent: R transposed, ``[hidden, gates x hidden]``; bias: R's bias of GRU's h gate.
    """

    projected: relax.Expr
    recurrent: NDArray[Any]
    bias: NDArray[Any]
    peephole: NDArray[Any] | None
    functions: list[Callable[[Any], Any]]
    hidden: int


def recurrent(node: Node) -> list[relax.Expr]:
    """Outputs Y, Y_h and, of LSTM, Y_c."""
    layout = int(node.attr("layout", 0))
    x = relax.op.permute_dims(node.x(), [1, 0, 2]) if layout else node.x()
    x = node.emit(x)
    steps, _, _ = node.shape(x)
    steps = node.static([steps], "the number of steps")[0]
    if steps > MAX_STEPS:
        node.refuse(f"{steps} steps: at most {MAX_STEPS} are unrolled")
    _check(node, steps)
    kind = node.attr("direction", "forward")
    count = 2 if kind == "bidirectional" else 1
    runs = [_run(node, x, d, kind == "reverse" or d == 1, steps) for d in range(count)]
    return _outputs(node, runs, layout)


def _check(node: Node, steps: int) -> None:
    if node.attr("clip") is not None or node.attr("input_forget", 0):
        node.refuse("clip and input_forget are not supported")
    if node.has(4) and (node.needed_constant(4, "sequence_lens") != steps).any():
        node.refuse("sequences of different lengths")


def _outputs(node: Node, runs: list[tuple[Any, ...]], layout: int) -> list[relax.Expr]:
    """Y ``[steps, directions, batch, hidden]`` and the last states, in the node's layout."""
    whole = node.emit(relax.op.stack([run[0] for run in runs], 1))
    lasts = [node.emit(relax.op.stack([run[i] for run in runs], 0)) for i in range(1, len(runs[0]))]
    if layout:
        whole = relax.op.permute_dims(whole, [2, 0, 1, 3])
        lasts = [relax.op.permute_dims(last, [1, 0, 2]) for last in lasts]
    return [whole, *lasts]


def _run(node: Node, x: relax.Expr, d: int, backwards: bool, steps: int) -> tuple[Any, ...]:
    """One direction: all states ``[steps, batch, hidden]`` and the last one(s)."""
    direction = _direction(node, x, d)
    batch = node.shape(x)[1]
    h = _initial(node, 5, d, batch, direction.hidden)
    c = _initial(node, 6, d, batch, direction.hidden) if node.op_type == "LSTM" else None
    states: list[Any] = [None] * steps
    for t in reversed(range(steps)) if backwards else range(steps):
        gates = node.emit(relax.op.take(direction.projected, constant(np.int64(t)), 0, mode="clip"))
        if node.op_type == "LSTM":
            h, c = _lstm(node, direction, gates, h, c)
        else:
            h = (_gru if node.op_type == "GRU" else _rnn)(node, direction, gates, h)
        states[t] = h
    whole = node.emit(relax.op.stack(states, 0))
    return (whole, h) if c is None else (whole, h, c)


def _direction(node: Node, x: relax.Expr, d: int) -> _Direction:
    gates = _GATES[node.op_type]
    weight, state = node.needed_constant(1, "W")[d], node.needed_constant(2, "R")[d]
    hidden = state.shape[1]
    size = gates * hidden
    both = node.needed_constant(3, "B")[d] if node.has(3) else np.zeros(2 * size, weight.dtype)
    bias, held = both[:size] + both[size:], np.zeros(hidden, weight.dtype)
    if node.op_type == "GRU" and node.attr("linear_before_reset", 0):
        held = both[-hidden:]  # inside the reset product, so it cannot join the others
        bias = np.concatenate([bias[: 2 * hidden], both[2 * hidden : size]])
    product = node.emit(relax.op.matmul(x, constant(weight.T)))
    lstm = node.op_type == "LSTM"
    return _Direction(
        node.emit(relax.op.add(product, constant(bias))),
        np.ascontiguousarray(state.T),
        held,
        node.needed_constant(7, "P")[d] if lstm and node.has(7) else None,
        _functions(node, d),
        hidden,
    )


def _functions(node: Node, d: int) -> list[Callable[[Any], Any]]:
    default = _DEFAULTS[node.op_type]
    names = [str(n).lower() for n in node.attr("activations") or default * 2]
    chosen = names[d * len(default) : (d + 1) * len(default)]
    unknown = [n for n in chosen if n not in _FUNCTIONS]
    if unknown or len(chosen) != len(default):
        node.refuse(f"activations {names}: only Sigmoid, Tanh and Relu are supported")
    return [_FUNCTIONS[n] for n in chosen]


def _initial(node: Node, index: int, d: int, batch: Any, hidden: int) -> relax.Expr:
    """State before the first step, ``[batch, hidden]``."""
    if not node.has(index):
        return node.emit(relax.op.zeros(relax.ShapeExpr([batch, hidden]), node.dtype()))
    axis = 1 if node.attr("layout", 0) else 0
    return node.emit(relax.op.take(node.x(index), constant(np.int64(d)), axis, mode="clip"))


def _parts(node: Node, gates: relax.Expr, count: int) -> list[relax.Expr]:
    split = node.emit(relax.op.split(gates, count, 1))
    return [node.emit(relax.TupleGetItem(split, i)) for i in range(count)]


def _lstm(
    node: Node, direction: _Direction, gates: relax.Expr, h: relax.Expr, c: relax.Expr
) -> tuple[relax.Expr, relax.Expr]:
    """C' = f c + i g;  h' = o tanh(c'), with peepholes from c to i and f, from c' to o."""
    f, g, k = direction.functions
    product = node.emit(relax.op.matmul(h, constant(direction.recurrent)))
    i, o, forget, cell = _parts(node, node.emit(relax.op.add(gates, product)), 4)
    peephole = direction.peephole
    peeps = [None] * 3 if peephole is None else np.split(peephole, 3)

    def seen(gate: relax.Expr, state: relax.Expr, weight: Any) -> relax.Expr:
        if weight is None:
            return gate
        return relax.op.add(gate, relax.op.multiply(state, constant(weight)))

    kept = relax.op.multiply(f(seen(forget, c, peeps[2])), c)
    c = node.emit(relax.op.add(kept, relax.op.multiply(f(seen(i, c, peeps[0])), g(cell))))
    return node.emit(relax.op.multiply(f(seen(o, c, peeps[1])), k(c))), c


def _gru(node: Node, direction: _Direction, gates: relax.Expr, h: relax.Expr) -> relax.Expr:
    """H' = (1 - z) g + z h, with the reset gate before or after the recurrent product."""
    f, g = direction.functions
    n = direction.hidden
    z, r, new = _parts(node, gates, 3)
    both = node.emit(relax.op.matmul(h, constant(direction.recurrent[:, : 2 * n])))
    hz, hr = _parts(node, both, 2)
    z = node.emit(f(relax.op.add(z, hz)))
    r = node.emit(f(relax.op.add(r, hr)))
    last = constant(direction.recurrent[:, 2 * n :])
    if node.attr("linear_before_reset", 0):
        product = relax.op.add(relax.op.matmul(h, last), constant(direction.bias))
        held = relax.op.multiply(r, product)
    else:
        held = relax.op.matmul(relax.op.multiply(r, h), last)
    new = g(relax.op.add(new, held))
    rest = relax.op.subtract(node.scalar(1), z)
    return node.emit(relax.op.add(relax.op.multiply(rest, new), relax.op.multiply(z, h)))


def _rnn(node: Node, direction: _Direction, gates: relax.Expr, h: relax.Expr) -> relax.Expr:
    """H' = f(x W + h R + b)."""
    product = relax.op.matmul(h, constant(direction.recurrent))
    return node.emit(direction.functions[0](relax.op.add(gates, product)))


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "LSTM": recurrent,
    "GRU": recurrent,
    "RNN": recurrent,
}
