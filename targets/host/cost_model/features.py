"""A point of a schedule space as numbers that a tree can split on.

What counts is told in sizes relative to the machine (footprints over cache sizes, work over
threads) and on a logarithmic scale, so that what was learned on one operator says something
of another. Every knob of the family is a feature by itself, as is every size of the problem.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motet.targets.host.machine import Caches, Machine
from motet.targets.host.space import Family, Nest, Point, Problem

FLOPS_PER_LANE = 12e9
"""Two fused multiply-adds a cycle at 3 GHz: a scale for times, not a claim."""
CYCLES_PER_SECOND = 3e9
BYTES_PER_SECOND = 15e9
"""Of memory: a scale as well."""


@dataclass(frozen=True)
class Situation:
    """Where a kernel runs. threads: what one call may use."""

    machine: Machine
    caches: Caches
    threads: int = 1


def ideal_seconds(nest: Nest, situation: Situation) -> float:
    """The larger of the nest's arithmetic at a nominal rate and its bytes over a nominal
    bandwidth: what measured times are divided by, so that there is less to learn.
    """
    rate = FLOPS_PER_LANE * nest.lanes * situation.threads
    moved = nest.read_bytes + nest.weight_bytes + nest.written_bytes
    return max(nest.executed_flops / rate, moved / BYTES_PER_SECOND, 1e-7)


def _log(value: float) -> float:
    return math.log2(1.0 + max(value, 0.0))


def _ratio(over: float, under: float, zero: float = 1e-3) -> float:
    """The logarithm of a ratio; a small number in both keeps zeros finite."""
    return math.log2((over + zero) / (under + zero))


def _balance(tasks: int, threads: int) -> float:
    """Share of the threads' time that ``tasks`` equal tasks use."""
    rounds = -(-max(tasks, 1) // threads)
    return max(tasks, 1) / (rounds * threads)


def nest_features(nest: Nest, situation: Situation) -> dict[str, float]:
    """Numbers about the nest, by name."""
    caches, registers = situation.caches, max(nest.accumulators, 1)
    moved = nest.read_bytes + nest.weight_bytes + nest.written_bytes
    touched = moved + nest.copied_bytes
    return {
        "flops": _log(nest.flops),
        "executed": _ratio(nest.executed_flops, nest.flops),
        "accumulators": float(nest.accumulators),
        "registers": nest.accumulators + nest.vector_loads + min(nest.broadcasts, 1.0),
        "loads_per_product": (nest.vector_loads + nest.broadcasts) / registers,
        "vector_loads": nest.vector_loads,
        "broadcasts": nest.broadcasts,
        "steps": _log(nest.steps),
        "inner_l1": _ratio(nest.inner_bytes, caches.l1),
        "inner_l2": _ratio(nest.inner_bytes, caches.l2),
        "block_l2": _ratio(nest.block_bytes, caches.l2),
        "block_l3": _ratio(nest.block_bytes, caches.l3),
        "read_l2": _ratio(nest.read_bytes, caches.l2),
        "weights_l2": _ratio(nest.weight_bytes, caches.l2),
        "weights_l3": _ratio(nest.weight_bytes, caches.l3),
        "written_l2": _ratio(nest.written_bytes, caches.l2),
        "copied": _ratio(nest.copied_bytes, moved),
        "copied_l2": _ratio(nest.copied_bytes, caches.l2),
        "touched_l3": _ratio(touched, caches.l3),
        "streamed": _ratio(nest.streamed_bytes, moved),
        "intensity": _ratio(nest.flops, moved),
        "flops_per_streamed": _ratio(nest.executed_flops, nest.streamed_bytes),
        "tasks": _log(nest.tasks),
        "flops_per_task": _log(nest.executed_flops / max(nest.tasks, 1)),
        "balance": _balance(nest.tasks, situation.threads),
        "launches": float(nest.launches),
        "lanes": float(nest.lanes),
        "threads": float(situation.threads),
        "cycles": _ratio(nest.cycles / CYCLES_PER_SECOND, ideal_seconds(nest, situation), 1e-9),
        **{f"trait {name}": value for name, value in nest.traits},
    }


@dataclass(frozen=True)
class Described:
    """Points of a problem in numbers: features of each by name, and its ideal seconds."""

    rows: tuple[dict[str, float], ...]
    ideal: NDArray[np.float64]

    def table(self, names: Sequence[str]) -> NDArray[np.float32]:
        """``[points][names]``; what a point does not have is -1."""
        cells = [[row.get(name, -1.0) for name in names] for row in self.rows]
        return np.asarray(cells, np.float32).reshape(len(self.rows), len(names))


def described(
    family: Family, problem: Problem, points: Sequence[Point], situation: Situation
) -> Described:
    """Everything that is known of ``points`` before they are compiled."""
    sizes = {f"size {n}": _log(v) if v >= 0 else -1.0 for n, v in problem.sizes}
    rows, ideal = list[dict[str, float]](), list[float]()
    for point in points:
        nest = family.describe(problem, point, situation.machine)
        knobs = {f"knob {n}": float(v) for n, v in point.knobs}
        rows.append({**nest_features(nest, situation), **sizes, **knobs})
        ideal.append(ideal_seconds(nest, situation))
    return Described(tuple(rows), np.array(ideal))
