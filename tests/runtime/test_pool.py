from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from motet.runtime.pool import IdlePool


def test_what_was_given_is_taken_once() -> None:
    pool = IdlePool[str, int](2)
    assert pool.take("a") is None
    pool.give("a", 1)
    assert (pool.take("b"), pool.take("a"), pool.take("a"), len(pool)) == (None, 1, None, 0)


def test_the_least_recent_key_goes_first() -> None:
    pool = IdlePool[str, int](2)
    pool.give("a", 1)
    pool.give("b", 2)
    pool.give("a", pool.take("a") or 0)
    pool.give("c", 3)
    assert (pool.take("b"), pool.take("a"), pool.take("c")) == (None, 1, 3)


def test_giving_makes_a_key_recent() -> None:
    pool = IdlePool[str, int](3)
    for key, item in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        pool.give(key, item)
    assert (pool.take("b"), pool.take("a"), pool.take("a")) == (None, 3, 1)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=60), st.integers(1, 5))
def test_never_more_than_the_limit_and_never_another_keys(
    actions: list[tuple[bool, int]], limit: int
) -> None:
    pool = IdlePool[int, tuple[int, int]](limit)
    idle: list[tuple[int, int]] = []
    for moment, (give, key) in enumerate(actions):
        if give:
            pool.give(key, (key, moment))
            idle.append((key, moment))
        else:
            item = pool.take(key)
            if item is not None:
                assert item[0] == key
                idle.remove(item)
        assert len(pool) <= limit


def test_an_item_has_one_user_at_a_time() -> None:
    pool = IdlePool[str, list[int]](4)

    def use(_: int) -> bool:
        item = pool.take("k") or [0]
        item[0] += 1
        alone = item[0] == 1
        item[0] -= 1
        pool.give("k", item)
        return alone

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(use, range(4000)))
    assert len(pool) <= 4
