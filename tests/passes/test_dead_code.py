# ruff: noqa: F841, SIM108
from __future__ import annotations

from relax_modules import assert_equal
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.dead_code import dead_code


def test_chains_tuples_and_outputs_that_nothing_reads() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4,), "float32")):
            with R.dataflow():
                a = R.exp(x)
                b = R.tanh(a)
                parts = R.split(b, 2)
                part = parts[0]
                unread = R.nn.relu(part)
                pair = (a, x)
                y = R.nn.relu(a)
                R.output(y, unread, pair)
            return y

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((4,), "float32")):
            with R.dataflow():
                a = R.exp(x)
                y = R.nn.relu(a)
                R.output(y)
            return y

    assert_equal(dead_code(Before), Expected)


def test_branches() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4,), "float32"), cond: R.Tensor((), "bool")):
            a = R.exp(x)
            dead = R.tanh(x)
            if cond:
                unread = R.add(dead, dead)
                r = R.add(a, a)
            else:
                r = R.negative(x)
            if cond:
                s = R.add(dead, dead)
            else:
                s = R.negative(dead)
            return r

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((4,), "float32"), cond: R.Tensor((), "bool")):
            a = R.exp(x)
            if cond:
                r = R.add(a, a)
            else:
                r = R.negative(x)
            return r

    assert_equal(dead_code(Before), Expected)


def test_effects_and_checks_stay() -> None:
    @I.ir_module
    class Before:
        @R.function(pure=False)
        def main(x: R.Tensor(("n",), "float32"), cond: R.Tensor((), "bool")):
            told = R.print(x, format="{}")
            checked = R.match_cast(x, R.Tensor((4,), "float32"))
            if cond:
                again = R.print(x, format="{}")
                r = x
            else:
                r = x
            return x

    assert_equal(dead_code(Before), Before)
