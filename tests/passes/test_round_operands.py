from __future__ import annotations

from relax_modules import assert_equal, assert_same_values, named, names
from tvm import IRModule, relax
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.fold_constants import fold_constants
from motet.passes.graph import bindings_of, definitions
from motet.passes.op_kinds import op_name
from motet.passes.round_operands import round_operands


def rounded_values(mod: IRModule) -> list[str]:
    """Which operator's result, or which parameter, each rounding reads."""
    made = definitions(mod["main"])
    found = []
    for binding in bindings_of(mod["main"]):
        if op_name(binding.value) == "motet.round_to":
            read = binding.value.args[0]
            found.append(op_name(made[read]) if read in made else str(read.name))
    return found


def test_values_are_rounded_where_they_are_made() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 8), "float32"), w: R.Tensor((8, 8), "float32")):
            with R.dataflow():
                a = R.nn.relu(x)
                b = R.reshape(a, R.shape([8, 4]))
                c = R.permute_dims(b)
                y = R.matmul(c, w)
                p = R.nn.softmax(y)
                q = R.matmul(p, w)
                z = R.add(q, p)
                R.output(z)
            return z

    after = round_operands(named(Before))
    assert relax.analysis.check_well_formed(after)
    assert rounded_values(after) == ["relax.nn.relu", "w", "relax.nn.softmax"]
    assert names(after["main"])[:2] == [("a",), ("a",)]


def test_weights_are_rounded_once() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((1, 4), "float32")):
            with R.dataflow():
                y = R.matmul(x, R.broadcast_to(R.const(1.001, "float32"), R.shape([4, 4])))
                R.output(y)
            return y

    after = round_operands(fold_constants(relax.transform.Normalize()(Before)))
    (product,) = [
        b.value for b in after["main"].body.blocks[0].bindings if op_name(b.value) == "relax.matmul"
    ]
    assert (product.args[1].value.numpy() == 1.0).all()


def test_what_no_product_reads_stays() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 8), "float32"), h: R.Tensor((4, 4), "float16")):
            with R.dataflow():
                a = R.nn.relu(x)
                y = R.nn.softmax(a)
                g = R.matmul(h, h)
                R.output(y, g)
            return (y, g)

    before = named(Before)
    assert_equal(round_operands(before), before)
    assert_same_values(before, round_operands(before))
