from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from motet.compiler.memory_plan import lay_out, lifetimes
from motet.runtime.memory import ALIGNMENT, Lifetime
from motet.runtime.program import (
    Branch,
    Constant,
    Goto,
    Input,
    Kernel,
    Move,
    Register,
    Stored,
    View,
    storage_of,
)
from motet.runtime.shapes import Expression


def register(place: Input | Constant | Stored | View) -> Register:
    return Register("float32", (4,), place)


REGISTERS = [
    register(Input(0)),
    register(Constant(0)),
    register(Stored(0)),
    register(View(2)),
    register(View(3)),
    register(Stored(1)),
    register(Stored(2)),
]


def test_storage_through_views() -> None:
    assert [storage_of(index, REGISTERS) for index in range(7)] == [None, None, 0, 0, 0, 1, 2]
    assert storage_of(1, [register(Input(0)), register(View(0))]) is None


def test_a_view_keeps_its_storage_alive() -> None:
    instructions = [
        Kernel("a", (0, 1, 2), 1, 0),
        Kernel("b", (0, 5), 1, 1),
        Kernel("c", (5, 4, 6), 1, 2),
    ]
    assert lifetimes(3, REGISTERS, instructions, [6]) == [
        Lifetime(0, 2),
        Lifetime(1, 2),
        Lifetime(2, 3),
    ]


def test_outputs_live_to_the_end_through_views() -> None:
    instructions = [Kernel("a", (0, 2), 1, 0), Kernel("b", (0, 5), 1, 1)]
    assert lifetimes(2, REGISTERS, instructions, [4, 0, 1]) == [Lifetime(0, 2), Lifetime(1, 1)]


def test_both_branches_write_where_they_join() -> None:
    instructions = [
        Branch(0, 4),
        Kernel("a", (1, 2), 1, 0),
        Move(2, 6),
        Goto(6),
        Kernel("b", (1, 5), 1, 1),
        Move(5, 6),
    ]
    spans = lifetimes(3, REGISTERS, instructions, [6])
    assert spans == [Lifetime(1, 2), Lifetime(4, 5), Lifetime(2, 6)]


def test_a_condition_is_read() -> None:
    instructions = [Kernel("a", (0, 2), 1, 0), Kernel("b", (0, 5), 1, 1), Branch(2, 3)]
    assert lifetimes(2, REGISTERS, instructions, [])[0] == Lifetime(0, 2)


def test_an_untouched_storage_has_some_lifetime() -> None:
    assert lifetimes(1, REGISTERS, [], []) == [Lifetime(0, 0)]


def test_symbolic_sizes_are_planned_later() -> None:
    size = Expression("*", "N", 4)
    storages, offsets, arena = lay_out([16, size], [Lifetime(0, 1), Lifetime(1, 2)])
    assert [storage.bytes for storage in storages] == [16, size]
    assert (offsets, arena) == (None, None)


def test_nothing_to_lay_out() -> None:
    assert lay_out([], []) == ((), (), 0)


@given(
    st.lists(
        st.tuples(st.integers(0, 500), st.integers(0, 12), st.integers(0, 6)),
        min_size=1,
        max_size=12,
    )
)
@settings(deadline=None, derandomize=True)
def test_what_lives_together_never_overlaps(drawn: list[tuple[int, int, int]]) -> None:
    sizes = [size for size, _, _ in drawn]
    spans = [Lifetime(first, first + length) for _, first, length in drawn]
    _, offsets, arena = lay_out(sizes, spans)
    assert offsets is not None
    assert arena is not None
    for one in range(len(sizes)):
        assert offsets[one] % ALIGNMENT == 0
        assert offsets[one] + sizes[one] <= arena
        for other in range(one):
            if spans[one].overlaps(spans[other]) and sizes[one] and sizes[other]:
                apart = (
                    offsets[one] + sizes[one] <= offsets[other]
                    or offsets[other] + sizes[other] <= offsets[one]
                )
                assert apart
