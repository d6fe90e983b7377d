"""What ``motet simulate`` takes, the formats it counts in, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from front_models import write
from front_outcome import Motet, assert_plain, rows_of
from onnx import TensorProto, helper

TOPOLOGY = """Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, \
Num Filter, Strides,
Conv1, 8, 8, 3, 3, 4, 8, 1,
Conv2, 6, 6, 1, 1, 8, 4, 1,
"""
CONFIG = """[general]
run_name = small

[architecture_presets]
ArrayHeight: 4
ArrayWidth: 8
IfmapSramSzkB: 16
FilterSramSzkB: 16
OfmapSramSzkB: 16
Bandwidth: 10
Dataflow: os

[run_presets]
InterfaceBandwidth: USER
"""
KEYS = {
    "model", "array", "number_format", "clock_hz", "cycles", "seconds_simulated", "macs",
    "array_macs", "array_share", "utilisation", "speed_of_light_cycles", "dram_bytes",
    "energy_joules", "stall_cycles", "layers", "host_operators", "placement",
}  # fmt: skip


def reports(run_motet: Motet, *arguments: object) -> list[dict[str, Any]]:
    outcome = run_motet("simulate", *arguments, "--json")
    assert outcome.code == 0, outcome.err
    found: list[dict[str, Any]] = json.loads(outcome.out)
    return found


def test_a_model(run_motet: Motet, models: Path) -> None:
    [report] = reports(run_motet, models / "layers.onnx", "--target", "tiny-4x4")
    assert set(report) == KEYS
    assert (report["array"], report["number_format"]) == ("tiny-4x4", "fp32")
    named = {layer["layer"]: layer for layer in report["layers"]}
    assert list(named) == ["conv1+relu1", "grouped", "line", "dense"]
    macs = [36 * 8 * 36, 36 * 8 * 36, 36 * 8 * 3, 288 * 5]
    assert [layer["macs"] for layer in named.values()] == macs
    assert report["macs"] == report["array_macs"] == sum(macs)
    assert report["utilisation"] == pytest.approx(sum(macs) / (16 * report["cycles"]))
    assert report["seconds_simulated"] == report["cycles"] / report["clock_hz"]
    assert sum(report["stall_cycles"].values()) == report["cycles"]  # of the one pod
    assert report["speed_of_light_cycles"] <= report["cycles"]
    [cosine] = report["host_operators"]
    assert cosine["kind"] == "cos"


def test_csv_has_a_row_per_layer(run_motet: Motet, models: Path) -> None:
    arguments = (models / "layers.onnx", "--target", "tiny-4x4")
    [report] = reports(run_motet, *arguments)
    rows = rows_of(run_motet("simulate", *arguments, "--csv").out)
    assert [row["layer"] for row in rows] == [layer["layer"] for layer in report["layers"]]
    for row, layer in zip(rows, report["layers"], strict=True):
        assert row == {key: str(value) for key, value in layer.items()}
    for row in rows:
        peak = int(row["array_cycles"]) * 4 * 4
        assert float(row["utilisation"]) == pytest.approx(int(row["macs"]) / peak, abs=1e-6)


def test_the_table_of_a_terminal_shortens_names(
    run_motet: Motet, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("simulate", models / "layers.onnx", "--target", "tiny-4x4")
    piped = run_motet(*arguments).out
    assert_plain(piped)
    assert "conv1+relu1 " in piped
    assert "\non the host, not timed: 1 x cos\n" in piped
    assert " uJ: dram " in piped
    monkeypatch.setattr("motet.console.PIPE_WIDTH", 150)
    narrow = run_motet(*arguments).out
    assert "conv1 +1 more" in narrow
    assert "conv1+relu1" not in narrow


def test_a_specification_and_its_bundle_have_equal_cycles(run_motet: Motet, models: Path) -> None:
    Path("two.toml").write_text(
        f"target = 'tiny-4x4'\n[models.a]\npath = '{models / 'layers.onnx'}'\n"
        f"[models.b]\npath = '{models / 'affine.onnx'}'\n"
    )
    first, second = reports(run_motet, "two.toml")
    assert [first["model"], second["model"]] == ["a", "b"]
    assert run_motet("compile", "two.toml", "-o", "two.motet").code == 0
    for of_bundle, of_specification in zip(
        reports(run_motet, "two.motet"), (first, second), strict=True
    ):
        for key in KEYS - {"placement", "host_operators"}:
            assert of_bundle[key] == of_specification[key], key
    [only] = reports(run_motet, "two.motet", "--model", "b")
    assert only == reports(run_motet, "two.motet")[1]


def test_a_topology_on_a_configuration(run_motet: Motet) -> None:
    Path("net.csv").write_text(TOPOLOGY)
    Path("scale.cfg").write_text(CONFIG)
    [report] = reports(run_motet, "net.csv", "--target", "scale.cfg")
    assert (report["model"], report["host_operators"]) == ("net", [])
    assert [layer["layer"] for layer in report["layers"]] == ["Conv1", "Conv2"]
    assert report["macs"] == 36 * 8 * 36 + 36 * 4 * 8
    assert {layer["dataflow"] for layer in report["layers"]} == {"output-stationary"}
    assert report["number_format"] == "int8"
    [wider] = reports(run_motet, "net.csv", "--target", "tiny-4x4", "--format", "fp32")
    assert (wider["array"], wider["number_format"]) == ("tiny-4x4", "fp32")


def test_a_model_on_a_configuration(run_motet: Motet, models: Path) -> None:
    Path("scale.cfg").write_text(CONFIG)
    outcome = run_motet("simulate", models / "affine.onnx", "--target", "scale.cfg", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    [report] = json.loads(outcome.out)
    assert report["array_share"] == 1.0


def test_int8_moves_fewer_bytes(run_motet: Motet, models: Path) -> None:
    arguments = (models / "layers.onnx", "--target", "tiny-4x4")
    [wide] = reports(run_motet, *arguments)
    [narrow] = reports(run_motet, *arguments, "--format", "int8")
    assert narrow["number_format"] == "int8"
    assert narrow["macs"] == wide["macs"]
    assert narrow["dram_bytes"] < wide["dram_bytes"] / 2
    assert sum(narrow["energy_joules"].values()) < sum(wide["energy_joules"].values())


def test_open_sizes_are_one(run_motet: Motet, models: Path) -> None:
    closed = reports(run_motet, models / "layers.onnx", "--target", "tiny-4x4")
    outcome = run_motet("simulate", models / "open_layers.onnx", "--target", "tiny-4x4", "--json")
    assert "open sizes are taken as 1 (image:1x4x6x6); --shape sets others" in outcome.err
    [report] = json.loads(outcome.out)
    assert report["cycles"] == closed[0]["cycles"]
    two = run_motet(
        "simulate", models / "open_layers.onnx", "--target", "tiny-4x4",
        "--shape", "image:2x4x6x6", "--json",
    )  # fmt: skip
    assert two.err == ""
    assert json.loads(two.out)[0]["macs"] == 2 * report["macs"]


def test_sizes_that_cannot_be_one(run_motet: Motet) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    tensors = ([(name, TensorProto.FLOAT, [2, size])] for name, size in (("x", "T"), ("y", 3)))
    write(Path("eight.onnx"), [node], *tensors, w=np.ones((8, 3), "float32"))
    outcome = run_motet("simulate", "eight.onnx", "--target", "tiny-4x4")
    assert (outcome.code, outcome.out) == (2, "")
    assert "open sizes were taken as 1 (x:2x1), and that does not work" in outcome.err
    assert "give others with --shape" in outcome.err
    [report] = reports(run_motet, "eight.onnx", "--target", "tiny-4x4", "--shape", "x:2x8")
    assert report["macs"] == 2 * 3 * 8


def test_nothing_on_the_array(run_motet: Motet, models: Path) -> None:
    arguments = ("simulate", models / "logarithm.onnx", "--target", "tiny-4x4")
    [report] = json.loads(run_motet(*arguments, "--json").out)
    assert (report["cycles"], report["layers"], report["array_share"]) == (0, [], 0.0)
    assert run_motet(*arguments, "--csv").out == ""
    text = run_motet(*arguments).out
    assert text.startswith(
        "logarithm on tiny-4x4 in fp32 (simulated)\nnothing of model 'logarithm' runs on array "
        "'tiny-4x4': no operator is one that the array computes\n"
        "on the host, not timed: 1 x log\n"
    )
    for option in ("--trace=t.json", "--plot=timeline.svg", "--plot=roofline.svg"):
        outcome = run_motet(*arguments, option)
        assert outcome.code == 2
        assert "nothing runs on the array" in outcome.err
    outcome = run_motet(*arguments, "--save-mapping", "m.toml")
    assert (outcome.code, Path("m.toml").exists()) == (2, False)
    outcome = run_motet(*arguments, "--seconds", "1")
    assert outcome.code == 2
    assert "nothing of model 'logarithm' runs on array 'tiny-4x4'" in outcome.err


def test_a_bundle_keeps_its_format_and_mappings(run_motet: Motet, inception: Path) -> None:
    for options, says in (
        (("--format", "int8"), "are in fp32; give the model or specification"),
        (("--save-mapping", "m.toml"), "have their mappings"),
        (("--mode", "scalesim"), "give what the bundle was made of"),
        (("--target", "tiny-4x4"), "is compiled already"),
        (("--model", "nobody"), "no model 'nobody'; its models are digits_inception"),
    ):
        outcome = run_motet("simulate", inception, *options)
        assert outcome.code == 2
        assert says in outcome.err
        assert outcome.err.count("\n") == 1
    assert run_motet("simulate", inception, "--format", "fp32", "--json").code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--target host", "is for the host"),
        ("--target gemmini-16x16 --format int4", "--format int4: array 'gemmini-16x16' offers"),
        ("--json --csv", "--json and --csv exclude each other"),
        ("--dataflow weight-stationary", "--dataflow is for closed forms"),
        ("--mode scalesim --trace t.json", "--mode scalesim has no trace or plot"),
        ("--mode scalesim --save-mapping m.toml", "--mode scalesim has no mapping"),
        ("--mode scalesim --seconds 1", "leave --mode scalesim out"),
        ("--mode fuseconv --dataflow weight-stationary", "--mode fuseconv has the dataflows"),
        ("--seconds 1 --plot timeline.svg", "--duration has no trace or plot"),
        ("--seconds 0", "--seconds"),
        ("--mapping nowhere.toml", "--mapping nowhere.toml: there is no such file"),
        ("--plot picture.svg", "the name says what to draw"),
        ("--trace nowhere/t.json", "there is no folder nowhere"),
    ],
)
def test_what_does_not_go(run_motet: Motet, models: Path, arguments: str, says: str) -> None:
    outcome = run_motet("simulate", models / "affine.onnx", *arguments.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert says in outcome.err
    assert "Traceback" not in outcome.err
