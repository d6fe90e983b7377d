from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax, tirx

from motet.compiler.dimensions import dimension_of, shape_of
from motet.runtime.errors import CompileError
from motet.runtime.shapes import Expression, evaluate, evaluate_shape

N, M = tirx.Var("N", "int64"), tirx.Var("M", "int64")


def const(value: int) -> tirx.IntImm:
    return tirx.IntImm("int64", value)


def test_numbers_and_symbols() -> None:
    assert dimension_of(const(7)) == 7
    assert dimension_of(N) == "N"
    assert dimension_of(const(2) * const(3)) == 6
    assert dimension_of(N - N) == 0


@pytest.mark.parametrize(
    ("expr", "value"),
    [
        (N + 3, 13),
        (N - M, 7),
        (N * M, 30),
        (tirx.floordiv(N, M), 3),
        (tirx.floormod(N, M), 1),
        (tirx.min(N, M), 3),
        (tirx.max(N, M), 10),
        (tirx.floordiv(N + 2 * M - 1, const(4)) + 1, 4),
        (tirx.Cast("int32", N), 10),
    ],
)
def test_each_operation(expr: Any, value: int) -> None:
    assert evaluate(dimension_of(expr), {"N": 10, "M": 3}) == value


OPERATIONS = st.sampled_from(["+", "-", "*", "//", "%", "min", "max"])
EXPRESSIONS = st.recursive(
    st.one_of(st.just(("N",)), st.just(("M",)), st.integers(0, 9).map(lambda n: (n,))),
    lambda parts: st.tuples(
        st.sampled_from(["+", "-", "*", "//", "%", "min", "max"]), parts, parts
    ),
    max_leaves=6,
)


def build(tree: Any) -> tuple[Any, Expression | int | str]:
    """The expression in TVM, and the same as a dimension that is not simplified."""
    if len(tree) == 1:
        leaf = tree[0]
        return ({"N": N, "M": M}.get(leaf) if isinstance(leaf, str) else const(leaf)), leaf
    operation, left, right = tree
    (a, one), (b, other) = build(left), build(right)
    if operation in ("//", "%"):
        b, other = const(3), 3
    made = {
        "+": lambda: a + b,
        "-": lambda: a - b,
        "*": lambda: a * b,
        "//": lambda: tirx.floordiv(a, b),
        "%": lambda: tirx.floormod(a, b),
        "min": lambda: tirx.min(a, b),
        "max": lambda: tirx.max(a, b),
    }[operation]()
    return made, Expression(operation, one, other)


@given(EXPRESSIONS, st.integers(1, 50), st.integers(1, 50))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_simplified_dimensions_have_the_same_value(tree: Any, n: int, m: int) -> None:
    expr, plain = build(tree)
    bindings = {"N": n, "M": m}
    assert evaluate(dimension_of(expr), bindings) == evaluate(plain, bindings)


def test_shapes() -> None:
    shape = shape_of(relax.TensorType([N + 1, 3], "float32"))
    assert evaluate_shape(shape, {"N": 4}) == (5, 3)
    assert shape_of(relax.TensorType([], "float32")) == ()


def test_a_shape_that_depends_on_data() -> None:
    with pytest.raises(CompileError, match="depends on data"):
        shape_of(relax.TensorType(None, "float32", ndim=2))


def test_arithmetic_that_the_run_time_lacks() -> None:
    with pytest.raises(CompileError, match="cannot evaluate"):
        dimension_of(tirx.Select(N > 3, N, M))
