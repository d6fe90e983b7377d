"""``motet simulate --duration``: models of a bundle that share an array, or the host."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from front_outcome import Motet, assert_plain, rows_of

HZ = 1e8
"""Clock of tiny-4x4."""


def write(models: Path, **keys: str) -> None:
    """``spec.toml`` for tiny-4x4: a model of ``layers.onnx`` per keyword, with its keys."""
    tables = [
        f"[models.{name}]\npath = '{models / 'layers.onnx'}'\n{text}\n"
        for name, text in keys.items()
    ]
    Path("spec.toml").write_text("target = 'tiny-4x4'\n" + "".join(tables))


def simulated(run_motet: Motet, *options: object, file: str = "spec.toml") -> dict[str, Any]:
    outcome = run_motet("simulate", file, "--json", *options)
    assert (outcome.code, outcome.err) == (0, "")
    found: dict[str, Any] = json.loads(outcome.out)
    return found


def test_a_rate_and_its_latency(run_motet: Motet, models: Path) -> None:
    write(models, a="rate_hz = 100")
    [run] = simulated(run_motet)
    found = simulated(run_motet, "--duration", "500ms", "--host", "none")
    assert (found["seconds_simulated"], found["clock_hz"], found["seed"]) == (0.5, HZ, 0)
    [model] = found["models"]
    alone = run["cycles"] / HZ
    assert model["run_array_seconds"] == pytest.approx(alone)
    counts = ("released", "finished", "dropped", "unfinished", "deadline_misses")
    assert [model[key] for key in counts] == [50, 50, 0, 0, 0]
    for key in ("mean", "p50", "p95", "p99", "maximum"):
        assert model[f"{key}_latency_seconds"] == pytest.approx(alone)
    assert model["deadline_seconds"] == 0.01
    assert model["array_seconds"] == pytest.approx(50 * alone)
    assert found["array_busy"] == pytest.approx(100 * alone)
    assert found["utilisation"] == pytest.approx(100 * run["macs"] / 16 / HZ)
    used = 50 * sum(run["energy_joules"].values())
    assert model["energy_joules"] == pytest.approx(used)
    assert found["energy_joules"] > used
    rest = (found["energy_joules"] - used) / (0.5 * (1 - found["array_busy"]))
    static = run["energy_joules"]["leakage"] + run["energy_joules"]["idle"]
    assert rest == pytest.approx(static / alone)
    assert simulated(run_motet, "--seconds", "0.5", "--host", "none") == found


def test_the_hosts_operators_take_time_by_formula(run_motet: Motet, models: Path) -> None:
    write(models, a="rate_hz = 100")
    bare = simulated(run_motet, "--duration", "0.1", "--host", "none")["models"][0]
    [model] = simulated(run_motet, "--duration", "0.1")["models"]
    assert (bare["host_operators"], bare["host_times"], bare["run_host_seconds"]) == (1, "", 0)
    # A cosine of five floats: 0.4 us for the call, 40 bytes at 30 GB/s; whole cycles of 10 ns.
    assert model["host_times"] == "formula"
    assert model["run_host_seconds"] == pytest.approx(0.41e-6)
    assert model["mean_latency_seconds"] == pytest.approx(bare["mean_latency_seconds"] + 0.41e-6)


def test_a_model_without_rate_runs_back_to_back(run_motet: Motet, models: Path) -> None:
    write(models, a="")
    [run] = simulated(run_motet)
    found = simulated(run_motet, "--duration", "10ms", "--host", "none")
    [model] = found["models"]
    assert model["finished"] == 1_000_000 // run["cycles"]
    assert found["array_busy"] == 1.0
    facts = (model["rate_hz"], model["deadline_seconds"], model["deadline_misses"])
    assert facts == (None, None, 0)


def test_policies_decide_who_waits(run_motet: Motet, models: Path) -> None:
    write(models, low="rate_hz = 10\ndeadline_ms = 1", high="rate_hz = 10\npriority = 1")
    for policy, first in (("fcfs", 0), ("priority", 1), ("edf", 0)):
        options = ("--duration", "1", "--host", "none", "--policy", policy)
        found = simulated(run_motet, *options)["models"]
        alone = found[0]["run_array_seconds"]
        assert found[first]["maximum_latency_seconds"] == pytest.approx(alone)
        assert found[1 - first]["p50_latency_seconds"] == pytest.approx(2 * alone)
        assert found[1 - first]["waiting_seconds"] == pytest.approx(10 * alone)
    assert found[0]["deadline_seconds"] == pytest.approx(1e-3)


def test_a_cascade_with_a_chance(run_motet: Motet, models: Path) -> None:
    write(models, a="rate_hz = 100", b="after = ['a']\nprobability = 0.25")
    options = ("--duration", "2s", "--seed", "7", "--host", "none")
    a, b = simulated(run_motet, *options)["models"]
    assert (a["finished"], b["rate_hz"], b["probability"]) == (200, 100, 0.25)
    assert 25 <= b["finished"] <= 75
    # A frame's latency begins with the frame that it follows.
    assert b["mean_latency_seconds"] == pytest.approx(2 * a["mean_latency_seconds"])
    again = simulated(run_motet, *options)["models"]
    other = simulated(run_motet, "--duration", "2s", "--seed", "8", "--host", "none")["models"]
    assert again == [a, b]
    assert other[1]["finished"] != b["finished"]


def test_late_frames_are_dropped_unless_kept(run_motet: Motet, models: Path) -> None:
    write(models, a="rate_hz = 100000", b="after = ['a']\nrate_hz = 100000")
    options = ("simulate", "spec.toml", "--json", "--duration", "1ms", "--host", "none")
    outcome = run_motet(*options)
    found = json.loads(outcome.out)
    assert "the rates ask for 407.8 % of the array's time: 307.8 % too much" in outcome.err
    assert "model 'a': a run alone takes 0.02039 ms, and its deadline is 0.01 ms" in outcome.err
    for model in found["models"]:
        ended = model["finished"] + model["dropped"] + model["unfinished"]
        assert ended == model["released"] == 100
        assert model["dropped"] > 40
        assert model["deadline_misses"] >= model["dropped"]
    kept = json.loads(run_motet(*options, "--keep-late").out)["models"]
    assert [model["dropped"] for model in kept] == [0, 0]


def test_a_bundle_gives_what_its_specification_gives(run_motet: Motet, models: Path) -> None:
    write(
        models,
        a="rate_hz = 100\npriority = 2",
        b="deadline_ms = 1\nafter = ['a']\nprobability = 0.5",
    )
    assert run_motet("compile", "spec.toml", "-o", "b.motet").code == 0
    options = ("--duration", "100ms", "--policy", "edf")
    assert simulated(run_motet, *options, file="b.motet") == simulated(run_motet, *options)
    measured = simulated(run_motet, *options, "--host", "measured", file="b.motet")
    assert {model["host_times"] for model in measured["models"]} == {"measured"}
    assert measured["models"][0]["run_host_seconds"] > 0


def test_models_of_the_host(run_motet: Motet, models: Path) -> None:
    write(models, a="rate_hz = 100", b="rate_hz = 50\nafter = ['a']")
    text = Path("spec.toml").read_text().replace("tiny-4x4", "host")
    Path("host.toml").write_text(text)
    assert run_motet("compile", "host.toml", "-o", "h.motet").code == 0
    profile = run_motet("bench", "h.motet", "--profile", "--iterations", "2", "--json").out
    Path("profile.json").write_text(profile)
    run_seconds = {
        one["model"]: sum(call["median_seconds"] for call in one["calls"])
        for one in json.loads(profile)
    }
    options = ("--duration", "1s", "--host", "profile.json", "--all-metrics")
    found = simulated(run_motet, *options, file="h.motet")
    a, b = found["models"]
    assert (found["machine"], found["array_busy"], found["utilisation"]) == ("host", 0, None)
    assert (a["finished"], b["finished"]) == (100, 50)
    assert a["host_times"] == "measured (profile.json)"
    assert a["mean_latency_seconds"] == pytest.approx(run_seconds["a"], rel=1e-3)
    assert b["normalised_turnaround"] == pytest.approx(1)
    assert (found["antt"], found["xrbench"]) == (pytest.approx(1), None)
    assert simulated(run_motet, *options, file="h.motet") == found
    timed = simulated(run_motet, "--duration", "1s", "--threads", "1", file="h.motet")
    assert timed["models"][0]["host_times"] == "measured"
    formula = simulated(run_motet, "--duration", "1s", "--host", "formula", file="host.toml")
    assert formula["models"][0]["run_host_seconds"] > 0


def test_all_metrics(run_motet: Motet, models: Path) -> None:
    write(models, a="rate_hz = 100", b="rate_hz = 100")
    found = simulated(run_motet, "--duration", "1", "--host", "none", "--all-metrics")
    assert found["antt"] == pytest.approx((1 + 2) / 2)
    assert found["stp"] == pytest.approx(1 + 1 / 2)
    assert found["fairness"] == pytest.approx(1 / 2)
    assert 99.9 < found["xrbench"] <= 100
    assert {model["qoe"] for model in found["models"]} == {1}
    text = run_motet("simulate", "spec.toml", "--duration", "1", "--all-metrics").out
    assert_plain(text)
    assert "\nSTP " in text
    assert "times of operators on the host: a 410 ns a run, formula, b 410 ns a run" in text


def test_seeds_give_intervals(run_motet: Motet, models: Path) -> None:
    write(models, a="rate_hz = 1000")
    options = ("--duration", "1s", "--arrivals", "poisson", "--host", "none")
    found = simulated(run_motet, *options, "--seed", "3", "--seeds", "5", "--all-metrics")
    assert found["seeds"] == [3, 4, 5, 6, 7]
    each = [
        simulated(run_motet, *options, "--seed", seed)["models"][0]["released"]
        for seed in found["seeds"]
    ]
    released = found["models"][0]["released"]
    assert released["mean"] == sum(each) / 5
    assert released["seeds"] == 5
    assert 0 < released["half"] < 100
    assert found["models"][0]["rate_hz"] == 1000
    assert found["xrbench"]["mean"] > 90
    rows = rows_of(run_motet("simulate", "spec.toml", *options, "--seeds", "5", "--csv").out)
    assert float(rows[0]["released_half_width"]) > 0
    text = run_motet("simulate", "spec.toml", *options, "--seeds", "5").out
    assert_plain(text)
    assert "seeds 0 to 4, means and 95 % confidence intervals\n" in text
    assert "the array worked " in text
    assert re.search(r"worked [0-9.]+ % ± [0-9.]+ % of the time, utilisation ", text)
    text = run_motet("simulate", "spec.toml", *options, "--seeds", "5", "--all-metrics").out
    assert re.search(r"\nSTP [0-9.e-]+( ± [0-9.e-]+)? of 1; ANTT ", text)
    assert "Scores (XRBench's: 0 to 1)" in text
    assert not re.search("[a-z]_[a-z]", text.split("\n", 1)[1].replace("deadline_ms", ""))


def test_a_trace(run_motet: Motet, models: Path) -> None:
    write(models, a="", b="after = ['a']")
    Path("t.csv").write_text("model,seconds\na,0.002\na,0.001\n")
    options = ("--duration", "10ms", "--host", "none", "--arrivals", "t.csv")
    a, b = simulated(run_motet, *options)["models"]
    assert (a["finished"], b["finished"]) == (2, 2)


def test_table_and_csv(run_motet: Motet, models: Path) -> None:
    write(models, a="rate_hz = 100", b="")
    arguments = ("simulate", "spec.toml", "--duration", "20ms")
    models_ = simulated(run_motet, "--duration", "20ms")["models"]
    for row, model in zip(rows_of(run_motet(*arguments, "--csv").out), models_, strict=True):
        assert row == {key: "" if v is None else str(v) for key, v in model.items()}
    text = run_motet(*arguments, "--host", "none").out
    assert_plain(text)
    first = "20 ms on tiny-4x4 in fp32 (simulated): policy priority, arrivals periodic, seed 0\n"
    assert text.startswith(first)
    assert "back to back" in text
    assert "\nthe array worked 100.0 % of the time, utilisation " in text
    assert "\n2 operators run on the host and take no time here (--host)\n" in text


def test_no_run_finishes(run_motet: Motet, models: Path) -> None:
    write(models, a="rate_hz = 1")
    [model] = simulated(run_motet, "--duration", "1us")["models"]
    assert (model["released"], model["finished"], model["unfinished"]) == (1, 0, 1)
    assert model["mean_latency_seconds"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--duration 1e9", "at most 10,000,000 are simulated: give at most "),
        ("--duration 0", "'0' is no time above 0 and up to 1,000,000,000 s, as 1s"),
        ("--duration soon", "'soon' is no time above 0"),
        ("--duration 1s --policy rr", "'rr' is not one of 'fcfs', 'priority', 'edf'"),
        ("--policy edf", "--policy is of simulated time: give --duration too"),
        ("--keep-late", "--keep-late is of simulated time: give --duration too"),
        ("--duration 1s --jitter 10", "a jitter of 10 ms is no less than its period, 10 ms"),
        ("--duration 1s --jitter 1 --arrivals poisson", "--jitter is of periodic arrivals"),
        ("--duration 1s --arrivals gone.csv", "gone.csv: the trace cannot be read"),
        ("--duration 1s --host gone.json", "--host gone.json: No such file"),
        ("--duration 1s --host spec.toml", "--host spec.toml: give what 'motet bench"),
        ("--duration 1s --model b", "model 'b' follows 'a', which is not simulated"),
        ("--duration 1s --target host --host none", "--host none: these models run on the host"),
        ("--duration 1s --target host --format int8", "--format int8: these models run on the"),
    ],
)
def test_what_does_not_go(run_motet: Motet, models: Path, options: str, message: str) -> None:
    write(models, a="rate_hz = 100", b="after = ['a']")
    outcome = run_motet("simulate", "spec.toml", *options.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--jitter 1 --arrivals poisson", "--jitter is of periodic arrivals"),
        ("--jitter 1 --arrivals gone.csv", "--jitter is of periodic arrivals"),
        ("--arrivals gone.csv", "gone.csv: the trace cannot be read: No such file"),
        ("--arrivals bad.csv", "bad.csv: a trace has the columns model,seconds"),
    ],
)
def test_wrong_arrivals_are_told_before_models_are_looked_at(
    run_motet: Motet, options: str, message: str
) -> None:
    Path("bad.csv").write_text("when\n1\n")
    outcome = run_motet("simulate", "nothing.toml", "--duration", "1s", *options.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err


def test_a_mapping_that_the_array_cannot_meet(run_motet: Motet, models: Path) -> None:
    Path("m.toml").write_text("[dense]\ndataflow = 'weight-stationary'\npods = 8\n")
    outcome = run_motet(
        "simulate", models / "layers.onnx", "--target", "tiny-4x4", "--mapping", "m.toml"
    )
    assert (outcome.code, outcome.out) == (2, "")
    assert "--mapping m.toml: step 'dense' on array 'tiny-4x4': no mapping has pods = 8" in (
        outcome.err
    )
