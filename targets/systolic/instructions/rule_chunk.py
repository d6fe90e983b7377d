"""A piece of a program's instructions, as the static rules look at it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.instructions.isa import Flag, Function, Opcode
from motet.targets.systolic.instructions.program import SystolicProgram

Mask = NDArray[np.bool_]

CHUNK = 2**15
"""Instructions looked at together: as many as caches hold."""

SECOND_TILE = (Function.COPY, Function.ADD, Function.MULTIPLY, Function.MAXIMUM)
REDUCTIONS = (Function.ROW_MAXIMUM, Function.ROW_SUM, Function.ROW_SUM_SQUARES)


class Chunk:
    """``CHUNK`` instructions from ``begin`` on, and the first of them that breaks a rule.

    Attributes
    ----------
    field: every field's values, int64 or float32. is_: a mask of every opcode.
    first: number in the chunk of the first instruction that broke a rule, and what is wrong.
    """

    def __init__(self, program: SystolicProgram, description: ArrayDescription, begin: int) -> None:
        self.program, self.description, self.begin = program, description, begin
        code = program.instructions[begin : begin + CHUNK]
        self.field: dict[str, NDArray[Any]] = {
            name: code[name].astype(np.float32 if code.dtype[name].kind == "f" else np.int64)
            for name in code.dtype.names or ()
        }
        self.is_ = {opcode: self.field["opcode"] == opcode for opcode in Opcode}
        self.first: tuple[int, str] | None = None

    def refuse(self, broken: Mask, message: str | Callable[[int], str]) -> None:
        """Note the first instruction where a rule is broken; the message has the remedy."""
        if not broken.any():
            return
        index = int(np.argmax(broken))
        if self.first is None or index < self.first[0]:
            self.first = index, message if isinstance(message, str) else message(index)

    def any_of(self, *opcodes: Opcode) -> Mask:
        """Where the opcode is one of these."""
        return np.isin(self.field["opcode"], [int(opcode) for opcode in opcodes])

    def has(self, flag: Flag) -> Mask:
        """Where a flag is set."""
        mask: Mask = (self.field["flags"] & int(flag)) != 0
        return mask

    def within(self, name: str, values: Any) -> Mask:
        """Where a field is one of some codes."""
        return np.isin(self.field[name], [int(value) for value in values])
