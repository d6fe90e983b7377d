"""Where values take the blocked layout, and what is written to that end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import tvm
from relax_modules import assert_equal, calls, named, names
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from motet.passes.layout import layout
from motet.passes.names import with_names
from motet.passes.op_kinds import op_name

op = relax.op
IN, OUT, BOTH = "conv2d ->c", "conv2d c->", "conv2d c->c"
TO, FROM = ["reshape", "permute_dims"], ["permute_dims", "reshape"]


def laid(before: tvm.IRModule) -> tvm.IRModule:
    after = layout(8)(named(before))
    assert relax.analysis.check_well_formed(after)
    return after


def plan(mod: tvm.IRModule) -> list[str]:
    """The operators of ``main``; convolutions with the layouts that they read and write."""
    return [_label(call) for call in calls(mod["main"])]


def _label(call: relax.Call) -> str:
    name = op_name(call).removeprefix("relax.").removeprefix("nn.")
    if name != "conv2d":
        return name
    read, write = (
        "c" if layout == "NCHW8c" else ""
        for layout in (call.attrs.data_layout, call.attrs.out_layout)
    )
    return f"conv2d {read}->{write}" if read or write else "conv2d"


class Graph:
    """Builds a function of the parameter ``x``; weights and other tensors are parameters too."""

    def __init__(self, *shape: int | str) -> None:
        self.builder = relax.BlockBuilder()
        self.params: list[relax.Var] = []
        self.batch = tvm.tirx.Var("batch", "int64")
        self.x = self.tensor(*shape)

    def tensor(self, *shape: int | str, dtype: str = "float32") -> relax.Var:
        extents = [self.batch if d == "batch" else d for d in shape]
        name = "x" if not self.params else f"p{len(self.params)}"
        self.params.append(relax.Var(name, relax.TensorType(extents, dtype)))
        return self.params[-1]

    def conv(self, x: relax.Expr, outs: int, kernel: int = 1, groups: int = 1) -> relax.Expr:
        weights = self.tensor(outs, int(x.ty.shape[1]) // groups, kernel, kernel)
        return self(op.nn.conv2d(x, weights, padding=kernel // 2, groups=groups))

    def __call__(self, call: relax.Expr) -> relax.Expr:
        return self.builder.emit(call)

    def laid(
        self, make: Callable[[Graph, relax.Expr], relax.Expr | Sequence[relax.Expr]]
    ) -> list[str]:
        """The operators after the pass, of the function whose outputs ``make`` gives."""
        after = layout(8)(self.module(make))
        assert relax.analysis.check_well_formed(after)
        return plan(after)

    def module(
        self, make: Callable[[Graph, relax.Expr], relax.Expr | Sequence[relax.Expr]]
    ) -> tvm.IRModule:
        with self.builder.function("main"):
            with self.builder.dataflow():
                made = make(self, self.x)
                made = made if isinstance(made, relax.Expr) else relax.Tuple(list(made))
                output = self.builder.emit_output(made)
            self.builder.emit_func_output(output, params=self.params)
        return self.builder.get()


def test_a_chain_with_a_residual_is_transformed_at_its_ends() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(
            x: R.Tensor((1, 3, 6, 6), "float32"), w0: R.Tensor((16, 3, 3, 3), "float32"),
            w1: R.Tensor((16, 16, 1, 1), "float32"), b: R.Tensor((16, 1, 1), "float32"),
            w2: R.Tensor((5, 16, 1, 1), "float32"),
        ):  # fmt: skip
            with R.dataflow():
                stem = R.nn.conv2d(x, w0)
                body = R.nn.conv2d(stem, w1)
                biased = R.add(body, b)
                total = R.add(biased, stem)
                head = R.nn.conv2d(total, w2)
                R.output(head)
            return head

    @I.ir_module
    class Expected:
        @R.function
        def main(
            x: R.Tensor((1, 3, 6, 6), "float32"), w0: R.Tensor((16, 3, 3, 3), "float32"),
            w1: R.Tensor((16, 16, 1, 1), "float32"), b: R.Tensor((16, 1, 1), "float32"),
            w2: R.Tensor((5, 16, 1, 1), "float32"),
        ):  # fmt: skip
            with R.dataflow():
                stem = R.nn.conv2d(x, w0, data_layout="NCHW", out_layout="NCHW8c")
                body = R.nn.conv2d(stem, w1, data_layout="NCHW8c", out_layout="NCHW8c")
                column = R.reshape(b, (1, 16, 1, 1))
                blocks = R.reshape(column, (1, 2, 1, 1, 8))
                biased = R.add(body, blocks)
                total = R.add(biased, stem)
                head = R.nn.conv2d(total, w2, data_layout="NCHW8c", out_layout="NCHW")
                R.output(head)
            return head

    after = laid(Before)
    assert_equal(after, Expected)
    assert names(after["main"]) == [
        ("stem",), ("body",), ("biased",), ("biased",), ("biased",), ("total",), ("head",),
    ]  # fmt: skip


def test_both_forms_of_a_value_that_is_an_output_too() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(
            x: R.Tensor(("n", 8, 6, 5), "float32"), w0: R.Tensor((16, 8, 1, 1), "float32"),
            w1: R.Tensor((16, 16, 1, 1), "float32"),
        ):  # fmt: skip
            with R.dataflow():
                one = R.nn.conv2d(x, w0)
                two = R.nn.conv2d(one, w1)
                R.output(one, two)
            return (one, two)

    @I.ir_module
    class Expected:
        @R.function
        def main(
            x: R.Tensor(("n", 8, 6, 5), "float32"), w0: R.Tensor((16, 8, 1, 1), "float32"),
            w1: R.Tensor((16, 16, 1, 1), "float32"),
        ):  # fmt: skip
            n = T.int64()
            with R.dataflow():
                split = R.reshape(x, (n, 1, 8, 6, 5))
                turned = R.permute_dims(split, [0, 1, 3, 4, 2])
                form = R.nn.conv2d(turned, w0, data_layout="NCHW8c", out_layout="NCHW8c")
                back = R.permute_dims(form, [0, 1, 4, 2, 3])
                one = R.reshape(back, (n, 16, 6, 5))
                two = R.nn.conv2d(form, w1, data_layout="NCHW8c", out_layout="NCHW")
                R.output(one, two)
            return (one, two)

    assert_equal(laid(Before), Expected)


Make = Callable[[Graph, relax.Expr], "relax.Expr | Sequence[relax.Expr]"]


def between(steps: Callable[[Graph, relax.Expr], relax.Expr], outs: int = 16) -> list[str]:
    """The operators that ``steps`` become between two convolutions of plain graph input."""

    def make(g: Graph, x: relax.Expr) -> relax.Expr:
        return g.conv(steps(g, g.conv(x, outs)), 16)

    found = Graph(1, 3, 6, 6).laid(make)
    assert (found[0], found[-1]) == (IN, OUT)
    return found[1:-1]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (lambda g, y: y, []),
        (lambda g, y: g(op.nn.relu(y)), ["relu"]),
        (lambda g, y: g(op.clip(y, 0, 6)), ["clip"]),
        (lambda g, y: g(op.add(y, g(op.sigmoid(y)))), ["sigmoid", "add"]),
        (lambda g, y: g(op.multiply(y, g.tensor())), ["multiply"]),
        (lambda g, y: g(op.multiply(y, g.tensor(1, 1))), ["multiply"]),
        (lambda g, y: g(op.multiply(y, g.tensor(6))), ["reshape", "multiply"]),
        (lambda g, y: g(op.multiply(y, g.tensor(16, 1, 1))), ["reshape", "reshape", "multiply"]),
        (lambda g, y: g(op.multiply(y, g.tensor(1, 16, 1, 1))), ["reshape", "multiply"]),
        (lambda g, y: g(op.multiply(y, g.tensor(1, 1, 6, 6))), ["reshape", "multiply"]),
        (lambda g, y: g(op.multiply(y, g.tensor(1, 16, 6, 6))), [*TO, "multiply"]),
        (lambda g, y: g(op.where(g.tensor(1, 1, 6, 6, dtype="bool"), y, y)), ["reshape", "where"]),
        (lambda g, y: g(op.where(g.tensor(16, 1, 1, dtype="bool"), y, y)),
         ["reshape", "reshape", "where"]),
        (lambda g, y: g(op.nn.max_pool2d(y, (2, 2))), ["max_pool2d"]),
        (lambda g, y: g(op.nn.avg_pool2d(y, (3, 3), padding=(1, 1, 1, 1))), ["avg_pool2d"]),
        (lambda g, y: g(op.nn.adaptive_avg_pool2d(y, (2, 2))), ["adaptive_avg_pool2d"]),
        (lambda g, y: g(op.mean(y, [2, 3], True)), ["mean"]),
        (lambda g, y: g(op.max(y, [-1, -2], True)), ["max"]),
        (lambda g, y: g(op.concat([y, y], 1)), ["concat"]),
        (lambda g, y: g(op.nn.pad(y, (0, 0, 0, 0, 1, 1, 1, 2))), ["pad"]),
        (lambda g, y: g(op.image.resize2d(y, (12, 12), layout="NCHW")), ["image.resize2d"]),
        (lambda g, y: g.conv(y, 16, 3, groups=16), [BOTH]),
        (lambda g, y: g.conv(y, 32, 3, groups=2), [BOTH]),
        (lambda g, y: g(op.strided_slice(y, [1], [8], [16])), ["strided_slice"]),
        (lambda g, y: g(op.strided_slice(y, [1], [-8], [16])), ["strided_slice"]),
        (lambda g, y: g(op.strided_slice(y, [1], [8], [2**40])), ["strided_slice"]),
    ],
)  # fmt: skip
def test_what_keeps_the_layout(
    steps: Callable[[Graph, relax.Expr], relax.Expr], expected: list[str]
) -> None:
    assert between(steps) == expected


@pytest.mark.parametrize(
    "steps",
    [
        lambda g, y: g(op.strided_slice(y, [1], [4], [12])),
        lambda g, y: g(op.strided_slice(y, [1], [0], [16], [2])),
        lambda g, y: g(op.strided_slice(y, [2], [0], [3])),
        lambda g, y: g(op.concat([y, y], 2)),
        lambda g, y: g(op.concat([y, g.tensor(1, 4, 6, 6)], 1)),
        lambda g, y: g(op.concat([y, g.tensor(1, 32, 6, 6)], 1)),
        lambda g, y: g(op.nn.pad(y, (0, 0, 4, 4, 0, 0, 0, 0))),
        lambda g, y: g(op.nn.softmax(y, 1)),
        lambda g, y: g(op.permute_dims(g(op.permute_dims(y, [0, 2, 3, 1])), [0, 3, 1, 2])),
        lambda g, y: with_names(op.nn.relu(y), [], "array"),
    ],
)
def test_what_stays_plain(steps: Callable[[Graph, relax.Expr], relax.Expr]) -> None:
    def make(g: Graph, x: relax.Expr) -> relax.Expr:
        return g.conv(g(steps(g, g.conv(x, 16))), 16)

    found = Graph(1, 3, 6, 6).laid(make)
    assert found[0] == found[-1] == "conv2d"
    assert "reshape" not in found


@pytest.mark.parametrize(
    ("channels", "make", "expected"),
    [
        # One convolution alone stays as it is, and so does a chain with nothing in blocks.
        (3, lambda g, x: g.conv(x, 16), ["conv2d"]),
        (3, lambda g, x: g.conv(g.conv(x, 12), 5), ["conv2d", "conv2d"]),
        (8, lambda g, x: g.conv(x, 16, 3), ["conv2d"]),
        (8, lambda g, x: g.conv(g.conv(x, 32, 3), 12, 3, groups=4), ["conv2d", "conv2d"]),
        # Nobody wants what elementwise operators and the result read.
        (3, lambda g, x: g(op.nn.relu(g.conv(x, 16))), ["conv2d", "relu"]),
        # A pooling does, and a reduction over planes.
        (3, lambda g, x: g(op.nn.max_pool2d(g.conv(x, 16))), [IN, "max_pool2d", *FROM]),
        (3, lambda g, x: g(op.mean(g.conv(x, 16), [2, 3])), [IN, "mean", "reshape"]),
        (3, lambda g, x: g(op.mean(g.conv(x, 16), [2, 3], True)), [IN, "mean", "reshape"]),
        (3, lambda g, x: g(op.mean(g.conv(x, 16), [1, 2, 3])), ["conv2d", "mean"]),
        (3, lambda g, x: g(op.nn.max_pool2d(g.conv(x, 12))), ["conv2d", "max_pool2d"]),
        (16, lambda g, x: g(op.nn.max_pool2d(x)), ["max_pool2d"]),
        # Depthwise convolutions alone do not bring transformations about; a chain does.
        (16, lambda g, x: g.conv(x, 16, 3, groups=16), ["conv2d"]),
        (16, lambda g, x: g.conv(g.conv(x, 16, 3, groups=16), 16), [*TO, BOTH, OUT]),
        # What comes plain is transformed once for all readers.
        (16, lambda g, x: [g.conv(g.conv(x, 8), 8), g.conv(g.conv(x, 8), 5)],
         [*TO, BOTH, OUT, BOTH, OUT]),
        # Half of a concatenation at least is there in blocks.
        (16, lambda g, x: g.conv(g(op.concat([g.conv(x, 16), x], 1)), 8),
         [*TO, BOTH, "concat", OUT]),
    ],
)  # fmt: skip
def test_what_is_wanted(channels: int, make: Make, expected: list[str]) -> None:
    assert Graph("batch", channels, 6, 6).laid(make) == expected


def test_a_gate_needs_no_transformation() -> None:
    def gate(g: Graph, y: relax.Expr) -> relax.Expr:
        narrow = g.conv(g(op.mean(y, [2, 3], True)), 4)
        return g(op.multiply(y, g(op.sigmoid(g.conv(narrow, 16)))))

    assert between(gate) == ["mean", OUT, IN, "sigmoid", "multiply"]

    def flat(g: Graph, y: relax.Expr) -> relax.Expr:
        product = g(op.matmul(g(op.mean(y, [2, 3])), g.tensor(16, 16)))
        return g(op.multiply(y, g(op.reshape(product, (1, 16, 1, 1)))))

    assert between(flat) == ["mean", "reshape", "matmul", "reshape", "reshape", "multiply"]


def test_prelu_becomes_a_selection() -> None:
    selection = ["greater", "multiply", "where"]
    assert between(lambda g, y: g(op.nn.prelu(y, g.tensor(1), 1))) == ["reshape", *selection]
    by_channel = between(lambda g, y: g(op.nn.prelu(y, g.tensor(16), 1)))
    assert by_channel == ["reshape", "reshape", "reshape", *selection]


def test_quantisation_with_a_scale_per_channel_stays_plain() -> None:
    def quantized(*scale: int) -> list[str]:
        def steps(g: Graph, y: relax.Expr) -> relax.Expr:
            zero = g.tensor(*scale, dtype="int8")
            narrow = g(op.quantize(y, g.tensor(*scale), zero, 1, "int8"))
            return g(op.dequantize(narrow, g.tensor(*scale), zero, 1))

        return Graph(1, 3, 6, 6).laid(lambda g, x: g.conv(steps(g, g.conv(x, 16)), 16))

    assert quantized() == [IN, "quantize", "dequantize", OUT]
    assert quantized(16) == ["conv2d", "quantize", "dequantize", "conv2d"]


def test_blocks_of_another_size() -> None:
    found = layout(16)(Graph(1, 3, 6, 6).module(lambda g, x: g.conv(g.conv(x, 24), 8)))
    assert plan(found) == ["conv2d", "conv2d"]
    found = layout(4)(Graph(1, 3, 6, 6).module(lambda g, x: g.conv(g.conv(x, 12), 5)))
    read, write = calls(found["main"])
    assert (read.attrs.out_layout, write.attrs.data_layout) == ("NCHW4c", "NCHW4c")
