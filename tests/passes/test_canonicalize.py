from __future__ import annotations

import numpy as np
import pytest
import tvm
from relax_modules import assert_equal, assert_same_values, calls, named, names
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from motet.passes.canonicalize import canonicalize, decompose
from motet.passes.common_subexpressions import common_subexpressions
from motet.passes.decompose_batch_norm import decompose_batch_norm


def test_equal_calls_are_computed_once_and_keep_all_names() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 4), "float32")):
            with R.dataflow():
                a = R.nn.relu(x)
                b = R.nn.relu(x)
                c = R.nn.softmax(a, axis=1)
                d = R.nn.softmax(b, axis=1)
                e = R.nn.softmax(b, axis=0)
                f = R.add(c, d)
                y = R.add(f, e)
                R.output(y)
            return y

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((2, 4), "float32")):
            with R.dataflow():
                a = R.nn.relu(x)
                c = R.nn.softmax(a, axis=1)
                e = R.nn.softmax(a, axis=0)
                f = R.add(c, c)
                y = R.add(f, e)
                R.output(y)
            return y

    after = common_subexpressions(named(Before))
    assert_equal(after, Expected)
    assert names(after["main"]) == [("a", "b"), ("c", "d"), ("e",), ("f",), ("y",)]
    assert_same_values(Before, after)


def test_equal_weights_in_two_constants_are_equal() -> None:
    def weight(last: float) -> np.ndarray:
        return np.array([[1, 2], [3, last]], "float32")

    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 2), "float32")):
            with R.dataflow():
                a = R.matmul(x, R.const(weight(4)))
                b = R.matmul(x, R.const(weight(4)))
                c = R.matmul(x, R.const(weight(5)))
                d = R.add(a, b)
                y = R.add(c, d)
                R.output(y)
            return y

    after = common_subexpressions(named(Before))
    assert names(after["main"]) == [("a", "b"), ("c",), ("d",), ("y",)]
    assert_same_values(Before, after)


def test_an_output_may_be_an_equal_call() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 2), "float32")):
            with R.dataflow():
                a = R.nn.relu(x)
                y = R.nn.relu(x)
                z = R.add(a, a)
                R.output(y, z)
            return (y, z)

    after = canonicalize(named(Before))
    assert relax.analysis.check_well_formed(after)
    assert names(after["main"]) == [("a", "y"), ("z",)]
    assert_same_values(Before, after)


def test_parts_of_equal_splits() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 2), "float32")):
            with R.dataflow():
                a = R.split(x, 2, axis=0)
                b = R.split(x, 2, axis=0)
                a0 = a[0]
                b0 = b[0]
                b1 = b[1]
                c = R.add(a0, b0)
                y = R.add(c, b1)
                R.output(y)
            return y

    after = common_subexpressions(named(Before))
    assert names(after["main"]) == [("a", "b"), ("c",), ("y",)]
    assert_same_values(Before, after)


def test_branches_see_what_was_before_and_not_each_other() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2,), "float32"), cond: R.Tensor((), "bool")):
            a = R.nn.relu(x)
            if cond:
                b = R.nn.relu(x)
                c = R.exp(x)
                r = R.add(b, c)
            else:
                d = R.exp(x)
                r = R.multiply(d, d)
            e = R.exp(x)
            f = R.add(r, e)
            return R.add(f, a)

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((2,), "float32"), cond: R.Tensor((), "bool")):
            a = R.nn.relu(x)
            if cond:
                c = R.exp(x)
                r = R.add(a, c)
            else:
                d = R.exp(x)
                r = R.multiply(d, d)
            e = R.exp(x)
            f = R.add(r, e)
            return R.add(f, a)

    after = common_subexpressions(named(Before))
    assert_equal(after, Expected)
    assert ("a", "b") in names(after["main"])
    assert names(after["main"]).count(("e",)) == 1


def test_canonicalize_removes_dead_calls_and_aliases() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2,), "float32")):
            with R.dataflow():
                dead = R.exp(x)
                alias = x
                one = R.add(R.const(0.5, "float32"), R.const(0.5, "float32"))
                pair = (alias, dead)
                first = pair[0]
                y = R.add(first, one)
                R.output(y)
            return y

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((2,), "float32")):
            with R.dataflow():
                y = R.add(x, R.const(1, "float32"))
                R.output(y)
            return y

    assert_equal(canonicalize(Before), Expected)


@I.ir_module
class ComputedNorm:
    @R.function
    def main(
        x: R.Tensor(("n", 3, 4), "float32"),
        gamma: R.Tensor((3,), "float32"),
        beta: R.Tensor((3,), "float32"),
        root: R.Tensor((3,), "float32"),
    ):
        with R.dataflow():
            variance = R.multiply(root, root)
            norm = R.nn.batch_norm(
                x, gamma, beta, beta, variance, axis=1, epsilon=0.25, training=False
            )
            y = norm[0]
            m = norm[1]
            R.output(y, m)
        return (y, m)


def test_decompose_computed_parameters() -> None:
    @I.ir_module
    class Expected:
        @R.function
        def main(
            x: R.Tensor(("n", 3, 4), "float32"),
            gamma: R.Tensor((3,), "float32"),
            beta: R.Tensor((3,), "float32"),
            root: R.Tensor((3,), "float32"),
        ):
            n = T.int64()
            with R.dataflow():
                variance = R.multiply(root, root)
                shifted = R.add(variance, R.const(0.25, "float32"))
                deviation = R.sqrt(shifted)
                scale = R.divide(gamma, deviation)
                back = R.multiply(beta, scale)
                shift = R.subtract(beta, back)
                wide_scale = R.expand_dims(scale, axis=[0, 2])
                wide_shift = R.expand_dims(shift, axis=[0, 2])
                scaled = R.multiply(x, wide_scale)
                y: R.Tensor((n, 3, 4), "float32") = R.add(scaled, wide_shift)
                R.output(y)
            return (y, beta)

    before = named(ComputedNorm)
    after = decompose(before)
    assert_equal(after, Expected)
    assert names(after["main"]) == [("variance",)] + [("norm",)] * 9
    assert_same_values(before, after, n=2)


@pytest.mark.parametrize("axis", [0, 2, -1])
def test_decompose_any_axis_and_flags(axis: int) -> None:
    size = (3, 2, 4)[axis]
    builder = relax.BlockBuilder()
    x = relax.Var("x", R.Tensor((3, 2, 4), "float32"))
    params = [relax.Var(name, R.Tensor((size,), "float32")) for name in "gbmv"]
    with builder.function("main", [x, *params]):
        with builder.dataflow():
            variance = builder.emit(relax.op.multiply(params[3], params[3]))
            norm = builder.emit(
                relax.op.nn.batch_norm(
                    x, *params[:3], variance, axis, center=False, scale=False, training=False
                )
            )
            output = builder.emit_output(relax.TupleGetItem(norm, 0))
        builder.emit_func_output(output)
    before = builder.finalize()
    after = decompose_batch_norm(before)
    assert all(call.op.name != "relax.nn.batch_norm" for call in calls(after["main"]))
    assert_same_values(before, after, tolerance=1e-4)


def test_decompose_leaves_training_alone() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 3), "float32"), p: R.Tensor((3,), "float32")):
            with R.dataflow():
                norm = R.nn.batch_norm(x, p, p, p, p, axis=1, training=True)
                y = norm[0]
                R.output(y)
            return y

    tvm.ir.assert_structural_equal(decompose(Before), Before)
