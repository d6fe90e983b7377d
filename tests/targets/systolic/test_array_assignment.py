"""Steps on any pods and in any order that data allows: values stay what numpy says."""

from __future__ import annotations

import random

import numpy as np
import pytest
from array_emission import machine
from array_slow_interpreter import run_program
from hypothesis import given, settings
from hypothesis import strategies as st
from test_array_plan import convolved as dense
from test_array_pod_limits import machine as many_pods
from test_array_spatial import convolved
from test_array_vector_steps import pooled

from motet.runtime.errors import CompileError
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.emit.dispatch import step_mapping
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.formats import FORMATS
from motet.targets.systolic.instructions.checker import check_program
from motet.targets.systolic.instructions.program import Role, Tensor
from motet.targets.systolic.mappings.assignment import Assignment, Group, sequential
from motet.targets.systolic.simulation.functional import Interpreter
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.workload.dependencies import predecessors
from motet.targets.systolic.workload.graph import Epilogue, Step, Workload, single
from motet.targets.systolic.workload.layers import (
    Convolution,
    Elementwise,
    MatrixProduct,
    Pooling,
    Softmax,
)
from motet.targets.systolic.workload.parts import Part

PODS = 6


def branches(channels: int, side: int) -> Workload:
    """Four branches of an image, and a concatenation of parts that a 1x1 reads; y and soft.

    dense 3x3 - 1x1, depthwise - 1x1, pooling - 1x1, softmax of the image's lines + the image.
    """
    wide = Convolution(1, channels, channels, 1, side, side, (3, 3), padding=(1, 1, 1, 1))
    lines = Convolution(1, channels, channels, channels, side, side, (3, 3), padding=(1, 1, 1, 1))
    point = Convolution(1, channels, channels, 1, side, side, (1, 1))
    pool = Pooling("max", 1, channels, side, side, (3, 3), (1, 1), (1, 1, 1, 1))
    last = Convolution(1, 3 * channels, 5, 1, side, side, (1, 1))
    image = wide.input_shape
    weights = {"wide": wide, "lines": lines, "p0": point, "p1": point, "p2": point, "last": last}
    tensors = [Tensor("x", image, Role.INPUT)]
    tensors += [Tensor(name, layer.weight_shape, Role.WEIGHT) for name, layer in weights.items()]
    internal = ["a", "b", "c", "d", "e", "f", "g"]
    tensors += [Tensor(name, image, Role.INTERNAL) for name in internal]
    tensors.append(Tensor("joined", last.input_shape, Role.INTERNAL))
    tensors.append(Tensor("soft", image, Role.OUTPUT))
    tensors.append(Tensor("y", last.output_shape, Role.OUTPUT))
    at = {tensor.name: number for number, tensor in enumerate(tensors)}
    arrows = [
        (wide, "x wide", "a", None),
        (lines, "x lines", "b", None),
        (pool, "x", "c", None),
        (Softmax(channels * side, side), "x", "d", None),
        (point, "a p0", "e", None),
        (point, "b p1", "f", "a"),
        (point, "c p2", "g", None),
        (Elementwise("add", image), "d x", "soft", None),
        (last, "joined last", "y", None),
    ]
    steps = [
        Step(
            f"step{number}",
            layer,
            tuple(at[name] for name in inputs.split()),
            at[output],
            Epilogue(residual=None if residual is None else at[residual]),
        )
        for number, (layer, inputs, output, residual) in enumerate(arrows)
    ]
    size = channels * side * side
    parts = tuple(Part(at[name], at["joined"], i * size) for i, name in enumerate("efg"))
    return Workload(tuple(tensors), tuple(steps), parts)


def expected(workload: Workload, x, wide, lines, p0, p1, p2, last) -> tuple[np.ndarray, ...]:
    layers = [step.layer for step in workload.steps]
    a, b = dense(x, wide, 1), convolved(layers[1], x, lines)
    c = pooled(layers[2], x)
    powers = np.exp(x - x.max(-1, keepdims=True))
    soft = powers / powers.sum(-1, keepdims=True) + x
    joined = [
        np.einsum("oc,bchw->bohw", weight[:, :, 0, 0], value)
        for weight, value in ((p0, a), (p1, b), (p2, c))
    ]
    joined[1] = joined[1] + a
    return soft, np.einsum("oc,bchw->bohw", last[:, :, 0, 0], np.concatenate(joined, axis=1))


def drawn(workload: Workload, pods: int, seed: int) -> Assignment:
    """Stages of random ready steps, some with one that follows them, on random pods."""
    chance, before = random.Random(seed), predecessors(workload)
    done: set[int] = set()
    stages = []
    while len(done) < len(workload.steps):
        ready = [n for n, needs in enumerate(before) if n not in done and needs <= done]
        chosen = chance.sample(ready, chance.randint(1, min(len(ready), pods)))
        groups = [[n] for n in chosen]
        for group in groups:
            taken = done | {n for other in groups for n in other}
            after = [
                n
                for n, needs in enumerate(before)
                if n not in taken and needs <= done | {*group} and chance.random() < 0.5
            ]
            group += after[:1]
        cuts = (
            sorted(chance.sample(range(pods + 1), 2 * len(groups)))
            if (2 * len(groups) <= pods + 1)
            else [n for i in range(len(groups)) for n in (i, i + 1)]
        )
        stages.append(
            tuple(
                Group(tuple(group), range(cuts[2 * i], cuts[2 * i + 1]))
                for i, group in enumerate(groups)
            )
        )
        done |= {n for group in groups for n in group}
    return Assignment(tuple(stages))


def arguments_of(workload: Workload, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = [t.shape for t in workload.tensors if t.role in (Role.INPUT, Role.WEIGHT)]
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5), st.integers(3, 8), st.integers(0, 10**6),
    st.sampled_from([2048, 8192, 65536]),
)  # fmt: skip
def test_values_do_not_depend_on_the_assignment(channels, side, seed, scratchpad):
    array, workload = machine(pods=PODS, scratchpad=scratchpad), branches(channels, side)
    assignment = drawn(workload, PODS, seed)
    compiled = compile_workload(workload, array, assignment=assignment)
    for mapping, pods in zip(compiled.plan.mappings, assignment.timetable.pods, strict=True):
        assert {*mapping.pod_numbers} <= {*pods}
    check_program(compiled.program, array)
    assert [step.name for step in compiled.program.steps] == [s.name for s in workload.steps]
    arguments = arguments_of(workload, seed)
    want = expected(workload, *arguments)
    results = [np.empty(one.shape, np.float32) for one in want]
    Interpreter(compiled.program).run(arguments, results)
    for one, other in zip(results, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_the_slow_interpreter_agrees(seed):
    array, workload = machine(pods=PODS, scratchpad=8192), branches(3, 5)
    program = compile_workload(workload, array, assignment=drawn(workload, PODS, seed)).program
    arguments = arguments_of(workload, seed)
    pod = array.pods[0]
    words = pod.scratchpad_words("fp32"), pod.accumulator_words
    found = run_program(program, arguments, *words)
    for one, other in zip(found, expected(workload, *arguments), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_tensors_on_different_pods_may_share_words_at_the_same_time():
    """Two chains side by side: what the one keeps lies where the other keeps its own."""
    array = machine(pods=2, scratchpad=2560, sums=2048)
    layer = MatrixProduct(1, 16, 16, 16)
    shape = layer.output_shape
    roles = [Role.INPUT, Role.WEIGHT, Role.INTERNAL, Role.INTERNAL, Role.OUTPUT, Role.OUTPUT]
    shapes = [layer.input_shape, layer.weight_shape, *[shape] * 4]
    tensors = tuple(
        Tensor(f"t{i}", s, r) for i, (s, r) in enumerate(zip(shapes, roles, strict=True))
    )
    steps = (
        Step("a", layer, (0, 1), 2),
        Step("b", layer, (0, 1), 3),
        Step("c", layer, (2, 1), 4),
        Step("d", layer, (3, 1), 5),
    )
    workload = Workload(tensors, steps)
    stages = ((Group((1, 3), range(1)), Group((0, 2), range(1, 2))),)
    compiled = compile_workload(workload, array, assignment=Assignment(stages))
    places = compiled.plan.resident
    assert {2, 3} <= {*places}
    assert places[2].address == places[3].address
    assert (places[3].pods, places[2].pods) == (range(1), range(1, 2))
    check_program(compiled.program, array)
    x, w = arguments_of(workload, 0)
    results = [np.empty(shape, np.float32) for _ in range(2)]
    Interpreter(compiled.program).run([x, w], results)
    for one in results:
        np.testing.assert_allclose(one.reshape(16, 16), x[0] @ w[0] @ w[0], rtol=1e-3, atol=1e-3)


def test_independent_groups_run_at_the_same_time():
    """Four products of one output tile each, which one pod computes, at once."""
    array, layer = many_pods(4, 256), MatrixProduct(1, 8, 8, 512)
    given = (
        Tensor("x", layer.input_shape, Role.INPUT),
        Tensor("w", layer.weight_shape, Role.WEIGHT),
    )
    made = tuple(Tensor(f"y{i}", layer.output_shape, Role.OUTPUT) for i in range(4))
    steps = tuple(Step(f"step{i}", layer, (0, 1), 2 + i) for i in range(4))
    workload = Workload((*given, *made), steps)
    stage = tuple(Group((i,), range(i, i + 1)) for i in range(4))
    together, one_by_one = (
        simulate(compile_workload(workload, array, assignment=one).program, array).cycles
        for one in (Assignment((stage,)), sequential(workload, array))
    )
    assert together < 0.7 * one_by_one


def test_one_by_one_on_all_pods_is_the_plan_without_an_assignment():
    array, workload = machine(pods=1, scratchpad=8192), branches(3, 5)
    given = compile_workload(workload, array, assignment=sequential(workload, array))
    assert given.plan == compile_workload(workload, array).plan


@pytest.mark.parametrize("number", [0, 1])
def test_a_step_may_run_on_pods_of_any_kind(number):
    """mixed: pod 0 is the large one, pods 1 to 4 the small ones."""
    array = load_architecture("mixed-64x64-4x16x16")
    pods = (range(1), range(2, 5))[number]
    workload = branches(4, 8)
    for n, step in enumerate(workload.steps):
        made = step_mapping(step, workload, array, FORMATS["fp32"], {}, pods=pods).mapping
        assert {*made.pod_numbers} <= {*pods}, n


def test_equal_pods_get_equal_mappings_wherever_they_are():
    array, workload = many_pods(16), single(MatrixProduct(1, 64, 96, 128))
    given = (workload.steps[0], workload, array, FORMATS["fp32"], {})
    first, other = (step_mapping(*given, pods=pods) for pods in (range(4), range(9, 13)))
    assert first.cycles == other.cycles
    assert (other.mapping.first_pod, other.mapping.pods) == (9, first.mapping.pods)


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (((Group((0,), range(2)),),), "step 1 of 2 is in 0 groups"),
        (((Group((0, 1), range(2)),), (Group((1,), range(2)),)), "step 1 of 2 is in 2 groups"),
        (((Group((0, 1, 7), range(2)),),), "step 7 of 2 is in 1 groups"),
        (((Group((0,), range(2)), Group((1,), range(1, 2))),), "stage 0 has pods 1 to 1"),
        (((Group((0, 1), range(3)),),), "stage 0 has pods 0 to 2 of array 'test', which has 2"),
        (((Group((0, 1), range(0)),),), "stage 0"),
        (((Group((1,), range(2)),), (Group((0,), range(2)),)), "out of order"),
    ],
)
def test_a_wrong_assignment_is_refused(stages, words):
    layer = Elementwise("identity", (4, 4))
    roles = (Role.INPUT, Role.INTERNAL, Role.OUTPUT)
    tensors = tuple(Tensor(f"t{i}", (4, 4), role) for i, role in enumerate(roles))
    workload = Workload(tensors, (Step("a", layer, (0,), 1), Step("b", layer, (1,), 2)))
    with pytest.raises(CompileError, match=words):
        compile_workload(workload, machine(pods=2), assignment=Assignment(stages))


def test_pinned_pods_are_used():
    array, workload = machine(pods=6, scratchpad=65536), branches(4, 6)
    pins = {
        "step0": {"first_pod": 2, "pods": 2},
        "step2": {"first_pod": 4, "pods": 1},
        "step7": {"first_pod": 3, "pods": 3},
    }
    compiled = compile_workload(workload, array, constraints=pins)
    for name, pinned in pins.items():
        assert compiled.mappings[name].first_pod == pinned["first_pod"], name
        assert compiled.mappings[name].pods == pinned["pods"], name
    check_program(compiled.program, array)
    arguments = arguments_of(workload, 1)
    want = expected(workload, *arguments)
    results = [np.empty(one.shape, np.float32) for one in want]
    Interpreter(compiled.program).run(arguments, results)
    for one, other in zip(results, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_pinned_pods_that_are_not_there_are_refused():
    workload = branches(4, 6)
    with pytest.raises(CompileError, match=r"step2.*pods 5 to 7.*pin fewer"):
        compile_workload(
            workload, machine(pods=6), constraints={"step2": {"first_pod": 5, "pods": 3}}
        )
