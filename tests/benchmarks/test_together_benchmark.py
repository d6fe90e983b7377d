"""The benchmark of models together: ratios and what is compared, with turns made up."""

from __future__ import annotations

from motet.benchmarks.together import SUBMIT, WAYS, Turn, compared


def test_ratios_are_of_the_same_round() -> None:
    turns = {
        "submit": [Turn(100.0, 0.010, 0, 10), Turn(50.0, 0.020, 1, 10), Turn(80.0, 0.012, 0, 10)],
        "other": [Turn(50.0, 0.020, 2, 10), Turn(25.0, 0.040, 3, 10), Turn(80.0, 0.012, 0, 10)],
    }
    first, other = compared(turns, {"submit": "s", "other": "o"})
    assert (first.throughput_ratio, first.p99_ratio, first.late, first.frames) == (1, 1, 1, 30)
    assert (other.throughput_ratio, other.p99_ratio) == (2.0, 2.0)
    assert (other.frames_per_second, other.p99_seconds) == (50.0, 0.020)
    assert (other.late, other.settings) == (5, "o")


def test_who_is_compared() -> None:
    assert WAYS[0] is SUBMIT
    assert len({way.group for way in WAYS}) == len(WAYS)
    assert {(way.engine, way.way) for way in WAYS} == {
        ("motet", "submit"), ("motet", "serial"), ("onnxruntime", "own"), ("onnxruntime", "queue"),
    }  # fmt: skip
