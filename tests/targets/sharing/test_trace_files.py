"""Traces of arrivals as people make them: spreadsheets, slips, numbers beyond all bounds."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from motet.runtime.errors import SpecError
from motet.targets.sharing.arrivals import read_trace
from motet.targets.sharing.loads import Load, Stage

HEAD = b"model,seconds\n"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "t.csv"


def test_a_spreadsheets_byte_order_mark_is_none_of_the_first_column(trace: Path) -> None:
    trace.write_bytes(b"\xef\xbb\xbf" + HEAD + b"a,0.001\n")
    assert read_trace(str(trace)).trace == {"a": (Fraction(1, 1000),)}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (b"a,1e400\n", "line 2: '1e400' is no number of seconds up to 1,000,000,000"),
        (b"a,1\na,1e999999999\n", "line 3: '1e999999999' is no number of seconds"),
        (b"a,1e12\n", "line 2: '1e12' is no number of seconds up to 1,000,000,000"),
        (b"a,0.1,5\n", "line 2: 3 fields, and a trace has the columns model,seconds"),
        (b"a\n", "line 2: the column seconds is missing: a trace has the columns model,seconds"),
        (b"\xff\xfe", "the trace is no CSV text in UTF-8 ("),
        (b"\xff\xfe", "): give a file with the columns model,seconds"),
    ],
)
def test_slips_are_told_by_line(trace: Path, rows: bytes, message: str) -> None:
    trace.write_bytes(HEAD + rows)
    with pytest.raises(SpecError) as caught:
        read_trace(str(trace))
    assert message in str(caught.value)


def test_frames_far_beyond_the_end_are_none(trace: Path) -> None:
    """In ticks they are more than an int64 holds."""
    trace.write_bytes(HEAD + b"a,0.5\na,1e9\n")
    load = Load("a", (Stage("array", 1),), None)
    assert read_trace(str(trace)).ticks(load, Fraction(10**12), 10**12, 0).tolist() == [5 * 10**11]
