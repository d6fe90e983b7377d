"""What a unit multiplies, reads and writes, in numbers."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax
from tvm.ir.expr import GenericConst

from motet.passes.graph import (
    bindings_of,
    bytes_of,
    bytes_with_open_as,
    variables_in,
    with_open_as,
)
from motet.passes.macs import macs_of
from motet.targets.host.unit_time import Work

OPEN = 1
"""What a size counts as that only a run knows: how many boxes a detector finds."""


def figures_of(bindings: Sequence[relax.Binding]) -> Work:
    """Multiply-accumulates of a run of bindings, and bytes that it reads and writes outside.

    Constants are read; what goes from one binding to the next stays in a cache. Open sizes count as
    ``OPEN``.
    """
    known = {binding.var for binding in bindings}
    inner = (v for binding in bindings for v in variables_in(binding.value))
    read = [v for v in dict.fromkeys(inner) if v not in known]
    calls = [b.value for b in bindings if isinstance(b.value, relax.Call)]
    weights = [item for call in calls for item in call.args if isinstance(item, GenericConst)]
    moved = [expr.ty for expr in (*read, *weights, *(b.var for b in bindings[-1:]))]
    return Work(
        sum(with_open_as(macs_of(call), OPEN) for call in calls),
        sum(bytes_with_open_as(ty, OPEN) for ty in moved),
    )


def figures_of_function(function: relax.Function) -> Work | None:
    """The same of an outlined unit, whose constants are parameters; None where sizes are open."""
    values = (binding.value for binding in bindings_of(function))
    macs = [macs_of(value) for value in values if isinstance(value, relax.Call)]
    sizes = [bytes_of(ty) for ty in (*(p.ty for p in function.params), function.ret_ty)]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes) or any(not hasattr(count, "value") for count in macs):
        return None
    return Work(sum(int(count.value) for count in macs), sum(known))
