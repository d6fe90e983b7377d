"""Which concatenations and slices are one run, and what ``fuse`` makes of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from tvm import relax, tirx
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.contiguous import needs_no_kernel, run_offsets
from motet.passes.fuse import fuse
from motet.passes.graph import definitions
from motet.passes.names import KIND

OP = relax.op


def tensor(*shape: Any, dtype: str = "float32") -> relax.Var:
    return relax.Var("x", relax.TensorType(shape, dtype))


def offsets(call: relax.Expr) -> tuple[int, ...] | None:
    return run_offsets(relax.BlockBuilder().normalize(call))


N = tirx.Var("n", "int64")
IMAGE, PAIR = tensor(1, 8, 4, 4), tensor(2, 8, 4, 4)
BLOCKED = tensor(1, 3, 5, 5, 8)


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (OP.concat([IMAGE, IMAGE, tensor(1, 1, 4, 4)], 1), (0, 512, 1024)),
        (OP.concat([IMAGE, IMAGE], -3), (0, 512)),
        (OP.concat([PAIR, PAIR], 1), None),
        (OP.concat([PAIR, IMAGE], 0), (0, 1024)),
        (OP.concat([IMAGE, IMAGE], 2), None),
        (OP.concat([BLOCKED, BLOCKED], 1), None),  # 2400 bytes are no multiple of 64
        (OP.concat([tensor(1, 2, 5, 5, 8), BLOCKED], 1), (0, 1600)),
        (OP.concat([tensor(1, N, 4, 4), IMAGE], 1), None),
        (OP.concat([tensor(1, 0, 4, 4), IMAGE], 1), None),
        (OP.concat([tensor(1, 64, dtype="int8"), tensor(1, 1, dtype="int8")], 1), (0, 64)),
        (OP.concat([tensor(64, dtype="bool")], 0), (0,)),
        (OP.split(IMAGE, 2, 1), (0, 256)),
        (OP.split(IMAGE, [1, 5], 1), (0, 64, 320)),
        (OP.split(IMAGE, 2, -3), (0, 256)),
        (OP.split(PAIR, 2, 1), None),
        (OP.split(IMAGE, 2, 2), None),
        (OP.split(tensor(N, 8), 2, 1), None),
        (OP.strided_slice(IMAGE, [1], [3], [6]), (192,)),
        (OP.strided_slice(IMAGE, [1], [-3], [8]), (320,)),
        (OP.strided_slice(IMAGE, [1], [-99], [99]), (0,)),
        (OP.strided_slice(IMAGE, [0, 1], [0, 2], [1, 4]), (128,)),
        (OP.strided_slice(PAIR, [0, 1], [1, 2], [2, 4]), (640,)),
        (OP.strided_slice(PAIR, [1], [2], [4]), None),
        (OP.strided_slice(PAIR, [0], [1], [2]), (512,)),
        (OP.strided_slice(IMAGE, [1, 2], [3, 0], [4, 2]), (192,)),
        (OP.strided_slice(IMAGE, [1, 2], [3, 0], [5, 2]), None),
        (OP.strided_slice(IMAGE, [1, 2], [3, 1], [4, 2]), None),  # starts at byte 208
        (OP.strided_slice(IMAGE, [1], [0], [4], [2]), None),
        (OP.strided_slice(IMAGE, [1], [0], [4], [1]), (0,)),
        (OP.strided_slice(IMAGE, [1], [4], [2]), None),
        (OP.strided_slice(tensor(N, 16), [0], [0], [1]), None),
        (OP.nn.relu(IMAGE), None),
    ],
)
def test_where_runs_start(call: relax.Expr, wanted: tuple[int, ...] | None) -> None:
    assert offsets(call) == wanted


@I.ir_module
class Joins:
    @R.function
    def main(x: R.Tensor((1, 16), "float32"), y: R.Tensor((1, 16), "float32")):
        a = R.exp(x)
        flat = R.reshape(a, (16,))
        view = R.reshape(flat, (1, 16))
        computed = R.nn.relu(R.concat((view, y), axis=1))
        given = R.nn.relu(R.concat((a, x, y), axis=1))
        repeated = R.nn.relu(R.concat((a, a, a), axis=1))
        cut = R.nn.relu(R.strided_slice(computed, axes=[1], begin=[16], end=[32]))
        crooked = R.nn.relu(R.strided_slice(computed, axes=[1], begin=[8], end=[24]))
        return (given, repeated, cut, crooked)


def test_nothing_joins_what_needs_no_kernel() -> None:
    """Where kernels compute less than half of a concatenation, one more does that as well."""
    fused = fuse()(relax.transform.Normalize()(Joins))
    units = [f for f in fused.functions.values() if KIND in (f.attrs or {})]
    assert Counter(str(unit.attrs[KIND]) for unit in units) == {
        "exp": 1, "concat": 1, "concat+nn.relu": 2,
        "strided_slice": 1, "strided_slice+nn.relu": 1, "nn.relu": 2,
    }  # fmt: skip


def test_a_weight_is_no_place() -> None:
    weight = relax.const(np.zeros((1, 16), "float32"))
    call = relax.BlockBuilder().normalize(OP.concat([weight, tensor(1, 8)], 1))
    assert run_offsets(call) == (0, 64)
    assert not needs_no_kernel(call, definitions(Joins["main"]))
