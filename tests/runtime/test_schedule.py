from __future__ import annotations

import json
from typing import Any

import pytest

from motet.runtime.errors import SpecError
from motet.runtime.schedule import Block, Schedule, Stage, decode, encode

SCHEDULE = Schedule(
    seconds=0.375,
    stages=(
        Stage(groups=(("conv1", "pool"), ("conv2",)), seconds=0.25),
        Stage(groups=(("a",), ("b",)), seconds=0.125, kind="merged", block=1),
    ),
    blocks=(
        Block(operators=3, seconds=0.25, found_by="optimal"),
        Block(operators=2, seconds=0.125, found_by="budget"),
    ),
    r=3,
)


def test_a_schedule_is_read_back_as_written() -> None:
    data = encode(SCHEDULE)
    assert decode(data) == SCHEDULE
    assert json.loads(data)["stages"][0] == {
        "groups": [["conv1", "pool"], ["conv2"]],
        "seconds": 0.25,
        "kind": "concurrent",
        "block": 0,
    }
    assert SCHEDULE.stages[0].operators == ("conv1", "pool", "conv2")


def _edited(**changes: Any) -> bytes:
    return json.dumps(json.loads(encode(SCHEDULE)) | changes).encode()


def _stage(**changes: Any) -> dict[str, Any]:
    return {"groups": [["x"]], "seconds": 0.375, "kind": "concurrent", "block": 0} | changes


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "plan.json: not a schedule"),
        (b"[]", "plan.json: not a schedule"),
        (_edited(version=2), "version 2 of a schedule, this Motet reads 1"),
        (_edited(seconds=-1), r"plan.json: .*\$.seconds"),
        (_edited(stage=[]), "unknown field `stage`"),
        (_edited(stages=[_stage(groups=[])]), r"\$.stages\[0\].groups"),
        (_edited(stages=[_stage(groups=[[]])]), r"\$.stages\[0\].groups\[0\]"),
        (_edited(stages=[_stage(kind="apart")]), r"\$.stages\[0\].kind"),
        (_edited(stages=[_stage(groups=[["x"], ["x"]])]), "operator 'x' runs 2 times"),
        (_edited(stages=[_stage(block=2)]), r"stages\[0\].block is 2, of 2 blocks"),
        (_edited(stages=[_stage(kind="merged")]), r"stages\[0\] is merged: it needs two"),
        (_edited(stages=[_stage(seconds=1.5)]), "seconds is 0.375, its stages add up to 1.5"),
    ],
)
def test_what_is_no_schedule(data: bytes, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        decode(data, "plan.json")
