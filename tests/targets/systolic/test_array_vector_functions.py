"""What the vector unit computes in fp32: functions, row reductions, activations, limits."""

from __future__ import annotations

import numpy as np
import pytest
from array_builder import (
    on_one_tile,
    record,
)
from array_slow_interpreter import activated

from motet.targets.systolic.instructions.isa import Activation, Flag, Function, Opcode

RNG = np.random.default_rng(2026)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def near(made, wanted, tolerance=1e-5):
    scale = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(made, wanted, rtol=tolerance, atol=tolerance * scale)


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
