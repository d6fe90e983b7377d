"""Multiply-accumulates of the functions that passes outline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import IRModule, relax
from tvm.ir import GlobalVar

from motet.compiler.dimensions import added, dimension_of
from motet.passes.graph import bindings_of
from motet.passes.macs import macs_of
from motet.runtime.shapes import Dimension


def macs_in(
    mod: IRModule, function: relax.Function, count: Callable[[relax.Call], Any] = macs_of
) -> Dimension:
    """Of a unit, or of all units of a region; ``count``: of a call."""
    total: Dimension = 0
    for binding in bindings_of(function):
        call = binding.value
        if isinstance(call, relax.Call) and isinstance(call.op, GlobalVar):
            total = added(total, macs_in(mod, mod[call.op], count))
        elif isinstance(call, relax.Call):
            total = added(total, dimension_of(count(call)))
    return total
