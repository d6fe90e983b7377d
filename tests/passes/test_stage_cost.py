"""What units and stages cost: by the array's closed forms, and by figures on the host."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import msgspec
import pytest
from relax_modules import named
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.array_stage_cost import ArrayStageCost, only
from motet.passes.scheduling import inter_operator
from motet.passes.stage_cost import HostStageCost, keys_of, stage_costs
from motet.passes.unit_cost import ArrayTarget, HostTarget, Resources, estimate
from motet.passes.unit_figures import figures_of
from motet.passes.unit_workloads import work_of_unit
from motet.passes.units import Units, units_of
from motet.targets.host import unit_time
from motet.targets.host.machine import machine_for
from motet.targets.systolic import estimate as array_estimate
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.mappings.choose import TOLERANCE
from motet.targets.systolic.workload.graph import single

HOST = HostTarget(machine_for("x86-64-v3"), threads=2)
X = R.Tensor((1, 64, 28, 28), "float32")
MOVED = (4 * 64 * 28 * 28 + 64 * 64 * (9 + 1)) * 4
"""Bytes of a 3x3 and a 1x1 convolution of X."""
W3 = R.Tensor((64, 64, 3, 3), "float32")
W1 = R.Tensor((64, 64, 1, 1), "float32")
WD = R.Tensor((64, 1, 3, 3), "float32")


@I.ir_module
class Branches:
    @R.function
    def main(x: X, v: W3, w: W1, d: WD, p: W1):
        with R.dataflow():
            conv3 = R.nn.conv2d(x, v, padding=1)
            relu3 = R.nn.relu(conv3)
            conv1 = R.nn.conv2d(x, w)
            relu1 = R.nn.relu(x)
            depth = R.nn.conv2d(relu1, d, padding=1, groups=64)
            point = R.nn.conv2d(depth, p)
            both = R.add(relu3, conv1)
            cat = R.concat([both, point], axis=1)
            R.output(cat)
        return cat


@pytest.fixture(scope="module")
def units() -> Units:
    return units_of(named(Branches)["main"], "main")


def array(name: str = "sosa-256x32x32", pods: int | None = 8) -> ArrayTarget:
    description = load_architecture(name)
    if pods is not None:
        description = array_estimate.with_pods(description, pods)
    return ArrayTarget(description, "fp32", HOST)


def unit(units: Units, title: str):
    return next(one for one in units.units if one.title == title)


def groups_of(units: Units, *titles: str) -> tuple[tuple[str], ...]:
    """Each of these units as a group."""
    return tuple((unit(units, title).name,) for title in titles)


def test_a_units_work_is_its_layers(units):
    target = array()
    work = work_of_unit(unit(units, "point"), target.description, "fp32")
    kinds = [step.kind for workload in work.workloads for step in workload.steps]
    assert kinds == ["Elementwise", "Convolution", "Convolution"]
    assert work.on_host == ()


def test_a_convolution_costs_what_its_layer_does(units):
    target = array()
    (workload,) = work_of_unit(unit(units, "conv1"), target.description, "fp32").workloads
    (step,) = workload.steps
    expected = array_estimate.estimate(single(step.layer), target.description, "fp32", 2)
    found = estimate(unit(units, "conv1"), target, Resources(pods=2))
    assert found == expected
    assert found.provenance == "formula"


def test_a_concatenation_of_neighbours_is_no_work_but_its_sums_are(units):
    target = array()
    (workload,) = work_of_unit(unit(units, "cat"), target.description, "fp32").workloads
    assert [step.kind for step in workload.steps] == ["Elementwise"]
    tensor = 64 * 28 * 28 * 4
    work = work_of_unit(unit(units, "cat"), target.description, "fp32")
    assert work.dram_bytes("fp32") == 3 * tensor


def test_more_pods_never_cost_more(units):
    target = array()
    for one in units.units:
        seconds = [estimate(one, target, Resources(pods=pods)).seconds for pods in (1, 2, 4, 8)]
        assert seconds == sorted(seconds, reverse=True)


def test_a_stage_shares_the_pods_out(units):
    """The same as the best of all ways to give eight pods to three groups."""
    target, titles = array(), ("conv3", "conv1", "point")
    costs, groups = ArrayStageCost(units, target), groups_of(units, *titles)
    seconds = [
        [estimate(unit(units, title), target, Resources(pods=pods)).seconds for pods in range(1, 9)]
        for title in titles
    ]
    best = min(
        max(table[count - 1] for table, count in zip(seconds, counts, strict=True))
        for counts in product(range(1, 9), repeat=3)
        if sum(counts) <= 8
    )
    assert costs.concurrent(groups) == pytest.approx(best, rel=TOLERANCE - 1)
    shares = costs.shares(groups)
    assert sum(shares) <= 8
    assert shares[0] > shares[1]  # nine times the work


def test_more_groups_than_pods_wait_for_each_other(units):
    costs = ArrayStageCost(units, array(pods=1))
    groups = groups_of(units, "conv3", "conv1", "point")
    alone = [costs.concurrent((group,)) for group in groups]
    assert costs.concurrent(groups) == pytest.approx(sum(alone))
    assert costs.shares(groups) == (1, 1, 1)


def test_a_stage_takes_no_less_than_dram_needs(units):
    target = array()
    dram = msgspec.structs.replace(target.description.dram, bytes_per_second=1e6)
    slow = replace(target, description=msgspec.structs.replace(target.description, dram=dram))
    # Two inputs, two outputs, and the weights, at a million bytes a second.
    costs = ArrayStageCost(units, slow)
    assert costs.concurrent(groups_of(units, "conv3", "conv1")) >= MOVED / 1e6


def test_a_group_is_its_units_one_after_another(units):
    costs = ArrayStageCost(units, array())
    (first,), (last,) = groups_of(units, "conv1", "cat")
    alone = [costs.concurrent(((name,),)) for name in (first, last)]
    assert costs.concurrent(((first, last),)) == pytest.approx(sum(alone))


def test_groups_share_pods_of_several_kinds(units):
    target = array("mixed-64x64-4x16x16", pods=None)
    costs = ArrayStageCost(units, target)
    groups = groups_of(units, "conv3", "conv1")
    assert sum(costs.shares(groups)) == 5
    apart = [
        max(
            estimate(
                unit(units, title), replace(target, description=only(target.description, p))
            ).seconds
            for title, p in (("conv3", range(cut)), ("conv1", range(cut, 5)))
        )
        for cut in range(1, 5)
    ]
    by_dram = MOVED / target.description.dram.bytes_per_second
    assert costs.concurrent(groups) == pytest.approx(max(min(apart), by_dram))


def test_pods_of_an_array_by_number():
    description = array("mixed-64x64-4x16x16", pods=None).description
    assert [pod.count for pod in only(description, range(5)).pods] == [1, 4]
    assert [(pod.rows, pod.count) for pod in only(description, range(1, 3)).pods] == [(16, 2)]
    assert [(pod.rows, pod.count) for pod in only(description, range(1)).pods] == [(64, 1)]


@pytest.mark.parametrize("target", [HOST, array()])
def test_schedules_are_no_slower_than_simple_rules(units, target):
    costs, keys = stage_costs(units, target), keys_of(units)
    best = inter_operator.schedule(units.graph, costs, keys)
    simple = [
        inter_operator.sequential(units.graph, costs, keys),
        inter_operator.greedy(units.graph, costs, keys),
    ]
    assert best.seconds <= min(one.seconds for one in simple)
    inter_operator.check_fits(best, units.graph)


def test_the_hosts_figures(units):
    figures = figures_of(unit(units, "conv3").bindings)
    assert figures.macs == 64 * 28 * 28 * 64 * 9
    assert figures.bytes == 4 * (2 * 64 * 28 * 28 + 64 * 64 * 9)
    for threads in (1, 2):
        found = estimate(unit(units, "conv3"), HOST, Resources(threads=threads))
        assert found == unit_time.estimate(figures, HOST.machine, threads)
    assert estimate(unit(units, "conv3"), HOST).seconds == found.seconds


def test_groups_of_a_host_stage_take_a_thread_each(units):
    costs = HostStageCost(units, HOST)
    groups = groups_of(units, "conv3", "conv1", "point")
    alone = [
        estimate(unit(units, title), HOST, Resources(threads=1)).seconds
        for title in ("conv3", "conv1", "point")
    ]
    longest = max(alone[0], alone[1] + alone[2])
    assert costs.concurrent(groups) == pytest.approx(longest + unit_time.FORK_SECONDS)
    assert costs.shares(groups) == (1, 1, 1)
    assert costs.shares(groups[:1]) == (2,)
    assert costs.concurrent(groups[:1]) == estimate(unit(units, "conv3"), HOST).seconds


def test_open_sizes_count_as_1():
    @I.ir_module
    class Open:
        @R.function
        def main(x: R.Tensor(("n", 8), "float32"), w: R.Tensor((8, 8), "float32")):
            with R.dataflow():
                y = R.matmul(x, w)
                R.output(y)
            return y

    (only,) = units_of(named(Open)["main"], "main").units
    figures = figures_of(only.bindings)
    assert (figures.macs, figures.bytes) == (8 * 8, 4 * (8 + 8 * 8 + 8))
    assert estimate(only, HOST).seconds == unit_time.estimate(figures, HOST.machine, 2).seconds
