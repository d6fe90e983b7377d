"""Effective throughput of a multi-pod array by counting tile slots.

The analytic model behind the curves of ``sosa_tables``; SOSA (arXiv 2203.11540) ran a
scheduler instead, and gives its results as charts. A product [m, k] x [k, n] is cut into tiles
of p rows (the partition size), r of the reduction and c columns. A tile takes a slot of
max(p, r) cycles on a pod: r cycles to load its weights behind the former tile's. Tiles that
add to the same output tile depend on each other. They form up to ``CHAINS`` chains, whose sums
are added at the end, and each follows its predecessor after the interconnect's latency. Levels
of a network follow each other, after the array's fill (r + c) and the interconnect's latency:

    cycles of a level = max(longest chain, work / pods) + fill + latency

``CHAINS`` is the one number that is fitted (to the partition curve); the rest is SOSA's
description. Without a partition a product's slots are as long as it has rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from statistics import harmonic_mean

from motet.benchmarks.sosa_networks import Level, Network, Product, macs
from motet.targets.systolic.interconnect_cost import stages
from motet.targets.systolic.sosa import Machine

CHAINS = 4


def utilisation(network: Network, machine: Machine, partition: int | None) -> float:
    """Useful multiply-accumulates / (cycles x processing elements), 0 to 1.

    ``partition``: rows of a tile; None for as many as the product has.
    """
    cycles = sum(level_cycles(level, machine, partition) for level in network)
    return macs(network) / (cycles * machine.elements)


def mean_utilisation(networks: Iterable[Network], machine: Machine, partition: int | None) -> float:
    """The harmonic mean over networks, as SOSA has it."""
    return harmonic_mean([utilisation(network, machine, partition) for network in networks])


def level_cycles(level: Level, machine: Machine, partition: int | None) -> float:
    """Cycles of products that run side by side."""
    latency = stages(machine.interconnect, machine.pods, machine.expansion)
    counts = [_tiles(product, machine, partition) for product in level]
    longest = max(ceil(depth / CHAINS) * (slot + latency) for _, depth, slot in counts)
    work = sum(tiles * depth * slot for tiles, depth, slot in counts) / machine.pods
    return max(longest, work) + machine.rows + machine.columns + latency


def _tiles(product: Product, machine: Machine, partition: int | None) -> tuple[int, int, int]:
    """Output tiles, tiles along the reduction for each, and cycles of a slot."""
    rows = partition or product.m
    tiles = ceil(product.m / rows) * ceil(product.n / machine.columns)
    return tiles, ceil(product.k / machine.rows), max(rows, machine.rows)
