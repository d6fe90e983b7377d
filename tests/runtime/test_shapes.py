from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet.runtime.shapes import (
    Dimension,
    Expression,
    evaluate,
    evaluate_shape,
    is_static,
    product,
    render,
    render_shape,
    symbols_of,
)

SYMBOLS = ("N", "S", "T")
bindings = st.fixed_dictionaries({name: st.integers(0, 40) for name in SYMBOLS})
operations = st.sampled_from(["+", "-", "*", "//", "%", "min", "max"])
leaves = st.integers(0, 40) | st.sampled_from(SYMBOLS)
dimensions = st.recursive(leaves, lambda d: st.builds(Expression, operations, d, d), max_leaves=12)


@given(dimensions, bindings)
def test_rendered_text_is_python_with_the_same_value(
    dimension: Dimension, values: dict[str, int]
) -> None:
    def outcome(function):
        try:
            return function()
        except ZeroDivisionError:
            return "division by zero"

    ours = outcome(lambda: evaluate(dimension, values))
    assert ours == outcome(lambda: eval(render(dimension), {}, dict(values)))


@given(st.lists(dimensions, max_size=4), bindings)
def test_product_counts_the_elements(shape: list[Dimension], values: dict[str, int]) -> None:
    try:
        expected = math.prod(evaluate_shape(shape, values))
    except ZeroDivisionError:
        return
    assert evaluate(product(shape), values) == expected


@given(st.lists(st.integers(0, 9), max_size=4))
def test_product_of_numbers_is_a_number(shape: list[int]) -> None:
    assert product(shape) == math.prod(shape)
    assert is_static(shape)


@given(dimensions)
def test_encoding_keeps_a_dimension(dimension: Dimension) -> None:
    assert msgspec.json.decode(msgspec.json.encode(dimension), type=Dimension) == dimension


@given(dimensions, bindings)
def test_value_depends_on_its_symbols_alone(dimension: Dimension, values: dict[str, int]) -> None:
    try:
        expected = evaluate(dimension, values)
    except ZeroDivisionError:
        return
    used = {name: values[name] for name in symbols_of(dimension)}
    assert evaluate(dimension, used) == expected
    for name in used:
        with pytest.raises(KeyError):
            evaluate(dimension, {other: v for other, v in used.items() if other != name})


def test_constants_fold_beside_symbols() -> None:
    assert product((2, "N", 3)) == Expression("*", 6, "N")
    assert product((1, "N")) == "N"


def test_division_and_remainder_round_down() -> None:
    assert evaluate(Expression("//", -7, 2), {}) == -4
    assert evaluate(Expression("%", -7, 2), {}) == 1


def test_rendered_shapes() -> None:
    assert render_shape(("N", 3, Expression("-", "H", 2))) == "N x 3 x (H - 2)"
    assert render(Expression("max", "N", 1)) == "max(N, 1)"
    assert render_shape(()) == "scalar"
    assert not is_static(("N", 3))
