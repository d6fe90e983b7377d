"""Plans with fewer pods than the array has: more pods must never make a program slower.

Estimates add steps up; the timing view overlaps them and lets them contend, and a step on many
pods may hinder its neighbours. So there is a plan for the pods that are there and for every
smaller power of two. Where all their programs together are small (``SMALL``), all are
simulated; of large ones those with estimates within ``NEAR`` of the best. The fastest is kept, of
equally fast ones that with the least estimate.

Cost: a plan per limit whose multiply-accumulates alone do not take ``FAR`` times the best
estimate (ResNet-50 on 256 pods of 32 x 32: 0.4 s each, four of them at batch 1, three at batch
8), and emission and simulation of those that are tried (three at batch 1, two at batch 8), two at
a time. Arrays of one pod pay nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from motet.runtime.errors import CompileError
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.instructions.program import SystolicProgram
from motet.targets.systolic.mappings.plan import Plan
from motet.targets.systolic.simulation.timing import simulate

NEAR = 1.1
"""Estimates of plans that are simulated, as a multiple of the least."""
FAR = 2.0
"""Bounds of plans that are not even made, likewise."""
THREADS = 2
SMALL = 1 << 19
"""Instructions of all programs that are simulated whatever their estimates are."""


def pod_limits(description: ArrayDescription) -> list[range]:
    """All pods, then the first 2**i of them in descending order."""
    count = description.pod_count
    powers = [1 << i for i in range(count.bit_length()) if 1 << i < count]
    return [range(stop) for stop in (count, *reversed(powers))]


def limited_plans(
    description: ArrayDescription, macs: int, planned: Callable[[range], Plan]
) -> list[Plan]:
    """The plans for all limits, by their estimates; equal plans once.

    Parameters
    ----------
    macs: of the workload, which the elements of the pods bound from below.
    planned: the plan with some pods; raises ``CompileError`` where nothing fits.

    Raises ``CompileError``, that of all pods, where there is no plan.
    """
    found: list[Plan] = []
    refused: CompileError | None = None
    for pods in pod_limits(description):
        bound = macs / sum(description.pod(number).elements for number in pods)
        if found and bound > FAR * min(plan.cycles for plan in found):
            break
        try:
            plan = planned(pods)
        except CompileError as error:
            refused = refused or error
            continue
        if plan not in found:  # no step reaches the limit
            found.append(plan)
    if not found:
        assert refused is not None
        raise refused
    return sorted(found, key=lambda plan: plan.cycles)


def fastest(
    plans: Sequence[Plan], description: ArrayDescription, emitted: Callable[[Plan], SystolicProgram]
) -> tuple[Plan, SystolicProgram]:
    """The plan with the fewest simulated cycles, and its program.

    ``plans``: by their estimates. ``emitted``: the program of one; two threads call it, as most
    of emission and simulation is compiled code that needs no interpreter.
    """
    near = [plan for plan in plans if plan.cycles <= NEAR * plans[0].cycles]
    if len(near) == 1:
        program = emitted(plans[0])
        if len(plans) == 1 or len(program.instructions) * len(plans) > SMALL:
            return plans[0], program

    def run(plan: Plan) -> tuple[int, SystolicProgram]:
        made = emitted(plan)
        return simulate(made, description).cycles, made

    with ThreadPoolExecutor(THREADS) as pool:
        runs = [*pool.map(run, near)]
        if len(runs[0][1].instructions) * len(plans) <= SMALL:
            near = [*plans]
            runs += pool.map(run, plans[len(runs) :])
    best = min(range(len(runs)), key=lambda number: runs[number][0])
    return near[best], runs[best][1]
