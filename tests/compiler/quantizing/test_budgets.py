"""Choices under a budget: as good as the best of all, tried one by one."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.compiler.quantizing import budgets
from motet.compiler.quantizing.budgets import Option, least_cost, least_noise, totals

OPTION = st.builds(Option, st.integers(0, 60), st.integers(0, 1000).map(float))
ITEMS = st.lists(st.lists(OPTION, min_size=1, max_size=4), min_size=1, max_size=5)


def all_choices(items: list[list[Option]]) -> list[Option]:
    indices = itertools.product(*(range(len(options)) for options in items))
    return [totals(items, choice) for choice in indices]


@settings(max_examples=300, deadline=None)
@given(ITEMS, st.integers(0, 250))
def test_least_noise_under_a_cost(items: list[list[Option]], budget: int) -> None:
    best = min((o.noise for o in all_choices(items) if o.cost <= budget), default=None)
    found = least_noise(items, budget)
    assert (found is None) is (best is None)
    if found is not None:
        assert totals(items, found).cost <= budget
        assert totals(items, found).noise == best


@settings(max_examples=300, deadline=None)
@given(ITEMS, st.integers(0, 3000))
def test_least_cost_under_a_noise(items: list[list[Option]], noise: int) -> None:
    best = min((o.cost for o in all_choices(items) if o.noise <= noise), default=None)
    found = least_cost(items, noise)
    assert (found is None) is (best is None)
    if found is not None:
        assert totals(items, found).noise <= noise
        assert totals(items, found).cost == best


@settings(max_examples=100, deadline=None)
@given(ITEMS, st.integers(0, 250))
def test_large_costs_keep_to_the_budget(items: list[list[Option]], budget: int) -> None:
    """Costs in cells are rounded up: never beyond, and within a cell an item of the best."""
    factor = 7_919_177
    large = [[Option(o.cost * factor, o.noise) for o in options] for options in items]
    found = least_noise(large, budget * factor)
    reference = least_noise(items, budget)
    assert (found is None) is (reference is None)
    if found is None or reference is None:
        return
    assert totals(large, found).cost <= budget * factor
    assert totals(items, found).noise >= totals(items, reference).noise
    cell = -(-budget * factor // budgets.CELLS)
    less = least_noise(items, math.floor(budget - len(items) * cell / factor - 1e-9))
    if less is not None:
        assert totals(items, found).noise <= totals(items, less).noise


@settings(max_examples=100, deadline=None)
@given(ITEMS)
def test_large_costs_reach_the_quietest(items: list[list[Option]]) -> None:
    large = [[Option(o.cost * 7_919_177, o.noise) for o in options] for options in items]
    quietest = sum(min(o.noise for o in options) for options in items)
    found = least_cost(large, quietest)
    assert found is not None
    assert totals(items, found).noise == quietest


def test_by_hand() -> None:
    """Two layers of 100 weights: 4 bits for the one that hardly matters."""
    important = [Option(50, 90.0), Option(100, 9.0)]
    idle = [Option(50, 2.0), Option(100, 0.5)]
    assert least_noise([important, idle], 150) == [1, 0]
    assert least_cost([important, idle], 11.0) == [1, 0]
    assert least_cost([important, idle], 10.9) == [1, 1]
    assert least_noise([important, idle], 99) is None
    assert least_cost([important, idle], 9.4) is None
    assert totals([important, idle], [1, 0]) == Option(150, pytest.approx(11.0))
