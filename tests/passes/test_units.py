"""What counts as an operator for scheduling: the rules one by one, on modules of a few calls."""

from __future__ import annotations

import pytest
from relax_modules import named
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.units import Units, units_of

# ruff: noqa: RET504  (TVMScript returns variables)


def units(mod) -> Units:
    return units_of(named(mod)["main"], "main")


def nodes(found: Units) -> list[tuple[str, ...]]:
    return [unit.onnx_nodes for unit in found.units]


X = R.Tensor((1, 4, 8, 8), "float32")
W3 = R.Tensor((4, 4, 3, 3), "float32")
W1 = R.Tensor((4, 4, 1, 1), "float32")
WD = R.Tensor((4, 1, 3, 3), "float32")


def test_bias_and_activation_are_their_convolutions():
    @I.ir_module
    class Before:
        @R.function
        def main(x: X, w: W3, b: R.Tensor((1, 4, 1, 1), "float32")):
            with R.dataflow():
                conv = R.nn.conv2d(x, w, padding=1)
                bias = R.add(conv, b)
                relu = R.nn.relu(bias)
                pool = R.nn.max_pool2d(relu, (2, 2))
                R.output(pool)
            return pool

    found = units(Before)
    assert nodes(found) == [("conv", "bias", "relu"), ("pool",)]
    assert [unit.kind for unit in found.units] == ["nn.conv2d+add+nn.relu", "nn.max_pool2d"]
    assert list(found.graph.edges) == [("main/0", "main/1")]


def test_relu_depthwise_pointwise_is_one_unit_where_others_read_the_input_too():
    @I.ir_module
    class Before:
        @R.function
        def main(x: X, w: W1, d: WD, p: W1, q: W1):
            with R.dataflow():
                conv = R.nn.conv2d(x, w)
                relu = R.nn.relu(conv)
                depth = R.nn.conv2d(relu, d, padding=1, groups=4)
                point = R.nn.conv2d(depth, p)
                other = R.nn.conv2d(conv, q)
                cat = R.concat([point, other], axis=1)
                R.output(cat)
            return cat

    assert nodes(units(Before)) == [("conv",), ("relu", "depth", "point"), ("other",), ("cat",)]


def test_a_depthwise_convolution_that_two_read_is_a_unit():
    @I.ir_module
    class Before:
        @R.function
        def main(x: X, d: WD, p: W1, q: W1):
            with R.dataflow():
                depth = R.nn.conv2d(x, d, padding=1, groups=4)
                one = R.nn.conv2d(depth, p)
                two = R.nn.conv2d(depth, q)
                cat = R.concat([one, two], axis=1)
                R.output(cat)
            return cat

    assert nodes(units(Before)) == [("depth",), ("one",), ("two",), ("cat",)]


def test_sums_are_their_one_readers_and_units_where_there_are_several():
    @I.ir_module
    class Before:
        @R.function
        def main(x: X, v: W1, w: W1, d: WD, p: W1):
            with R.dataflow():
                a = R.nn.conv2d(x, v)
                b = R.nn.conv2d(x, w)
                both = R.add(a, b)
                one = R.nn.max_pool2d(both, (3, 3), padding=1)
                two = R.nn.conv2d(both, p)
                inner = R.add(one, two)
                last = R.nn.avg_pool2d(inner, (3, 3), padding=1)
                far = R.add(last, a)
                cat = R.concat([far, b], axis=1)
                R.output(cat)
            return cat

    found = nodes(units(Before))
    # inner has one reader and is read around (by a, b), so the pooling has it; likewise far.
    assert found == [("a",), ("b",), ("both",), ("one",), ("two",), ("inner", "last"),
                     ("far", "cat")]  # fmt: skip


def test_a_sum_that_joins_a_block_counts_though_it_has_one_reader():
    @I.ir_module
    class Before:
        @R.function
        def main(x: X, v: W1, w: W1):
            with R.dataflow():
                first = R.nn.conv2d(x, v)
                inner = R.nn.conv2d(first, w)
                join = R.add(inner, first)
                relu = R.nn.relu(join)
                pool = R.nn.max_pool2d(relu, (2, 2))
                R.output(pool)
            return pool

    found = units(Before)
    assert nodes(found) == [("first",), ("inner",), ("join", "relu"), ("pool",)]
    assert [unit.is_sum for unit in found.units] == [False, False, True, False]


def test_a_product_that_alone_reads_a_blocks_sum_ends_the_block():
    @I.ir_module
    class Before:
        @R.function
        def main(x: X, v: W1, w: W1, d: WD, p: W1):
            with R.dataflow():
                first = R.nn.conv2d(x, v)
                inner = R.nn.conv2d(first, w)
                join = R.add(inner, first)
                depth = R.nn.conv2d(join, d, padding=1, groups=4)
                point = R.nn.conv2d(depth, p)
                left = R.nn.max_pool2d(point, (3, 3), padding=1)
                right = R.nn.avg_pool2d(point, (3, 3), padding=1)
                cat = R.concat([left, right], axis=1)
                R.output(cat)
            return cat

    found = units(Before)
    blocks = [[found.named(block.names)[-1].title, len(block)] for block in found.blocks()]
    assert blocks == [["first", 1], ["point", 3], ["cat", 3]]


def test_an_activation_that_comes_together_again_is_its_convolutions():
    @I.ir_module
    class Before:
        @R.function
        def main(x: X, w: W1):
            with R.dataflow():
                conv = R.nn.conv2d(x, w)
                three = R.add(conv, R.const(3.0, "float32"))
                clip = R.clip(three, 0, 6)
                swish = R.multiply(conv, clip)
                R.output(swish)
            return swish

    assert nodes(units(Before)) == [("conv", "three", "clip", "swish")]


def test_nothing_follows_a_concatenation_and_poolings_take_nothing_in_before_them():
    @I.ir_module
    class Before:
        @R.function
        def main(x: X, y: X):
            with R.dataflow():
                cat = R.concat([x, y], axis=1)
                relu = R.nn.relu(cat)
                pool = R.nn.max_pool2d(relu, (2, 2))
                R.output(pool)
            return pool

    assert nodes(units(Before)) == [("cat",), ("relu",), ("pool",)]


def test_an_activation_that_several_read_is_the_concatenations_that_it_alone_reads():
    @I.ir_module
    class Before:
        @R.function
        def main(x: X, y: X, v: R.Tensor((4, 8, 1, 1), "float32")):
            with R.dataflow():
                cat = R.concat([x, y], axis=1)
                relu = R.nn.relu(cat)
                conv = R.nn.conv2d(relu, v)
                pool = R.nn.max_pool2d(relu, (2, 2))
                gv = (conv, pool)
                R.output(gv)
            return gv

    assert nodes(units(Before)) == [("cat", "relu"), ("conv",), ("pool",)]


def test_what_is_returned_is_a_result_of_its_unit():
    @I.ir_module
    class Before:
        @R.function
        def main(x: X, w: W1):
            with R.dataflow():
                conv = R.nn.conv2d(x, w)
                relu = R.nn.relu(conv)
                gv = (conv, relu)
                R.output(gv)
            return gv

    assert nodes(units(Before)) == [("conv",), ("relu",)]


def test_views_are_looked_through_and_lie_inside_units():
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 8), "float32"), w: R.Tensor((8, 8), "float32")):
            with R.dataflow():
                product = R.matmul(x, w)
                inner = R.reshape(product, (2, 2, 4))
                gelu = R.nn.gelu(inner)
                outer = R.reshape(gelu, (2, 8))
                left = R.nn.softmax(outer)
                right = R.sum(outer, axis=1)
                gv = (left, right)
                R.output(gv)
            return gv

    found = units(Before)
    assert [[b.var.name for b in unit.bindings] for unit in found.units] == [
        ["product", "inner", "gelu"], ["left"], ["right"],
    ]  # fmt: skip
    assert list(found.graph.edges) == [("main/0", "main/1"), ("main/0", "main/2")]


def test_control_flow_is_a_unit():
    @I.ir_module
    class Before:
        @R.function
        def main(x: X, w: W1, c: R.Tensor((), "bool")):
            conv = R.nn.conv2d(x, w)
            if c:
                left = R.nn.relu(conv)
                out = left
            else:
                right = R.negative(conv)
                out = right
            pool = R.nn.max_pool2d(out, (2, 2))
            return pool

    found = units(Before)
    assert [unit.kind for unit in found.units] == ["nn.conv2d", "if", "nn.max_pool2d"]
    assert list(found.graph.edges) == [("main/0", "main/1"), ("main/1", "main/2")]


def test_every_call_is_in_one_unit_and_units_are_in_order():
    @I.ir_module
    class Before:
        @R.function
        def main(x: X, w: W1):
            with R.dataflow():
                a = R.nn.relu(x)
                b = R.sigmoid(a)
                c = R.multiply(a, b)
                d = R.add(c, x)
                gv = (b, d)
                R.output(gv)
            return gv

    found = units(Before)
    names = [name for unit in found.units for name in unit.onnx_nodes]
    assert sorted(names) == ["a", "b", "c", "d"]
    place = {unit.name: at for at, unit in enumerate(found.units)}
    assert all(place[u] < place[v] for u, v in found.graph.edges)


def two_convolutions(second_kernel: int, stride: int = 1):
    @I.ir_module
    class Two:
        @R.function
        def main(
            x: X,
            v: W3,
            w: R.Tensor((4, 4, second_kernel, second_kernel), "float32"),
        ):
            with R.dataflow():
                a = R.nn.conv2d(x, v, padding=1)
                e = R.nn.relu(a)
                b = R.nn.conv2d(x, w, padding=second_kernel // 2, strides=stride)
                f = R.nn.relu(b)
                gv = (e, f)
                R.output(gv)
            return gv

    return Two


@pytest.mark.parametrize(
    ("kernel", "stride", "equal"), [(3, 1, True), (1, 1, False), (3, 2, False)]
)
def test_signatures_are_equal_for_equal_work(kernel, stride, equal):
    first, second = units(two_convolutions(kernel, stride)).units
    assert first.onnx_nodes != second.onnx_nodes
    assert (first.signature == second.signature) is equal


def test_signatures_do_not_know_names_of_symbols_or_values_of_weights():
    @I.ir_module
    class One:
        @R.function
        def main(x: R.Tensor(("n", 8), "float32")):
            with R.dataflow():
                y = R.multiply(x, R.const(2.0, "float32"))
                R.output(y)
            return y

    @I.ir_module
    class Two:
        @R.function
        def main(x: R.Tensor(("batch", 8), "float32")):
            with R.dataflow():
                y = R.multiply(x, R.const(3.0, "float32"))
                R.output(y)
            return y

    (one,), (two,) = units(One).units, units(Two).units
    assert one.signature == two.signature
