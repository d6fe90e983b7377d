"""What a unit multiplies, reads and writes, in numbers."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax
from tvm.ir.expr import GenericConst

from motet.passes.graph import bindings_of, bytes_of, variables_in
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
    found = _work(calls, [expr.ty for expr in (*read, *weights, *results)])
    if found is None:
        raise CompileError(f"{what} has open sizes, so it has no cost: give them with --shape")
    return found


def figures_of_function(function: relax.Function) -> Work | None:
    """The same of an outlined unit, whose constants are parameters; None where sizes are open."""
    values = (binding.value for binding in bindings_of(function))
    calls = [value for value in values if isinstance(value, relax.Call)]
    return _work(calls, [*(parameter.ty for parameter in function.params), function.ret_ty])


def _work(calls: Sequence[relax.Call], moved: Sequence[relax.Type]) -> Work | None:
    macs = [macs_of(call) for call in calls]
    sizes = [bytes_of(ty) for ty in moved]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes) or any(not hasattr(count, "value") for count in macs):
        return None
    return Work(sum(int(count.value) for count in macs), sum(known))
