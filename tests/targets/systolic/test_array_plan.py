"""Tensors that stay in scratchpads: places that never collide, and programs that still agree."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet.runtime.errors import CompileError
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.formats import FORMATS
from motet.targets.systolic.instructions.checker import check_program
from motet.targets.systolic.instructions.isa import Opcode
from motet.targets.systolic.instructions.program import Element, Role, Tensor
from motet.targets.systolic.mappings.assignment import Timetable
from motet.targets.systolic.mappings.plan import ALIGNMENT, Life, Priced, allocate, make_plan
from motet.targets.systolic.simulation.functional import Interpreter
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.workload.graph import Epilogue, Step, Workload
from motet.targets.systolic.workload.layers import Convolution
from motet.targets.systolic.workload.what_if import in_format

lives = st.lists(
    st.tuples(st.integers(1, 900), st.integers(0, 20), st.integers(1, 6), st.integers(1, 3)),
    max_size=12,
).map(
    lambda rows: [
        Life(number, words, first, first + span, reads)
        for number, (words, first, span, reads) in enumerate(rows)
    ]
)


@given(lives, st.integers(0, 500), st.integers(0, 4000))
def test_places_of_tensors_that_live_together_do_not_overlap(lives, start, room):
    placed = allocate(lives, start, start + room)
    for one in lives:
        if one.tensor not in placed:
            continue
        at = placed[one.tensor]
        assert start <= at
        assert at + one.words <= start + room
        for other in lives[one.tensor + 1 :]:
            if other.tensor in placed and other.first <= one.last and one.first <= other.last:
                begin = placed[other.tensor]
                assert begin + other.words <= at or at + one.words <= begin


@given(lives)
def test_everything_fits_into_enough_room(lives):
    room = sum(-(-life.words // ALIGNMENT) * ALIGNMENT for life in lives)
    assert len(allocate(lives, 0, room)) == len(lives)


class Block(NamedTuple):
    """Two 3x3 convolutions with a sum around them, and a 1x1 that reads the sum."""

    workload: Workload
    inputs: list[np.ndarray]


def block(channels: int, side: int, seed: int = 0) -> Block:
    rng = np.random.default_rng(seed)
    wide = Convolution(1, channels, channels, 1, side, side, (3, 3), padding=(1, 1, 1, 1))
    last = Convolution(1, channels, 5, 1, side, side, (1, 1))
    shape = wide.input_shape
    tensors = (
        Tensor("x", shape, Role.INPUT),
        Tensor("w1", wide.weight_shape, Role.WEIGHT),
        Tensor("b1", (channels,), Role.WEIGHT, Element.FP32),
        Tensor("w2", wide.weight_shape, Role.WEIGHT),
        Tensor("w3", last.weight_shape, Role.WEIGHT),
        Tensor("first", shape, Role.INTERNAL),
        Tensor("sum", shape, Role.INTERNAL),
        Tensor("y", last.output_shape, Role.OUTPUT),
    )
    steps = (
        Step("one", wide, (0, 1), 5, Epilogue(bias=2, clamp=(0.0, float("inf")))),
        Step("two", wide, (5, 3), 6, Epilogue(residual=5, clamp=(0.0, 6.0))),
        Step("three", last, (6, 4), 7),
    )
    inputs = [rng.standard_normal(t.shape).astype(np.float32) for t in tensors[:5]]
    return Block(Workload(tensors, steps), inputs)


def convolved(x: np.ndarray, w: np.ndarray, pad: int) -> np.ndarray:
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, w.shape[2:], axis=(2, 3))
    return np.einsum("bcyxij,ocij->boyx", windows.astype(np.float64), w)


def expected(inputs: list[np.ndarray]) -> np.ndarray:
    x, w1, b1, w2, w3 = inputs
    first = np.maximum(convolved(x, w1, 1) + b1[:, None, None], 0)
    total = np.clip(convolved(first, w2, 1) + first, 0, 6)
    return convolved(total, w3, 0)


@pytest.mark.parametrize("array", ["tiny-4x4", "gemmini-16x16", "mixed-64x64-4x16x16"])
def test_a_block_agrees_with_numpy_wherever_its_tensors_lie(array):
    description = load_architecture(array)
    workload, inputs = block(6, 9)
    compiled = compile_workload(workload, description)
    check_program(compiled.program, description)
    result = np.empty(workload.tensors[7].shape, np.float32)
    Interpreter(compiled.program).run(inputs, [result])
    np.testing.assert_allclose(result, expected(inputs), rtol=1e-4, atol=1e-4)


def test_intermediate_tensors_stay_on_chip():
    description = load_architecture("gemmini-16x16")
    workload, _ = block(8, 8)
    compiled = compile_workload(workload, description)
    assert set(compiled.plan.resident) == {5, 6}
    program = compiled.program
    code = program.instructions
    in_dram = np.isin(code["opcode"], [Opcode.LOAD, Opcode.STORE])
    touched = {program.views[number].tensor for number in code["operand"][in_dram]}
    assert touched == {0, 1, 2, 3, 4, 7}


def _planned(cycles_of, timetable=None):
    """The plan of a block whose steps take ``cycles_of(number, resident)`` on pod 0."""
    workload, array = block(8, 8).workload, load_architecture("gemmini-16x16")
    count = len(workload.steps)
    plain = compile_workload(workload, array).plan.mappings[0]

    def mapper(number, step, resident, tile_words):
        return Priced(plain, cycles_of(number, resident))

    timetable = timetable or Timetable(tuple(range(count)), (range(1),) * count)
    return make_plan(workload, array, FORMATS["fp32"], mapper, timetable)


def test_of_plans_as_good_as_equal_the_one_with_the_least_traffic_is_taken():
    more = _planned(lambda number, resident: 1000 + bool(resident))
    assert set(more.resident) == {5, 6}
    assert not _planned(lambda number, resident: 1000 + 20 * bool(resident)).resident


def test_a_stage_takes_as_long_as_its_longest_group():
    taken = (5.0, 2.0, 4.0)
    pods = range(1), range(1, 2), range(1, 2)
    assert _planned(lambda number, _: taken[number], Timetable((0, 0, 0), pods)).cycles == 6
    assert _planned(lambda number, _: taken[number], Timetable((0, 0, 1), pods)).cycles == 9


def test_a_format_that_no_pod_has_is_refused():
    workload, _ = block(4, 6)
    with pytest.raises(CompileError, match=r"no pod for bf16.*fp32"):
        compile_workload(workload, _without("bf16"), "bf16")


def _without(number_format: str):
    import msgspec

    base = load_architecture("tiny-4x4")
    pod = base.pods[0]
    kept = tuple(name for name in pod.formats if name != number_format)
    return msgspec.structs.replace(base, pods=(msgspec.structs.replace(pod, formats=kept),))


def test_what_if_in_int8_moves_a_quarter_of_the_bytes():
    description = load_architecture("gemmini-16x16")
    workload, _ = block(16, 16)
    changed, made = in_format(workload, "int8")
    assert [s.epilogue.requantise is not None for s in changed.steps] == [True] * 3
    programs = [
        compile_workload(workload, description).program,
        compile_workload(changed, description, made).program,
    ]
    moved = [int(simulate(p, description).costs["bytes"].sum()) for p in programs]
    assert 3 < moved[0] / moved[1] < 4.5
