"""Bounds in a row become one clip, with the names of all; others stay."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from relax_modules import assert_equal, calls, named, names
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.dead_code import dead_code
from motet.passes.join_bounds import join_bounds
from motet.passes.op_kinds import op_name

OP = relax.op
Step = Callable[[relax.Expr], relax.Expr]


@I.ir_module
class Before:
    @R.function
    def main(x: R.Tensor(("n", 4), "float32")) -> R.Tensor(("n", 4), "float32"):
        with R.dataflow():
            low = R.maximum(x, R.const(0.0, "float32"))
            high = R.minimum(R.const(6.0, "float32"), low)
            result = R.clip(high, 1.0, 9.0)
            R.output(result)
        return result


@I.ir_module
class Expected:
    @R.function
    def main(x: R.Tensor(("n", 4), "float32")) -> R.Tensor(("n", 4), "float32"):
        with R.dataflow():
            result = R.clip(x, 1.0, 6.0)
            R.output(result)
        return result


def test_three_become_one_with_all_names() -> None:
    after = dead_code(join_bounds(named(Before)))
    assert names(after["main"]) == [("low", "high", "result")]
    assert_equal(after, Expected)


def module(dtype: str, *steps: Step, keep_first: bool = False) -> tvm.IRModule:
    x = relax.Var("x", relax.TensorType((3, 4), dtype))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            values: list[Any] = [x]
            for step in steps:
                values.append(builder.emit(step(values[-1])))
            result = values[-1]
            if keep_first:
                result = builder.emit(OP.add(values[1], result))
            output = builder.emit_output(result)
        builder.emit_func_output(output)
    return builder.finalize()


def kept(mod: tvm.IRModule) -> list[str]:
    return [op_name(call) for call in calls(dead_code(join_bounds(mod))["main"])]


def over(value: float, dtype: str = "float32") -> Step:
    return lambda x: OP.maximum(x, relax.const(value, dtype))


def under(value: float, dtype: str = "float32") -> Step:
    return lambda x: OP.minimum(x, relax.const(value, dtype))


BOUNDS: dict[str, tuple[Step, Callable[[Any], Any]]] = {
    "relu": (OP.nn.relu, lambda v: np.maximum(v, 0)),
    "over 2": (over(2), lambda v: np.maximum(v, 2)),
    "under 6": (under(6), lambda v: np.minimum(v, 6)),
    "under -1": (under(-1), lambda v: np.minimum(v, -1)),
    "clip": (lambda x: OP.clip(x, -2, 3), lambda v: np.clip(v, -2, 3)),
    "far clip": (lambda x: OP.clip(x, 4, 5), lambda v: np.clip(v, 4, 5)),
}


@pytest.mark.parametrize("length", [2, 3])
def test_every_row_of_bounds_means_the_same(length: int) -> None:
    x = np.array([-9, -2, -1, 0, 1, 2, 3, 4.5, 5, 6, 9, -0.5], "float32")
    for row in itertools.product(BOUNDS, repeat=length):
        steps, want = [BOUNDS[name][0] for name in row], x
        for name in row:
            want = BOUNDS[name][1](want)
        after = calls(dead_code(join_bounds(module("float32", *steps)))["main"])
        got = x
        for call in after:
            got = _value(call, got)
        np.testing.assert_array_equal(got, want, err_msg=" then ".join(row))


def _value(call: relax.Call, x: Any) -> Any:
    """What one of the operators of ``BOUNDS`` computes, in numpy."""
    name = op_name(call)
    if name == "relax.nn.relu":
        return np.maximum(x, 0)
    if name == "relax.clip":
        return np.clip(x, float(call.args[1].value), float(call.args[2].value))
    limit = call.args[1].value.numpy()
    return np.maximum(x, limit) if name == "relax.maximum" else np.minimum(x, limit)


@pytest.mark.parametrize(
    "steps",
    [(OP.nn.relu, under(6)), (under(6), OP.nn.relu), (over(0), under(6)), (under(6), over(0))],
)
def test_relu6_is_one_clip(steps: tuple[Step, Step]) -> None:
    assert kept(module("float32", *steps)) == ["relax.clip"]


def test_what_stays() -> None:
    both = ["relax.nn.relu", "relax.minimum"]
    assert kept(module("float32", OP.nn.relu, under(6), keep_first=True)) == [*both, "relax.add"]
    assert kept(module("int32", over(0, "int32"), under(6, "int32"))) == [
        "relax.maximum", "relax.minimum",
    ]  # fmt: skip
    assert kept(module("float32", OP.nn.relu, over(1))) == ["relax.nn.relu", "relax.maximum"]
    assert kept(module("float32", OP.nn.relu, under(float("nan")))) == both
    many = relax.const(np.full(4, 6, "float32"))
    assert kept(module("float32", OP.nn.relu, lambda x: OP.minimum(x, many))) == both
    wide = relax.const(np.full((1, 1, 1), 6, "float32"))
    assert kept(module("float32", OP.nn.relu, lambda x: OP.minimum(x, wide))) == both
