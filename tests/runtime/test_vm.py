from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vm_programs import Draft, affine_program, batch_program, choice_program

from motet.runtime.errors import CompileError, InputError
from motet.runtime.kernels import KernelLibrary
from motet.runtime.memory import lendable
from motet.runtime.program import Program
from motet.runtime.shapes import Expression
from motet.runtime.symbols import bind_symbols
from motet.runtime.verify import verify_program
from motet.runtime.vm import (
    MAX_IDLE_FRAMES,
    Frame,
    Machine,
    ModelVM,
    fill,
)

BIAS = np.arange(8, dtype=np.float32)


@pytest.fixture(scope="module")
def machine(kernel_library: bytes) -> Machine:
    return Machine(KernelLibrary(kernel_library), [lendable(BIAS)])


def run(machine: Machine, program: Program, *arrays: np.ndarray[Any, Any]) -> list[Any]:
    """Outputs of one run in a frame of its own."""
    verify_program("m", program, machine.weights)
    frame = ModelVM("m", program, machine).bind(tuple(array.shape for array in arrays))
    fill(frame, dict(enumerate(arrays)))
    frame.run()
    return [output.copy() for output in frame.outputs]


def rows(count: int, start: float = 0) -> np.ndarray[Any, Any]:
    return np.arange(start, start + 4 * count, dtype=np.float32).reshape(count, 4)


def test_a_static_program(machine: Machine) -> None:
    (y,) = run(machine, affine_program(), rows(2))
    np.testing.assert_array_equal(y, 2 * (rows(2) + BIAS.reshape(2, 4)))


@pytest.mark.parametrize("count", [0, 1, 2, 33])
def test_a_symbolic_batch(machine: Machine, count: int) -> None:
    y, size = run(machine, batch_program(), rows(count, 1))
    np.testing.assert_array_equal(y, 4 * rows(count, 1))
    assert size.dtype == np.int64
    assert size.tolist() == [count, 4]


@pytest.mark.parametrize(("x", "times"), [([-1, -2, 3, -4], 2), ([-1, -2, -3, 0], 3)])
def test_both_ways_of_a_branch(machine: Machine, x: list[float], times: int) -> None:
    given_x = np.array(x, np.float32)
    (y,) = run(machine, choice_program(), given_x)
    np.testing.assert_array_equal(y, times * given_x)


def test_one_frame_takes_either_way(machine: Machine) -> None:
    frame = ModelVM("m", choice_program(), machine).bind(((4,),))
    for sign in (1, -1, 1, -1):
        x = np.full(4, sign, np.float32)
        fill(frame, {0: x})
        frame.run()
        np.testing.assert_array_equal(frame.outputs[0], x * (2 if sign > 0 else 3))


def test_timed_runs_report_the_operators_that_ran(machine: Machine) -> None:
    frame = ModelVM("m", choice_program(), machine).bind(((4,),))
    for value, expected in ((1, [0, 1]), (-1, [0, 2, 3])):
        fill(frame, {0: np.full(4, value, np.float32)})
        times = frame.run_timed()
        assert [step.operator for step, _ in times] == expected
        assert all(seconds >= 0 for _, seconds in times)


def test_an_empty_operand_of_a_kernel_that_writes(machine: Machine) -> None:
    draft = Draft()
    x = draft.input("x", ("N", 4))
    program = draft.finish(y=draft.kernel("sum_rows", x, draft.stored((4,))))
    assert run(machine, program, rows(0))[0].tolist() == [0, 0, 0, 0]
    np.testing.assert_array_equal(run(machine, program, rows(3))[0], rows(3).sum(0))


def test_outputs_may_be_inputs_weights_and_views(machine: Machine) -> None:
    draft = Draft()
    x = draft.input("x", ("N", 4))
    flat = draft.view(x, (Expression("*", "N", 4),))
    program = draft.finish(same=x, flat=flat, bias=draft.constant(0, (8,)))
    same, flat_out, bias = run(machine, program, rows(2))
    np.testing.assert_array_equal(same, rows(2))
    np.testing.assert_array_equal(flat_out, rows(2).ravel())
    np.testing.assert_array_equal(bias, BIAS)


def test_shape_arithmetic_in_a_shape_tensor(machine: Machine) -> None:
    draft = Draft()
    draft.input("x", ("N", "S"))
    size = draft.shape_tensor((Expression("*", "N", "S"), Expression("//", "N", 2), 7))
    (values,) = run(machine, draft.finish(size=size), np.zeros((5, 3), np.float32))
    assert values.tolist() == [15, 2, 7]


def test_storages_share_the_arena_and_results_stay_right(machine: Machine) -> None:
    draft = Draft()
    value = draft.input("x", ("N",))
    for _ in range(12):
        value = draft.kernel("double", value, draft.stored(("N",)))
    program = draft.finish(y=value)
    frame = ModelVM("m", program, machine).bind(((100,),))
    assert frame.arena_bytes == 2 * 448  # two tensors of 400 bytes alive at once, aligned
    x = np.arange(100, dtype=np.float32)
    np.testing.assert_array_equal(run(machine, program, x)[0], 4096 * x)


@given(count=st.integers(0, 20), columns=st.integers(0, 6))
def test_bind_symbols_inverts_the_shapes(count: int, columns: int) -> None:
    draft = Draft()
    draft.input("both", (Expression("*", "N", 2), Expression("+", "S", 1)))
    draft.input("alone", ("N", 3, "S"))
    program = draft.finish()
    shapes = ((2 * count, columns + 1), (count, 3, columns))
    assert bind_symbols(program, shapes) == {"N": count, "S": columns}


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 4), (2,)), None),
        (((2, 5), (2,)), r"input 'x' has shape 2 x 5; the model takes N x 4, N = 2$"),
        (((2,), (2,)), r"input 'x' has shape 2; the model takes N x 4$"),
        (((), (2,)), r"input 'x' has shape scalar; the model takes N x 4$"),
        (((2, 4), (3,)), r"input 'z' has shape 3; the model takes N, N = 2$"),
    ],
)
def test_shapes_that_contradict(machine: Machine, shapes: Any, message: str | None) -> None:
    draft = Draft()
    draft.input("x", ("N", 4))
    draft.input("z", ("N",))
    vm = ModelVM("m", draft.finish(), machine)
    if message is None:
        assert vm.bind(shapes).outputs == []
    else:
        with pytest.raises(InputError, match=f"model 'm': {message}"):
            vm.bind(shapes)


@pytest.mark.parametrize(
    "shape",
    [
        (Expression("//", 8, "N"),), (Expression("-", "N", 5),),
        (Expression("*", Expression("*", "N", 2**40), 2**40),),
    ],
)  # fmt: skip
def test_shapes_that_a_model_cannot_have(machine: Machine, shape: Any) -> None:
    draft = Draft()
    draft.input("x", ("N",))
    vm = ModelVM("m", draft.finish(y=draft.stored(shape)), machine)
    count = 4 if "-" in str(shape) else 0 if "//" in str(shape) else 3
    with pytest.raises(CompileError, match=f"model 'm' does not work at input shapes {count}: "):
        vm.bind(((count,),))


def test_a_view_of_another_size(machine: Machine) -> None:
    draft = Draft()
    x = draft.input("x", ("N",))
    view = draft.finish(y=draft.view(x, (2, 2)))
    assert ModelVM("m", view, machine).bind(((4,),)).outputs[0].shape == (2, 2)
    less = Draft()
    less.view(less.input("x", ("N",)), (Expression("-", "N", 5), 2))
    with pytest.raises(CompileError, match="has shape -1 x 2"):
        ModelVM("m", less.finish(), machine).bind(((4,),))
    with pytest.raises(CompileError, match="input shapes 5"):
        ModelVM("m", view, machine).bind(((5,),))


def test_branches_of_different_shapes(machine: Machine) -> None:
    draft = Draft()
    x = draft.input("x", ("N",))
    draft.move(x, draft.stored((4,)))
    with pytest.raises(CompileError, match="a branch gives 1 where 4 is joined"):
        ModelVM("m", draft.finish(), machine).bind(((1,),))


class Binds:
    """Counts the frames that are made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        make = Frame.__init__

        def counted(frame: Frame, *arguments: Any) -> None:
            self.count += 1
            make(frame, *arguments)

        monkeypatch.setattr(Frame, "__init__", counted)


def test_a_frame_per_shape_is_kept(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    binds, vm = Binds(monkeypatch), ModelVM("m", batch_program(), machine)
    for count in (1, 2, 1, 3, 2, 1):
        frame = vm.acquire(((count, 4),))
        vm.release(((count, 4),), frame)
    assert binds.count == 3


def test_calls_in_flight_have_frames_of_their_own(machine: Machine) -> None:
    vm = ModelVM("m", batch_program(), machine)
    one, other = vm.acquire(((1, 4),)), vm.acquire(((1, 4),))
    assert not np.shares_memory(one.outputs[0], other.outputs[0])
    assert not np.shares_memory(one.inputs[0], other.inputs[0])


def test_idle_frames_are_bounded_and_freed(machine: Machine) -> None:
    vm = ModelVM("m", batch_program(), machine)
    alive = []
    for count in range(MAX_IDLE_FRAMES + 10):
        frame = vm.acquire(((count, 4),))
        alive.append(weakref.ref(frame))
        vm.release(((count, 4),), frame)
    many = [vm.acquire(((7, 4),)) for _ in range(MAX_IDLE_FRAMES + 10)]
    alive += [weakref.ref(frame) for frame in many]
    while many:
        vm.release(((7, 4),), many.pop())
    del frame
    gc.collect()
    assert sum(one() is not None for one in alive) == MAX_IDLE_FRAMES


def test_external_inputs_are_read_where_they_lie(machine: Machine) -> None:
    vm = ModelVM("m", batch_program(), machine)
    first = vm.bind(((2, 4),))
    second = vm.bind(((2, 4),), {0: first.outputs[0]})
    assert np.shares_memory(first.outputs[0], second.inputs[0])
    for start in (0, 5):
        fill(first, {0: rows(2, start)})
        first.run()
        second.run()
        np.testing.assert_array_equal(second.outputs[0], 16 * rows(2, start))


def test_eight_threads_at_once(machine: Machine) -> None:
    vms = [ModelVM("batch", batch_program(), machine), ModelVM("if", choice_program(), machine)]

    def call(number: int) -> bool:
        sign = 1 if number % 3 else -1
        if number % 2:
            vm, x, times = vms[1], np.full(4, sign * number, np.float32), 2 if sign > 0 else 3
        else:
            vm, x, times = vms[0], rows(number % 5, number), 4
        frame = vm.acquire((x.shape,))
        fill(frame, {0: x})
        frame.run()
        right = np.array_equal(frame.outputs[0], times * x)
        vm.release((x.shape,), frame)
        return right

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(call, range(1600)))
