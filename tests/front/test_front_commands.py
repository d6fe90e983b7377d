"""``motet simulate``, ``bench``, ``targets``, ``schema``, ``demo`` and the help."""

from __future__ import annotations

import json
from pathlib import Path

import front_models
import numpy as np
import pytest
from front_outcome import Motet, assert_plain, rows_of

from motet.cli import COMMANDS


def test_simulate(run_motet: Motet, inception: Path) -> None:
    outcome = run_motet("simulate", inception)
    assert (outcome.code, outcome.err) == (0, "")
    assert_plain(outcome.out)
    assert outcome.out.startswith("digits_inception on gemmini-16x16 in fp32 (simulated)\n")
    assert "utilisation = multiply-accumulates of the layer / (cycles that its" in outcome.out
    assert "\narrays: busy " in outcome.out


def test_simulate_json_and_csv_agree(run_motet: Motet, inception: Path) -> None:
    [report] = json.loads(run_motet("simulate", inception, "--json").out)
    rows = rows_of(run_motet("simulate", inception, "--csv").out)
    assert report["clock_hz"] == 1e9
    assert [row["layer"] for row in rows] == [layer["layer"] for layer in report["layers"]]
    assert sum(int(row["macs"]) for row in rows) == report["array_macs"] == report["macs"]
    assert report["speed_of_light_cycles"] <= report["cycles"]
    assert sum(report["stall_cycles"].values()) == report["cycles"]  # one pod
    for row in rows:
        if int(row["macs"]):
            peak = int(row["array_cycles"]) * 16 * 16
            assert float(row["utilisation"]) == pytest.approx(int(row["macs"]) / peak, abs=1e-6)


def test_simulate_compiles_a_model_for_the_default_array(run_motet: Motet, models: Path) -> None:
    [report] = json.loads(run_motet("simulate", models / "affine.onnx", "--json").out)
    assert report["array_share"] == 1.0
    assert report["clock_hz"] == 800e6


def test_bench(run_motet: Motet, mobile: Path) -> None:
    outcome = run_motet("bench", mobile, "--iterations", "20", "--warmup", "1", "--threads", "1")
    assert (outcome.code, outcome.err) == (0, "")
    assert_plain(outcome.out)
    [row] = json.loads(run_motet("bench", mobile, "--iterations", "20", "--json").out)
    assert row["runs"] == 20
    assert 0 < row["minimum_seconds"] <= row["median_seconds"] <= row["p95_seconds"]
    [row] = rows_of(run_motet("bench", mobile, "--duration", "0.05", "--csv").out)
    assert int(row["runs"]) >= 1


def test_bench_tells_where_the_time_goes(run_motet: Motet, mobile: Path) -> None:
    arguments = ("bench", mobile, "--profile", "--iterations", "3")
    [found] = json.loads(run_motet(*arguments, "--json").out)
    assert (found["model"], found["runs"]) == ("digits_mobile", 3)
    assert sum(call["macs"] for call in found["calls"]) == 4_086_272
    assert sum(call["share"] for call in found["calls"]) == pytest.approx(1)
    rows = rows_of(run_motet(*arguments, "--csv").out)
    assert [row["op"] for row in rows] == [call["op"] for call in found["calls"]]
    outcome = run_motet(*arguments, "--top", "2")
    assert (outcome.code, outcome.err) == (0, "")
    assert_plain(outcome.out)
    shown = [line for line in outcome.out.splitlines() if line.startswith("digits_mobile/")]
    assert len(shown) == 2


def test_bench_refuses_an_array(run_motet: Motet, inception: Path) -> None:
    outcome = run_motet("bench", inception)
    assert outcome.code == 2
    assert "motet simulate gives cycles" in outcome.err


def test_targets(run_motet: Motet) -> None:
    names = [entry["name"] for entry in json.loads(run_motet("targets", "--json").out)]
    assert "gemmini-16x16" in names
    assert [row["name"] for row in rows_of(run_motet("targets", "--csv").out)] == names
    text = run_motet("targets").out
    assert_plain(text)
    assert all(name in text for name in names)


def test_schema(run_motet: Motet) -> None:
    assert "models" in json.loads(run_motet("schema").out)["properties"]


def test_demo_on_a_folder_of_examples(run_motet: Motet, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32), dtype=np.uint8)
    np.savez(tmp_path / "data" / "digits_heldout.npz", images=images, labels=np.arange(5))
    front_models.digits(tmp_path / "digits.onnx")
    (tmp_path / "digits.toml").write_text("[models.only]\npath = 'digits.onnx'\n")
    outcome = run_motet("demo", "--examples", ".", "--images", "3", "--json")
    assert outcome.code == 0
    assert outcome.err.startswith("motet: demo: model ")  # a pipe is told how far it is
    assert all(line.startswith("motet: demo: ") for line in outcome.err.splitlines())
    result = json.loads(outcome.out)
    [model] = result["models"]
    assert model["images"] == 3
    assert model["accuracy_host"] == model["accuracy_array"] == model["accuracy_onnxruntime"]
    assert max(model["host_error"], model["array_error"]) < 1e-5
    assert model["report"]["array_share"] == 1.0
    assert {path.name for path in Path("demo").iterdir()} == {
        "digits-host.motet",
        "digits-gemmini-16x16.motet",
    }
    pictured = run_motet("demo", "--examples", ".", "--images", "1", "--svg", "demo.svg")
    assert_plain(pictured.out)
    assert Path("demo.svg").read_text().startswith("<svg")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command: str, run_motet: Motet) -> None:
    outcome = run_motet(command, "--help")
    assert outcome.code == 0
    assert f"  motet {command}" in outcome.out
    _usage, summary, *_rest = outcome.out.split("\n\n")
    assert " ".join(summary.split()) == COMMANDS[command]
    listed = run_motet("--help").out
    [line] = [line for line in listed.splitlines() if line.startswith(f"  {command} ")]
    assert line.endswith("."), "the summary is cut off"
    assert not line.endswith("...")
