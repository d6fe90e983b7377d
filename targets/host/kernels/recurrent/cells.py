"""What a step does to one block of the state, once the gates' sums are known.

Gates are in registers, ``sums[number * width + lane]`` in the order of the phase. States are
double-buffered, [2][row][hidden]: a step reads half ``now`` and writes half ``then``, for
other blocks still read the old state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tvm import tirx

from motet.targets.host.kernels.recurrent.activation import activation
from motet.targets.host.kernels.recurrent.weights import Blocks
from motet.targets.host.loops import Buffer, Expr, Stmt, load, scratch, seq, store
from motet.targets.operators.recurrence import Recurrence


def phases(what: Recurrence) -> tuple[tuple[int, ...], ...]:
    """Gates that are computed together: all of them, but for GRU's reset before the product."""
    if what.cell == "GRU" and not what.linear_before_reset:
        return (0, 1), (2,)
    return (tuple(range({"LSTM": 4, "GRU": 3, "RNN": 1}[what.cell])),)


@dataclass(frozen=True, eq=False)
class Place:
    """An element of a step: time, sequence, its row in the state, and the element."""

    t: Expr
    b: Expr
    row: Expr
    element: Expr
    lane: Expr


class Cell:
    """The states of ``rows`` sequences, and the statements that renew them."""

    def __init__(
        self, what: Recurrence, operands: Mapping[str, Buffer], blocks: Blocks, rows: Expr
    ) -> None:
        self.what, self.operands, self.blocks = what, operands, blocks
        self.dtype = str(operands["projected"].dtype)
        shape = [2, rows, blocks.hidden]
        self.h = scratch("state", shape, self.dtype)
        self.c = scratch("cell", shape, self.dtype)
        self.update = scratch("update", shape[1:], self.dtype)
        self.mixed = scratch("mixed", shape[1:], self.dtype)

    def states(self) -> list[Buffer]:
        """The buffers of the states, as the operator's operands and outputs order them."""
        return [self.h, self.c][: self.what.states]

    def buffers(self) -> list[Buffer]:
        """What must be allocated."""
        resets_before = len(self.blocks.phases) > 1
        return [*self.states(), *([self.update, self.mixed] if resets_before else [])]

    def source(self, phase: int, now: Expr, row: Expr, k: Expr) -> Expr:
        """Element ``k`` of the vector that a phase multiplies with its weights."""
        return load(self.mixed, row, k) if phase else load(self.h, now, row, k)

    def begins_at(self, gate: int, t: Expr, b: Expr, element: Expr) -> Expr:
        """What the sum of a gate starts at: the product with the inputs, mostly."""
        if gate == 2 and "held" in self.operands:
            return load(self.operands["held"], element)
        return load(self.operands["projected"], t, b, element + gate * self.blocks.hidden)

    def finish(self, phase: int, sums: Buffer, at: Place, now: Expr) -> Stmt:
        """The statements for one element after ``phase``."""
        then = 1 - now
        if self.what.cell == "LSTM":
            return self._lstm(sums, at, now, then)
        if self.what.cell == "RNN":
            return store(self.h, self.act(0, self._gate(sums, 0, at)), then, at.row, at.element)
        if len(self.blocks.phases) == 1:
            return self._gru_reset_after(sums, at, now, then)
        return (self._gru_new if phase else self._gru_gates)(sums, at, now, then)

    def act(self, number: int, x: Expr) -> Expr:
        """Activation ``number`` of ``x``, clipped before where the cell clips."""
        limit = self.what.clip
        if limit != float("inf"):
            bound = tirx.const(limit, self.dtype)
            x = tirx.max(tirx.min(x, bound), tirx.const(-limit, self.dtype))
        return activation(*self.what.activations[number], x)

    def _gate(self, sums: Buffer, number: int, at: Place) -> Expr:
        return load(sums, at.lane + number * self.blocks.width)

    def _keep(self, sums: Buffer, number: int, at: Place, value: Expr) -> Stmt:
        """A value that is read twice stays where its gate was."""
        return store(sums, value, at.lane + number * self.blocks.width)

    def _seen(self, gate: Expr, state: Expr, number: int, at: Place) -> Expr:
        """A gate with its peephole to a cell state."""
        if "peephole" not in self.operands:
            return gate
        weight = load(self.operands["peephole"], at.element + number * self.blocks.hidden)
        return gate + weight * state

    def _lstm(self, sums: Buffer, at: Place, now: Expr, then: Expr) -> Stmt:
        """C' = f c + i g(c~);  H' = o h(C'). Peepholes: c to i and f, C' to o."""
        old, new = (load(self.c, half, at.row, at.element) for half in (now, then))
        i = self._gate(sums, 0, at)
        if self.what.input_forget:
            forget = tirx.const(1.0, self.dtype) - i
        else:
            forget = self.act(0, self._seen(self._gate(sums, 2, at), old, 2, at))
        cell = forget * old + i * self.act(1, self._gate(sums, 3, at))
        o = self.act(0, self._seen(self._gate(sums, 1, at), new, 1, at))
        output = o * activation(*self.what.activations[2], new)
        return seq(
            self._keep(sums, 0, at, self.act(0, self._seen(i, old, 0, at))),
            store(self.c, cell, then, at.row, at.element),
            store(self.h, output, then, at.row, at.element),
        )

    def _mix(self, update: Expr, fresh: Expr, at: Place, now: Expr, then: Expr) -> Stmt:
        """H' = (1 - z) g + z h."""
        old, one = load(self.h, now, at.row, at.element), tirx.const(1.0, self.dtype)
        return store(self.h, (one - update) * fresh + update * old, then, at.row, at.element)

    def _gru_reset_after(self, sums: Buffer, at: Place, now: Expr, then: Expr) -> Stmt:
        """The third sum is h R + b; g = act(x + r (h R + b))."""
        inputs = load(
            self.operands["projected"], at.t, at.b, at.element + 2 * self.blocks.hidden
        )  # fmt: skip
        reset = self.act(0, self._gate(sums, 1, at))
        fresh = self.act(1, inputs + reset * self._gate(sums, 2, at))
        z = self._gate(sums, 0, at)
        return seq(
            self._keep(sums, 0, at, self.act(0, z)),
            self._mix(z, fresh, at, now, then),
        )

    def _gru_gates(self, sums: Buffer, at: Place, now: Expr, _then: Expr) -> Stmt:
        """z, and r h, which the second phase multiplies."""
        old = load(self.h, now, at.row, at.element)
        return seq(
            store(self.update, self.act(0, self._gate(sums, 0, at)), at.row, at.element),
            store(self.mixed, self.act(0, self._gate(sums, 1, at)) * old, at.row, at.element),
        )

    def _gru_new(self, sums: Buffer, at: Place, now: Expr, then: Expr) -> Stmt:
        """New states, with g = act(x + (r h) R)."""
        fresh = self.act(1, self._gate(sums, 0, at))
        return self._mix(load(self.update, at.row, at.element), fresh, at, now, then)
