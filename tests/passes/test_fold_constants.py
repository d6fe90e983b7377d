from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from relax_modules import assert_equal, calls, run
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from motet.passes import fold_constants as module
from motet.passes.evaluate import evaluate
from motet.passes.fold_constants import fold_constants
from motet.passes.graph import constant_array

OP = relax.op
RNG = np.random.default_rng(3)


def module_of(call: relax.Call) -> tvm.IRModule:
    builder = relax.BlockBuilder()
    with builder.function("main", []):
        with builder.dataflow():
            output = builder.emit_output(call)
        builder.emit_func_output(output)
    return builder.finalize()


def constant(*arrays: Any) -> list[relax.Expr]:
    return [relax.const(np.asarray(a), np.asarray(a).dtype.name) for a in arrays]


def folded_array(call: relax.Call) -> Any:
    """The constant that the function of ``call`` returns once folded."""
    after = fold_constants(module_of(call))
    assert calls(after["main"]) == []
    result = after["main"].body.body
    if isinstance(result, relax.Var):
        result = after["main"].body.blocks[0].bindings[0].value
    array = constant_array(result)
    assert array is not None
    return array


FLOAT = RNG.uniform(0.2, 3, (2, 3)).astype("float32")
SIGNED = np.array([[-2.5, -0.0, 0.5], [1.5, 2.5, -7.25]], "float32")
OTHER = RNG.uniform(0.5, 2, (3,)).astype("float32")
NUMBERS = np.array([-7, -1, 0, 1, 7], "int32")
DIVISORS = np.array([2, -2, 3, 4, -3], "int32")
BYTES = np.array([[0, 255, 7], [128, 1, 200]], "uint8")
FLAGS = np.array([True, False, True])

CASES = {
    "abs": OP.abs(*constant(SIGNED)),
    "abs of integers": OP.abs(*constant(NUMBERS)),
    "ceil": OP.ceil(*constant(SIGNED)),
    "dequantize": OP.dequantize(*constant(BYTES, np.float32(0.3), np.uint8(200))),
    "dequantize by column": OP.dequantize(*constant(BYTES, OTHER, np.uint8([0, 255, 9])), axis=1),
    "dequantize by row": OP.dequantize(*constant(BYTES, OTHER[:2], np.uint8([3])), axis=0),
    "exp": OP.exp(*constant(SIGNED)),
    "exp in half": OP.exp(*constant(SIGNED.astype("float16"))),
    "floor": OP.floor(*constant(SIGNED)),
    "log": OP.log(*constant(FLOAT)),
    "logical_not": OP.logical_not(*constant(FLAGS)),
    "negative": OP.negative(*constant(SIGNED)),
    "sqrt": OP.sqrt(*constant(FLOAT)),
    "square": OP.square(*constant(NUMBERS)),
    "tanh": OP.tanh(*constant(SIGNED)),
    "add": OP.add(*constant(FLOAT, OTHER)),
    "add in half": OP.add(*constant(FLOAT.astype("float16"), OTHER.astype("float16"))),
    "divide": OP.divide(*constant(FLOAT, OTHER)),
    "divide integers": OP.divide(*constant(NUMBERS, DIVISORS)),
    "equal": OP.equal(*constant(SIGNED, SIGNED[::-1].copy())),
    "greater": OP.greater(*constant(SIGNED, OTHER)),
    "less": OP.less(*constant(SIGNED, OTHER)),
    "logical_and": OP.logical_and(*constant(FLAGS, ~FLAGS)),
    "maximum": OP.maximum(*constant(SIGNED, OTHER)),
    "minimum": OP.minimum(*constant(NUMBERS, DIVISORS)),
    "multiply": OP.multiply(*constant(FLOAT, OTHER)),
    "multiply integers that wrap": OP.multiply(*constant(NUMBERS * 2**29, NUMBERS)),
    "power": OP.power(*constant(FLOAT, OTHER)),
    "subtract": OP.subtract(*constant(FLOAT, OTHER)),
    "reshape": OP.reshape(*constant(FLOAT), (3, -1)),
    "reshape to a scalar": OP.reshape(*constant(FLOAT[:1, :1]), ()),
    "expand_dims": OP.expand_dims(*constant(FLOAT), [0, -1]),
    "squeeze": OP.squeeze(*constant(FLOAT[:1]), [0]),
    "flatten": OP.flatten(*constant(FLOAT)),
    "broadcast_to": OP.broadcast_to(*constant(OTHER), (2, 3)),
    "permute_dims": OP.permute_dims(*constant(RNG.random((2, 3, 4))), [1, -1, 0]),
    "permute_dims reversed": OP.permute_dims(*constant(FLOAT)),
    "astype truncates": OP.astype(*constant(SIGNED), "int64"),
    "astype bool": OP.astype(*constant(SIGNED), "bool"),
    "astype half": OP.astype(*constant(FLOAT), "float16"),
    "by TVM: sum": OP.sum(*constant(FLOAT), axis=[1]),
    "by TVM: concat": OP.concat(constant(FLOAT, FLOAT), axis=1),
    "by TVM: take": OP.take(*constant(FLOAT, np.array([1, 0])), axis=0),
    "by TVM: sigmoid": OP.sigmoid(*constant(FLOAT)),
}


@pytest.mark.parametrize("name", CASES)
def test_folds_to_what_the_kernel_computes(name: str) -> None:
    call = CASES[name]
    (expected,) = run(module_of(call), [])
    found = folded_array(call)
    assert found.dtype == expected.dtype
    tolerance = 2e-3 if found.dtype == np.float16 else 2e-6
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance, strict=True)


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("by TVM")])
def test_numpy_has_an_entry(name: str) -> None:
    call = relax.BlockBuilder().normalize(CASES[name])
    tensors = [a for a in map(constant_array, call.args) if a is not None]
    assert evaluate(call, tensors) is not None


def test_nan_passes_through_maximum_and_minimum() -> None:
    left, right = constant(
        np.array([np.nan, 1, np.nan], "float32"), np.array([0, np.nan, np.nan], "float32")
    )
    assert np.isnan(folded_array(OP.maximum(left, right))).all()
    assert np.isnan(folded_array(OP.minimum(left, right))).all()


def test_integer_powers_are_exact_and_truncate() -> None:
    base, exponent = constant(
        np.array([3, -7, 0, 2, 1, -1, -1, -5]), np.array([39, 3, 0, -1, -3, -2, -3, -2])
    )
    np.testing.assert_array_equal(
        folded_array(OP.power(base, exponent)), [3**39, -343, 1, 0, 1, 1, -1, 0]
    )


def test_large_integers_divide_exactly() -> None:
    left, right = constant(np.array([2**62 + 1, -(2**62) - 1]), np.array([3, 3]))
    np.testing.assert_array_equal(
        folded_array(OP.divide(left, right)), [1537228672809129301, -1537228672809129301]
    )


@pytest.mark.parametrize("operator", [OP.divide, OP.floor_divide, OP.mod, OP.floor_mod])
def test_integer_division_by_zero_is_left_to_the_run_time(operator: Any) -> None:
    before = module_of(operator(*constant(np.array([1, 2], "int32"), np.array([1, 0], "int32"))))
    assert_equal(fold_constants(before), before)


def test_float_division_by_zero_folds() -> None:
    zero = np.array([0.0, 0.0], "float32")
    found = folded_array(OP.divide(*constant(np.array([1, 0], "float32"), zero)))
    np.testing.assert_array_equal(found, [np.inf, np.nan])


def test_shape_of_a_constant_chain() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 6), "float32")):
            with R.dataflow():
                weight = R.permute_dims(R.const(np.arange(12, dtype="float32").reshape(2, 6)))
                scaled = R.multiply(weight, R.const(2, "float32"))
                reshaped = R.reshape(scaled, (6, 2))
                y = R.matmul(x, reshaped)
                R.output(y)
            return y

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((2, 6), "float32")):
            with R.dataflow():
                y = R.matmul(
                    x,
                    R.const(
                        np.array([[0, 12], [2, 14], [4, 16], [6, 18], [8, 20], [10, 22]], "float32")
                    ),
                )
                R.output(y)
            return y

    assert_equal(fold_constants(Before), Expected)


def test_inside_branches() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2,), "float32"), cond: R.Tensor((), "bool")):
            two = R.add(R.const(1, "float32"), R.const(1, "float32"))
            if cond:
                four = R.multiply(two, two)
                y = R.add(x, four)
            else:
                y = R.add(x, two)
            return y

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((2,), "float32"), cond: R.Tensor((), "bool")):
            if cond:  # noqa: SIM108
                y = R.add(x, R.const(4, "float32"))
            else:
                y = R.add(x, R.const(2, "float32"))
            return y

    assert_equal(fold_constants(Before), Expected)


def test_static_shapes_reach_the_calls_that_read_them() -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType([2, 3], "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            shape = builder.emit(OP.tensor_to_shape(*constant(np.array([6]))))
            y = builder.emit(OP.reshape(x, shape))
            output = builder.emit_output(OP.nn.relu(y))
        builder.emit_func_output(output)

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((2, 3), "float32")):
            with R.dataflow():
                y = R.reshape(x, (6,))
                output = R.nn.relu(y)
                R.output(output)
            return output

    after = fold_constants(builder.finalize())
    assert_equal(relax.transform.CanonicalizeBindings()(after), Expected)


def test_parts_of_a_split_are_constants() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2,), "float32")):
            with R.dataflow():
                parts = R.split(R.const(np.arange(4, dtype="float32")), 2)
                last = parts[1]
                doubled = R.add(last, last)
                y = R.add(x, doubled)
                R.output(y)
            return y

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((2,), "float32")):
            with R.dataflow():
                y = R.add(x, R.const(np.array([4, 6], "float32")))
                R.output(y)
            return y

    assert_equal(relax.transform.DeadCodeElimination()(fold_constants(Before)), Expected)


def test_large_results_are_left_to_the_run_time(monkeypatch: pytest.MonkeyPatch) -> None:
    before = module_of(OP.broadcast_to(*constant(OTHER), (2, 3)))
    monkeypatch.setattr(module, "LARGEST", 5)
    assert_equal(fold_constants(before), before)


def test_what_reads_an_input_is_left_alone() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, "n"), "float32")):
            n = T.int64()
            with R.dataflow():
                joined = R.concat([x, R.broadcast_to(R.const(1, "float32"), (2, n))], axis=1)
                R.output(joined)
            return joined

    assert_equal(fold_constants(Before), Before)
