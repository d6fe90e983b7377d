"""Stages: what may run side by side, that it does, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from runtime_kernels import Kernels
from vm_programs import Draft

from motet.runtime.errors import BundleError
from motet.runtime.forks import moments
from motet.runtime.kernels import KernelLibrary
from motet.runtime.memory import Lifetime
from motet.runtime.program import Fork, Goto, Program, Storage, Stored
from motet.runtime.verify import verify_program
from motet.runtime.vm import Frame, Machine, ModelVM, fill
from motet.targets.host.build import build_library
from motet.targets.host.machine import native_machine


@pytest.fixture(scope="module", params=[1, 2, 3])
def machine(request: pytest.FixtureRequest) -> Machine:
    """With a thread, two, and more than this machine may have."""
    kernels = {
        str(variable.name_hint): function.with_attr("global_symbol", str(variable.name_hint))
        for variable, function in Kernels.functions.items()
    }
    return Machine(KernelLibrary(build_library(kernels, native_machine()), request.param), [])


def two_groups(length: Any = 8) -> Program:
    """y = 4 x and z = 4 x + x, in one stage; then both added, and doubled in stages of two."""
    draft = Draft()
    x = draft.input("x", (length,))
    draft.fork(2, 3)
    y = draft.kernel("double", draft.kernel("double", x, draft.stored((length,))),
                     draft.stored((length,)))  # fmt: skip
    twice = draft.kernel("double", x, draft.stored((length,)))
    four = draft.kernel("double", twice, draft.stored((length,)))
    z = draft.kernel("add", four, x, draft.stored((length,)))
    total = draft.kernel("add", y, z, draft.stored((length,)))
    draft.fork(1, 1)
    one = draft.kernel("double", total, draft.stored((length,)))
    other = draft.kernel("add", total, x, draft.stored((length,)))
    return draft.finish(y=y, z=z, one=one, other=other)


def bound(machine: Machine, program: Program, x: np.ndarray[Any, Any]) -> Frame:
    verify_program("m", program, machine.weights)
    frame = ModelVM("m", program, machine).bind((x.shape,))
    fill(frame, {0: x})
    return frame


@pytest.mark.parametrize("length", [8, "N"])
def test_stages_compute_what_their_calls_compute(machine: Machine, length: Any) -> None:
    x = np.random.default_rng(0).standard_normal(8).astype(np.float32)
    frame = bound(machine, two_groups(length), x)
    for _ in range(50):  # whoever comes first
        for output in frame.outputs:
            output.fill(np.nan)
        frame.run()
        for output, times in zip(frame.outputs, (4, 5, 18, 10), strict=True):
            np.testing.assert_allclose(output, times * x, rtol=1e-6)


def test_empty_tensors_leave_empty_groups(machine: Machine) -> None:
    frame = bound(machine, two_groups("N"), np.zeros(0, np.float32))
    frame.run()
    assert [output.shape for output in frame.outputs] == [(0,)] * 4


def test_stages_on_the_way_through_a_branch(machine: Machine) -> None:
    draft = Draft()
    x = draft.input("x", (4,))
    condition = draft.kernel("any_positive", x, draft.stored((1,), "bool"))
    joined = draft.stored((4,))
    draft.branch(condition, 7)
    draft.fork(1, 1)
    a = draft.kernel("double", x, draft.stored((4,)))
    b = draft.kernel("add", x, x, draft.stored((4,)))
    draft.kernel("add", a, b, joined)
    draft.goto(8)
    draft.move(x, joined)
    program = draft.finish(y=joined)
    for sign, times in ((1, 4), (-1, 1)):
        frame = bound(machine, program, np.full(4, sign, np.float32))
        frame.run()
        np.testing.assert_array_equal(frame.outputs[0], sign * times)


def test_the_calls_of_a_stage_are_timed_and_watched_one_by_one(machine: Machine) -> None:
    frame = bound(machine, two_groups(), np.ones(8, np.float32))
    assert len(frame.run_timed()) == 8
    seen = list[int]()
    frame.run_observed(lambda operator, _: seen.append(operator))
    assert seen == list(range(8))


def test_a_kernel_that_fails_in_a_stage_raises_what_it_would_by_itself(machine: Machine) -> None:
    draft = Draft()
    x = draft.input("x", (4,))
    draft.fork(1, 2)
    draft.kernel("double", x, draft.stored((4,)))
    fine = draft.kernel("double", x, draft.stored((4,)))
    wrong = draft.kernel("double", fine, draft.stored((5,)))
    frame = bound(machine, draft.finish(y=wrong), np.ones(4, np.float32))
    with pytest.raises(Exception, match=r"double|shape|\[0\]"):
        frame.run()
    again = bound(machine, two_groups(), np.ones(8, np.float32))
    again.run()
    np.testing.assert_array_equal(again.outputs[0], 4)


def test_a_library_without_forks_is_refused(kernel_library: bytes) -> None:
    machine = Machine(KernelLibrary(kernel_library), [])
    with pytest.raises(BundleError, match="its library cannot run them"):
        bound(machine, two_groups(), np.ones(8, np.float32))


def test_a_stage_is_one_moment() -> None:
    found = moments(two_groups().instructions)
    assert found[:6] == [Lifetime(0, 5)] * 6
    assert found[6] == Lifetime(6, 6)
    assert found[7:] == [Lifetime(7, 9)] * 3


def changed(position: int, *groups: int) -> Program:
    program = two_groups()
    instructions = list(program.instructions)
    instructions[position] = Fork(groups)
    return replace(program, instructions=tuple(instructions))


FAULTS: dict[str, tuple[str, Program]] = {
    "one group": ("instruction 0 refers", changed(0, 5)),
    "empty group": ("instruction 0 refers", changed(0, 5, 0)),
    "too long": ("instruction 7 refers", changed(7, 1, 2)),
    "a fork inside": ("instruction 0 refers", changed(0, 2, 6)),
    "dependent groups": ("instruction 0 runs groups side by side", changed(0, 1, 4)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(fault: str) -> None:
    message, program = FAULTS[fault]
    with pytest.raises(BundleError, match=message):
        verify_program("m", program, [])


def test_a_jump_into_a_stage_is_found() -> None:
    draft = Draft()
    x = draft.input("x", (4,))
    draft.goto(3)
    draft.fork(1, 1)
    one = draft.kernel("double", x, draft.stored((4,)))
    other = draft.kernel("double", x, draft.stored((4,)))
    program = draft.finish(one=one, other=other)
    with pytest.raises(BundleError, match="instruction 0 goes into the middle of a stage"):
        verify_program("m", program, [])
    verify_program("m", replace(program, instructions=(Goto(1), *program.instructions[1:])), [])


def test_memory_that_is_given_away_within_a_stage_is_found() -> None:
    """What the first call of a group leaves may not be taken by another group."""
    program = two_groups()
    first = program.registers[1].place
    assert isinstance(first, Stored)
    storages = list(program.storages)
    storages[first.storage] = Storage(storages[first.storage].bytes, Lifetime(1, 2))
    with pytest.raises(BundleError, match="used outside its lifetime"):
        verify_program("m", replace(program, storages=tuple(storages)), [])
