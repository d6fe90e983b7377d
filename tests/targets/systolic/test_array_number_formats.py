"""Number formats of the functional view: integers bit for bit, bf16 as its definition says.

The references here are plain numpy in int64, wrapped to int32 where the machine wraps.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from array_builder import matrix, on_one_tile, record, sequence, tiles_of, values_of
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.targets.systolic.instructions.addressing import Loop, View
from motet.targets.systolic.instructions.isa import Flag, Function, Opcode
from motet.targets.systolic.instructions.program import Element, Role, Tensor

RANGES = {"int8": (-128, 127), "int4": (-8, 7)}


def wrapped(values):
    """int64 values modulo 2**32, as int32."""
    return (np.asarray(values, np.int64) & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


def requantised(sums, scale, zero):
    """Of exact rationals where fp32 is exact: to the nearest integer, ties to even, plus zero."""
    made = np.rint(sums.astype(np.float32) * scale.astype(np.float32)).astype(np.int64) + zero
    return np.clip(made, -(2**31), 2**31 - 1)


def layer(number_format, batch, m, k, n, stride):
    """Grouped products in tiles, each group's requantised and stored, INT32 bias.

    Inputs: x [batch, m, k] whose rows are read ``stride`` apart, w [k, n], bias [n] int32,
    scale [n] fp32; outputs: words [batch, m', n] and the sums themselves.
    """
    rows = -(-m // stride)
    tensors = (
        Tensor("x", (batch, m, k), Role.INPUT),
        Tensor("w", (k, n), Role.WEIGHT),
        Tensor("bias", (n,), Role.WEIGHT, Element.INT32),
        Tensor("scale", (n,), Role.WEIGHT, Element.FP32),
        Tensor("y", (batch, rows, n), Role.OUTPUT),
        Tensor("sums", (batch, rows, n), Role.OUTPUT, Element.INT32),
    )
    each, vector = Loop(batch, rows * n), Loop(1, 0)
    views = (
        View(0, (batch, m, k), Loop(batch, m * k), (Loop(rows, stride * k),), (Loop(k, 1),)),
        matrix(1, k, n),
        View(2, (n,), vector, (Loop(1, 0),), (Loop(n, 1),)),
        View(3, (n,), vector, (Loop(1, 0),), (Loop(n, 1),)),
        View(4, (batch, rows, n), each, (Loop(rows, n),), (Loop(n, 1),)),
        View(5, (batch, rows, n), each, (Loop(rows, n),), (Loop(n, 1),)),
    )
    records = []
    for group, (row, count), (column, wide) in tiles_of((batch, 1), (rows, 5), (n, 4)):
        at = {"row": 0, "column": column, "rows": 1, "columns": wide, "flags": Flag.ACCUMULATORS}
        records.append(record(Opcode.LOAD, operand=2, accumulator_address=100, **at))
        records.append(record(Opcode.LOAD, operand=3, accumulator_address=110, **at))
        for ((start, deep),) in tiles_of((k, 9)):
            place = {"group": group[0], "row": row, "column": start}
            records.append(record(Opcode.LOAD, operand=0, rows=count, columns=deep, **place))
            place = {"row": start, "column": column, "rows": deep, "columns": wide}
            records.append(record(Opcode.LOAD, operand=1, address=64, **place))
            flags = Flag.ACCUMULATE if start else Flag.BIAS
            tile = {"rows": count, "depth": deep, "columns": wide}
            records.append(
                record(Opcode.MATMUL, second_address=64, third_address=100, flags=flags, **tile)
            )
        place = {"group": group[0], "row": row, "column": column}
        tile = {"rows": count, "columns": wide}
        records.append(record(Opcode.STORE, operand=5, **place, **tile))
        function = {"function": Function.REQUANTISE, "third_address": 110, "value": -3}
        records.append(record(Opcode.VECTOR, low=-100, high=90, **function, **tile))
        records.append(record(Opcode.STORE, operand=4, **place, **tile))
    return sequence(number_format, tensors, views, records)


@pytest.mark.parametrize("number_format", ["int8", "int4"])
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 30), st.integers(1, 9)),
    stride=st.integers(1, 3),
)
def test_a_quantised_layer_bit_for_bit(number_format, seed, sizes, stride):
    batch, m, k, n = sizes
    rng = np.random.default_rng(seed)
    low, high = RANGES[number_format]
    x = rng.integers(low, high + 1, (batch, m, k)).astype(np.int8)
    w = rng.integers(low, high + 1, (k, n)).astype(np.int8)
    bias = rng.integers(-(2**31), 2**31, n).astype(np.int32)
    bias[rng.integers(2, size=n) == 0] //= 2**20
    scale = (2.0 ** rng.integers(-14, -2, n) * rng.integers(1, 4, n)).astype(np.float32)
    y, sums = values_of(layer(number_format, batch, m, k, n, stride), x, w, bias, scale)
    exact = np.einsum("bmk,kn->bmn", x[:, ::stride].astype(np.int64), w.astype(np.int64)) + bias
    np.testing.assert_array_equal(sums, wrapped(exact))
    wanted = np.clip(requantised(wrapped(exact), scale, -3), -100, 90)
    np.testing.assert_array_equal(y, np.clip(wanted, low, high))


def test_sums_wrap_where_a_product_reaches_the_end_of_int32():
    tensors = (
        Tensor("x", (1, 4), Role.INPUT),
        Tensor("w", (4, 1), Role.WEIGHT),
        Tensor("start", (1, 1), Role.INPUT, Element.INT32),
        Tensor("sums", (1, 1), Role.OUTPUT, Element.INT32),
    )
    views = tuple(matrix(i, *t.shape) for i, t in enumerate(tensors))
    product = {"rows": 1, "depth": 4, "columns": 1, "second_address": 8}
    records = [
        record(Opcode.LOAD, operand=0, rows=1, columns=4),
        record(Opcode.LOAD, operand=1, rows=4, columns=1, address=8),
        record(Opcode.LOAD, operand=2, rows=1, columns=1, flags=Flag.ACCUMULATORS),
        record(Opcode.MATMUL, flags=Flag.ACCUMULATE, **product),
        record(Opcode.STORE, operand=3, rows=1, columns=1),
    ]
    program = sequence("int8", tensors, views, records)
    x, w = np.full((1, 4), -128, np.int8), np.full((4, 1), -128, np.int8)
    (sums,) = values_of(program, x, w, np.full((1, 1), 2**31 - 65536, np.int32))
    assert sums[0, 0] == -(2**31)


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (Function.COPY, lambda d, s: s),
        (Function.ADD, lambda d, s: d + s),
        (Function.MULTIPLY, lambda d, s: d * s),
        (Function.MAXIMUM, np.maximum),
    ],
)
def test_integer_tiles_combine_modulo_two_to_the_32(function, wanted):
    rng = np.random.default_rng(1)
    d, s = (rng.integers(-(2**31), 2**31, (7, 5)).astype(np.int32) for _ in range(2))
    one = record(
        Opcode.VECTOR, function=function, alpha=1, flags=Flag.ACCUMULATORS, second_address=50
    )
    made = on_one_tile("int8", d, [one], more=[(50, s)], out=Element.INT32)
    np.testing.assert_array_equal(made, wrapped(wanted(d.astype(np.int64), s.astype(np.int64))))


@pytest.mark.parametrize("function", [Function.REQUANTISE, Function.ROW_REQUANTISE])
def test_requantise_rounds_ties_to_even_and_saturates(function):
    sums = np.array([[1, 3, 5], [-1, -3, -5], [2**31 - 1, -(2**31), 7]], np.int32)
    scale = np.array([0.5, 1.5, 3e9], np.float32)
    by_row = function is Function.ROW_REQUANTISE
    one = record(Opcode.VECTOR, function=function, third_address=20, value=10)
    made = on_one_tile("int8", sums, [one], more=[(20, scale[:, None])], out=Element.INT32)
    factor = scale[:, None] if by_row else scale
    np.testing.assert_array_equal(made, requantised(sums, factor, 10))
    if not by_row:
        assert made[:2, 0].tolist() == [10, 10]  # 0.5 and -0.5 to 0
        assert made[:2, 1].tolist() == [14, 6]  # 4.5 to 4, -4.5 to -4
        assert made[2, 2] == 2**31 - 1


def test_scale_of_integers_rounds_ties_to_even():
    sums = np.array([[1, 3, 5, -1, -3, 2**31 - 1]], np.int32)
    one = record(Opcode.VECTOR, function=Function.SCALE, alpha=0.5, value=-2)
    made = on_one_tile("int4", sums, [one], out=Element.INT32)
    assert made.tolist() == [[-2, 0, 0, -2, -4, 2**30 - 2]]


@pytest.mark.parametrize("number_format", ["int8", "int4"])
def test_words_saturate_to_the_formats_range(number_format):
    low, high = RANGES[number_format]
    sums = np.array([[low - 1, low, high, high + 1, 2**31 - 1, -(2**31)]], np.int32)
    made = on_one_tile(number_format, sums, [], out=Element.WORD)
    assert made.dtype == np.int8
    assert made.tolist() == [[low, low, high, high, high, low]]


def test_int32_sums_leave_for_fp32_tensors_as_numbers():
    sums = np.array([[7, -3, 2**24 + 1]], np.int32)
    made = on_one_tile("int8", sums, [], out=Element.FP32)
    assert made.tolist() == [[7.0, -3.0, 2.0**24]]


def test_limits_between_integers_stay_inside():
    sums = np.arange(-4, 5, dtype=np.int32)[None]
    one = record(Opcode.VECTOR, low=-2.5, high=1.5)
    made = on_one_tile("int8", sums, [one], out=Element.INT32)
    assert made.tolist() == [[-2, -2, -2, -1, 0, 1, 1, 1, 1]]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40))
def test_bf16_words_are_those_of_ml_dtypes(patterns):
    x = np.array([patterns], np.uint32).view(np.float32)
    made = on_one_tile("bf16", x, [], out=Element.WORD)
    with np.errstate(all="ignore"):
        wanted = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(made, wanted)  # NaNs are equal to each other here


def test_bf16_rounds_on_entry_and_sums_in_fp32():
    rng = np.random.default_rng(3)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((9, 40), (40, 6)))
    tensors = (
        Tensor("x", x.shape, Role.INPUT),
        Tensor("w", w.shape, Role.WEIGHT),
        Tensor("y", (9, 6), Role.OUTPUT),
        Tensor("sums", (9, 6), Role.OUTPUT, Element.FP32),
    )
    views = tuple(matrix(i, *t.shape) for i, t in enumerate(tensors))
    tile = {"rows": 9, "columns": 6}
    records = [
        record(Opcode.LOAD, operand=0, rows=9, columns=40),
        record(Opcode.LOAD, operand=1, rows=40, columns=6, address=400),
        record(Opcode.MATMUL, depth=40, second_address=400, **tile),
        record(Opcode.STORE, operand=2, **tile),
        record(Opcode.STORE, operand=3, **tile),
    ]
    y, sums = values_of(sequence("bf16", tensors, views, records), x, w)

    def rounded(values):
        return values.astype(ml_dtypes.bfloat16).astype(np.float32)

    exact = rounded(x).astype(np.float64) @ rounded(w)
    np.testing.assert_allclose(sums, exact, rtol=1e-5, atol=1e-5)
    assert np.abs(sums - rounded(sums)).max() > 0
    np.testing.assert_array_equal(y, rounded(sums))


@pytest.mark.parametrize(("number_format", "lowest"), [("int8", -128), ("int4", -8)])
def test_padding_reads_as_zero_or_as_the_lowest_word(number_format, lowest):
    x = np.array([[3, -2]], np.int8)
    tensors = (Tensor("x", (1, 2), Role.INPUT), Tensor("y", (2, 4), Role.OUTPUT))
    padded = View(0, (1, 2), Loop(1, 0), (Loop(1, 0),), (Loop(4, 1),), (0, 1, 0, 1))
    records = []
    for row, flags in enumerate((Flag.NONE, Flag.PAD_LOWEST)):
        tile = {"rows": 1, "columns": 4}
        flags |= Flag.ACCUMULATORS
        records.append(record(Opcode.LOAD, operand=0, flags=flags, **tile))
        records.append(record(Opcode.STORE, operand=1, row=row, **tile))
    (y,) = values_of(sequence(number_format, tensors, (padded, matrix(1, 2, 4)), records), x)
    assert y.tolist() == [[0, 3, -2, 0], [lowest, 3, -2, lowest]]
