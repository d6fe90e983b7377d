from __future__ import annotations

import tvm
from relax_modules import assert_equal, assert_same_values, named, names
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.trivial_transposes import trivial_transposes


def test_what_moves_nothing_becomes_a_reshape() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((1, 6, 1, 4), "float32"), one: R.Tensor((1, 1), "float32")):
            with R.dataflow():
                still = R.permute_dims(x, [2, 1, 0, 3])
                moved = R.permute_dims(x, [0, 3, 2, 1])
                turned = R.permute_dims(one)
                y = (still, moved, turned)
                R.output(y)
            return y

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((1, 6, 1, 4), "float32"), one: R.Tensor((1, 1), "float32")):
            with R.dataflow():
                still = R.reshape(x, (1, 6, 1, 4))
                moved = R.permute_dims(x, [0, 3, 2, 1])
                turned = R.reshape(one, (1, 1))
                y = (still, moved, turned)
                R.output(y)
            return y

    after = trivial_transposes(named(Before))
    assert_equal(after, Expected)
    assert names(after["main"]) == [("still",), ("moved",), ("turned",)]
    assert_same_values(Before, after)


def test_open_sizes_may_move() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor(("n", 1, 4), "float32")):
            with R.dataflow():
                still = R.permute_dims(x, [1, 0, 2])
                moved = R.permute_dims(x, [2, 1, 0])
                y = (still, moved)
                R.output(y)
            return y

    after = trivial_transposes(named(Before))
    text = after.script(show_meta=False)
    assert text.count("R.reshape") == 1
    assert text.count("R.permute_dims") == 1
    assert tvm.relax.analysis.check_well_formed(after)
    assert_same_values(Before, after, n=3)
