"""Joins the two products of attention and the softmax between them into one call.

``matmul(softmax(matmul(Q, K^T) * scale + mask), V)`` becomes ``motet.attention``, whose kernel
keeps no tensor of scores. Exact up to rounding: factors of Q, K and the scores become one factor
of the scores. Rules, from the last product back:

1. The softmax is over the last axis of a product of two float32 tensors with the same leading
   axes, at most batch and heads; nothing but the next step reads any of the values between.
2. Between, the product may be multiplied or divided by single constants, and after that one
   float32 tensor (the mask) added that broadcasts to it. Q and K may be scaled so as well.
3. Transposes that reorder axes of Q, K^T or V are read through, and so are slices of one place
   of an axis, and reshapes that only add or take away axes of one element.
4. A transpose that alone reads the result joins where elements of a head stay neighbours.
5. The length of the heads is known, and several queries are known or their number is open: for
   a single one a copy of K costs more than the products.
6. What is placed on the array stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tvm import IRModule, relax, transform
from tvm.tirx import IntImm
from tvm_ffi import structural_equal

from motet.passes.attention_views import through
from motet.passes.graph import constant_array
from motet.passes.names import HOST, merged_names, target_of, with_names
from motet.passes.op_kinds import op_name
from motet.passes.rewrite import MatchingRewriter, rewrite_functions
from motet.targets.operators.attention import Attention, attention

_FEWEST_QUERIES = 4
_LAYOUTS = {3: ("HSD", "HDS"), 4: ("BHSD", "BHDS")}


@dataclass
class _Found:
    """What is found on the way back from the last product; ``calls``: what joins, last first."""

    calls: list[relax.Call] = field(default_factory=list)
    scale: float = 1.0
    mask: list[relax.Expr] = field(default_factory=list)


class _Joiner(MatchingRewriter):
    """What the joined calls read is left behind, dead."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[relax.Var, relax.Call] = {}

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        if target_of(value) != HOST:
            return value
        if op_name(value) == "relax.permute_dims":
            joined = self.reordered(self.values[variable])
        elif op_name(value) == "relax.matmul":
            joined = self.joined(self.values[variable])
        else:
            return value
        if joined is None:
            return value
        self.made[variable] = joined
        return joined

    def reordered(self, transpose: relax.Call) -> relax.Call | None:
        """Rule 4: ``transpose`` of attention's result as attention in another layout."""
        source, axes = transpose.args[0], transpose.attrs.axes
        inner = self.made.get(source) if isinstance(source, relax.Var) else None
        if inner is None or axes is None or self.uses[source] != 1:
            return None
        what = Attention.of(inner)
        layout = "".join(what.result[int(axis)] for axis in axes)
        if not layout.endswith("D"):
            return None
        return self.called(replace(what, result=layout), list(inner.args), [transpose, inner])

    def joined(self, product: relax.Call) -> relax.Call | None:
        """Attention whose last product is ``product``."""
        found = _Found([product])
        softmax = self.step(product.args[0], found)
        if op_name(softmax) != "relax.nn.softmax" or not _over_last_axis(softmax):
            return None
        scores = self.step(self.before_mask(softmax.args[0], found), found)
        scores = self.unscaled(scores, found)
        if op_name(scores) != "relax.matmul" or not _fits(scores, product):
            return None
        layouts = _LAYOUTS[len(scores.ty.shape.values)]
        words, operands = [], []
        sources = (*scores.args, product.args[1])
        for source, layout in zip(sources, (layouts[0], layouts[1], layouts[0]), strict=True):
            operand, word = self.operand(source, layout, found, source is not sources[2])
            words.append(word)
            operands.append(self.read(operand))
        what = Attention(words[0], words[1], words[2], layouts[0], found.scale)
        return self.called(what, [*operands, *map(self.read, found.mask)], found.calls)

    def called(
        self, what: Attention, operands: Sequence[relax.Expr], calls: Sequence[relax.Call]
    ) -> relax.Call:
        made = self._builder.normalize(attention(what, operands))
        return with_names(made, merged_names([*reversed(calls)]))

    def step(self, expr: relax.Expr, found: _Found) -> Any:
        """The call on the host that ``expr``, which nothing else reads, is bound to; or None."""
        call = self.values.get(expr) if isinstance(expr, relax.Var) else None
        if not isinstance(call, relax.Call) or self.uses[expr] != 1 or target_of(call) != HOST:
            return None
        found.calls.append(call)
        return call

    def before_mask(self, expr: relax.Expr, found: _Found) -> relax.Expr:
        """Rule 2: what a mask is added to; ``expr`` itself where none is."""
        total: Any = self.values.get(expr) if isinstance(expr, relax.Var) else None
        if op_name(total) != "relax.add" or self.uses[expr] != 1 or target_of(total) != HOST:
            return expr
        for scores, mask in (total.args, reversed(total.args)):
            if self.is_scores(scores) and _broadcasts(mask, scores):
                found.calls.append(total)
                found.mask.append(mask)
                return scores
        return expr

    def is_scores(self, expr: relax.Expr) -> bool:
        """Whether ``expr`` is a product, scaled or not."""
        trial = _Found()
        return op_name(self.unscaled(self.step(expr, trial), trial)) == "relax.matmul"

    def unscaled(self, call: Any, found: _Found) -> Any:
        """The call before multiplications and divisions by single constants; or None."""
        while call is not None:
            scaled = _scaled(call)
            if scaled is None:
                return call
            found.scale *= scaled[1]
            call = self.step(scaled[0], found)
        return None

    def operand(
        self, expr: relax.Expr, layout: str, found: _Found, scales: bool
    ) -> tuple[relax.Expr, str]:
        """Rule 3: what ``expr`` is a view of, and its layout."""
        while isinstance(expr, relax.Var):
            call = self.values.get(expr)
            if not isinstance(call, relax.Call) or target_of(call) != HOST:
                break
            scaled = _scaled(call) if scales else None
            if scaled is not None:
                found.scale *= scaled[1]
                expr = scaled[0]
            else:
                seen = through(call, layout)
                if seen is None:
                    break
                layout, expr = seen, call.args[0]
            found.calls.append(call)
        return expr, layout


def _scaled(call: relax.Expr) -> tuple[relax.Expr, float] | None:
    """(x, factor) of a product or quotient of ``x`` and a single constant."""
    if op_name(call) not in ("relax.multiply", "relax.divide"):
        return None
    pairs = [call.args] if op_name(call) == "relax.divide" else [call.args, [*call.args][::-1]]
    for x, constant in pairs:
        array = constant_array(constant)
        if array is None or array.size != 1 or array.dtype != "float32":
            continue
        factor = float(array.reshape(()))
        if (
            not structural_equal(x.ty.shape, call.ty.shape)
            or not math.isfinite(factor)
            or not factor
        ):
            return None
        return x, (1.0 / factor if op_name(call) == "relax.divide" else factor)
    return None


def _over_last_axis(softmax: relax.Call) -> bool:
    return int(softmax.attrs.axis) in (-1, len(softmax.ty.shape.values) - 1)


def _fits(scores: relax.Call, product: relax.Call) -> bool:
    """Rules 1 and 5 of two products."""
    tensors = (*scores.args, product.args[1])
    if any(str(t.ty.dtype) != "float32" or not _has_shape(t) for t in tensors):
        return False
    shapes = [list(t.ty.shape.values) for t in tensors]
    if len(shapes[0]) not in _LAYOUTS or len({len(shape) for shape in shapes}) != 1:
        return False
    for shape in shapes[1:]:
        if not all(map(structural_equal, shape[:-2], shapes[0][:-2])):
            return False
    depths, queries = (shapes[0][-1], shapes[2][-1]), shapes[0][-2]
    sizes = [n for shape in shapes for n in shape]
    if not all(isinstance(d, IntImm) for d in depths) or _is(0, *sizes):
        return False
    return not isinstance(queries, IntImm) or int(queries) >= _FEWEST_QUERIES


def _has_shape(tensor: relax.Expr) -> bool:
    return isinstance(tensor.ty.shape, relax.ShapeExpr)


def _is(number: int, *sizes: object) -> bool:
    return any(isinstance(size, IntImm) and int(size) == number for size in sizes)


def _broadcasts(mask: relax.Expr, scores: relax.Expr) -> bool:
    """Whether ``mask`` can be added to ``scores`` without making them larger."""
    if str(mask.ty.dtype) != "float32" or not _has_shape(mask) or not _has_shape(scores):
        return False
    own, whole = list(mask.ty.shape.values), list(scores.ty.shape.values)
    if not 0 < len(own) <= len(whole):
        return False
    pairs = zip(own, whole[len(whole) - len(own) :], strict=True)
    return all(_is(1, a) or structural_equal(a, b) for a, b in pairs)


@transform.module_pass(opt_level=0, name="join_attention")
def join_attention(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Apply to every function of ``mod``."""
    return rewrite_functions(mod, _Joiner)
