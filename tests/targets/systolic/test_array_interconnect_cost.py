"""Cost and latency of interconnects: SOSA's formulas, and a mesh counted node by node."""

from __future__ import annotations

import itertools
import math
from typing import get_args

import pytest

from motet.targets.systolic.architecture import InterconnectKind
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.interconnect_cost import (
    cost,
    description_latency,
    description_links_per_byte,
    links_per_byte,
    mesh_shape,
    stages,
)


@pytest.mark.parametrize(
    ("kind", "expansion", "costs", "latencies"),
    [
        ("bus", 1, (1, 1), (1, 1)),
        ("crossbar", 1, (64, 65536), (1, 1)),
        ("butterfly", 1, (24, 2048), (3, 8)),
        ("butterfly", 2, (48, 4096), (4, 9)),
        ("butterfly", 4, (96, 8192), (5, 10)),
        ("benes", 1, (96, 8192), (11, 31)),
    ],
)
def test_sosas_formulas_at_8_and_256_pods(
    kind: InterconnectKind, expansion: int, costs: tuple[int, ...], latencies: tuple[int, ...]
) -> None:
    for pods, its_cost, latency in zip((8, 256), costs, latencies, strict=True):
        assert cost(kind, pods, expansion) == its_cost
        assert stages(kind, pods, expansion) == latency
        assert links_per_byte(kind, pods, expansion) == (1 if kind == "bus" else its_cost / pods)


@pytest.mark.parametrize("pods", [1, 2, 4, 6, 7, 9, 12, 16])
def test_a_mesh_counted_from_node_to_node(pods: int) -> None:
    rows, columns = mesh_shape(pods)
    assert rows * columns == pods
    assert rows <= columns
    nodes = list(itertools.product(range(rows), range(columns)))
    hops = [abs(a - c) + abs(b - d) for (a, b), (c, d) in itertools.product(nodes, nodes)]
    assert stages("mesh", pods) == max(hops) + 1
    assert cost("mesh", pods) == pytest.approx(pods * (1 + sum(hops) / len(hops)))


@pytest.mark.parametrize("kind", get_args(InterconnectKind))
def test_one_pod_costs_at_most_one_link(kind: InterconnectKind) -> None:
    assert cost(kind, 1) <= 1
    assert stages(kind, 1) == 1
    with pytest.raises(ValueError, match="at least one pod"):
        cost(kind, 0)


def test_a_description_knows_its_own() -> None:
    machine = load_architecture("sosa-256x32x32")
    assert description_latency(machine) == 9 * machine.interconnect.stage_cycles
    assert description_links_per_byte(machine) == 16
    assert description_links_per_byte(load_architecture("tiny-4x4")) == 1


def test_butterflies_scale_where_crossbars_do_not() -> None:
    """Beyond a few pods a butterfly-2 is cheaper than a crossbar, by N / (2 log2 N)."""
    for levels in range(4, 10):
        pods = 2**levels
        ratio = cost("crossbar", pods) / cost("butterfly", pods, 2)
        assert ratio == pytest.approx(pods / (2 * math.log2(pods)))
        assert ratio >= 2
