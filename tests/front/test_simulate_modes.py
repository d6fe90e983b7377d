"""``motet simulate --mode``: the closed forms, layer by layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from front_outcome import Motet, assert_plain, rows_of

from motet.targets.systolic.closed_form import gemm_cycles
from motet.targets.systolic.workload.layer_cycles import SPATIAL, layer_cycles
from motet.targets.systolic.workload.layers import Convolution

PRODUCTS = ("weight-stationary", "output-stationary", "input-stationary")
SHAPES = {"conv1+relu1": (1, 36, 8, 36), "grouped": (2, 36, 4, 36), "line": (8, 36, 1, 3),
          "dense": (1, 1, 5, 288)}  # fmt: skip
LINE = Convolution(1, 8, 8, 8, 6, 6, (1, 3), padding=(0, 1, 0, 1))


def rows(run_motet: Motet, models: Path, *options: str) -> dict[str, dict[str, Any]]:
    outcome = run_motet(
        "simulate", models / "layers.onnx", "--target", "tiny-4x4", "--json", *options
    )
    assert (outcome.code, outcome.err) == (0, "")
    return {row["layer"]: row for row in json.loads(outcome.out)}


@pytest.mark.parametrize("mode", ["scalesim", "double-buffered", "fuseconv"])
def test_products_are_the_closed_form(run_motet: Motet, models: Path, mode: str) -> None:
    found = rows(run_motet, models, "--mode", mode)
    assert list(found) == list(SHAPES)
    for layer, (groups, m, n, k) in SHAPES.items():
        row = found[layer]
        assert (row["groups"], row["m"], row["n"], row["k"]) == (groups, m, n, k)
        for flow in PRODUCTS if mode != "fuseconv" else PRODUCTS[1:2]:
            want = groups * gemm_cycles(m, n, k, 4, 4, flow, mode)
            assert row[f"{flow.replace('-', '_')}_cycles"] == want


@pytest.mark.parametrize("mode", ["double-buffered", "fuseconv"])
def test_lines_have_the_spatial_form(run_motet: Motet, models: Path, mode: str) -> None:
    found = rows(run_motet, models, "--mode", mode, "--dataflow", SPATIAL)
    assert found["line"].pop("spatial_output_stationary_cycles") == layer_cycles(
        LINE, 4, 4, SPATIAL, mode
    )
    assert found["dense"].pop("spatial_output_stationary_cycles") is None
    assert not [key for key in found["line"] if key.endswith("_cycles")]


def test_scalesim_has_no_spatial_form(run_motet: Motet, models: Path) -> None:
    found = rows(run_motet, models, "--mode", "scalesim")
    assert "spatial_output_stationary_cycles" not in found["line"]
    outcome = run_motet(
        "simulate", models / "layers.onnx", "--mode", "scalesim", "--dataflow", SPATIAL
    )
    assert outcome.code == 2
    assert "--mode scalesim has the dataflows weight-stationary" in outcome.err


def test_table_and_csv(run_motet: Motet, models: Path) -> None:
    arguments = ("simulate", models / "layers.onnx", "--target", "tiny-4x4", "--mode", "fuseconv")
    found = rows_of(run_motet(*arguments, "--csv").out)
    total = sum(int(row["output_stationary_cycles"]) for row in found)
    text = run_motet(*arguments).out
    assert_plain(text)
    assert text.startswith("compute cycles on tiny-4x4, mode fuseconv\n")
    assert f"\noutput_stationary_cycles: {total:,} in all\n" in text
    assert "\nspatial_output_stationary_cycles: 168 in 1 of 4 layers\n" in text


def test_a_topology(run_motet: Motet) -> None:
    Path("net.csv").write_text("Layer, M, N, K,\nproduct, 20, 24, 28,\n")
    outcome = run_motet(
        "simulate", "net.csv", "--target", "tiny-4x4", "--mode", "scalesim", "--json"
    )
    [row] = json.loads(outcome.out)
    for flow in PRODUCTS:
        want = gemm_cycles(20, 24, 28, 4, 4, flow)
        assert row[f"{flow.replace('-', '_')}_cycles"] == want


def test_a_configuration_has_its_dataflow_and_no_energy(run_motet: Motet) -> None:
    Path("net.csv").write_text("Layer, M, N, K,\nproduct, 20, 24, 28,\n")
    Path("scale.cfg").write_text(
        "[architecture_presets]\nArrayHeight: 4\nArrayWidth: 4\nIfmapSramSzkB: 16\n"
        "FilterSramSzkB: 16\nOfmapSramSzkB: 16\nBandwidth: 10\nDataflow : ws\n"
    )
    arguments = ("simulate", "net.csv", "--target", "scale.cfg")
    [row] = json.loads(run_motet(*arguments, "--mode", "scalesim", "--json").out)
    flows = {key for key in row if key.endswith("_cycles")}
    assert flows == {"weight_stationary_cycles"}
    assert "\nenergy: none; the array's description has no [energy]" in run_motet(*arguments).out
