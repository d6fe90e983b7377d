from __future__ import annotations

import numpy as np
import pytest
import tvm
from relax_modules import calls, named, names
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.dead_code import dead_code
from motet.passes.join_attention import join_attention
from motet.passes.names import with_names
from motet.passes.op_kinds import op_name
from motet.passes.rewrite import Rewriter, rewrite_functions
from motet.targets.operators.attention import Attention

OP = relax.op
QUERIES, KEYS, HEADS, DEPTH = 5, 7, 2, 4


def module(build, shapes, dtype: str = "float32") -> tvm.IRModule:
    """``build(emit, *operands)`` emits calls."""
    symbols = {"n": tvm.tirx.Var("n", "int64"), "s": tvm.tirx.Var("s", "int64")}
    params = [
        relax.Var(f"x{i}", relax.TensorType([symbols.get(d, d) for d in shape], dtype))
        for i, shape in enumerate(shapes)
    ]
    builder = relax.BlockBuilder()
    with builder.function("main", params):
        with builder.dataflow():
            output = builder.emit_output(build(builder.emit, *params))
        builder.emit_func_output(output)
    return builder.get()


def number(value: float) -> relax.Expr:
    return relax.const(np.float32(value))


def joined(mod: tvm.IRModule) -> tvm.IRModule:
    return dead_code(join_attention(mod))


def attentions(mod: tvm.IRModule) -> list[Attention]:
    return [Attention.of(c) for c in calls(mod["main"]) if op_name(c) == "motet.attention"]


def test_before_and_expected() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(
            q: R.Tensor((1, 5, 2, 4), "float32"),
            k: R.Tensor((1, 7, 2, 4), "float32"),
            v: R.Tensor((1, 7, 2, 4), "float32"),
            mask: R.Tensor((1, 1, 1, 7), "float32"),
        ):
            with R.dataflow():
                qt = R.permute_dims(q, axes=[0, 2, 1, 3])
                kt = R.permute_dims(k, axes=[0, 2, 3, 1])
                vt = R.permute_dims(v, axes=[0, 2, 1, 3])
                product = R.matmul(qt, kt)
                scaled = R.divide(product, R.const(2.0, "float32"))
                masked = R.add(scaled, mask)
                chances = R.nn.softmax(masked, axis=-1)
                heads = R.matmul(chances, vt)
                y = R.permute_dims(heads, axes=[0, 2, 1, 3])
                R.output(y)
            return y

    before = named(Before)
    after = joined(before)
    (call,) = calls(after["main"])
    assert op_name(call) == "motet.attention"
    assert Attention.of(call) == Attention("BSHD", "BSHD", "BSHD", "BSHD", 0.5)
    assert [a.name for a in call.args] == ["q", "k", "v", "mask"]
    assert [int(n) for n in call.ty.shape.values] == [1, 5, 2, 4]
    (own,) = names(after["main"])
    assert set(own) == {name for found in names(before["main"]) for name in found}
    assert relax.analysis.check_well_formed(after)


def heads_apart(emit, q, k, v, scale=None, mask=None, axis=-1, also_read: bool = False):
    """Attention on [B, H, S, D]; ``scale(emit, scores)``."""
    kt = emit(OP.permute_dims(k, [*range(len(k.ty.shape.values) - 2), -1, -2]))
    scores = emit(OP.matmul(q, kt))
    if scale is not None:
        scores = emit(scale(scores))
    if mask is not None:
        scores = emit(OP.add(scores, mask))
    chances = emit(OP.nn.softmax(scores, axis))
    y = emit(OP.matmul(chances, v))
    return emit(OP.add(y, emit(OP.sum(chances, -1, keepdims=True)))) if also_read else y


def apart(*shape) -> list[list]:
    lead, queries, keys, depth = shape
    return [[*lead, queries, depth], [*lead, keys, depth], [*lead, keys, depth]]


SCALES = [
    (None, 1.0),
    (lambda s: OP.multiply(s, number(0.3)), 0.3),
    (lambda s: OP.multiply(number(0.3), s), 0.3),
    (lambda s: OP.divide(s, number(4.0)), 0.25),
]


@pytest.mark.parametrize(("scale", "factor"), SCALES)
@pytest.mark.parametrize("lead", [[2], [2, 3], ["n", 3]])
def test_scales_and_ranks(scale, factor: float, lead) -> None:
    shapes = apart(lead, QUERIES, KEYS, DEPTH)
    before = module(lambda e, q, k, v: heads_apart(e, q, k, v, scale), shapes)
    (what,) = attentions(joined(before))
    word = "BHSD"[-len(lead) - 2 :]
    assert (what.query, what.key, what.value, what.result) == (word,) * 4
    assert what.scale == pytest.approx(factor)


@pytest.mark.parametrize(
    ("shape", "joins"),
    [
        ((1, 1, 1, KEYS), True),
        ((1, 1, QUERIES, KEYS), True),
        ((2, 3, QUERIES, 1), True),
        ((KEYS,), True),
        ((1, 2, 3, QUERIES, KEYS), False),
    ],
)
def test_masks(shape, joins: bool) -> None:
    shapes = [*apart([2, 3], QUERIES, KEYS, DEPTH), shape]
    before = module(lambda e, q, k, v, m: heads_apart(e, q, k, v, None, m), shapes)
    assert len(attentions(joined(before))) == joins


def test_one_projection_for_all_operands() -> None:
    def build(emit, x):
        parts = emit(OP.permute_dims(x, [2, 0, 3, 1, 4]))
        cut = [emit(OP.strided_slice(parts, [0], [i], [i + 1])) for i in range(3)]
        q, k, v = (emit(OP.reshape(c, [1, HEADS, QUERIES, DEPTH])) for c in cut)
        return heads_apart(emit, emit(OP.multiply(q, number(0.5))), k, v)

    after = joined(module(build, [[1, QUERIES, 3, HEADS, DEPTH]]))
    assert [op_name(c) for c in calls(after["main"])] == ["motet.attention"]
    assert attentions(after) == [Attention("0S0HD", "0S1HD", "0S2HD", "BHSD", 0.5)]


def test_slices_of_several_places_are_read_as_they_are() -> None:
    def build(emit, x):
        cut = [emit(OP.strided_slice(x, [2], [i], [i + KEYS])) for i in range(3)]
        return heads_apart(emit, *cut)

    after = joined(module(build, [[1, HEADS, KEYS + 2, DEPTH]]))
    assert attentions(after) == [Attention("BHSD", "BHSD", "BHSD", "BHSD", 1.0)]
    assert [op_name(c) for c in calls(after["main"])][:3] == ["relax.strided_slice"] * 3


def square(emit, q, k, v, **options):
    return heads_apart(emit, q, k, v, **options)


OTHERS = [
    (lambda e, *x: square(e, *x, axis=-2), apart([2, 3], 7, 7, 4), "float32"),
    (lambda e, *x: square(e, *x, also_read=True), apart([2, 3], 7, 7, 4), "float32"),
    (square, apart([2, 3], 7, 7, 4), "float64"),
    (square, apart([2, 3], 1, 7, 4), "float32"),
    (square, [[2, 3, 7, 4], [1, 3, 7, 4], [1, 3, 7, 4]], "float32"),
    (square, apart([2, 3], 7, 7, "n"), "float32"),
    (square, apart([2, 3, 2], 7, 7, 4), "float32"),
]


@pytest.mark.parametrize(("build", "shapes", "dtype"), OTHERS)
def test_what_stays(build, shapes, dtype: str) -> None:
    before = module(build, shapes, dtype)
    tvm.ir.assert_structural_equal(joined(before), before)


def test_open_numbers_of_queries_and_keys_join() -> None:
    before = module(square, [["n", 3, "s", 4]] * 3)
    (what,) = attentions(joined(before))
    assert what == Attention("BHSD", "BHSD", "BHSD", "BHSD", 1.0)


def test_what_is_placed_on_the_array_stays() -> None:
    class Placed(Rewriter):
        def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
            if not isinstance(value, relax.Call):
                return value
            return with_names(value, [variable.name], "array")

    before = rewrite_functions(module(square, apart([2, 3], 7, 7, 4)), Placed)
    tvm.ir.assert_structural_equal(joined(before), before)
