"""Rule 2 of ``place``: what follows products, where data does not go back and forth."""

from __future__ import annotations

import numpy as np
import tvm
from relax_modules import named
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.graph import bindings_of
from motet.passes.names import ARRAY, names_of, target_of
from motet.passes.place import Placement, place

WEIGHT = np.ones((4, 4), "float32")


def on_array(mod: tvm.IRModule, *pinned: str, placement: Placement | None = None) -> set[str]:
    """The names of the calls that an array that takes everything gets."""
    after = place(lambda call: None, pinned, placement)(named(mod))
    values = [binding.value for binding in bindings_of(after["main"])]
    return {name for v in values if target_of(v) == ARRAY for name in names_of(v)}


@I.ir_module
class Chain:
    @R.function
    def main(x: R.Tensor((4, 4), "float32")):
        with R.dataflow():
            before = R.nn.relu(x)
            product = R.matmul(before, R.const(WEIGHT))
            flat = R.reshape(product, (16,))
            after = R.nn.softmax(flat)
            turned = R.flip(product, 0)
            last = R.nn.relu(turned)
            y = (after, last)
            R.output(y)
        return y


def test_what_follows_on_the_array_and_nothing_before_it_or_behind_the_host() -> None:
    assert on_array(Chain) == {"product", "after"}


def test_pinned_followers() -> None:
    placement = Placement()
    assert on_array(Chain, "after", placement=placement) == {"product"}
    assert placement.refused == [(("after",), "pinned to the host")]


@I.ir_module
class Sums:
    @R.function
    def main(x: R.Tensor((4, 4), "float32")):
        with R.dataflow():
            host = R.exp(x)
            first = R.matmul(x, R.const(WEIGHT))
            early = R.add(first, host)
            late = R.flip(early, 0)
            waits = R.add(early, late)
            second = R.matmul(waits, R.const(WEIGHT))
            y = R.add(second, waits)
            R.output(y)
        return y


def test_a_sum_waits_for_no_host_call_that_reads_the_array() -> None:
    """``early`` adds what is there from the start; ``waits`` would go back to the array."""
    assert on_array(Sums) == {"first", "early", "second", "y"}


def test_what_an_anchor_takes_in_is_computed_there_too() -> None:
    @I.ir_module
    class Biased:
        @R.function
        def main(x: R.Tensor((1, 4, 3, 3), "float32")):
            with R.dataflow():
                conv = R.nn.conv2d(x, R.const(np.ones((4, 4, 1, 1), "float32")))
                bias = R.add(conv, R.const(np.ones((1, 4, 1, 1), "float32")))
                y = R.nn.max_pool2d(bias)
                R.output(y)
            return y

    def refuses_sums(call: tvm.relax.Call) -> str | None:
        return "broadcasts" if "add" in str(call.op) else None

    placement = Placement()
    after = place(refuses_sums, (), placement, lambda anchor, call, so_far: not so_far)(
        named(Biased)
    )
    values = [binding.value for binding in bindings_of(after["main"])]
    assert [target_of(value) for value in values] == ["array", "host", "array"]
    assert placement.on_array == [("conv",), ("y",)]
    assert placement.refused == []


@I.ir_module
class Moves:
    @R.function
    def main(x: R.Tensor((4, 4), "float32")):
        with R.dataflow():
            early = R.permute_dims(x)
            product = R.matmul(early, R.const(WEIGHT))
            half = R.strided_slice(product, [0], [0], [2])
            turned = R.permute_dims(half)
            joined = R.concat([turned, turned], axis=1)
            y = R.matmul(joined, R.const(WEIGHT))
            R.output(y)
        return y


def test_moves_follow_and_alone_stay() -> None:
    assert on_array(Moves) == {"product", "half", "turned", "joined", "y"}
    placement = Placement()
    assert on_array(Moves, "turned", placement=placement) == {"product", "half", "y"}
    assert placement.refused == [(("turned",), "pinned to the host")]
