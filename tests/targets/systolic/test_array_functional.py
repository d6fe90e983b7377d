"""The functional view in floats: products, convolutions, vector functions, moves, orders."""

from __future__ import annotations

import math

import numpy as np
import pytest
from array_builder import (
    ONE,
    im2col,
    matrix,
    on_one_tile,
    random_order,
    record,
    sequence,
    tiles_of,
    values_of,
)
from array_random_programs import (
    ACCUMULATOR_WORDS,
    SCRATCHPAD_WORDS,
    description,
    random_arguments,
    random_program,
)
from array_slow_interpreter import activated, run_program
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


def near(made, wanted, tolerance=1e-5):
    scale = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(made, wanted, rtol=tolerance, atol=tolerance * scale)


# -- products ----------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "depth", "columns"), [(1, 1, 1), (5, 13, 3), (1500, 32, 32)])
@pytest.mark.parametrize("start", ["zero", "bias", "accumulate"])
def test_a_matmul(rows, depth, columns, start):
    x, w, bias = floats(rows, depth), floats(depth, columns), floats(1, columns)
    tensors = (
        Tensor("x", x.shape, Role.INPUT),
        Tensor("w", w.shape, Role.WEIGHT),
        Tensor("b", bias.shape, Role.WEIGHT, Element.FP32),
        Tensor("y", (rows, columns), Role.OUTPUT),
    )
    views = tuple(matrix(i, *t.shape) for i, t in enumerate(tensors))
    weights, vector = rows * depth, rows * columns
    sums = {"rows": 1, "columns": columns, "flags": Flag.ACCUMULATORS}
    product = {
        "rows": rows,
        "depth": depth,
        "columns": columns,
        "second_address": weights,
        "third_address": vector,
    }
    flags = {"zero": 0, "bias": Flag.BIAS, "accumulate": Flag.ACCUMULATE}[start]
    records = [
        record(Opcode.LOAD, operand=0, rows=rows, columns=depth),
        record(Opcode.LOAD, operand=1, rows=depth, columns=columns, address=weights),
        record(Opcode.LOAD, operand=2, accumulator_address=vector, **sums),
        record(Opcode.MATMUL, **product),
        record(Opcode.MATMUL, **product, flags=flags),
        record(Opcode.STORE, operand=3, rows=rows, columns=columns),
    ]
    (y,) = values_of(sequence("fp32", tensors, views, records), x, w, bias)
    wanted = x.astype(np.float64) @ w
    wanted = {"zero": wanted, "bias": wanted + bias, "accumulate": 2 * wanted}[start]
    near(y, wanted)


def convolution(number_format, case, resident=False):
    """A convolution of one group, in tiles of 8 rows, 7 deep and 3 channels."""
    shape, out_channels, kernel, stride, dilation, padding = case
    inputs = im2col(0, shape, kernel, stride, dilation, padding)
    rows, depth = inputs.row_count, inputs.column_count
    batch, channels = shape[:2]
    pixels = inputs.rows[1].extent * inputs.rows[2].extent
    tensors = [
        Tensor("x", shape, Role.INPUT),
        Tensor("w", (out_channels, channels, *kernel), Role.WEIGHT),
        Tensor("y", (batch, out_channels, pixels), Role.OUTPUT),
    ]
    out_rows = (Loop(batch, out_channels * pixels), Loop(pixels, 1))
    views = [
        inputs,
        View(1, (out_channels, depth), ONE, (Loop(depth, 1),), (Loop(out_channels, depth),)),
        View(2, (batch, out_channels, pixels), ONE, out_rows, (Loop(out_channels, pixels),)),
    ]
    records = []
    if resident:
        size = math.prod(shape)
        flat = View(0, (size,), ONE, (Loop(size, 1),), (ONE,))
        tensors.append(Tensor("kept", shape, Role.INTERNAL, resident=100))
        kept = im2col(3, shape, kernel, stride, dilation, padding)
        views += [flat, kept, View(3, (size,), ONE, (Loop(size, 1),), (ONE,))]
        whole = {"rows": size, "columns": 1, "accumulator_address": 50}
        records.append(record(Opcode.LOAD, operand=3, flags=Flag.ACCUMULATORS, **whole))
        records.append(record(Opcode.TRANSFER, operand=5, **whole))
    for (row, count), (column, wide) in tiles_of((rows, 8), (out_channels, 3)):
        for ((k, deep),) in tiles_of((depth, 7)):
            product = {"rows": count, "depth": deep, "columns": wide, "second_address": 60}
            flags = Flag.ACCUMULATE if k else Flag.NONE
            if resident:
                product |= {"operand": 4, "row": row, "column": k}
                flags |= Flag.RESIDENT
            else:
                place = {"row": row, "column": k, "rows": count, "columns": deep}
                records.append(record(Opcode.LOAD, operand=0, **place))
            place = {"row": k, "column": column, "rows": deep, "columns": wide}
            records.append(record(Opcode.LOAD, operand=1, address=60, **place))
            records.append(record(Opcode.MATMUL, flags=flags, **product))
        place = {"row": row, "column": column, "rows": count, "columns": wide}
        records.append(record(Opcode.STORE, operand=2, **place))
    return sequence(number_format, tuple(tensors), tuple(views), records)


def convolved(x, w, stride, dilation, padding):
    """Plain einsum over windows: [batch, out channels, pixels]."""
    top, left, bottom, right = padding
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach = [d * (k - 1) + 1 for k, d in zip(w.shape[2:], dilation, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(2, 3))
    windows = windows[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    made = np.einsum("bcyxkl,ockl->boyx", windows, w)
    return made.reshape(*made.shape[:2], -1)


CONVOLUTIONS = [
    ((1, 3, 6, 7), 4, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    ((2, 2, 9, 8), 5, (3, 2), (2, 3), (1, 1), (0, 1, 2, 0)),
    ((1, 2, 9, 9), 3, (3, 3), (1, 2), (2, 3), (2, 3, 2, 3)),
    ((3, 5, 4, 4), 7, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0)),
    ((1, 1, 3, 11), 2, (1, 5), (1, 2), (1, 1), (0, 4, 0, 4)),
]


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_a_convolution_in_tiles(case, resident):
    shape, out_channels, kernel, stride, dilation, padding = case
    x, w = floats(*shape), floats(out_channels, shape[1], *kernel)
    (y,) = values_of(convolution("fp32", case, resident), x, w)
    near(y, convolved(x.astype(np.float64), w, stride, dilation, padding))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("flags", [Flag.NONE, Flag.BIAS, Flag.ACCUMULATE])
def test_lines_of_a_1d_convolution(stride, flags):
    rows, columns, taps = 5, 6, 4
    wide = (columns - 1) * stride + taps
    x, w, bias = floats(rows, wide), floats(rows, taps), floats(rows, 1)
    tensors = (
        Tensor("x", x.shape, Role.INPUT),
        Tensor("w", w.shape, Role.WEIGHT),
        Tensor("b", bias.shape, Role.WEIGHT),
        Tensor("y", (rows, columns), Role.OUTPUT),
    )
    views = tuple(matrix(i, *t.shape) for i, t in enumerate(tensors))
    lines = {"rows": rows, "columns": columns, "depth": taps, "value": stride}
    lines |= {"second_address": 200, "third_address": 100}
    vector = {"rows": rows, "columns": 1, "accumulator_address": 100}
    records = [
        record(Opcode.LOAD, operand=0, rows=rows, columns=wide),
        record(Opcode.LOAD, operand=1, rows=rows, columns=taps, address=200),
        record(Opcode.LOAD, operand=2, flags=Flag.ACCUMULATORS, **vector),
        record(Opcode.CONV1D, **lines),
        record(Opcode.CONV1D, **lines, flags=flags),
        record(Opcode.STORE, operand=3, rows=rows, columns=columns),
    ]
    (y,) = values_of(sequence("fp32", tensors, views, records), x, w, bias)
    windows = np.lib.stride_tricks.sliding_window_view(x, taps, axis=1)[:, ::stride]
    wanted = np.einsum("rxt,rt->rx", windows.astype(np.float64), w)
    wanted = {0: wanted, Flag.BIAS: wanted + bias, Flag.ACCUMULATE: 2 * wanted}[flags]
    near(y, wanted)


# -- vector functions --------------------------------------------------------------------

SUMS, OTHER = floats(6, 5) * 3, floats(6, 5)
ROW, COLUMN = floats(5, 1), floats(6, 1)


@pytest.mark.parametrize(
    ("function", "alpha", "wanted"),
    [
        (Function.COPY, 0, OTHER),
        (Function.ADD, 1, SUMS + OTHER),
        (Function.ADD, -0.5, SUMS - np.float32(0.5) * OTHER),
        (Function.MULTIPLY, 0, SUMS * OTHER),
        (Function.MAXIMUM, 0, np.maximum(SUMS, OTHER)),
        (Function.COLUMN_SCALE, 0, SUMS * ROW.T),
        (Function.COLUMN_ADD, 0, SUMS + ROW.T),
        (Function.ROW_SUBTRACT, 0, SUMS - COLUMN),
        (Function.ROW_MULTIPLY, 0, SUMS * COLUMN),
    ],
)
def test_a_vector_function(function, alpha, wanted):
    vector = COLUMN if function in (Function.ROW_SUBTRACT, Function.ROW_MULTIPLY) else ROW
    joined = Flag.ACCUMULATORS if function <= Function.MAXIMUM else Flag.NONE
    one = record(
        Opcode.VECTOR,
        function=function,
        alpha=alpha,
        flags=joined,
        second_address=40,
        third_address=80,
    )
    more = [(40, OTHER), (80, vector)]
    near(on_one_tile("fp32", SUMS, [one], more=more), wanted, 1e-6)


@pytest.mark.parametrize("flags", [Flag.NONE, Flag.ACCUMULATE])
@pytest.mark.parametrize(
    ("function", "made"),
    [
        (Function.ROW_MAXIMUM, SUMS.max(axis=1)),
        (Function.ROW_SUM, SUMS.sum(axis=1)),
        (Function.ROW_SUM_SQUARES, (SUMS * SUMS).sum(axis=1)),
    ],
)
def test_a_row_reduction(function, made, flags):
    held = COLUMN[:, 0] * 4
    join = np.maximum if function is Function.ROW_MAXIMUM else np.add
    wanted = join(held, made) if flags else made
    reduce = record(Opcode.VECTOR, function=function, flags=flags, third_address=80)
    show = record(Opcode.VECTOR, function=Function.ROW_SUBTRACT, third_address=80)
    got = on_one_tile("fp32", SUMS, [reduce, show], more=[(80, held[:, None])])
    near(got, SUMS - wanted[:, None])


def test_scale_takes_its_constant_from_the_instruction():
    bits = int(np.float32(2.5).view(np.int32))
    one = record(Opcode.VECTOR, function=Function.SCALE, alpha=-1.5, value=bits)
    near(on_one_tile("fp32", SUMS, [one]), SUMS * -1.5 + 2.5, 1e-6)


@pytest.mark.parametrize("kind", [one for one in Activation if one])
def test_an_activation(kind):
    x = np.concatenate([np.linspace(-9, 9, 31), [-100, 100, 0, -1e-4, 1e-4]]).astype(np.float32)
    with np.errstate(all="ignore"):
        wanted = activated(kind, x, 0.3)
        made = on_one_tile("fp32", x[:, None], [record(Opcode.VECTOR, activation=kind, alpha=0.3)])
    np.testing.assert_allclose(made[:, 0], wanted, rtol=2e-6, atol=2e-6)


def test_limits_keep_nans_and_come_after_the_activation():
    x = np.array([[-3, -1, 0, 2, 9, np.nan]], np.float32)
    one = record(Opcode.VECTOR, activation=Activation.NEGATE, low=-4, high=2)
    made = on_one_tile("fp32", x, [one])
    np.testing.assert_array_equal(made, [[2, 1, 0, -2, -4, np.nan]])


def test_max_pooling_reads_padding_as_the_lowest_value():
    x = -1 - np.abs(floats(2, 4, 4))
    shape = (1, 2, 4, 4)
    window = im2col(0, shape, (3, 3), (2, 2), (1, 1), (1, 1, 1, 1))
    rows = window.row_count
    taps = View(0, shape, Loop(9, 0), window.rows, window.columns[:1], window.padding)
    out = View(1, (2, rows), ONE, (Loop(rows, 1),), (Loop(2, rows),))
    records = []
    for tap in range(9):
        address = tap * rows * 2
        function = Function.MAXIMUM if tap else Function.COPY
        flags = Flag.PAD_LOWEST
        place = {"rows": rows, "columns": 2, "operand": tap + 1, "address": address}
        records.append(record(Opcode.LOAD, flags=flags, **place))
        tile = {"rows": rows, "columns": 2, "second_address": address}
        records.append(record(Opcode.VECTOR, function=function, **tile))
    records.append(record(Opcode.STORE, operand=0, rows=rows, columns=2))
    views = [out]
    for tap in range(9):
        offset = tap // 3 * 6 + tap % 3
        views.append(View(0, shape, ONE, taps.rows, taps.columns, taps.padding, offset))
    tensors = (Tensor("x", shape, Role.INPUT), Tensor("y", (2, rows), Role.OUTPUT))
    (y,) = values_of(sequence("fp32", tensors, tuple(views), records), x[None])
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
    np.testing.assert_array_equal(y, windows.max(axis=(3, 4)).reshape(2, -1))


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
