"""Which calls of units a compilation leaves to the host though the array would take them.

Placement looks at the whole model (``passes.place``): what only moves values or is elementwise
follows products to the array, a user may pin nodes to the host, and placement may be off. A unit
is priced alone, so it is told which of its calls stay on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tvm import IRModule, relax

from motet.passes.graph import bindings_of
from motet.passes.names import ARRAY, names_of, target_of
from motet.passes.op_kinds import Kind, kind_of, op_name
from motet.passes.units import CallKey, Unit, Units

Takes = Callable[[relax.Call], bool]


def call_key(call: relax.Call) -> CallKey:
    """How a call is found again in another form of its model."""
    return names_of(call), op_name(call)


def kept_on_host(placed: IRModule, model: str, takes: Takes) -> frozenset[CallKey]:
    """Calls of an entry function after placement that the array takes and did not get."""
    on_host, on_array = set[CallKey](), set[CallKey]()
    for binding in bindings_of(placed[model]):
        value = binding.value
        if isinstance(value, relax.Call) and kind_of(value) is not Kind.VIEW and takes(value):
            (on_array if target_of(value) == ARRAY else on_host).add(call_key(value))
    return frozenset(on_host - on_array)


def with_placement(units: Units, kept: frozenset[CallKey]) -> Units:
    """``units`` that know which of their calls are ``kept``; equal ones are told apart by them."""
    by_nodes: dict[tuple[str, ...], set[CallKey]] = {}
    for key in kept:
        by_nodes.setdefault(key[0], set()).add(key)
    return replace(units, units=tuple(_with_placement(unit, by_nodes) for unit in units.units))


def _with_placement(unit: Unit, by_nodes: dict[tuple[str, ...], set[CallKey]]) -> Unit:
    found, told = set[CallKey](), list[str]()
    for place, binding in enumerate(unit.bindings):
        own = by_nodes.get(names_of(binding.value), set())
        found |= own
        told += [f"{place}:{op}" for _, op in sorted(own)]
    if not found:
        return unit
    signature = f"{unit.signature} on the host {' '.join(told)}"
    return replace(unit, signature=signature, kept_on_host=frozenset(found))
