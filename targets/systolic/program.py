"""The program of one layer: what code generation makes and the simulators run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from motet.targets.systolic import encoding
from motet.targets.systolic.isa import Operand


@dataclass(frozen=True, eq=False)
class SystolicProgram:
    """One layer as instructions for one pod.

    Attributes
    ----------
    instructions: structured array [count] of dtype ``isa.INSTRUCTION``.
    operands: input, weight, bias where there is one, output, in the order in which
        a device takes the arrays.
    macs: useful multiply-accumulates of the layer.
    """

    instructions: NDArray[Any]
    operands: tuple[Operand, ...]
    macs: int

    def encode(self) -> bytes:
        """The program as bytes, the same for equal programs; ``encoding`` has the layout."""
        return encoding.encode(self.instructions, self.operands, self.macs)

    @staticmethod
    def decode(data: bytes) -> SystolicProgram:
        """The inverse of ``encode``; raises ``BundleError`` for any damaged bytes."""
        return SystolicProgram(*encoding.decode(data))
