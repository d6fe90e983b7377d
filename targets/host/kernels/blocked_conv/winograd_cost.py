"""What a nest of Winograd's convolution does: in numbers, and in cycles of arithmetic.

The cycles are estimates by which points are put in order and Winograd is set against the
direct convolution; constants were fitted on a Zen 3 (two vector multiply-accumulates a cycle,
15 GB/s of memory to a core of 3 GHz), where they meet measured times within a tenth or two.
"""

from __future__ import annotations

from dataclasses import dataclass

from motet.targets.host.kernels.blocked_conv.winograd_plan import SHARED, Plan, plan_of
from motet.targets.host.space import Nest, Point, Problem


@dataclass(frozen=True)
class Rates:
    """multiply: cycles of a vector multiply-accumulate; element: bytes of a transformed value."""

    multiply: float
    element: float


FLOATS = Rates(0.5, 4.0)
_LEAST_ACCUMULATORS = 8
_INPUT_CYCLES, _OUTPUT_CYCLES = 4.2, 2.8
"""Of one vector of a tile in the input and output transforms, memory included."""
_LAUNCH_CYCLES = 3000
# Cycles per byte. Memory: what is left when products run meanwhile.
_MEMORY, _FAR, _THIRD_LEVEL, _NEAR = 0.11, 0.1, 0.03, 0.01
_SECOND_LEVEL_BYTES, _NEAR_BYTES, _THIRD_LEVEL_BYTES = 320 << 10, 1 << 20, 12 << 20
_KEPT_WEIGHT_BYTES = 3 << 20
_DIRECT_RATE = 0.9
"""Part of the peak that the direct convolution reaches, weights at hand."""


def weight_bytes(problem: Problem, plan: Plan, rates: Rates = FLOATS) -> float:
    """Packed weights, padding included."""
    return (
        rates.element
        * plan.points
        * problem["channels"]
        * plan.sweeps
        * plan.sweep_blocks
        * plan.block
    )


def input_bytes(problem: Problem, plan: Plan, rates: Rates = FLOATS) -> float:
    """Transformed input of one group of tiles."""
    return rates.element * plan.points * problem["channels"] * plan.group


def product_bytes(plan: Plan) -> float:
    """Products of one group and sweep."""
    return 4.0 * plan.points * plan.group * plan.sweep_blocks * plan.block


def _images(problem: Problem) -> int:
    return max(1, problem["batch"])


def _product_cycles(problem: Problem, plan: Plan, rates: Rates) -> float:
    """Of one group's products: a tile costs its accumulators and a little for its loads."""

    def step(rows: int) -> float:
        accumulators = max(rows * plan.vectors, _LEAST_ACCUMULATORS)
        return accumulators + 0.1 * (rows + plan.vectors)

    rows = sum(count * step(rows) for rows, count in plan.row_parts)
    return rates.multiply * rows * plan.points * plan.panels * plan.sweeps * problem["channels"]


def _transform_cycles(plan: Plan) -> float:
    """Of one group's tiles."""
    vectors = _INPUT_CYCLES * plan.ic_blocks + _OUTPUT_CYCLES * plan.oc_blocks
    return plan.group * plan.points * vectors


def _traffic_cycles(problem: Problem, plan: Plan, rates: Rates) -> float:
    """Of all images: what goes through the caches again and again."""
    weights, inputs = weight_bytes(problem, plan, rates), input_bytes(problem, plan, rates)
    groups = plan.groups * _images(problem)
    if plan.order == SHARED:
        whole = groups * inputs
        return whole * (plan.sweeps + 1) * _rate(whole)
    again = (groups - 1) * weights
    spilled = max(0.0, inputs + product_bytes(plan) - _SECOND_LEVEL_BYTES)
    return (
        again * (_FAR if weights > _KEPT_WEIGHT_BYTES else _NEAR)
        + groups * plan.sweeps * spilled * _NEAR
    )  # fmt: skip


def _rate(kept: float) -> float:
    """Cycles per byte of what was written ``kept`` bytes ago."""
    if kept > _THIRD_LEVEL_BYTES:
        return _FAR
    return _THIRD_LEVEL if kept > _NEAR_BYTES else _NEAR


def tasks(problem: Problem, plan: Plan) -> int:
    """Iterations of the parallel loop that has the products."""
    own = plan.groups * _images(problem)
    return own * plan.sweeps if plan.order == SHARED else own


def cycles(problem: Problem, point: Point, cores: int, rates: Rates = FLOATS) -> float:
    """An estimate of the time on ``cores`` cores; an open batch counts as 1."""
    plan = plan_of(problem, point)
    image = plan.groups * (_product_cycles(problem, plan, rates) + _transform_cycles(plan))
    count = tasks(problem, plan)
    shared = -(-count // cores) / count
    launches = 2 if plan.order == SHARED else 1
    traffic = _traffic_cycles(problem, plan, rates)
    traffic += _MEMORY * weight_bytes(problem, plan, rates)
    whole = image * _images(problem) + traffic
    return whole * shared + launches * _LAUNCH_CYCLES


def direct_cycles(problem: Problem, rates: Rates = FLOATS) -> float:
    """An estimate of the direct convolution's time on one core."""
    outs = -(-problem["outs"] // problem["block"])
    weights = 9 * problem["channels"] * outs
    positions = problem["out_height"] * problem["out_width"] * _images(problem)
    arithmetic = rates.multiply * weights * positions / _DIRECT_RATE
    return arithmetic + rates.element * problem["block"] * weights * _MEMORY + _LAUNCH_CYCLES


def describe(problem: Problem, point: Point, rates: Rates = FLOATS) -> Nest:
    """What the nest of ``point`` does; an open batch counts as 1."""
    plan, images = plan_of(problem, point), _images(problem)
    ins, outs, groups = problem["channels"], problem["outs"], plan.groups * images
    inputs, weights, products = (
        input_bytes(problem, plan, rates), weight_bytes(problem, plan, rates),
        product_bytes(plan),
    )  # fmt: skip
    columns = plan.sweeps * plan.sweep_blocks * plan.block
    positions = images * problem["out_height"] * problem["out_width"]
    multiplied = 2.0 * groups * plan.group * plan.points * ins * columns
    # A transform spends about four operations on each value of an input tile.
    transformed = 4.0 * groups * plan.group * plan.points * (ins + columns)
    parts = -(-plan.group // plan.rows)
    return Nest(
        flops=18.0 * positions * ins * outs,
        executed_flops=multiplied + transformed,
        accumulators=plan.rows * plan.vectors,
        vector_loads=plan.vectors, broadcasts=plan.rows, steps=ins,
        inner_bytes=(inputs + weights / (plan.sweeps * plan.panels)) / plan.points,
        block_bytes=inputs + products + weights / plan.sweeps,
        read_bytes=rates.element * images * ins * problem["height"] * problem["width"],
        weight_bytes=weights,
        written_bytes=4.0 * positions * outs,
        copied_bytes=2 * groups * (inputs + products * plan.sweeps),
        streamed_bytes=groups * (
            inputs * plan.sweeps * plan.panels + weights * parts + 2 * products * plan.sweeps
        ),
        tasks=tasks(problem, plan),
        launches=2 if plan.order == SHARED else 1,
        lanes=plan.block,
        traits=(
            ("transforms", transformed / multiplied), ("group", float(plan.group)),
            ("least rows", float(min(rows for rows, _ in plan.row_parts))),
            ("sweep fill", plan.oc_blocks / (plan.sweeps * plan.sweep_blocks)),
            ("sweeps", float(plan.sweeps)), ("groups", float(groups)),
            ("plane fill", positions / (groups * plan.group * plan.size**2)),
        ),
        cycles=cycles(problem, point, 1, rates),
    )  # fmt: skip
