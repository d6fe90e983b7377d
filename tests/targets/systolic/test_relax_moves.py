"""Relax calls that move values, and reductions over outer axes, as workloads of the array."""

from __future__ import annotations

import pytest

pytest.importorskip("tvm")
from test_relax_workload import TINY, assert_same, bound, chain, function_of, normalised, tensor
from tvm import relax

from motet.targets.systolic.from_relax.rules import accepts_epilogue, refusal
from motet.targets.systolic.workload.layers import Pooling
from motet.targets.systolic.workload.moves import Concat, Permute, Slice, Upsample

op = relax.op
X = tensor("x", 2, 3, 4, 5)
Y = tensor("y", 2, 6, 4, 5)


def nearest(size, where, rounding):
    return op.image.resize2d(
        X,
        relax.ShapeExpr(size),
        layout="NCHW",
        method="nearest_neighbor",
        coordinate_transformation_mode=where,
        rounding_method=rounding,
    )


@pytest.mark.parametrize(
    ("call", "layer"),
    [
        (op.permute_dims(X, [0, 2, 3, 1]), Permute((2, 3, 4, 5), (0, 2, 3, 1))),
        (op.permute_dims(X), Permute((2, 3, 4, 5), (3, 2, 1, 0))),
        (op.concat([X, Y, X], 1), Concat(2, (60, 120, 60))),
        (op.concat([X, X], -1), Concat(24, (5, 5))),
        (op.concat([X, X], 0), Concat(1, (120, 120))),
        (
            op.strided_slice(X, [1, 3], [1, -3], [3, 100]),
            Slice((2, 3, 4, 5), (0, 1, 0, 2), (2, 2, 4, 3), (1, 1, 1, 1)),
        ),
        (
            op.strided_slice(X, [2, 3], [1, 4], [4, -6], [2, -2]),
            Slice((2, 3, 4, 5), (0, 0, 1, 4), (2, 3, 2, 3), (1, 1, 2, -2)),
        ),
        (nearest((8, 15), "asymmetric", "floor"), Upsample(6, 4, 5, (2, 3))),
        (nearest((8, 10), "half_pixel", "round"), Upsample(6, 4, 5, (2, 2))),
        (op.mean(X, [1]), Pooling("average", 1, 2, 3, 20, (3, 1))),
        (op.max(X, [0, 1], keepdims=True), Pooling("max", 1, 1, 6, 20, (6, 1))),
    ],
)
def test_calls_become_layers_with_the_same_values(call, layer):
    made = normalised(call)
    assert refusal(made, TINY) is None
    params = [X, Y] if isinstance(layer, Concat) and 120 in layer.sizes[1:2] else [X]
    assert assert_same(function_of(params, chain(made))).layer == layer
    relu = normalised(op.nn.relu(relax.Var("made", made.ty)))
    if not isinstance(layer, Pooling):
        assert not accepts_epilogue(made, relu, [])


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (op.permute_dims(tensor("x", *(2,) * 7)), "more than six axes"),
        (op.strided_slice(X, [1], [2], [1]), "sizes must be positive"),
        (nearest((9, 10), "asymmetric", "floor"), "not whole"),
        (nearest((8, 10), "align_corners", "round"), "align_corners, round"),
        (op.mean(tensor("x", 1, 500, 400), [1]), "smallest tile does not fit"),
    ],
)
def test_refusals_say_why(call, reason):
    assert reason in (refusal(normalised(call), TINY) or "accepted")


def test_a_tuple_that_is_a_value_is_refused():
    pair = relax.Var("pair", relax.TupleType([X.ty, X.ty]))
    assert "not written out" in (refusal(normalised(op.concat(pair, 1)), TINY) or "")


def test_slices_of_arguments_need_no_step_of_their_own():
    cut = normalised(op.strided_slice(X, [0], [1], [2]))
    (step,) = bound(function_of([X], chain(cut))).workload.steps
    assert isinstance(step.layer, Slice)
    assert step.layer.is_stretch
