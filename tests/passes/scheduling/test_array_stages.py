"""Workloads scheduled on arrays: values as numpy's, and never more cycles than sequential."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from motet.passes.options import ScheduleOptions
from motet.passes.scheduling import inter_operator
from motet.passes.scheduling.array_costs import ArrayStageCost
from motet.passes.scheduling.array_stages import compile_scheduled, schedule_workload
from motet.passes.scheduling.array_units import units_of
from motet.passes.scheduling.stage_costs import FlooredStageCost
from motet.targets.systolic.architecture import (
    ArrayDescription,
    Dram,
    Interconnect,
    Memory,
    Pod,
    VectorUnit,
)
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.formats import FORMATS
from motet.targets.systolic.instructions.checker import check_program
from motet.targets.systolic.instructions.program import Role, Tensor
from motet.targets.systolic.simulation.functional import Interpreter
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.workload.graph import Step, Workload
from motet.targets.systolic.workload.layers import (
    Convolution,
    Elementwise,
    MatrixProduct,
    Softmax,
)
from motet.targets.systolic.workload.parts import Part

ON = ScheduleOptions(enabled=True)
SIDE = 16


def machine(*pods: int, bytes_per_cycle: int = 256) -> ArrayDescription:
    """Pods of 8 x 8, and of 4 x 4 where a second number is given."""
    kinds = tuple(
        Pod(
            count=count,
            rows=side,
            columns=side,
            scratchpad=Memory(bytes=16384),
            accumulators=Memory(bytes=8192),
            vector=VectorUnit(lanes=side),
            dataflows=("weight-stationary", "output-stationary"),
            formats=("fp32",),
        )
        for count, side in zip(pods, (8, 4), strict=False)
    )
    return ArrayDescription(
        name="many",
        clock_hz=1e9,
        pods=kinds,
        dram=Dram(bytes_per_second=bytes_per_cycle * 1e9),
        interconnect=Interconnect(kind="crossbar", link_bytes=bytes_per_cycle),
    )


class Net:
    """A workload of values [SIDE, SIDE], put together step by step, with what numpy computes."""

    def __init__(self) -> None:
        self.tensors = [Tensor("x", (SIDE, SIDE), Role.INPUT)]
        self.steps: list[Step] = []
        self.parts: list[Part] = []
        self.values = [np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32)]

    def product(self, source: int, rows: int = SIDE) -> int:
        layer = MatrixProduct(1, rows, SIDE, SIDE)
        weight = np.random.default_rng(len(self.tensors)).standard_normal((SIDE, SIDE)) / 4
        at = self._tensor((SIDE, SIDE), weight.astype(np.float32), Role.WEIGHT)
        return self._step(layer, (source, at), self.values[source] @ self.values[at])

    def add(self, one: int, other: int) -> int:
        layer = Elementwise("add", (SIDE, SIDE))
        return self._step(layer, (one, other), self.values[one] + self.values[other])

    def softmax(self, source: int) -> int:
        powers = np.exp(self.values[source] - self.values[source].max(1, keepdims=True))
        return self._step(Softmax(SIDE, SIDE), (source,), powers / powers.sum(1, keepdims=True))

    def joined(self, *sources: int) -> int:
        """The values one below the other, without a step."""
        made = np.concatenate([self.values[n] for n in sources])
        at = self._tensor(made.shape, made, Role.INTERNAL)
        self.parts += [Part(n, at, i * SIDE * SIDE) for i, n in enumerate(sources)]
        return at

    def workload(self) -> Workload:
        """What no step reads is an output."""
        read = {n for step in self.steps for n in step.reads} | {p.tensor for p in self.parts}
        ends = {step.output for step in self.steps} - read
        tensors = [
            Tensor(t.name, t.shape, Role.OUTPUT) if n in ends else t
            for n, t in enumerate(self.tensors)
        ]
        return Workload(tuple(tensors), tuple(self.steps), tuple(self.parts))

    def _step(self, layer, inputs, value) -> int:
        at = self._tensor(value.shape, value, Role.INTERNAL)
        self.steps.append(Step(f"step{len(self.steps)}", layer, inputs, at))
        return at

    def _tensor(self, shape, value, role) -> int:
        self.tensors.append(Tensor(f"t{len(self.tensors)}", shape, role))
        self.values.append(value)
        return len(self.tensors) - 1


def run(net: Net, program) -> None:
    """Compare a program's results with numpy's."""
    tensors = net.workload().tensors
    given = [v for t, v in zip(tensors, net.values, strict=True) if t.role in GIVEN]
    wanted = [v for t, v in zip(tensors, net.values, strict=True) if t.role is Role.OUTPUT]
    results = [np.empty(one.shape, np.float32) for one in wanted]
    Interpreter(program).run(given, results)
    for one, other in zip(results, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


GIVEN = (Role.INPUT, Role.WEIGHT)


def cell(branches: int, depth: int) -> Net:
    """Branches of products of the input, joined and read by one product."""
    net = Net()
    ends = []
    for _ in range(branches):
        value = 0
        for _ in range(depth):
            value = net.product(value)
        ends.append(value)
    net.product(net.joined(*ends), branches * SIDE)
    return net


def drawn(seed: int) -> Net:
    chance, net, values = random.Random(seed), Net(), [0]
    for _ in range(chance.randint(3, 9)):
        kind = chance.choice(["product", "product", "add", "softmax"])
        sources = [chance.choice(values) for _ in range(2)]
        if kind == "add":
            values.append(net.add(*sources))
        else:
            values.append(getattr(net, kind)(sources[0]))
    return net


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(2,), (5,), (1, 4)]))
def test_values_stay_and_cycles_never_rise(seed, pods):
    net, array = drawn(seed), machine(*pods)
    workload = net.workload()
    found = schedule_workload(workload, array, options=ON)
    check_program(found.compiled.program, array)
    run(net, found.compiled.program)
    sequential = simulate(compile_workload(workload, array).program, array).cycles
    now = simulate(found.compiled.program, array).cycles
    assert now <= sequential
    if found.candidates:
        assert found.cycles["sequential"] == sequential
        assert now == min(found.cycles.values()) == found.cycles[found.best]
        for one in found.candidates:
            assert sum(one.block_cycles) <= one.cycles
            again = compile_workload(workload, array, assignment=one.assignment)
            run(net, again.program)
            if one.name != "sequential":  # which has pods that only its plan limits
                assert simulate(again.program, array).cycles == one.cycles


def test_branches_side_by_side_take_less_time():
    net, array = cell(4, 3), machine(4)
    found = schedule_workload(net.workload(), array, options=ON)
    assert found.best != "sequential"
    assert min(found.cycles.values()) < 0.9 * found.cycles["sequential"]
    run(net, found.compiled.program)


def test_pods_of_two_kinds_are_shared():
    net, array = cell(3, 2), machine(1, 4)
    found = schedule_workload(net.workload(), array, options=ON)
    run(net, found.compiled.program)
    stages = found.candidates[-1].assignment.stages
    assert {pods for stage in stages for group in stage for pods in group.pods} <= {*range(5)}


@pytest.mark.parametrize("algorithm", ["ios", "greedy"])
def test_the_programme_runs_where_it_is_asked_for(monkeypatch, algorithm):
    asked = []

    def schedule(graph, cost, keys, search):
        asked.append((search.pruning.r, search.pruning.s))
        return inter_operator.greedy(graph, cost, keys)

    monkeypatch.setattr(inter_operator, "schedule", schedule)
    options = ScheduleOptions(enabled=True, algorithm=algorithm, r=2, s=5)
    found = schedule_workload(cell(3, 3).workload(), machine(4), options=options)
    assert asked == ([(2, 5)] if algorithm == "ios" else [])
    assert {"sequential", "greedy"} <= {*found.cycles}


@pytest.mark.parametrize(
    "options", [ScheduleOptions(), ScheduleOptions(enabled=True, algorithm="sequential")]
)
def test_without_it_programs_are_as_they_were(options):
    workload, array = cell(3, 3).workload(), machine(4)
    found = schedule_workload(workload, array, options=options)
    assert (found.candidates, found.best) == ((), "sequential")
    assert found.compiled.plan == compile_workload(workload, array).plan


def test_nothing_is_tried_where_there_is_nothing_to_share():
    chain = cell(1, 4)
    chain.product(0)
    assert schedule_workload(chain.workload(), machine(4), options=ON).candidates
    chain = cell(1, 4).workload()
    assert not schedule_workload(chain, machine(4), options=ON).candidates
    assert not schedule_workload(cell(3, 1).workload(), machine(1), options=ON).candidates
    pins = {"step0": {"pods": 2}}
    assert not schedule_workload(cell(3, 1).workload(), machine(4), "fp32", pins, ON).candidates


def test_a_mapping_file_that_pins_no_pods_is_followed():
    pins = {"*": {"dataflow": "output-stationary"}}
    made = compile_scheduled(cell(4, 2).workload(), machine(4), "fp32", pins, ON)
    assert {mapping.dataflow for mapping in made.mappings.values()} == {"output-stationary"}


def test_units_are_steps_with_what_they_alone_read():
    """A softmax that one product reads is that product's; one that two read is a unit."""
    net = Net()
    alone = net.product(net.softmax(0))
    shared = net.softmax(0)
    first, second = net.product(shared), net.product(shared)
    net.product(net.joined(alone, first, second), 3 * SIDE)
    units = units_of(net.workload())
    assert {*units.steps.values()} == {(0, 1), (2,), (3,), (4,), (), (5,)}
    (join,) = (name for name, steps in units.steps.items() if not steps)
    assert {(a, b) for a, b in units.graph.edges} == {
        ("2", "3"), ("2", "4"), ("1", join), ("3", join), ("4", join), (join, "5"),
    }  # fmt: skip


def test_a_depthwise_convolution_joins_the_pointwise_one():
    lines = Convolution(1, 4, 4, 4, 6, 6, (3, 3), padding=(1, 1, 1, 1))
    point = Convolution(1, 4, 4, 1, 6, 6, (1, 1))
    shapes = [lines.input_shape, lines.weight_shape, lines.output_shape, point.weight_shape]
    roles = [Role.INPUT, Role.WEIGHT, Role.INTERNAL, Role.WEIGHT]
    tensors = [Tensor(f"t{n}", *both) for n, both in enumerate(zip(shapes, roles, strict=True))]
    tensors.append(Tensor("y", point.output_shape, Role.OUTPUT))
    steps = (Step("lines", lines, (0, 1), 2), Step("point", point, (2, 3), 4))
    assert {*units_of(Workload(tuple(tensors), steps)).steps.values()} == {(0, 1)}


def cost_of(net: Net, array: ArrayDescription) -> ArrayStageCost:
    workload = net.workload()
    plan = compile_workload(workload, array).plan
    return ArrayStageCost(workload, array, FORMATS["fp32"], units_of(workload), plan)


def test_a_stage_takes_as_long_as_its_longest_group():
    cost = cost_of(cell(4, 2), machine(8))
    one, pair = ("0", "1"), ("2", "3")
    alone = cost.concurrent((one,))
    assert cost.concurrent((one, pair)) == cost.concurrent((pair, one)) >= alone
    assert cost.concurrent((one, pair)) <= alone + cost.concurrent((pair,))
    stage = cost.stage((one, pair))
    assert {group.steps for group in stage} == {(0, 1), (2, 3)}
    assert not {*stage[0].pods} & {*stage[1].pods}


def test_groups_share_the_bytes_of_dram():
    wide = cost_of(cell(4, 1), machine(4, bytes_per_cycle=256))
    narrow = cost_of(cell(4, 1), machine(4, bytes_per_cycle=1))
    groups = (("0",), ("1",), ("2",))
    least = 3 * SIDE * SIDE * 4 / 1e9  # the weights alone
    assert narrow.concurrent(groups) >= least > wide.concurrent(groups)


def test_a_join_costs_nothing_and_equal_operators_have_equal_keys():
    cost = cost_of(cell(3, 1), machine(4))
    (join,) = (name for name, steps in cost.units.steps.items() if not steps)
    assert cost.concurrent(((join,),)) == 0
    keys = cost.keys()
    assert keys["0"] == keys["1"] == keys["2"] != keys["3"]
    assert cost.merged(("0", "1")) is None


def test_more_groups_than_pods_run_in_turn():
    cost = cost_of(cell(5, 1), machine(2))
    stage = cost.stage(tuple((str(n),) for n in range(5)))
    assert sorted(n for group in stage for n in group.steps) == [0, 1, 2, 3, 4]
    assert len(stage) == 2


@pytest.mark.parametrize("bytes_per_cycle", [1, 16, 256])
def test_no_stage_takes_less_than_its_operators_floors(bytes_per_cycle):
    """What spares the programme most stages: bound by DRAM, or by pods."""
    cost = cost_of(cell(4, 2), machine(8, bytes_per_cycle=bytes_per_cycle))
    assert isinstance(cost, FlooredStageCost)
    names = [name for name, steps in cost.units.steps.items() if steps][:8]
    floors = [cost.floor(name) for name in names]
    assert min(floors) > 0
    for size in range(1, len(names)):
        groups = tuple((name,) for name in names[:size])
        assert sum(floors[:size]) <= cost.concurrent(groups) * (1 + 1e-9)
        assert sum(floors[:size]) <= cost.concurrent((tuple(names[:size]),)) * (1 + 1e-9)
