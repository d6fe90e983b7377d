"""Rule 5 of ``fuse``: what a blocked convolution computes as it reads its input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from relax_modules import kinds, named, units
from tvm import relax

from motet.passes.fuse import fuse
from motet.passes.names import with_names
from motet.passes.options import FuseOptions

op = relax.op
LAYOUT = "NCHW8c"
SHAPE = (1, 2, 6, 6, 8)
SCALED = "multiply+add+nn.relu"


def _weights(name: str, outs: int = 16, kernel: int = 3) -> relax.Var:
    return relax.Var(name, relax.TensorType([outs, 16, kernel, kernel], "float32"))


def _conv(x: relax.Expr, weights: relax.Expr, layout: str = LAYOUT) -> relax.Call:
    return op.nn.conv2d(
        x, weights, padding=1, data_layout=layout, kernel_layout="OIHW", out_layout=layout
    )


Make = Callable[[relax.BlockBuilder, relax.Var, relax.Var, relax.Var], relax.Expr]


def _kinds(make: Make, layout: str = LAYOUT, max_ops: int = 16) -> list[str]:
    """The units of a convolution of what ``make`` gives of x, another feature map and a vector."""
    shape, row = (SHAPE, (1, 2, 1, 1, 8)) if layout == LAYOUT else ((1, 16, 6, 6), (16, 1, 1))
    x, other = (relax.Var(name, relax.TensorType(shape, "float32")) for name in ("x", "other"))
    scale = relax.Var("scale", relax.TensorType(row, "float32"))
    weights = _weights("w")
    builder = relax.BlockBuilder()
    with builder.function("main", [x, other, scale, weights]):
        with builder.dataflow():
            output = builder.emit_output(_conv(make(builder, x, other, scale), weights, layout))
        builder.emit_func_output(output)
    after = fuse(FuseOptions(max_ops=max_ops))(builder.get())
    assert relax.analysis.check_well_formed(after)
    return kinds(after)


def _scaled(b: relax.BlockBuilder, x: relax.Var, _other: relax.Var, scale: relax.Var) -> relax.Expr:
    return b.emit(op.nn.relu(b.emit(op.add(b.emit(op.multiply(x, scale)), scale))))


def test_arithmetic_of_one_tensor_is_computed_as_it_is_read() -> None:
    assert _kinds(_scaled) == [f"{SCALED}+nn.conv2d"]
    assert _kinds(lambda b, x, _o, _s: b.emit(op.nn.leakyrelu(x))) == ["nn.leakyrelu+nn.conv2d"]
    assert _kinds(lambda b, x, _o, _s: b.emit(op.clip(x, 0, 6))) == ["clip+nn.conv2d"]


def test_a_plain_convolution_takes_none() -> None:
    assert _kinds(_scaled, "NCHW") == [SCALED, "nn.conv2d"]


def test_no_more_than_a_unit_may_hold() -> None:
    assert _kinds(_scaled, max_ops=4) == [f"{SCALED}+nn.conv2d"]
    assert _kinds(_scaled, max_ops=3) == [SCALED, "nn.conv2d"]


@pytest.mark.parametrize(
    "make",
    [
        lambda b, x, _o, _s: b.emit(op.sigmoid(x)),  # every element would be computed many times
        lambda b, x, other, _s: b.emit(op.add(x, other)),  # reads two tensors
        lambda b, x, _o, _s: b.emit(op.add(x, x)),
        lambda b, x, _o, scale: b.emit(op.add(b.emit(op.multiply(x, scale)), x)),
        lambda b, x, _o, _s: b.emit(op.nn.max_pool2d(x, (1, 1), layout=LAYOUT)),
        lambda b, x, _o, _s: b.emit(with_names(op.nn.relu(x), [], "array")),
    ],
)
def test_what_is_computed_apart(make: Make) -> None:
    assert len(_kinds(make)) == 2


def test_a_value_with_two_readers_is_computed_once() -> None:
    x = relax.Var("x", relax.TensorType(SHAPE, "float32"))
    first, second = _weights("first"), _weights("second")
    builder = relax.BlockBuilder()
    with builder.function("main", [x, first, second]):
        with builder.dataflow():
            shared = builder.emit(op.nn.relu(x))
            one, two = (builder.emit(_conv(shared, w)) for w in (first, second))
            output = builder.emit_output(relax.Tuple([one, two]))
        builder.emit_func_output(output)
    after = fuse()(named(builder.get()))
    assert [len(unit.params) for unit in units(after)] == [1, 2, 2]
