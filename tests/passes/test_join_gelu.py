from __future__ import annotations

import numpy as np
import pytest
import tvm
from relax_modules import assert_same_values, calls, named, names
from tvm import relax

from motet.passes.dead_code import dead_code
from motet.passes.join_gelu import join_gelu
from motet.passes.op_kinds import op_name

OP = relax.op
DIVISOR = 2**0.5


def module(build) -> tvm.IRModule:
    """``build(emit, x, number)`` emits calls on x [2, 4]."""
    x = relax.Var("x", relax.TensorType((2, 4), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            result = build(builder.emit, x, lambda value: relax.const(np.float32(value)))
            output = builder.emit_output(result)
        builder.emit_func_output(output)
    return builder.get()


def gate(emit, x, number, divided: bool = True, scale: float = DIVISOR, one: float = 1.0):
    if divided:
        scaled = emit(OP.divide(x, number(scale)))
    else:
        scaled = emit(OP.multiply(number(1 / scale), x))
    return emit(OP.add(emit(OP.erf(scaled)), number(one)))


WRITTEN = [
    lambda e, x, n: OP.multiply(e(OP.multiply(x, gate(e, x, n))), n(0.5)),
    lambda e, x, n: OP.multiply(e(OP.multiply(n(0.5), x)), gate(e, x, n)),
    lambda e, x, n: OP.multiply(x, e(OP.multiply(gate(e, x, n, divided=False), n(0.5)))),
]


@pytest.mark.parametrize("build", WRITTEN)
def test_written_out_in_any_order(build) -> None:
    before = named(module(build))
    after = dead_code(join_gelu(before))
    assert [op_name(call) for call in calls(after["main"])] == ["relax.nn.gelu"]
    (joined,) = names(after["main"])
    assert set(joined) == {name for own in names(before["main"]) for name in own}
    assert relax.analysis.check_well_formed(after)
    assert_same_values(before, after)


OTHERS = [
    lambda e, x, n: OP.multiply(e(OP.multiply(x, gate(e, x, n, scale=1.414))), n(0.5)),
    lambda e, x, n: OP.multiply(e(OP.multiply(x, gate(e, x, n, one=2.0))), n(0.5)),
    lambda e, x, n: OP.multiply(e(OP.multiply(x, gate(e, x, n))), n(0.25)),
    lambda e, x, n: OP.multiply(e(OP.multiply(e(OP.exp(x)), gate(e, x, n))), n(0.5)),
    lambda e, x, n: OP.multiply(x, n(0.5)),
]


@pytest.mark.parametrize("build", OTHERS)
def test_what_is_no_gelu_stays(build) -> None:
    before = named(module(build))
    tvm.ir.assert_structural_equal(join_gelu(before), before)
