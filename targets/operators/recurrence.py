"""``motet.recurrence``: all steps of an LSTM, GRU or RNN as one Relax operator.

Relax has no operator for a loop over time; unrolled, a network of many steps is many
kernels, and one of a run-time number of steps cannot be written. This operator keeps a
recurrence one call from the front end to its kernel. The products with the inputs of all
steps are not part of it: they are one matrix product before it.

Operands, in order (those in brackets only where ``operands`` names them):

- ``projected`` [steps, batch, gates * hidden]: inputs times W, plus all biases that can join;
- ``recurrent`` [hidden, gates * hidden]: R transposed;
- ``h`` [batch, hidden], and for LSTM ``c`` [batch, hidden]: the states before the first step;
- [``held``] [hidden]: GRU's bias inside the reset product (``linear_before_reset``);
- [``peephole``] [3 * hidden]: LSTM's, for i, o and f;
- [``lengths``] [batch] int32: steps of each sequence. Past them outputs are 0.

The result is a tuple: outputs [steps, batch, hidden], and the last state(s) [batch, hidden].
Gate orders are ONNX's: i, o, f, c for LSTM; z, r, h for GRU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax, sym
from tvm.ir import Op

from .registering import register

NAME = "motet.recurrence"
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@dataclass(frozen=True)
class Recurrence:
    """What a recurrence computes, beside its operands.

    cell: ``LSTM``, ``GRU`` or ``RNN``; operands: names, in order; activations: ONNX's names
    in lower case, each with alpha and beta; reverse: from the last step to the first;
    linear_before_reset, clip, input_forget: ONNX's attributes (clip: infinite for none).
    """

    cell: str
    operands: tuple[str, ...]
    activations: tuple[tuple[str, float, float], ...]
    reverse: bool = False
    linear_before_reset: bool = False
    clip: float = float("inf")
    input_forget: bool = False

    @property
    def states(self) -> int:
        """2 for LSTM, which has a cell state, else 1."""
        return 2 if self.cell == "LSTM" else 1

    def attributes(self) -> Any:
        """As the attributes of a call."""
        return tvm.ir.make_node(
            "ir.DictAttrs",
            cell=self.cell,
            operands=" ".join(self.operands),
            activations=" ".join(f"{n} {a!r} {b!r}" for n, a, b in self.activations),
            reverse=int(self.reverse),
            linear_before_reset=int(self.linear_before_reset),
            clip=repr(self.clip),
            input_forget=int(self.input_forget),
        )

    @classmethod
    def of(cls, call: relax.Call) -> Recurrence:
        """From a call's attributes."""
        attrs = call.attrs
        words = str(attrs["activations"]).split()
        triples = zip(words[::3], words[1::3], words[2::3], strict=True)
        return cls(
            str(attrs["cell"]),
            tuple(str(attrs["operands"]).split()),
            tuple((n, float(a), float(b)) for n, a, b in triples),
            bool(int(attrs["reverse"])),
            bool(int(attrs["linear_before_reset"])),
            float(str(attrs["clip"])),
            bool(int(attrs["input_forget"])),
        )


def recurrence(what: Recurrence, operands: Sequence[relax.Expr]) -> relax.Call:
    """The call of the operator."""
    return relax.Call(Op.get(NAME), list(operands), what.attributes())


def multiply_accumulates(call: relax.Call) -> Any:
    """Of the products with the state: steps * batch * hidden * gates * hidden."""
    steps, batch, width = call.args[0].ty.shape.values
    return sym.Analyzer().simplify(steps * batch * width * call.args[1].ty.shape.values[0])


def _infer(call: relax.Call, _builder: relax.BlockBuilder) -> Any:
    steps, batch, _ = call.args[0].ty.shape.values
    hidden, dtype = call.args[1].ty.shape.values[0], call.args[0].ty.dtype
    state = relax.TensorType([batch, hidden], dtype)
    states = [state] * Recurrence.of(call).states
    return relax.TupleType([relax.TensorType([steps, batch, hidden], dtype), *states])


register(NAME, "all steps of an LSTM, GRU or RNN", _infer)
