"""Matrix products: Gemm and Einsum as ``R.matmul`` with their layouts made explicit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend.completion import agreed, cast_to, meeting
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.shape_data import product
from motet.compiler.frontend.values import Constant, constant


def mat_mul(node: Node) -> relax.Expr:
    """MatMul; dimensions that are only known to be equal at run time are cast."""
    a, b = node.x(), node.x(1)
    left, right = list(node.shape(a)), list(node.shape(b))
    depth = agreed([left[-1], right[max(len(right) - 2, 0)]])
    left[-1] = right[max(len(right) - 2, 0)] = depth
    for i in range(3, min(len(left), len(right)) + 1):
        met = meeting([left[-i], right[-i]])
        left[-i], right[-i] = (d if isinstance(d, int) else met for d in (left[-i], right[-i]))
    return _product(node, cast_to(node, a, left), cast_to(node, b, right))


def _product(node: Node, a: relax.Expr, b: relax.Expr) -> relax.Expr:
    """``a b``; sums of nothing at all are zeros, which need no kernel."""
    result = relax.op.matmul(a, b)
    if node.shape(a)[-1] != 0:
        return result
    return relax.op.zeros(relax.ShapeExpr(node.shape(node.emit(result))), node.dtype(a))


def gemm(node: Node) -> relax.Expr:
    """Gemm: ``alpha op(A) op(B) + beta C``; a constant B or C takes its factor at import."""
    a, alpha, beta = node.x(), float(node.attr("alpha", 1.0)), float(node.attr("beta", 1.0))
    if node.attr("transA", 0):
        a = relax.op.permute_dims(a, [1, 0])
    b, alpha = _right(node, alpha)
    result = node.emit(_product(node, node.emit(a), node.emit(b)))
    if alpha != 1.0:
        result = node.emit(relax.op.multiply(result, node.scalar(alpha)))
    if not node.has(2) or beta == 0.0:
        return result
    bias = node.constant(2)
    if bias is not None:
        scaled = bias if beta == 1.0 else (bias * beta).astype(bias.dtype)
        return relax.op.add(result, constant(scaled))
    c = node.x(2)
    return relax.op.add(result, c if beta == 1.0 else relax.op.multiply(c, node.scalar(beta)))


def _right(node: Node, alpha: float) -> tuple[relax.Expr, float]:
    """B, transposed where asked; returns the factor that is still to be applied."""
    array, flip = node.constant(1), bool(node.attr("transB", 0))
    if array is None:
        b = node.x(1)
        return (relax.op.permute_dims(b, [1, 0]) if flip else b), alpha
    if array.dtype.kind == "f" and alpha != 1.0:
        array, alpha = (array * alpha).astype(array.dtype), 1.0
    return Constant(np.ascontiguousarray(array.T) if flip else array).tensor(), alpha


def einsum(node: Node) -> relax.Expr:
    """Einsum: two operands become transposes and one matmul, other counts ``R.einsum``."""
    operands = [node.x(i) for i in range(len(node.inputs))]
    terms, output = _labels(node, str(node.attr("equation")), [node.rank(x) for x in operands])
    for i, term in enumerate(terms):
        operands[i], terms[i] = _without_repeats(node, operands[i], term)
    if len(operands) == 2:
        return _contraction(node, operands, terms, output)
    return relax.op.einsum(tuple(operands), ",".join(terms) + "->" + output)


def _without_repeats(node: Node, x: relax.Expr, term: str) -> tuple[relax.Expr, str]:
    """An operand in which a label stands twice (``ii``) as its diagonal."""
    repeated = next((label for label in term if term.count(label) > 1), None)
    if repeated is None:
        return x, term
    first, second = [i for i, label in enumerate(term) if label == repeated][:2]
    others = [i for i in range(len(term)) if i not in (first, second)]
    dims = node.shape(x)
    extent, other = node.static([dims[first], dims[second]], f"the axes '{repeated}'")
    if extent != other:
        node.refuse(f"label '{repeated}' stands for extents {extent} and {other} of one operand")
    x = node.emit(relax.op.permute_dims(x, [*others, first, second]))
    lead = [dims[i] for i in others]
    x = node.emit(relax.op.reshape(x, relax.ShapeExpr([*lead, extent * extent])))
    axis, end = len(lead), extent * extent
    x = node.emit(relax.op.strided_slice(x, [axis], [0], [end], [extent + 1]))
    return _without_repeats(node, x, "".join(term[i] for i in others) + repeated)


def _labels(node: Node, equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """Labels of every operand and of the result, with the ellipsis written out."""
    left, _, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        node.refuse(f"equation '{equation}' names {len(terms)} operands, not {len(ranks)}")
    free = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in equation]
    hidden = [r - len(t.replace("...", "")) for t, r in zip(terms, ranks, strict=True)]
    most = max((h for h, t in zip(hidden, terms, strict=True) if "..." in t), default=0)
    dots = "".join(free[:most])
    full = [
        t.replace("...", dots[most - h :] if h else "") for t, h in zip(terms, hidden, strict=True)
    ]
    if "->" not in equation:
        joined = "".join(t.replace("...", "") for t in terms)
        right = dots + "".join(sorted(c for c in set(joined) if joined.count(c) == 1))
    return full, right.replace("...", dots)


def _contraction(
    node: Node, operands: list[relax.Expr], terms: list[str], output: str
) -> relax.Expr:
    """``a, b`` as ``[batch, m, k] x [batch, k, n]``, reshaped and transposed to ``output``."""
    (a, ta), (b, tb) = (
        _summed(node, x, t, set(output) | set(o))
        for x, t, o in zip(operands, terms, reversed(terms), strict=True)
    )
    extents = dict(zip(tb, node.shape(b), strict=True))
    extents.update(zip(ta, node.shape(a), strict=True))
    batch = [c for c in ta if c in tb and c in output]
    inner = [c for c in ta if c in tb and c not in output]
    rows, columns = [c for c in ta if c not in tb], [c for c in tb if c not in ta]
    for c in batch + inner:
        if (node.shape(a)[ta.index(c)], node.shape(b)[tb.index(c)]).count(1) == 1:
            node.refuse(f"label '{c}' is broadcast between its operands")
    lead = [extents[c] for c in batch]
    m, k, n = (product([extents[c] for c in group]) for group in (rows, inner, columns))
    left = relax.op.reshape(_ordered(a, ta, batch + rows + inner), (*lead, m, k))
    right = relax.op.reshape(_ordered(b, tb, batch + inner + columns), (*lead, k, n))
    result = relax.op.matmul(left, right)
    order = batch + rows + columns
    shaped = relax.op.reshape(result, [extents[c] for c in order])
    return _ordered(shaped, "".join(order), list(output))


def _ordered(x: relax.Expr, have: str, want: list[str]) -> relax.Expr:
    perm = [have.index(c) for c in want]
    return x if perm == sorted(perm) else relax.op.permute_dims(x, perm)


def _summed(node: Node, x: relax.Expr, term: str, needed: set[str]) -> tuple[relax.Expr, str]:
    """Sum over labels that nothing else uses."""
    axes = [i for i, c in enumerate(term) if c not in needed]
    if not axes:
        return x, term
    return node.emit(relax.op.sum(x, axes)), "".join(c for c in term if c in needed)


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "MatMul": mat_mul,
    "Gemm": gemm,
    "Einsum": einsum,
}
