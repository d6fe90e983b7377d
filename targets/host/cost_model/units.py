"""The kernel of a problem with a point forced, and what it is called with to be measured.

That a unit asks for exactly the problem it was made from is checked whenever one is lowered.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from motet.targets.host.cost_model.stopwatch import Argument
from motet.targets.host.cost_model.unit_builders import unit_of
from motet.targets.host.cost_model.unit_function import Unit
from motet.targets.host.loops import constant_of
from motet.targets.host.lower_unit import LoweredUnit, lower_unit
from motet.targets.host.machine import Machine
from motet.targets.host.space import Family, Point, Problem, first_point, forced, selecting

_EXTENTS = {
    "batch": 1, "rows": 96, "columns": 256, "depth": 512, "steps": 32, "heads": 8, "queries": 128,
    "keys": 128,
}  # fmt: skip
"""What a symbolic extent is when a kernel is measured: one image, and what matrix products
and attention are made for where their sizes are open."""


def kernel_of(problem: Problem, point: Point, machine: Machine) -> LoweredUnit:
    """The kernel of ``problem`` with the settings of ``point``."""
    unit = unit_of(problem)
    with forced({problem: point}), problems_into([]) as others:
        lowered = lower_unit(unit.function, unit.weights, machine, unit.options)
    if others:
        raise AssertionError(f"the unit of {problem.key} asks for {others[0].key}")
    return lowered


@contextmanager
def problems_into(found: list[Problem]) -> Iterator[list[Problem]]:
    """Within it every choice is the hand-written one, and its problem goes on the list."""

    def note(family: Family, problem: Problem, points: Sequence[Point], machine: Machine) -> Point:
        found.append(problem)
        return first_point(family, problem, points, machine)

    with selecting(note):
        yield found


def arguments_of(problem: Problem, lowered: LoweredUnit) -> list[Argument]:
    """The kernel's arguments, inputs before outputs."""
    unit = unit_of(problem)
    return [
        Argument(
            tuple(_extent(d) for d in param.shape), str(param.dtype), number in unit.weights,
            _content(unit, lowered, number),
        )
        for number, param in enumerate(lowered.func.params)
    ]  # fmt: skip


def _content(unit: Unit, lowered: LoweredUnit, number: int) -> bytes:
    if number not in unit.values:
        return b""
    return zlib.compress(lowered.packings[number](unit.values[number]).tobytes(), 1)


def _extent(dimension: Any) -> int:
    size = constant_of(dimension)
    return _EXTENTS[str(dimension.name)] if size is None else size
