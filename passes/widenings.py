"""Calls at the end of a unit that only widen bytes: casts to float and factors behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tvm import relax

from motet.passes.graph import variables_in
from motet.passes.op_kinds import op_name

_STEPS = frozenset(("relax.astype", "relax.multiply", "relax.subtract", "relax.dequantize"))


class _Unit(Protocol):
    bindings: list[relax.VarBinding]


def widening_tail(calls: Sequence[relax.Call]) -> int:
    """How many last calls come after the last quantisation and only widen its result.

    0 where there is none, or where the unit is nothing else.
    """
    names = [op_name(call) for call in calls]
    if "relax.quantize" not in names:
        return 0
    count = names[::-1].index("relax.quantize")
    tail = calls[len(calls) - count :]
    plain = all(op_name(call) in _STEPS and _reads_one_tensor(call) for call in tail)
    return count if plain else 0


def _reads_one_tensor(call: relax.Call) -> bool:
    return len(list(variables_in(call))) == 1


def reads_of(unit: _Unit) -> set[relax.Var]:
    """The variables that a unit's calls read."""
    return {v for binding in unit.bindings for v in variables_in(binding.value)}
