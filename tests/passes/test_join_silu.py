from __future__ import annotations

from relax_modules import assert_equal, assert_same_values, named, names
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.dead_code import dead_code
from motet.passes.join_silu import join_silu


def test_a_value_times_its_sigmoid_is_a_silu() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 4), "float32")):
            with R.dataflow():
                a = R.nn.relu(x)
                gate = R.sigmoid(a)
                b = R.multiply(gate, a)
                other = R.sigmoid(b)
                y = R.multiply(b, other)
                R.output(y)
            return y

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((2, 4), "float32")):
            with R.dataflow():
                a = R.nn.relu(x)
                b = R.nn.silu(a)
                y = R.nn.silu(b)
                R.output(y)
            return y

    after = dead_code(join_silu(named(Before)))
    assert_equal(after, Expected)
    assert names(after["main"]) == [("a",), ("gate", "b"), ("other", "y")]
    assert_same_values(Before, after)


def test_what_is_no_silu_stays() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 4), "float32"), z: R.Tensor((2, 4), "float32")):
            with R.dataflow():
                gate = R.sigmoid(x)
                gated = R.multiply(z, gate)
                read = R.sigmoid(z)
                twice = R.multiply(z, read)
                squared = R.multiply(read, twice)
                both = R.add(gated, squared)
                R.output(both)
            return both

    before = named(Before)
    assert_equal(join_silu(before), before)
