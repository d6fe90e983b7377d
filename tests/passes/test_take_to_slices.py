from __future__ import annotations

from relax_modules import assert_equal, assert_same_values, named
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.take_to_slices import take_to_slices


def test_a_gather_at_one_place_is_a_slice() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((3, 2, 4), "float32")):
            with R.dataflow():
                a = R.take(x, R.const(2, "int64"), axis=0)
                b = R.take(x, R.const([1], "int64"), axis=2)
                R.output(a, b)
            return (a, b)

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((3, 2, 4), "float32")):
            with R.dataflow():
                last = R.strided_slice(x, [0], [2], [3])
                a = R.reshape(last, R.shape([2, 4]))
                one = R.strided_slice(x, [2], [1], [2])
                b = R.reshape(one, R.shape([3, 2, 1]))
                R.output(a, b)
            return (a, b)

    after = take_to_slices(named(Before))
    assert_equal(after, Expected)
    assert_same_values(Before, after)


def test_other_gathers_stay() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((3, 4), "float32"), i: R.Tensor((), "int64")):
            with R.dataflow():
                a = R.take(x, i, axis=0)
                b = R.take(x, R.const([0, 2], "int64"), axis=0)
                R.output(a, b)
            return (a, b)

    before = named(Before)
    assert_equal(take_to_slices(before), before)
