"""Rules 1 and 2 of ``fuse``, its options, and how units are outlined."""

from __future__ import annotations

import numpy as np
import pytest
from fuse_checks import WEIGHT, checked
from relax_modules import assert_equal, assert_same_values, calls, kinds, named, run, units
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.fuse import fuse
from motet.passes.options import FuseOptions


def test_rule_1_units_and_views() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 4), "float32")):
            with R.dataflow():
                product = R.matmul(x, R.const(WEIGHT))
                flat = R.reshape(product, (8,))
                y = R.nn.relu(flat)
                R.output(y)
            return y

    @I.ir_module
    class Expected:
        @R.function(private=True)
        def main__unit0(p0: R.Tensor((2, 4), "float32"), p1: R.Tensor((4, 4), "float32")):
            R.func_attr(
                {
                    "motet.kind": "matmul",
                    "motet.onnx_nodes": ["product"],
                    "motet.op": "main/0",
                    "motet.target": "host",
                }
            )
            with R.dataflow():
                result = R.matmul(p0, p1)
                R.output(result)
            return result

        @R.function(private=True)
        def main__unit1(p0: R.Tensor((8,), "float32")):
            R.func_attr(
                {
                    "motet.kind": "nn.relu",
                    "motet.onnx_nodes": ["y"],
                    "motet.op": "main/1",
                    "motet.target": "host",
                }
            )
            with R.dataflow():
                result = R.nn.relu(p0)
                R.output(result)
            return result

        @R.function
        def main(x: R.Tensor((2, 4), "float32")):
            cls = Expected
            with R.dataflow():
                product = cls.main__unit0(x, R.const(WEIGHT))
                flat = R.reshape(product, (8,))
                y = cls.main__unit1(flat)
                R.output(y)
            return y

    after = checked(Before)
    assert_equal(after, Expected)
    assert_same_values(Before, after)


def test_rule_2_elementwise_joins_the_anchor() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 4), "float32"), r: R.Tensor((2, 4), "float32")):
            with R.dataflow():
                product = R.matmul(x, R.const(WEIGHT))
                biased = R.add(product, R.const(WEIGHT[0]))
                residual = R.add(r, biased)
                halved = R.multiply(residual, R.const(0.5, "float32"))
                y = R.nn.relu(halved)
                R.output(y)
            return y

    after = checked(Before)
    assert kinds(after) == ["matmul+add+add+multiply+nn.relu"]
    (unit,) = units(after)
    shapes = [[int(n) for n in param.ty.shape.values] for param in unit.params]
    assert shapes == [[2, 4], [4, 4], [4], [2, 4]]  # the scalar stays inside
    assert_same_values(Before, after)


def test_rule_2_only_one_anchor_the_last() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 4), "float32")):
            with R.dataflow():
                left = R.matmul(x, R.const(WEIGHT))
                right = R.nn.softmax(x)
                mask = R.exp(x)
                total = R.add(left, right)
                y = R.multiply(total, mask)
                R.output(y)
            return y

    after = checked(Before)
    assert kinds(after) == ["matmul", "nn.softmax+add+exp+multiply"]
    assert_same_values(Before, after)


def test_rule_2_elementwise_units_all_join() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 4), "float32")):
            with R.dataflow():
                a = R.exp(x)
                b = R.tanh(x)
                c = R.sigmoid(b)
                y = R.add(a, c)
                R.output(y)
            return y

    after = checked(Before)
    assert kinds(after) == ["exp+tanh+sigmoid+add"]
    assert_same_values(Before, after)


def test_rule_2_a_value_with_two_readers_ends_a_unit() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 4), "float32")):
            with R.dataflow():
                product = R.matmul(x, R.const(WEIGHT))
                a = R.exp(product)
                b = R.tanh(product)
                y = R.add(a, b)
                R.output(y)
            return y

    after = checked(Before)
    assert kinds(after) == ["matmul", "exp+tanh+add"]
    assert_same_values(Before, after)


def test_rule_2_one_reader_that_reads_twice() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 4), "float32")):
            with R.dataflow():
                product = R.matmul(x, R.const(WEIGHT))
                y = R.multiply(product, product)
                R.output(y)
            return y

    after = checked(Before)
    assert kinds(after) == ["matmul+multiply"]
    assert_same_values(Before, after)


def test_rule_2_an_output_of_the_model_ends_a_unit() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 4), "float32")):
            with R.dataflow():
                a = R.matmul(x, R.const(WEIGHT))
                b = R.nn.relu(a)
                c = R.exp(b)
                R.output(a, c)
            return (c, a)

    after = checked(Before)
    assert kinds(after) == ["matmul", "nn.relu+exp"]
    assert_same_values(Before, after)


def test_rule_2_broadcasting_operands_are_not_absorbed() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 4), "float32"), v: R.Tensor((4,), "float32")):
            with R.dataflow():
                narrow = R.exp(v)
                wide = R.add(x, narrow)
                column = R.sum(wide, axis=1, keepdims=True)
                y = R.divide(wide, column)
                R.output(y)
            return y

    after = checked(Before)
    assert kinds(after) == ["exp", "add", "sum", "divide"]
    assert_same_values(Before, after)


def test_dtype_may_change_inside_a_unit() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 4), "float32")):
            with R.dataflow():
                rounded = R.astype(R.multiply(x, R.const(10, "float32")), "int32")
                y = R.greater(rounded, R.const(2, "int32"))
                R.output(y)
            return y

    after = checked(Before)
    assert kinds(after) == ["multiply+astype+greater"]
    assert str(units(after)[0].ret_ty.dtype) == "bool"
    assert_same_values(Before, after)


def test_opaque_calls_stand_alone_and_give_tuples() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 6), "float32")):
            with R.dataflow():
                positive = R.nn.relu(x)
                parts = R.split(positive, 2, axis=1)
                left = parts[0]
                right = parts[1]
                total = R.add(left, right)
                y = R.concat((total, left), axis=1)
                z = R.nn.relu(y)
                R.output(z)
            return z

    after = checked(Before)
    assert kinds(after) == ["nn.relu", "split", "add", "concat+nn.relu"]
    assert_same_values(Before, after)


def test_branches() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 4), "float32"), cond: R.Tensor((), "bool")):
            a = R.exp(x)
            b = R.nn.relu(a)
            if cond:
                c = R.matmul(b, R.const(WEIGHT))
                d = R.nn.relu(c)
                r = R.tanh(d)
            else:
                r = R.negative(x)
            return R.sigmoid(r)

    after = checked(Before)
    assert kinds(after) == ["exp+nn.relu", "matmul+nn.relu+tanh", "negative", "sigmoid"]
    for cond in (True, False):
        x = np.ones((4, 4), "float32")
        old, new = (run(mod, [x, np.array(cond)])[0] for mod in (Before, after))
        np.testing.assert_allclose(new, old, rtol=1e-5)


CHAIN_LENGTH = 7


@pytest.mark.parametrize(("max_ops", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (8, [7])])
def test_max_ops(max_ops: int, sizes: list[int]) -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", R.Tensor((4,), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            value = x
            for index in range(CHAIN_LENGTH):
                value = builder.emit(relax.op.tanh(value), f"n{index}")
            output = builder.emit_output(value)
        builder.emit_func_output(output)
    after = checked(builder.finalize(), options=FuseOptions(max_ops=max_ops))
    assert [len(calls(unit)) for unit in units(after)] == sizes


def test_max_ops_keeps_the_anchor() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 4), "float32")):
            with R.dataflow():
                a = R.exp(x)
                b = R.matmul(x, R.const(WEIGHT))
                y = R.add(a, b)
                R.output(y)
            return y

    assert kinds(checked(Before, options=FuseOptions(max_ops=2))) == ["exp", "matmul+add"]
    assert kinds(checked(Before, options=FuseOptions(max_ops=3))) == ["exp+matmul+add"]


def test_disabled() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 4), "float32")):
            with R.dataflow():
                a = R.matmul(x, R.const(WEIGHT))
                y = R.nn.relu(a)
                R.output(y)
            return y

    assert kinds(checked(Before, options=FuseOptions(enabled=False))) == ["matmul", "nn.relu"]


def test_two_models_are_numbered_apart() -> None:
    @I.ir_module
    class Before:
        @R.function
        def one(x: R.Tensor((4,), "float32")):
            with R.dataflow():
                y = R.exp(x)
                R.output(y)
            return y

        @R.function
        def two(x: R.Tensor((4,), "float32")):
            with R.dataflow():
                y = R.tanh(x)
                R.output(y)
            return y

    after = fuse()(named(Before))
    assert sorted(str(unit.attrs["motet.op"]) for unit in units(after)) == ["one/0", "two/0"]


def test_a_constant_read_twice_is_one_parameter() -> None:
    weight = relax.const(WEIGHT)

    builder = relax.BlockBuilder()
    x = relax.Var("x", R.Tensor((4, 4), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            product = builder.emit(relax.op.matmul(x, weight))
            output = builder.emit_output(relax.op.add(product, weight))
        builder.emit_func_output(output)
    before = builder.finalize()
    (unit,) = units(fuse()(before))
    assert len(unit.params) == 2
    assert_same_values(before, fuse()(before))


def test_a_model_called_like_a_unit() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4,), "float32")):
            with R.dataflow():
                y = R.exp(x)
                R.output(y)
            return y

        @R.function
        def main__unit0(x: R.Tensor((4,), "float32")):
            with R.dataflow():
                y = R.tanh(x)
                R.output(y)
            return y

    after = fuse()(named(Before))
    assert relax.analysis.check_well_formed(after)
    assert sorted(v.name_hint for v in after.get_global_vars()) == [
        "main",
        "main__unit0",
        "main__unit0_",
        "main__unit0__unit0",
    ]
