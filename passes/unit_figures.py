"""What a unit multiplies, reads and writes, in numbers."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax
from tvm.ir.expr import GenericConst

from motet.passes.graph import bytes_of, variables_in
from motet.passes.macs import macs_of
from motet.runtime.errors import CompileError
from motet.targets.host.unit_time import Work


def figures_of(bindings: Sequence[relax.Binding], what: str) -> Work:
    """Multiply-accumulates of a run of bindings, and bytes that it reads and writes outside.

    Constants are read; what goes from one binding to the next stays in a cache. ``what`` names
    the bindings where their sizes are open, for which it raises ``CompileError``.
    """
    known = {binding.var for binding in bindings}
    inner = (v for binding in bindings for v in variables_in(binding.value))
    read = [v for v in dict.fromkeys(inner) if v not in known]
    calls = [b.value for b in bindings if isinstance(b.value, relax.Call)]
    weights = [item for call in calls for item in call.args if isinstance(item, GenericConst)]
    results = [binding.var for binding in bindings[-1:]]
    moved = sum(_bytes(expr.ty, what) for expr in (*read, *weights, *results))
    return Work(sum(_macs(call, what) for call in calls), moved)


def _macs(call: relax.Call, what: str) -> int:
    macs = getattr(macs_of(call), "value", None)
    if macs is None:
        raise _open(what)
    return int(macs)


def _bytes(ty: relax.Type, what: str) -> int:
    moved = bytes_of(ty)
    if moved is None:
        raise _open(what)
    return moved


def _open(what: str) -> CompileError:
    return CompileError(f"{what} has open sizes, so it has no cost: give them with --shape")
