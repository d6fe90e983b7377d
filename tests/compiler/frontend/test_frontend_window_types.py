"""Types that converters of windows give are those that TVM infers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tvm import relax
from tvm_ffi import structural_equal

from motet.compiler.frontend.converters.convolution import conv
from motet.compiler.frontend.converters.pooling import average_pool, max_pool
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import Constant, Tensor
from motet.passes.typing import is_typed


def _node(
    kind: str, shape: Sequence[int], weight: Sequence[int] | None, **attributes: object
) -> Node:
    x = relax.Var("x", relax.TensorType(list(shape), "float32"))
    inputs = [Tensor(x)]
    if weight is not None:
        inputs.append(Constant(np.zeros(weight, np.float32)))
    builder = relax.BlockBuilder()
    builder.begin_scope([x])
    builder._begin_binding_block()
    return Node(builder, kind, 22, attributes, inputs, 1, "", "node")


def _inferred(call: relax.Call) -> object:
    bare = relax.Call(call.op, call.args, call.attrs)
    return relax.BlockBuilder().normalize(bare).ty


@st.composite
def _windows(draw: st.DrawFn) -> dict[str, list[int]]:
    rank = draw(st.integers(1, 3))
    each = [
        draw(st.lists(st.integers(low, high), min_size=count, max_size=count))
        for low, high, count in ((1, 3, rank), (1, 3, rank), (1, 2, rank), (0, 2, 2 * rank))
    ]
    return dict(zip(("kernel_shape", "strides", "dilations", "pads"), each, strict=True))


@settings(max_examples=60, deadline=None)
@given(_windows(), st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.data())
def test_convolutions(
    window: dict[str, list[int]], group: int, each: int, out: int, data: st.DataObject
) -> None:
    rank = len(window["kernel_shape"])
    spatial = data.draw(st.lists(st.integers(5, 9), min_size=rank, max_size=rank))
    weight = [group * out, each, *window["kernel_shape"]]
    node = _node("Conv", [2, group * each, *spatial], weight, group=group, **window)
    made = conv(node)
    assert is_typed(made)
    assert structural_equal(made.ty, _inferred(made))


@settings(max_examples=60, deadline=None)
@given(_windows(), st.sampled_from([max_pool, average_pool]), st.integers(0, 1), st.data())
def test_pools(window: dict[str, list[int]], pool: object, ceil: int, data: st.DataObject) -> None:
    rank = len(window["kernel_shape"])
    reach = [(k - 1) * d for k, d in zip(window["kernel_shape"], window["dilations"], strict=True)]
    assume(all(pad <= r for pad, r in zip(window["pads"], reach * 2, strict=True)))
    spatial = data.draw(st.lists(st.integers(5, 9), min_size=rank, max_size=rank))
    node = _node("MaxPool", [2, 3, *spatial], None, ceil_mode=ceil, **window)
    made = pool(node)  # type: ignore[operator]
    assume(made.op.name != "relax.divide")  # averages that are written out
    assert is_typed(made)
    assert structural_equal(made.ty, _inferred(made))


@pytest.mark.parametrize("channels", [4, 6])
def test_channels_that_do_not_fit_are_left_to_tvm(channels: int) -> None:
    made = conv(_node("Conv", [1, channels, 8, 8], [8, 5, 3, 3]))
    assert not is_typed(made)
