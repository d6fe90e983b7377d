"""A rollout that ends at the least that is known says the same as a whole one, as far as asked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from motet.targets.sharing.loads import Share
from motet.targets.sharing.lookahead import Expected, Move, Task, judged

whole = st.integers(1, 20)


@st.composite
def frames(draw: st.DrawFn) -> Expected:
    ticks = draw(whole)
    shares = (Share(1, 4 * ticks), Share(2, 2 * ticks), Share(4, ticks))
    due = draw(whole)
    return Expected((float(due),), (Task(ticks, shares),), draw(st.integers(0, 9)), due)


@given(st.lists(frames(), min_size=1, max_size=5), st.integers(0, 5), st.integers(0, 100))
def test_it_is_less_where_the_whole_is_less(given: list[Expected], misses: int, ends: int) -> None:
    share = given[0].tasks[0].shares[1]
    moves = [Move(0, share, share.ticks)]
    least = (float(misses), float(ends))
    complete, bounded = judged(given, 4, 0, moves), judged(given, 4, 0, moves, least)
    assert (bounded < least) == (complete < least)
    assert bounded <= complete
    if complete < least:
        assert bounded == complete
