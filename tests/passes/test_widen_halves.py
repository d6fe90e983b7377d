from __future__ import annotations

import tvm
from relax_modules import assert_equal, assert_same_values, named, names
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.names import ARRAY, names_of, with_names
from motet.passes.rewrite import Rewriter, rewrite_functions
from motet.passes.widen_halves import widen_halves


def test_values_between_operators_are_float32() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 4), "float16"), z: R.Tensor((2, 4), "float16")):
            with R.dataflow():
                a = R.multiply(x, R.const(1.5, "float16"))
                b = R.reshape(a, R.shape([4, 2]))
                c = R.add(b, R.const(1.5, "float16"))
                d = R.concat((c, c), axis=0)
                R.output(a, d)
            return (a, d)

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((2, 4), "float16"), z: R.Tensor((2, 4), "float16")):
            with R.dataflow():
                wide = R.astype(x, "float32")
                a = R.multiply(wide, R.const(1.5, "float32"))
                half = R.astype(a, "float16")
                b = R.reshape(a, R.shape([4, 2]))
                c = R.add(b, R.const(1.5, "float32"))
                d = R.concat((c, c), axis=0)
                last = R.astype(d, "float16")
                R.output(half, last)
            return (half, last)

    after = widen_halves(named(Before))
    assert_equal(after, Expected)
    assert names(after["main"]) == [(), ("a",), ("a",), ("b",), ("c",), ("d",), ("d",)]
    assert_same_values(Before, after, 2e-3)


def test_casts_that_the_model_writes_round() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 4), "float32")):
            with R.dataflow():
                a = R.astype(x, "float16")
                b = R.exp(a)
                c = R.astype(b, "float32")
                d = R.astype(c, "float16")
                y = R.tanh(d)
                z = R.argmax(b, axis=1)
                R.output(y, z)
            return (y, z)

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((2, 4), "float32")):
            with R.dataflow():
                a = R.astype(x, "float16")
                wide = R.astype(a, "float32")
                c = R.exp(wide)
                b = R.astype(c, "float16")
                d = R.astype(c, "float16")
                rounded = R.astype(d, "float32")
                y = R.tanh(rounded)
                half = R.astype(y, "float16")
                z = R.argmax(b, axis=1)
                R.output(half, z)
            return (half, z)

    assert_equal(widen_halves(named(Before)), Expected)


def test_moves_alone_and_operators_of_bits_stay() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 4), "float16"), at: R.Tensor((3,), "int64")):
            with R.dataflow():
                a = R.take(x, at, axis=1)
                b = R.permute_dims(a)
                y = R.concat((b, b), axis=0)
                q = R.quantize(b, R.const(0.5, "float32"), R.const(0, "int8"), axis=0)
                R.output(y, q)
            return (y, q)

    before = named(Before)
    assert_equal(widen_halves(before), before)


class _OnTheArray(Rewriter):
    def value(self, variable: tvm.relax.Var, value: tvm.relax.Expr) -> tvm.relax.Expr:
        return with_names(value, names_of(value), ARRAY)


def test_operators_of_the_array_stay() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 4), "float16")):
            with R.dataflow():
                y = R.nn.relu(x)
                R.output(y)
            return y

    before = rewrite_functions(named(Before), _OnTheArray)
    assert_equal(widen_halves(before), before)


def test_branches_see_what_is_computed_before_them() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 4), "float16"), yes: R.Tensor((), "bool")):
            a = R.exp(x)
            if yes:
                b = R.tanh(x)
                y = R.add(a, b)
            else:
                c = R.tanh(x)
                y = R.multiply(a, c)
            z = R.tanh(x)
            return R.add(z, y)

    after = widen_halves(named(Before))
    assert tvm.relax.analysis.check_well_formed(after)
    assert after.script().count("R.astype") == 5  # x, each branch's result, y, and w
