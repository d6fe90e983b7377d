"""Pods shared out among groups: as good as the best of all ways to share them out."""

from __future__ import annotations

from itertools import combinations, product

from hypothesis import given, settings
from hypothesis import strategies as st

from motet.passes.scheduling.pod_shares import (
    counts_of,
    dealt,
    shared_by_count,
    shared_by_place,
    spread,
)

falling = st.lists(st.integers(1, 50), min_size=12, max_size=12).map(
    lambda drops: [sum(drops[at:]) for at in range(12)]
)


def test_numbers_of_pods_are_fine_where_there_are_few():
    assert counts_of(5) == (1, 2, 3, 4, 5)
    assert counts_of(1) == (1,)
    assert counts_of(256) == (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
    assert counts_of(12)[-3:] == (7, 8, 12)
    assert counts_of(13)[-2:] == (12, 13)


@settings(deadline=None)
@given(st.lists(falling, min_size=1, max_size=4), st.integers(4, 12))
def test_the_time_is_the_least_of_all_shares(tables, pods):
    """tables[group][count - 1]: its time on so many pods, falling."""
    counts = counts_of(pods)
    found = shared_by_count([[table[n - 1] for n in counts] for table in tables], counts)
    least = min(
        max(table[count - 1] for table, count in zip(tables, chosen, strict=True))
        for chosen in product(counts, repeat=len(tables))
        if sum(chosen) <= pods
    )
    assert found.seconds == least
    assert max(t[len(p) - 1] for t, p in zip(tables, found.pods, strict=True)) == least
    assert _are_apart(found.pods, pods)


@settings(deadline=None)
@given(st.lists(falling, min_size=1, max_size=4), st.integers(4, 12))
def test_pods_that_nobody_needs_are_handed_out(tables, pods):
    """No group gets fewer, and what is left is less than the step to any group's next number."""
    counts = counts_of(pods)
    times = [[table[n - 1] for n in counts] for table in tables]
    least = shared_by_count(times, counts)
    found = spread(least, times, counts)
    assert found.seconds == least.seconds
    assert all(
        len(after) >= len(before) for before, after in zip(least.pods, found.pods, strict=True)
    )
    assert _are_apart(found.pods, pods)
    spare = pods - sum(map(len, found.pods))
    for own in found.pods:
        larger = [count for count in counts if count > len(own)]
        assert not larger or larger[0] - len(own) > spare


def test_a_group_alone_has_all_pods():
    counts = counts_of(8)
    flat = [[1.0] * len(counts)]
    assert shared_by_count(flat, counts).pods == (range(1),)
    assert spread(shared_by_count(flat, counts), flat, counts).pods == (range(8),)


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(0, 10**6), st.integers(4, 7))
def test_places_are_the_best_cuts(count, seed, pods):
    """Any time for any place: no order among them is assumed."""

    def seconds(group, place):
        return hash((group, place.start, place.stop, seed)) % 1000

    found = shared_by_place(range(count), range(pods + 1), seconds)
    least = min(
        max(
            seconds(group, range(*ends))
            for group, ends in enumerate(zip((0, *cuts), (*cuts, pods), strict=True))
        )
        for cuts in combinations(range(1, pods), count - 1)
    )
    assert found.seconds == least
    assert max(seconds(group, place) for group, place in enumerate(found.pods)) == least
    assert _are_apart(found.pods, pods)


def test_cuts_may_be_few():
    found = shared_by_place(["a", "b"], (0, 1, 5), lambda group, place: 8 / len(place))
    assert found.pods == (range(1), range(1, 5))
    assert found.seconds == 8


def test_more_groups_than_pods_are_dealt_longest_first():
    times = {"a": 5.0, "b": 4.0, "c": 3.0, "d": 3.0}
    assert dealt(["c", "a", "d", "b"], 2, times.__getitem__) == [[1, 2], [3, 0]]
    assert dealt(["c", "a"], 2, times.__getitem__) == [[0], [1]]


def _are_apart(places, pods):
    ordered = sorted(places, key=lambda place: place.start)
    ends = [0, *(place.stop for place in ordered)]
    starts = [*(place.start for place in ordered), pods]
    return all(places) and all(end <= start for end, start in zip(ends, starts, strict=True))
