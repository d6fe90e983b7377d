"""Timetables as JSON: read back as they were, and every corruption is one message."""

from __future__ import annotations

import json
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timetable_loads import array, host, load, make

from motet.runtime.errors import SpecError
from motet.runtime.timetable import Timetable, from_json, read, to_json
from motet.targets.timetables.jobs import Problem
from motet.targets.timetables.kinds import best_of, timetables
from motet.targets.timetables.verify import plain, verified

PROBLEM = make(
    load("eyes", array(6, 4, 3), host(2), period=10),
    load("gaze", array(3, 2, 1), period=10, after=("eyes",)),
    load("hand", array(9, 6, 4), period=20),
    pods=4,
)


def made(problem: Problem = PROBLEM) -> Timetable:
    best = best_of(timetables(problem, placements=500))
    assert best.table is not None
    return plain(best.table, best.kind, "array-4", "int8")


def test_a_round_trip(tmp_path: Path) -> None:
    timetable = made()
    path = tmp_path / "t.json"
    path.write_bytes(to_json(timetable))
    assert read(path) == timetable
    assert to_json(read(path)) == path.read_bytes()
    table = verified(read(path), PROBLEM)
    assert plain(table, timetable.kind, "array-4", "int8") == timetable
    assert timetable.hyperperiod == Fraction(20)


def changed(edit: Any) -> Timetable:
    facts = json.loads(to_json(made()))
    edit(facts)
    return from_json(json.dumps(facts).encode(), "t.json")


def first(facts: Any, model: str, stage: int = 0, frame: int = 0) -> Any:
    wanted = {"model": model, "stage": stage, "frame": frame}
    return next(slot for slot in facts["slots"] if wanted.items() <= slot["stages"][0].items())


def over(facts: Any) -> None:
    """gaze's second frame onto the moment and pods of hand."""
    slot, hand = first(facts, "gaze", frame=1), first(facts, "hand")
    hand["start_tick"], hand["first_pod"] = slot["start_tick"], slot["first_pod"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda f: f["slots"].pop(), "has no slot: every stage of every frame has one"),
        (lambda f: f["slots"].append(f["slots"][0]), "has two slots, at ticks"),
        (lambda f: f["slots"][0]["stages"][0].update(model="ears"), "'ears' frame 0 stage 0 is"),
        (lambda f: first(f, "gaze").update(start_tick=0), "which it follows, has ended"),
        (lambda f: first(f, "eyes", 1).update(start_tick=0), "the stage before it has ended"),
        (lambda f: first(f, "eyes", 0, 1).update(start_tick=3), "before its release at 10"),
        (over, "it serves one at a time"),
        (lambda f: first(f, "hand").update(first_pod=4), "has no pods of the array's 4"),
        (lambda f: first(f, "hand").update(pods=1), "is not done in"),
        (lambda f: first(f, "hand").update(resource="host"), "is of the array, not of the host"),
        (lambda f: first(f, "hand")["stages"][0].update(done_ticks=1), "is done at 1 of"),
        (lambda f: f.update(pods=8), "pods is 8, and these models and machine have 4"),
        (lambda f: f.update(clock_hz="2"), "clock_hz is 2, and these models and machine have 1"),
        (lambda f: f.update(hyperperiod_seconds="40"), "hyperperiod_seconds is 40"),
        (lambda f: first(f, "hand").update(ticks=50), "longer than a hyperperiod"),
    ],
)  # fmt: skip
def test_what_is_no_timetable_of_these_models(edit: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        verified(changed(edit), PROBLEM, "t.json")
    assert str(caught.value).startswith("t.json: ")
    assert "make it anew with 'motet timetable'" in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"\xff\xfe", b'{"version": 2}', to_json(made()).replace(b'"1"', b'"1/0"'),
     to_json(made()).replace(b'"clock_hz": "1"', b'"clock_hz": "-1"'),
     to_json(made()).replace(b'"first_pod":', b'"first_pod":-1'),
     to_json(made()).replace(b'"array"', b'"gpu"'), to_json(made())[:-20]],
)  # fmt: skip
def test_what_is_no_timetable_at_all(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(data)
    with pytest.raises(SpecError, match=r"t\.json: no timetable that 'motet timetable -o' wrote"):
        read(path)
    with pytest.raises(SpecError, match="No such file"):
        read(tmp_path / "gone.json")


ORIGINAL = to_json(made())


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(ORIGINAL) - 1), st.binary(min_size=0, max_size=3))
def test_bytes_that_are_damaged_never_crash(at: int, by: bytes) -> None:
    data = ORIGINAL[:at] + by + ORIGINAL[at + 1 :]
    with suppress(SpecError):  # any other exception is a crash
        table = verified(from_json(data), PROBLEM)
        assert table.missed >= 0
