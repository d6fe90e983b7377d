"""The edges of an array: registers that delay lane i of a vector by i cycles.

Operands leave the scratchpad as whole vectors; the skew makes them meet their partners, which
take a cycle from one processing element to the next.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal

OPERAND_BITS = 8
SUM_BITS = 32


def lanes(vector: Any, count: int, bits: int = OPERAND_BITS) -> list[Any]:
    """The signed lanes of a packed vector."""
    return [vector.word_select(lane, bits).as_signed() for lane in range(count)]


def delayed(module: Module, value: Any, cycles: int) -> Any:
    """``value`` as it was ``cycles`` ago, through as many registers."""
    for _ in range(cycles):
        register = Signal.like(value)
        module.d.sync += register.eq(value)
        value = register
    return value


def skewed(module: Module, vector: Any, count: int) -> list[Any]:
    """The lanes of a packed vector, lane i delayed by i cycles."""
    return [delayed(module, lane, at) for at, lane in enumerate(lanes(vector, count))]


def fanned(module: Module, flag: Any, count: int) -> list[Any]:
    """One flag for ``count`` lanes, delayed by i cycles for lane i."""
    copies = [flag]
    while len(copies) < count:
        copies.append(delayed(module, copies[-1], 1))
    return copies
