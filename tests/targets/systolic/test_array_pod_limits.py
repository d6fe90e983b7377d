"""More pods never make a program slower: plans with fewer of them are tried too."""

from __future__ import annotations

import pytest
from test_array_chains import chain
from test_array_plan import block

from motet.runtime.errors import CompileError
from motet.targets.systolic.architecture import (
    ArrayDescription,
    Dram,
    Interconnect,
    Memory,
    Pod,
    VectorUnit,
)
from motet.targets.systolic.emit.pod_limits import SMALL, fastest, limited_plans, pod_limits
from motet.targets.systolic.emit.region import compile_workload, plan_workload
from motet.targets.systolic.formats import FORMATS
from motet.targets.systolic.instructions.checker import check_program
from motet.targets.systolic.mappings.plan import Plan
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.workload.graph import single
from motet.targets.systolic.workload.layers import Convolution, MatrixProduct, Pooling, Softmax

WORKLOADS = {
    "block": block(40, 7).workload,
    "chain": chain(5, 9),
    "product": single(MatrixProduct(1, 64, 96, 128)),
    "product of few rows": single(MatrixProduct(1, 4, 200, 64)),
    "attention": single(MatrixProduct(6, 24, 24, 16)),
    "strided": single(Convolution(1, 24, 48, 1, 14, 14, (3, 3), (2, 2), (1, 1, 1, 1)), bias=True),
    "depthwise": single(Convolution(1, 24, 24, 24, 14, 14, (3, 3), (1, 1), (1, 1, 1, 1))),
    "pooling": single(Pooling("max", 1, 32, 16, 16, (3, 3), (2, 2), (1, 1, 1, 1))),
    "softmax": single(Softmax(64, 48)),
}


def machine(pods: int, bytes_per_cycle: int = 32) -> ArrayDescription:
    """Pods of 8 x 8 on a bus, at 1 GHz."""
    pod = Pod(
        count=pods,
        rows=8,
        columns=8,
        scratchpad=Memory(bytes=32768),
        accumulators=Memory(bytes=8192),
        vector=VectorUnit(lanes=8),
        dataflows=("weight-stationary", "output-stationary", "input-stationary"),
        formats=("fp32", "int8"),
    )
    return ArrayDescription(
        name="many",
        clock_hz=1e9,
        pods=(pod,),
        dram=Dram(bytes_per_second=bytes_per_cycle * 1e9),
        interconnect=Interconnect(kind="bus", link_bytes=bytes_per_cycle),
    )


@pytest.mark.parametrize("name", WORKLOADS)
def test_simulated_cycles_never_rise_with_pods(name):
    for bandwidth in (8, 32, 256):
        cycles = []
        for pods in (1, 2, 4, 8, 16):
            array = machine(pods, bandwidth)
            program = compile_workload(WORKLOADS[name], array).program
            check_program(program, array)
            cycles.append(simulate(program, array).cycles)
        assert cycles == sorted(cycles, reverse=True), bandwidth


def test_the_fastest_plan_may_be_one_with_fewer_pods():
    """On 16 pods the least estimate of this product is one that contends for the bus."""
    array = machine(16)
    compiled = compile_workload(WORKLOADS["product of few rows"], array)
    first = plan_workload(WORKLOADS["product of few rows"], array, FORMATS["fp32"])
    assert first.cycles < compiled.plan.cycles
    assert compiled.plan.mappings[0].pods < first.mappings[0].pods


def test_limits_are_all_pods_and_powers_of_two():
    assert [len(pods) for pods in pod_limits(machine(12))] == [12, 8, 4, 2, 1]
    assert [len(pods) for pods in pod_limits(machine(8))] == [8, 4, 2, 1]
    assert pod_limits(machine(1)) == [range(1)]


def plan(pods: range, cycles: float) -> Plan:
    return Plan((), {}, len(pods), cycles)


def test_plans_come_by_their_estimates():
    cycles = {16: 105.0, 8: 100.0, 4: 109.0, 2: 111.0, 1: 300.0}
    found = limited_plans(machine(16), 1, lambda pods: plan(pods, cycles[len(pods)]))
    assert [one.cycles for one in found] == [100.0, 105.0, 109.0, 111.0, 300.0]


def test_no_plan_is_made_for_pods_that_are_far_too_few():
    asked = []

    def planned(pods: range) -> Plan:
        asked.append(len(pods))
        return plan(pods, 100.0)

    limited_plans(machine(16), 64 * 4 * 200, planned)  # 4 pods of 64 take 200 cycles at least
    assert asked == [16, 8, 4]


def test_limits_where_nothing_fits_are_left_out():
    def planned(pods: range) -> Plan:
        if len(pods) < 8:
            raise CompileError(f"too few: {len(pods)}")
        return plan(pods, 100.0)

    assert [one.tile_words for one in limited_plans(machine(16), 1, planned)] == [16, 8]
    with pytest.raises(CompileError, match="too few: 4"):
        limited_plans(machine(4), 1, planned)


def test_equal_plans_are_tried_once():
    same = Plan((), {}, 0, 100.0)
    assert limited_plans(machine(16), 1, lambda pods: same) == [same]


class Program:
    """As much of one as ``fastest`` looks at."""

    def __init__(self, cycles: int, count: int = 1) -> None:
        self.cycles, self.instructions = cycles, range(count)


@pytest.mark.parametrize(("count", "expected"), [(1, 60), (SMALL, 80)])
def test_of_large_programs_those_with_near_estimates_are_simulated(monkeypatch, count, expected):
    monkeypatch.setattr(
        "motet.targets.systolic.emit.pod_limits.simulate", lambda program, array: program
    )
    made = {100.0: 90, 105.0: 80, 109.0: 80, 130.0: 60}
    plans = [plan(range(int(cycles)), cycles) for cycles in made]
    kept, program = fastest(plans, machine(4), lambda one: Program(made[one.cycles], count))
    assert program.cycles == expected
    assert kept.cycles == {60: 130.0, 80: 105.0}[expected]


def test_one_plan_is_not_simulated(monkeypatch):
    monkeypatch.setattr("motet.targets.systolic.emit.pod_limits.simulate", None)
    only, program = plan(range(1), 1.0), Program(0)
    assert fastest([only], machine(1), lambda one: program) == (only, program)
