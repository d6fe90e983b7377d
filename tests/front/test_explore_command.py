"""``motet explore``: sweeps, going on, the Pareto front, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from front_outcome import Motet, assert_plain, rows_of


@pytest.fixture
def explore(run_motet: Motet, models: Path) -> Any:
    """``motet explore`` of ``layers.onnx`` on tiny-4x4, in this process."""

    def run(*options: object) -> Any:
        return run_motet(
            "explore", models / "layers.onnx", "--target", "tiny-4x4", "--jobs", "1", *options
        )

    return run


def test_points_are_what_simulate_gives(explore: Any, run_motet: Motet, models: Path) -> None:
    points = json.loads(explore("--sweep", "bandwidth=4e8,1e9", "--json").out)
    assert [point["settings"] for point in points] == [
        {"bandwidth": 400_000_000},
        {"bandwidth": 1_000_000_000},
    ]
    assert points[0]["cycles"] > points[1]["cycles"]
    same = json.loads(explore("--sweep", "size=4", "--json").out)[0]
    arguments = ("simulate", models / "layers.onnx", "--target", "tiny-4x4", "--json")
    [report] = json.loads(run_motet(*arguments).out)
    for key in ("cycles", "seconds_simulated", "dram_bytes", "array_share", "utilisation"):
        assert same[key] == pytest.approx(report[key]), key
    assert same["energy_joules"] == pytest.approx(sum(report["energy_joules"].values()))
    assert same["watts"] == pytest.approx(same["energy_joules"] / same["seconds_simulated"])


def test_csv_and_table_mark_the_front(explore: Any) -> None:
    options = ("--sweep", "size=4,8", "--sweep", "format=fp32,int8")
    rows = rows_of(explore(*options, "--csv").out)
    assert [(row["size"], row["format"]) for row in rows] == [
        ("4", "fp32"), ("4", "int8"), ("8", "fp32"), ("8", "int8"),
    ]  # fmt: skip
    assert "True" in {row["pareto"] for row in rows}
    text = explore(*options).out
    assert_plain(text)
    marked = [line for line in text.splitlines() if line.startswith("* │")]
    assert len(marked) == sum(row["pareto"] == "True" for row in rows)
    assert " uJ │" in text


def test_a_sweep_goes_on(explore: Any) -> None:
    options = ("--results", "sweep.jsonl", "--json")
    first = explore("--sweep", "size=4", *options)
    again = explore("--sweep", "size=4,8", *options)
    assert json.loads(again.out)[0]["cycles"] == json.loads(first.out)[0]["cycles"]
    lines = Path("sweep.jsonl").read_text().splitlines()
    assert len(lines) == 2
    stored = [json.loads(line) for line in lines]
    stored[0]["cycles"] = 12345  # what is known is not simulated again
    Path("sweep.jsonl").write_text("".join(json.dumps(point) + "\n" for point in stored))
    third = explore("--sweep", "size=4,8", *options)
    assert json.loads(third.out)[0]["cycles"] == 12345


def test_a_plot(explore: Any) -> None:
    pytest.importorskip("matplotlib")
    assert explore("--sweep", "size=4,8", "--plot", "pareto.svg").code == 0
    content = Path("pareto.svg").read_text()
    assert "<svg" in content
    assert "latency, us (simulated)" in content


def test_a_point_that_cannot_work_is_left_out(explore: Any) -> None:
    outcome = explore("--sweep", "scratchpad_bytes=8192,16")
    assert outcome.code == 0
    assert "left out: scratchpad_bytes=16: " in outcome.err
    good, bad = json.loads(explore("--sweep", "scratchpad_bytes=8192,16", "--json").out)
    assert good["error"] == ""
    assert bad["cycles"] is None
    assert bad["pareto"] is False


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--sweep row=4,8", "the description has no key 'row'; short names are pods, rows"),
        ("--sweep rows", "give KEY=VALUE,VALUE"),
        ("--sweep rows=4 --sweep rows=8", "swept twice"),
        ("--sweep size=4 --results nowhere/x.jsonl", "there is no folder nowhere"),
        ("--sweep size=4 --backend dask", "pip install distributed"),
        ("--sweep size=4 --json --csv", "exclude each other"),
    ],
)
def test_what_does_not_go(explore: Any, options: str, says: str) -> None:
    outcome = explore(*options.split())
    assert outcome.code in (2, 3)
    assert outcome.out == ""
    assert says in outcome.err


def test_a_bundle_is_for_one_array(run_motet: Motet, inception: Path) -> None:
    outcome = run_motet("explore", inception, "--sweep", "size=4")
    assert outcome.code == 2
    assert "its programs are for one array" in outcome.err
