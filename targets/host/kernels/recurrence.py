"""Recurrent networks: ``motet.recurrence`` as one kernel over all steps.

Sequences of a batch are parallel; along its steps a sequence is serial, as it must be:

    for b in parallel(batch):
        for s in range(length of b):
            gates[j]  = projected[t, b, j]                       whole vectors
            gates[j] += h[k] * R[k, j]   j in blocks of 4 vectors that stay in registers, k inside
            c, h      = what the cell says, element by element   whole vectors
            Y[t, b]   = h

R is read once a step, row by row; it is what the kernel's time goes to, and for the usual
sizes it stays in the second-level cache. Operands and gate orders are those of
``motet.targets.operators.recurrence``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tvm import relax, te, tirx

from motet.targets.host.fast_math import fast
from motet.targets.host.kernels.vectors import vector_loop
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    broadcast,
    constant_of,
    index,
    load,
    loop,
    parallel,
    ramp,
    scratch,
    seq,
    store,
)  # fmt: skip
from motet.targets.operators.recurrence import GATES, NAME, Recurrence

# Two registers of AVX2, one of AVX-512; four of them hide the latency of the additions.
LANES = 16
BLOCK = 4 * LANES


def activation(name: str, alpha: float, beta: float, x: Expr) -> Expr:
    """ONNX's activation of recurrent operators, of one element."""
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


class _Cell:
    """One sequence's buffers, and the statements of a step."""

    def __init__(self, what: Recurrence, operands: Mapping[str, Buffer]) -> None:
        self.what = what
        self.operands = operands
        self.dtype = str(operands["projected"].dtype)
        self.hidden = constant_of(operands["recurrent"].shape[0]) or 0
        self.h = scratch("state", [self.hidden], self.dtype)
        self.c = scratch("cell", [self.hidden], self.dtype)
        self.gates = scratch("gates", [GATES[what.cell] * self.hidden], self.dtype)
        self.mixed = scratch("mixed", [self.hidden], self.dtype)

    def buffers(self) -> list[Buffer]:
        """What a sequence needs for itself."""
        kinds = {"LSTM": [self.c], "GRU": [self.mixed], "RNN": []}
        return [self.h, self.gates, *kinds[self.what.cell]]

    def each(self, name: str, body: Callable[[Expr], Stmt], width: int | None = None) -> Stmt:
        """``body(j)`` for every element of a state, or of ``width``."""
        return vector_loop(name, width or self.hidden, LANES, body)

    def initial(self, b: Expr) -> Stmt:
        """The states before the first step."""

        def copy(to: Buffer, name: str) -> Stmt:
            return self.each("j", lambda j: store(to, load(self.operands[name], b, j), j))

        states = [(self.h, "h"), (self.c, "c")][: self.what.states]
        return seq(*[copy(to, name) for to, name in states])

    def act(self, number: int, x: Expr) -> Expr:
        """Activation ``number`` of ``x``, clipped before where the cell clips."""
        limit = self.what.clip
        if limit != float("inf"):
            bound = tirx.const(limit, self.dtype)
            x = tirx.max(tirx.min(x, bound), tirx.const(-limit, self.dtype))
        return activation(*self.what.activations[number], x)

    def projection(self, t: Expr, b: Expr) -> Stmt:
        """The gates start at the step's part of the product with the inputs."""
        whole, width = self.operands["projected"], GATES[self.what.cell] * self.hidden
        return self.each("g", lambda j: store(self.gates, load(whole, t, b, j), j), width)

    def product(self, source: Buffer, first: int, last: int) -> Stmt:
        """``gates[first:last] += source @ R[:, first:last]``."""
        return product(source, self.operands["recurrent"], self.gates, first, last, self.dtype)

    def gate(self, number: int, j: Expr) -> Expr:
        return load(self.gates, j + number * self.hidden)

    def step(self) -> Stmt:
        """Gates to the new states."""
        return {"LSTM": self._lstm, "GRU": self._gru, "RNN": self._rnn}[self.what.cell]()

    def activated(self, number: int, gate: int) -> Stmt:
        """``gate`` after activation ``number``, in place: a value that is read twice."""

        def one(j: Expr) -> Stmt:
            return store(self.gates, self.act(number, self.gate(gate, j)), j + gate * self.hidden)

        return self.each("j", one)

    def _rnn(self) -> Stmt:
        """H' = f(x W + h R + b)."""
        return seq(
            self.product(self.h, 0, self.hidden),
            self.each("j", lambda j: store(self.h, self.act(0, self.gate(0, j)), j)),
        )

    def _seen(self, gate: Expr, state: Expr, number: int, j: Expr) -> Expr:
        """A gate with its peephole to a cell state."""
        if "peephole" not in self.operands:
            return gate
        return gate + load(self.operands["peephole"], j + number * self.hidden) * state

    def _lstm(self) -> Stmt:
        """C' = f c + i g(c~);  H' = o h(C'). Peepholes: c to i and f, C' to o."""

        def enter(j: Expr) -> Stmt:
            return store(
                self.gates, self.act(0, self._seen(self.gate(0, j), load(self.c, j), 0, j)), j
            )

        def cell(j: Expr) -> Stmt:
            old, i = load(self.c, j), self.gate(0, j)
            if self.what.input_forget:
                forget = tirx.const(1.0, self.dtype) - i
            else:
                forget = self.act(0, self._seen(self.gate(2, j), old, 2, j))
            return store(self.c, forget * old + i * self.act(1, self.gate(3, j)), j)

        def output(j: Expr) -> Stmt:
            new = load(self.c, j)
            o = self.act(0, self._seen(self.gate(1, j), new, 1, j))
            return store(self.h, o * activation(*self.what.activations[2], new), j)

        every = self.product(self.h, 0, 4 * self.hidden)
        return seq(every, *(self.each("j", part) for part in (enter, cell, output)))

    def _gru(self) -> Stmt:
        """H' = (1 - z) g + z h, with the reset gate before or after the product of h."""
        n, after = self.hidden, self.what.linear_before_reset

        def reset(j: Expr) -> Stmt:
            return store(self.mixed, self.act(0, self.gate(1, j)) * load(self.h, j), j)

        def held(j: Expr) -> Stmt:  # the product of h alone, to be reset
            return store(self.mixed, self.gate(2, j), j)

        def start(j: Expr) -> Stmt:
            bias = load(self.operands["held"], j)
            return store(self.gates, bias, j + 2 * n)

        def add_reset(j: Expr) -> Stmt:
            r = self.act(0, self.gate(1, j))
            return store(self.gates, load(self.mixed, j) + r * self.gate(2, j), j + 2 * n)

        def new(j: Expr) -> Stmt:
            z, fresh = self.gate(0, j), self.gate(2, j)
            one = tirx.const(1.0, self.dtype)
            return store(self.h, (one - z) * fresh + z * load(self.h, j), j)

        gates = self.product(self.h, 0, 2 * n)
        if after:
            inner = seq(
                self.each("j", held), self.each("j", start),
                self.product(self.h, 2 * n, 3 * n), self.each("j", add_reset),
            )  # fmt: skip
        else:
            inner = seq(self.each("j", reset), self.product(self.mixed, 2 * n, 3 * n))
        return seq(gates, inner, self.activated(0, 0), self.activated(1, 2), self.each("j", new))


def product(
    source: Buffer, weights: Buffer, target: Buffer, first: int, last: int, dtype: str
) -> Stmt:
    """``target[first:last] += source @ weights[:, first:last]`` of a vector ``source``."""
    whole = (last - first) // BLOCK
    statements = []
    if whole:
        statements.append(
            loop("block", whole, lambda i: _block(source, weights, target, i * BLOCK + first, 4))
        )
    at = first + whole * BLOCK
    while at + LANES <= last:
        statements.append(_block(source, weights, target, index(at), 1))
        at += LANES
    if at < last:
        start, total = at, scratch("total", [1], dtype)

        def column(j: Expr) -> Stmt:
            def add(k: Expr) -> Stmt:
                term = load(source, k) * load(weights, k, j + start)
                return store(total, load(total, 0) + term, 0)

            return seq(
                store(total, load(target, j + start), 0),
                loop("k", weights.shape[0], add),
                store(target, load(total, 0), j + start),
            )

        statements.append(seq(allocate(total), loop("tail", last - at, column)))
    return seq(*statements)


def _block(source: Buffer, weights: Buffer, target: Buffer, at: Expr, vectors: int) -> Stmt:
    """``vectors`` vectors of the product from column ``at``, in registers over all of k."""
    sums = [scratch(f"sum{v}", [LANES], str(target.dtype)) for v in range(vectors)]
    lanes = [ramp(at + v * LANES, LANES) for v in range(vectors)]
    whole = ramp(index(0), LANES)

    def add(k: Expr) -> Stmt:
        one = broadcast(load(source, k), LANES)
        return seq(*[
            store(s, load(s, whole) + one * load(weights, k, where), whole)
            for s, where in zip(sums, lanes, strict=True)
        ])  # fmt: skip

    pairs = list(zip(sums, lanes, strict=True))
    return seq(
        *[allocate(s) for s in sums],
        *[store(s, load(target, where), whole) for s, where in pairs],
        loop("k", weights.shape[0], add),
        *[store(target, load(s, whole), where) for s, where in pairs],
    )


def statement(what: Recurrence, operands: Mapping[str, Buffer], outs: Sequence[Buffer]) -> Stmt:
    """The whole kernel; ``outs``: the outputs of all steps, and the last state(s)."""
    steps, batch, _ = operands["projected"].shape
    y, *lasts = outs

    def sequence(b: Expr) -> Stmt:
        cell = _Cell(what, operands)
        length = steps
        if "lengths" in operands:
            length = tirx.min(load(operands["lengths"], b).astype("int64"), steps)

        def step(s: Expr) -> Stmt:
            t = length - 1 - s if what.reverse else s
            put = cell.each("j", lambda j: store(y, load(cell.h, j), t, b, j))
            return seq(cell.projection(t, b), cell.step(), put)

        def nothing(s: Expr) -> Stmt:
            zero = tirx.const(0, cell.dtype)
            return cell.each("j", lambda j: store(y, zero, length + s, b, j))

        def keep(to: Buffer, state: Buffer) -> Stmt:
            return cell.each("j", lambda j: store(to, load(state, j), b, j))

        return seq(
            *[allocate(buffer) for buffer in cell.buffers()],
            cell.initial(b),
            _serial("s", length, step),
            _serial("rest", steps - length, nothing) if "lengths" in operands else None,
            *[keep(*pair) for pair in zip(lasts, (cell.h, cell.c), strict=False)],
        )

    return parallel(["b"], [batch], sequence, worth_it=True)


def _serial(name: str, extent: Expr, body: Callable[[Expr], Stmt]) -> Stmt:
    """A loop that stays one, whatever its extent."""
    var = tirx.Var(name, "int64")
    return tirx.For(var, index(0), index(extent), tirx.ForKind.SERIAL, body(var))


def recurrence(builder: Any, call: Any) -> relax.Expr:
    """Legalisation of ``motet.recurrence``."""
    what = Recurrence.of(call)

    def compute(*tensors: te.Tensor) -> Any:
        steps, batch, _ = tensors[0].shape
        hidden, dtype = tensors[1].shape[0], tensors[0].dtype
        shapes = [[steps, batch, hidden], *[[batch, hidden]] * what.states]

        def body(ins: list[Buffer], outs: list[Buffer]) -> Stmt:
            return statement(what, dict(zip(what.operands, ins, strict=True)), outs)

        types = [dtype] * len(shapes)
        return te.extern(shapes, list(tensors), body, dtype=types, name="recurrence")

    return builder.call_te(compute, *call.args, primfunc_name_hint="recurrence")


LEGALIZATIONS = {NAME: recurrence}
