"""``motet simulate --seconds``: models of a bundle that share an array."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from front_outcome import Motet, assert_plain, rows_of


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
    found = simulated(run_motet, "--seconds", "0.5")
    assert found["cycles"] == 50_000_000
    [model] = found["models"]
    assert model["run_cycles"] == run["cycles"]
    assert (model["released"], model["finished"], model["deadline_misses"]) == (50, 50, 0)
    for key in ("mean", "p50", "p99", "maximum"):
        latency = model[f"{key}_latency_seconds"]
        assert latency == pytest.approx(run["seconds_simulated"], rel=1e-9)
    assert model["deadline_seconds"] == 0.01
    assert model["array_cycles"] == 50 * run["cycles"]
    assert found["array_busy"] == pytest.approx(50 * run["cycles"] / found["cycles"])
    assert found["utilisation"] == pytest.approx(50 * run["macs"] / 16 / found["cycles"])
    assert model["host_operators"] == 1


def test_a_model_without_rate_runs_back_to_back(run_motet: Motet, models: Path) -> None:
    write(models, a="")
    [run] = simulated(run_motet)
    found = simulated(run_motet, "--seconds", "0.01")
    [model] = found["models"]
    assert model["finished"] == (found["cycles"] - 1) // run["cycles"]
    assert found["array_busy"] == 1.0
    assert (model["rate_hz"], model["deadline_seconds"], model["deadline_misses"]) == (
        None,
        None,
        0,
    )


def test_priority_decides_who_waits(run_motet: Motet, models: Path) -> None:
    write(models, low="rate_hz = 10", high="rate_hz = 10\npriority = 1\ndeadline_ms = 0.001")
    low, high = simulated(run_motet, "--seconds", "1")["models"]
    # "low" is released first in the file's order and is never broken off.
    cycles = low["run_cycles"]
    assert (low["waiting_cycles"], high["waiting_cycles"]) == (0, 10 * cycles)
    assert low["maximum_latency_seconds"] == pytest.approx(cycles / 1e8)
    assert high["p50_latency_seconds"] == pytest.approx(2 * cycles / 1e8)
    assert (low["deadline_misses"], high["deadline_misses"]) == (0, 10)
    assert high["deadline_seconds"] == pytest.approx(1e-6)


def test_a_bundle_gives_what_its_specification_gives(run_motet: Motet, models: Path) -> None:
    write(models, a="rate_hz = 100\npriority = 2", b="deadline_ms = 1")
    assert run_motet("compile", "spec.toml", "-o", "b.motet").code == 0
    options = ("--seconds", "0.02")
    assert simulated(run_motet, *options, file="b.motet") == simulated(run_motet, *options)


def test_table_and_csv(run_motet: Motet, models: Path) -> None:
    write(models, a="rate_hz = 100", b="")
    arguments = ("simulate", "spec.toml", "--seconds", "0.02")
    models_ = simulated(run_motet, "--seconds", "0.02")["models"]
    for row, model in zip(rows_of(run_motet(*arguments, "--csv").out), models_, strict=True):
        assert row == {key: "" if v is None else str(v) for key, v in model.items()}
    text = run_motet(*arguments).out
    assert_plain(text)
    assert text.startswith("20 ms on tiny-4x4 in fp32 (simulated)\n")
    assert "back to back" in text
    assert "\nthe array worked for some model in 100.0 % of 2,000,000 cycles at 100 MHz" in text
    assert "\n2 operators run on the host: they are left out and take no time\n" in text


def test_wires_are_left_out_and_it_is_said(run_motet: Motet, models: Path) -> None:
    write(models, a="rate_hz = 100", b="rate_hz = 100\nafter = ['a']")
    outcome = run_motet("simulate", "spec.toml", "--seconds", "0.01")
    assert outcome.code == 0
    assert "'after' and wires between models are left out" in outcome.err


def test_no_run_finishes(run_motet: Motet, models: Path) -> None:
    write(models, a="rate_hz = 1")
    [model] = simulated(run_motet, "--seconds", "1e-6")["models"]
    assert (model["released"], model["finished"]) == (1, 0)
    assert model["mean_latency_seconds"] is None


def test_too_many_runs_are_refused_with_what_would_do(run_motet: Motet, models: Path) -> None:
    write(models, a="rate_hz = 100", b="")
    outcome = run_motet("simulate", "spec.toml", "--seconds", "1e9")
    assert (outcome.code, outcome.out) == (2, "")
    assert "at most 10,000,000 are simulated: give at most " in outcome.err


def test_a_mapping_that_the_array_cannot_meet(run_motet: Motet, models: Path) -> None:
    Path("m.toml").write_text("[dense]\ndataflow = 'weight-stationary'\npods = 8\n")
    outcome = run_motet(
        "simulate", models / "layers.onnx", "--target", "tiny-4x4", "--mapping", "m.toml"
    )
    assert (outcome.code, outcome.out) == (2, "")
    assert "--mapping m.toml: step 'dense' on array 'tiny-4x4': no mapping has pods = 8" in (
        outcome.err
    )
