"""What one unit costs alone, before anything is compiled.

On an array its seconds with p pods are those of its workloads' best mappings by their closed
forms, one workload after another, all it reads in DRAM; on the host they follow from
multiply-accumulates and bytes (``targets.host.unit_time``).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum

from motet.passes.unit_figures import figures_of
from motet.passes.unit_workloads import UnitWork, work_of_unit, written_into_place
from motet.passes.units import Unit
from motet.targets.cost import Cost
from motet.targets.host import unit_time
from motet.targets.host.machine import Machine
from motet.targets.systolic.architecture import ArrayDescription


@dataclass(frozen=True)
class HostTarget:
    """A CPU, and the threads that it gives a model."""

    machine: Machine
    threads: int


@dataclass(frozen=True)
class ArrayTarget:
    """An array and its number format; ``host`` runs what the array does not take."""

    description: ArrayDescription
    number_format: str
    host: HostTarget


Target = HostTarget | ArrayTarget


@dataclass(frozen=True)
class Resources:
    """What a unit may use: the first pods of the array, threads of the host; None: all."""

    pods: int | None = None
    threads: int | None = None


def estimate(unit: Unit, target: Target, resources: Resources | None = None) -> Cost:
    """The cost of one run of ``unit`` alone.

    Open sizes count as 1. Raises ``CompileError`` where a workload does not fit the array.
    """
    given = resources or Resources()
    if isinstance(target, HostTarget):
        return Cost(host_seconds(unit, target, given.threads or target.threads), "formula")
    work = work_of_unit(unit, target.description, target.number_format)
    return Cost(array_seconds(unit, work, target, given.pods), "formula")


def host_seconds(unit: Unit, target: HostTarget, threads: int) -> float:
    """Seconds on the host with so many threads; 0 where nothing is left to compute."""
    bindings = written_into_place(unit.bindings)
    if not bindings:
        return 0.0
    work = figures_of(bindings)
    return unit_time.estimate(work, target.machine, threads).seconds


def array_seconds(
    unit: Unit, work: UnitWork, target: ArrayTarget, pods: int | None = None
) -> float:
    """Seconds on the first ``pods`` of the array, default all, with what the host does of it."""
    return pods_seconds(work, target, pods) + left_to_host(unit, work, target.host)


def pods_seconds(work: UnitWork, target: ArrayTarget, pods: int | None = None) -> float:
    """Seconds on the first ``pods`` of the array, default all.

    Raises ``CompileError`` where a workload does not fit them.
    """
    # The array's mappings need numba, which a compiler for the host does without.
    from motet.targets.systolic import estimate as array_estimate

    return fsum(
        array_estimate.estimate(one, target.description, target.number_format, pods).seconds
        for one in work.workloads
    )


def left_to_host(unit: Unit, work: UnitWork, host: HostTarget, threads: int | None = None) -> float:
    """Seconds on ``threads``, default all, of what the array does not take.

    A unit of which the array takes nothing is one kernel, as for the host alone.
    """
    if not work.is_on_array:
        return host_seconds(unit, host, threads or host.threads)
    return fsum(
        unit_time.estimate(figures_of([left]), host.machine, threads or host.threads).seconds
        for left in work.on_host
    )
