"""``fuse`` with symbolic dimensions: a unit reads each from an operand that carries it."""

from __future__ import annotations

import tvm
from fuse_checks import WEIGHT, checked
from relax_modules import assert_same_values, kinds, units
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T


def test_symbolic_batch() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor(("n", 4), "float32"), r: R.Tensor(("n", 4), "float32")):
            with R.dataflow():
                product = R.matmul(x, R.const(WEIGHT))
                y = R.add(product, r)
                R.output(y)
            return y

    after = checked(Before)
    assert kinds(after) == ["matmul+add"]
    assert_same_values(Before, after, n=3)


def test_symbols_that_no_operand_carries() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor(("n", 4), "float32")):
            n = T.int64()
            with R.dataflow():
                full = R.full(R.shape([n, 2]), R.const(3, "float32"), dtype="float32")
                y = R.concat((x, full), axis=1)
                R.output(y)
            return y

    after = checked(Before)
    assert kinds(after) == ["full", "concat"]
    (param,) = units(after)[0].params
    assert isinstance(param.ty.shape.values[0], tvm.tirx.Var)
    assert_same_values(Before, after, n=3)


def test_symbols_of_composed_dimensions() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor(("n", "m"), "float32")):
            with R.dataflow():
                joined = R.concat((x, x), axis=0)
                y = R.nn.relu(joined)
                total = R.sum(y, axis=1)
                R.output(total)
            return total

    after = checked(Before)
    assert kinds(after) == ["concat+nn.relu", "sum"]
    assert_same_values(Before, after, n=3, m=2)


def test_symbols_as_operands_stay_inside() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((8, 4), "float32"), y: R.Tensor(("n", 4), "float32")):
            n = T.int64()
            with R.dataflow():
                head = R.strided_slice(x, axes=[0], begin=[0], end=[n])
                z = R.strided_slice(x, axes=[0], begin=[n], end=[n + 2])
                R.output(head, z)
            return (head, z)

    after = checked(Before)
    for unit in units(after):
        assert [len(param.ty.shape.values) for param in unit.params] == [2, 2]
    assert_same_values(Before, after, n=3)


def test_symbols_of_operands_alone_are_bound() -> None:
    """The shape of a take is known; that n bounds its index, only an operand says."""
    builder = relax.BlockBuilder()
    n = tvm.tirx.Var("n", "int64")
    x = relax.Var("x", relax.TensorType([8], "float32"))
    y = relax.Var("y", relax.TensorType([n], "float32"))
    with builder.function("main", [x, y]):
        with builder.dataflow():
            output = builder.emit_output(relax.op.take(x, n, axis=0))
        builder.emit_func_output(output)
    before = builder.finalize()
    after = checked(before)
    (unit,) = units(after)
    assert len(unit.params) == 2
    assert_same_values(before, after, n=3)
