from __future__ import annotations

import csv
import itertools
import os
from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet.passes.best_spans import (
    Choice,
    all_spans,
    best_activations,
    best_spans,
    choices,
    front_of,
)
from motet.runtime.errors import CompileError

TABLE = {(0, 1): 1.0, (1, 2): 2.0, (2, 3): 3.0, (3, 4): 1.0, (0, 2): 2.5, (1, 3): 4.0, (1, 4): 7.0}
"""No span from 0 to 3, and none from 0 to 4, is feasible as one."""


def test_a_table_worked_by_hand() -> None:
    spans = all_spans(TABLE)
    found = {span: (best.latency, best.breaks) for span, best in spans.items()}
    assert found == {
        (0, 1): (1.0, (0, 1)),
        (0, 2): (2.5, (0, 2)),
        (0, 3): (5.0, (0, 1, 3)),
        (0, 4): (6.0, (0, 1, 3, 4)),
        (1, 2): (2.0, (1, 2)),
        (1, 3): (4.0, (1, 3)),
        (1, 4): (5.0, (1, 3, 4)),
        (2, 3): (3.0, (2, 3)),
        (2, 4): (4.0, (2, 3, 4)),
        (3, 4): (1.0, (3, 4)),
    }
    assert best_spans(TABLE) == (6.0, (0, 1, 3, 4))


def test_of_equal_latencies_the_whole_span_wins() -> None:
    assert best_spans({(0, 1): 1.0, (1, 2): 1.0, (0, 2): 2.0}) == (2.0, (0, 2))


def test_of_equal_latencies_the_earliest_break_wins() -> None:
    table = {(0, 1): 1.0, (1, 2): 1.0, (2, 3): 1.0, (0, 2): 2.0, (1, 3): 2.0}
    assert best_spans(table) == (3.0, (0, 1, 3))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "the table of latencies is empty"),
        ({(0, 1): 1.0, (2, 3): 1.0}, "no spans of the table lead from 0 to 3"),
        ({(0, 1): inf}, "no spans of the table lead from 0 to 1"),
        ({(1, 1): 1.0}, r"the span \(1, 1\) ends before it starts"),
    ],
)
def test_a_table_without_a_way_is_refused(
    table: dict[tuple[int, int], float], message: str
) -> None:
    with pytest.raises(CompileError, match=message):
        best_spans(table)


@st.composite
def tables(draw: st.DrawFn) -> dict[tuple[int, int], float]:
    """Latencies of spans of up to seven layers; every layer alone is feasible."""
    layers = draw(st.integers(1, 7))
    made = {(n, n + 1): float(draw(st.integers(1, 20))) for n in range(layers)}
    for start, end in itertools.combinations(range(layers + 1), 2):
        if end > start + 1 and draw(st.booleans()):
            made[start, end] = float(draw(st.integers(1, 40)))
    return made


def ways(start: int, end: int) -> list[tuple[int, ...]]:
    """All breaks from start to end."""
    inner = range(start + 1, end)
    sets = (c for n in range(len(inner) + 1) for c in itertools.combinations(inner, n))
    return [(start, *chosen, end) for chosen in sets]


def cost_of(table: dict[tuple[int, int], float], breaks: tuple[int, ...]) -> float:
    return sum(table.get(span, inf) for span in itertools.pairwise(breaks))


@given(tables())
def test_every_span_is_as_brute_force_finds_it(table: dict[tuple[int, int], float]) -> None:
    last = max(end for _, end in table)
    spans = all_spans(table)
    for start, end in itertools.combinations(range(last + 1), 2):
        least = min(cost_of(table, breaks) for breaks in ways(start, end))
        assert spans[start, end].latency == least
        assert cost_of(table, spans[start, end].breaks) == least


@st.composite
def problems(
    draw: st.DrawFn,
) -> tuple[dict[tuple[int, int], float], dict[int, float], float]:
    """A table, importances of activations between some of its layers, and a budget."""
    table = draw(tables())
    last = max(end for _, end in table)
    importance = {
        j: float(draw(st.integers(0, 9))) for j in range(1, last) if draw(st.integers(0, 3))
    }
    return table, importance, float(draw(st.integers(0, 100)))


def brute_force(
    table: dict[tuple[int, int], float], importance: dict[int, float], budget: float
) -> float | None:
    """The least importance lost within the budget, over all sets of kept activations."""
    last = max(end for _, end in table)
    found = []
    for kept in (
        c for n in range(len(importance) + 1) for c in itertools.combinations(importance, n)
    ):
        stops = [0, *sorted(kept), last]
        parts = [
            min(cost_of(table, breaks) for breaks in ways(*ends))
            for ends in itertools.pairwise(stops)
        ]
        if sum(parts) <= budget:
            found.append(sum(v for j, v in importance.items() if j not in kept))
    return min(found, default=None)


@given(problems())
def test_two_levels_are_as_brute_force_finds_them(
    problem: tuple[dict[tuple[int, int], float], dict[int, float], float],
) -> None:
    table, importance, budget = problem
    found = best_activations(table, importance, budget)
    least = brute_force(table, importance, budget)
    if found is None:
        assert least is None
        return
    assert found.lost == least
    assert found.latency <= budget
    assert cost_of(table, found.breaks) == found.latency
    assert set(found.kept) <= set(found.breaks)
    assert found.lost == sum(v for j, v in importance.items() if j not in found.kept)


def test_choices_run_from_the_fastest_to_what_loses_nothing() -> None:
    table = {(0, 1): 5.0, (1, 2): 5.0, (2, 3): 5.0, (0, 2): 6.0, (1, 3): 4.0, (0, 3): 8.0}
    found = choices(table, {1: 1.0, 2: 3.0})
    assert [(c.latency, c.lost, c.kept) for c in found] == [
        (8.0, 4.0, ()),
        (9.0, 3.0, (1,)),
        (11.0, 1.0, (2,)),
        (15.0, 0.0, (1, 2)),
    ]


def test_a_front_drops_what_another_beats() -> None:
    made = [
        Choice(2.0, 1.0, (), (0, 1)),
        Choice(1.0, 1.0, (), (0, 1)),
        Choice(3.0, 0.0, (), (0, 1)),
    ]
    assert [(c.latency, c.lost) for c in front_of(made)] == [(1.0, 1.0), (3.0, 0.0)]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


REFERENCE = os.environ.get("MOTET_REFERENCE")


@pytest.mark.skipif(
    not REFERENCE, reason="MOTET_REFERENCE is unset: no folder with depth_t_*.csv to compare with"
)
@pytest.mark.parametrize("network", ["mbv2_1.0", "vgg19_no_trt"])
def test_published_tables_come_out(network: str) -> None:
    folder = Path(str(REFERENCE))
    table = {
        (int(row["st"]), int(row["end"])): float(row["time"])
        for row in rows(folder / f"depth_t_{network}.csv")
    }
    spans = all_spans(table)
    wanted = rows(folder / f"depth_topt_{network}.csv")
    assert wanted
    for row in wanted:
        best = spans[int(row["st"]), int(row["end"])]
        assert best.breaks == tuple(map(int, row["breaks"].split(",")))
        assert best.latency == pytest.approx(float(row["time"]), rel=1e-12)
