# ruff: noqa: F841, SIM108
from __future__ import annotations

from relax_modules import assert_equal
from tvm import relax, tirx
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.dead_code import dead_code
from motet.passes.graph import bindings_of
from motet.passes.op_kinds import op_name


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


def shapes_from_data(uses: bool) -> relax.Function:
    """``n`` is the sum of x; the result has ``n`` rows where it ``uses`` it."""
    builder, n = relax.BlockBuilder(), tirx.Var("n", "int64")
    x = relax.Var("x", relax.TensorType([3], "int64"))
    with builder.function("main", [x]):
        with builder.dataflow():
            total = builder.emit(relax.op.sum(x, keepdims=True))
            shape = builder.emit(relax.op.tensor_to_shape(total))
            builder.match_cast(shape, relax.ShapeType([n]))
            rows = builder.emit(relax.op.full((n, 2), relax.const(1.0)))
            lone = builder.emit(relax.op.negative(x))
            result = builder.emit_output(rows if uses else lone)
        builder.emit_func_output(result)
    return dead_code(builder.get())["main"]


def test_shapes_from_data_go_with_their_last_use():
    names = [op_name(binding.value) for binding in bindings_of(shapes_from_data(uses=False))]
    assert names == ["relax.negative", ""]
    kept = list(bindings_of(shapes_from_data(uses=True)))
    assert [op_name(b.value) for b in kept][:2] == ["relax.sum", "relax.tensor_to_shape"]
    assert any(isinstance(binding, relax.MatchCast) for binding in kept)
