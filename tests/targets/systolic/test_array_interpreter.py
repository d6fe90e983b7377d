"""The functional view of whole programs: moves between pods, any legal order, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from array_builder import (
    ONE,
    matrix,
    random_order,
    record,
    sequence,
    values_of,
)
from array_random_programs import (
    ACCUMULATOR_WORDS,
    SCRATCHPAD_WORDS,
    description,
    random_arguments,
    random_program,
)
from array_slow_interpreter import run_program
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from motet.runtime.errors import InputError, ProgramError
from motet.targets.systolic.instructions.addressing import Loop, View
from motet.targets.systolic.instructions.isa import Activation, Flag, Function, Opcode
from motet.targets.systolic.instructions.program import Element, Role, SystolicProgram, Tensor
from motet.targets.systolic.simulation.functional import Interpreter
from motet.targets.systolic.simulation.timing import simulate

RNG = np.random.default_rng(2026)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


# -- moves -------------------------------------------------------------------------------


def test_one_load_reaches_several_pods_and_tiles_move_between_them():
    """x goes to pods 1 and 2; pod 2 doubles it and sends the sums to 0 and 1; all store."""
    x = floats(4, 3)
    tensors = (
        Tensor("x", x.shape, Role.INPUT),
        *(Tensor(f"y{i}", x.shape, Role.OUTPUT) for i in range(3)),
    )
    views = tuple(matrix(i, 4, 3) for i in range(4))
    tile = {"rows": 4, "columns": 3}

    def copy(pod, source):
        return record(Opcode.VECTOR, pod=pod, function=Function.COPY, second_address=source, **tile)

    records = [
        record(Opcode.LOAD, operand=0, target_pod=1, target_pods=2, address=7, **tile),
        copy(2, 7),
        record(Opcode.VECTOR, pod=2, function=Function.ADD, alpha=1, second_address=7, **tile),
        record(
            Opcode.TRANSFER,
            pod=2,
            flags=Flag.ACCUMULATORS,
            target_pod=0,
            target_pods=2,
            third_address=30,
            **tile,
        ),
        record(
            Opcode.TRANSFER,
            pod=1,
            second_address=7,
            target_pod=0,
            target_pods=1,
            address=50,
            **tile,
        ),
        copy(0, 50),
        record(Opcode.STORE, operand=1, **tile),
        record(Opcode.STORE, pod=1, operand=2, accumulator_address=30, **tile),
        record(Opcode.STORE, pod=2, operand=3, **tile),
    ]
    made = values_of(sequence("fp32", tensors, views, records, pods=3), x)
    for y, factor in zip(made, (1, 2, 2), strict=True):
        np.testing.assert_array_equal(y, x * np.float32(factor))


def test_pods_that_are_only_targets_have_memories():
    tensors = (Tensor("x", (2, 2), Role.INPUT), Tensor("y", (2, 2), Role.OUTPUT))
    views = (matrix(0, 2, 2), matrix(1, 2, 2, transposed=True))
    tile = {"rows": 2, "columns": 2}
    records = [
        record(Opcode.LOAD, operand=0, target_pods=5, flags=Flag.ACCUMULATORS, **tile),
        record(Opcode.STORE, operand=1, **tile),
    ]
    x, whole = floats(2, 2), sequence("fp32", tensors, views, records, pods=5)
    own = SystolicProgram("fp32", whole.instructions, whole.queue_starts[:5], tensors, views)
    (y,) = values_of(own, x)
    np.testing.assert_array_equal(y, x.T)


# -- whole programs ----------------------------------------------------------------------

FORMATS_TOLERANCES = [("fp32", 1e-4), ("bf16", 0.05), ("int8", 0), ("int4", 0)]


@pytest.mark.parametrize(("number_format", "tolerance"), FORMATS_TOLERANCES)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_programs_give_what_the_slow_interpreter_gives(number_format, tolerance, seed):
    rng = np.random.default_rng(seed)
    program, arguments = random_program(rng, number_format), random_arguments(rng, number_format)
    wanted = run_program(program, arguments, SCRATCHPAD_WORDS, ACCUMULATOR_WORDS)
    for y, right in zip(values_of(program, *arguments), wanted, strict=True):
        if tolerance:
            with np.errstate(all="ignore"):
                np.testing.assert_allclose(y, right, rtol=tolerance, atol=tolerance / 10)
        else:
            np.testing.assert_array_equal(y, right)


@pytest.mark.parametrize("number_format", ["fp32", "bf16", "int8", "int4"])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_contention_changes_a_value(number_format, seed):
    """Orders as machines of other speeds run them, and any that semaphores allow."""
    rng = np.random.default_rng(seed)
    program, arguments = random_program(rng, number_format), random_arguments(rng, number_format)
    wanted = [y.tobytes() for y in values_of(program, *arguments)]
    machine = description(number_format)
    orders = [random_order(program, rng) for _ in range(4)]
    for bandwidth in (1e8, 4e9, 1e13):
        dram = replace(machine.dram, bytes_per_second=bandwidth, latency_cycles=3)
        starts = simulate(program, replace(machine, dram=dram)).start
        orders.append(np.argsort(starts, kind="stable"))
    assert len({order.tobytes() for order in orders}) > 4
    for order in orders:
        assert [y.tobytes() for y in values_of(program, *arguments, order=order)] == wanted


# -- what is refused ---------------------------------------------------------------------


def copying(number_format="fp32", element=Element.WORD, **vector):
    tensors = (Tensor("x", (4, 3), Role.INPUT), Tensor("y", (4, 3), Role.OUTPUT, element))
    tile = {"rows": 4, "columns": 3}
    records = [
        record(Opcode.LOAD, operand=0, flags=Flag.ACCUMULATORS, **tile),
        record(Opcode.VECTOR, **tile, **vector),
        record(Opcode.STORE, operand=1, **tile),
    ]
    return sequence(number_format, tensors, (matrix(0, 4, 3), matrix(1, 4, 3)), records)


def changed(program, opcode, **fields):
    code = program.instructions.copy()
    number = int(np.flatnonzero(code["opcode"] == opcode)[0])
    for name, value in fields.items():
        code[name][number] = value
    return SystolicProgram(
        program.format, code, program.queue_starts, program.tensors, program.views
    )


@pytest.mark.parametrize(
    ("arguments", "results", "words"),
    [
        ([], [floats(4, 3)], "1 inputs, 0 were given"),
        ([floats(4, 3)], [], "1 outputs, 0 were given"),
        ([floats(4, 2)], [floats(4, 3)], "'x' must be float32 with 12 values"),
        ([floats(4, 3).astype(np.float64)], [floats(4, 3)], "not float64"),
        ([floats(4, 6)[:, ::2]], [floats(4, 3)], "C-contiguous"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arguments, results, words):
    with pytest.raises(InputError, match=words):
        Interpreter(copying()).run(arguments, results)


def test_an_order_must_name_every_instruction_once():
    program = copying()
    order = np.zeros(len(program.instructions), np.int64)
    with pytest.raises(InputError, match="permutation"):
        values_of(program, floats(4, 3), order=order)


@pytest.mark.parametrize(
    ("opcode", "fields", "words"),
    [
        (Opcode.WAIT, {"value": 9}, "never reaches 9"),
        (Opcode.WAIT, {"semaphore": 77}, "semaphore 77"),
        (Opcode.LOAD, {"row": 1}, "LOAD.*not inside view 0"),
        (Opcode.STORE, {"operand": 5}, "view 5"),
        (Opcode.STORE, {"operand": 0xFFFF}, "needs a view"),
        (Opcode.VECTOR, {"columns": 0}, "of no size"),
    ],
)
def test_what_reaches_outside_is_refused(opcode, fields, words):
    with pytest.raises(ProgramError, match=words):
        Interpreter(changed(copying(), opcode, **fields))


def test_a_view_outside_its_tensor_is_refused():
    program = copying()
    views = (program.views[0], View(1, (4, 3), ONE, (Loop(4, 3),), (Loop(3, 1),), offset=1))
    wrong = SystolicProgram(
        "fp32", program.instructions, program.queue_starts, program.tensors, views
    )
    with pytest.raises(ProgramError, match="view 1 reaches outside"):
        Interpreter(wrong)


def test_what_a_format_does_not_have_is_refused():
    with pytest.raises(ProgramError, match="REQUANTISE needs an integer format"):
        Interpreter(copying(function=Function.REQUANTISE))
    with pytest.raises(ProgramError, match="INT32 tensors need an integer format"):
        Interpreter(copying(element=Element.INT32))
    with pytest.raises(ProgramError, match="activation needs a float format"):
        Interpreter(copying("int8", activation=Activation.TANH))
