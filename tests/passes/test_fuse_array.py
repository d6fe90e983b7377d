"""Rule 3 of ``fuse``: what follows an anchor on the array is for the array to say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tvm
from fuse_checks import WEIGHT
from relax_modules import assert_same_values, kinds, named, units
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.fuse import fuse
from motet.passes.op_kinds import op_name
from motet.passes.place import Placement, place


def takes(*operators: str) -> Callable[[relax.Call, relax.Call, Sequence[relax.Call]], bool]:
    """An array that takes these after an anchor, each once."""

    def accepts(_anchor: relax.Call, following: relax.Call, so_far: Sequence[relax.Call]) -> bool:
        return op_name(following) in operators and op_name(following) not in map(op_name, so_far)

    return accepts


def on_array(
    mod: tvm.IRModule, *pinned: str, takes: tuple[str, ...] = ("relax.matmul",)
) -> tvm.IRModule:
    """``mod`` placed for an array that takes these as anchors."""
    return place(lambda c: None if op_name(c) in takes else "no", pinned, Placement())(mod)


EVERYTHING = ("relax.matmul", "relax.add", "relax.nn.relu", "relax.permute_dims")


def targets(mod: tvm.IRModule) -> list[str]:
    return [str(unit.attrs["motet.target"]) for unit in units(mod)]


@I.ir_module
class Layered:
    @R.function
    def main(x: R.Tensor((4, 4), "float32")):
        with R.dataflow():
            side = R.exp(x)
            product = R.matmul(x, R.const(WEIGHT))
            biased = R.add(product, R.const(WEIGHT[0]))
            clamped = R.nn.relu(biased)
            again = R.nn.relu(clamped)
            y = R.add(side, again)
            R.output(y)
        return y


def test_rule_3_the_array_says_what_follows() -> None:
    before = on_array(named(Layered))
    after = fuse(None, takes("relax.add", "relax.nn.relu"))(before)
    assert kinds(after) == ["matmul+add+nn.relu", "exp+nn.relu+add"]
    assert targets(after) == ["array", "host"]
    assert_same_values(Layered, after)


def test_rule_3_host_values_do_not_go_to_the_array() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 4), "float32")):
            with R.dataflow():
                side = R.exp(x)
                product = R.matmul(x, R.const(WEIGHT))
                y = R.add(side, product)
                R.output(y)
            return y

    after = fuse(None, takes("relax.add"))(on_array(named(Before), takes=EVERYTHING))
    assert kinds(after) == ["exp", "matmul+add"]
    assert targets(after) == ["host", "array"]
    assert_same_values(Before, after)


def test_without_an_array_that_accepts_nothing_follows() -> None:
    after = fuse()(on_array(named(Layered)))
    assert kinds(after) == ["matmul", "exp+add+nn.relu+nn.relu+add"]


def test_pinned_to_the_host() -> None:
    after = fuse(None, takes("relax.add"))(on_array(named(Layered), "product"))
    assert targets(after) == ["host"]


def test_the_array_takes_scalars_as_parameters() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((1, 4), "float32")):
            with R.dataflow():
                product = R.matmul(x, R.const(WEIGHT[:, :1]))
                y = R.add(product, R.const(2, "float32"))
                R.output(y)
            return y

    (unit,) = units(fuse(None, takes("relax.add"))(on_array(named(Before))))
    assert len(unit.params) == 3


@I.ir_module
class TwoProducts:
    @R.function
    def main(x: R.Tensor((4, 4), "float32")):
        with R.dataflow():
            first = R.matmul(x, R.const(WEIGHT))
            second = R.matmul(x, R.const(WEIGHT))
            both = R.add(second, first)
            y = R.nn.relu(both)
            R.output(y)
        return y


def test_rule_3_a_sum_joins_the_product_that_is_computed_last() -> None:
    placed = on_array(named(TwoProducts), takes=EVERYTHING)
    after = fuse(None, takes("relax.add", "relax.nn.relu"))(placed)
    assert [list(unit.attrs["motet.onnx_nodes"]) for unit in units(after)] == [
        ["first"],
        ["second", "both", "y"],
    ]
    assert_same_values(TwoProducts, after)


def test_rule_3_a_sum_of_two_tensors_is_not_drawn_to_the_array() -> None:
    after = fuse(None, takes("relax.add"))(on_array(named(TwoProducts)))
    assert kinds(after) == ["matmul", "matmul", "add+nn.relu"]
    assert targets(after) == ["array", "array", "host"]


def test_rule_3_what_is_placed_on_the_array_joins_no_unit_of_the_host() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 4), "float32")):
            with R.dataflow():
                product = R.matmul(x, R.const(WEIGHT))
                twice = R.add(product, product)
                host = R.exp(twice)
                y = R.add(twice, host)
                R.output(y)
            return y

    placed = on_array(named(Before), takes=EVERYTHING)
    after = fuse(None, lambda *_: False)(placed)
    assert kinds(after) == ["matmul", "add", "exp+add"]
    assert targets(after) == ["array", "array", "host"]
    assert_same_values(Before, after)


@I.ir_module
class Attention:
    @R.function
    def main(q: R.Tensor((2, 5, 3), "float32"), k: R.Tensor((2, 4, 3), "float32")):
        with R.dataflow():
            turned = R.permute_dims(k, [0, 2, 1])
            y = R.matmul(q, turned)
            R.output(y)
        return y


def test_rule_4_the_transpose_of_the_right_side() -> None:
    after = fuse(None, takes("relax.add"))(on_array(named(Attention)))
    assert kinds(after) == ["permute_dims+matmul"]
    assert targets(after) == ["array"]
    assert_same_values(Attention, after)


def test_rule_4_a_transpose_pinned_with_its_product_stays() -> None:
    after = fuse(None, takes("relax.add"))(on_array(named(Attention), "y"))
    assert targets(after) == ["host", "host"]


def test_rule_4_a_transpose_that_others_read_stays_on_the_host() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(q: R.Tensor((2, 5, 3), "float32"), k: R.Tensor((2, 4, 3), "float32")):
            with R.dataflow():
                turned = R.permute_dims(k, [0, 2, 1])
                product = R.matmul(q, turned)
                other = R.exp(turned)
                y = (product, other)
                R.output(y)
            return y

    after = fuse(None, takes("relax.add"))(on_array(named(Before)))
    assert [t for k, t in zip(kinds(after), targets(after), strict=True) if "matmul" in k] == [
        "array"
    ]
    assert "permute_dims+matmul" not in kinds(after)
    assert_same_values(Before, after)
