"""The benchmark beside SCALE-Sim, with a stand-in for SCALE-Sim where it is not installed."""

from __future__ import annotations

import json
import sys

import pytest
from click.testing import CliRunner

from motet.benchmarks.rtl_proof import main as rtl_proof
from motet.benchmarks.scalesim import main, resnet50_topology
from motet.targets.systolic.workload.scalesim import read_topology

TOPOLOGY = "Layer,M,N,K,\nfirst,9,6,8,\nsecond,3,3,3,\n"
CYCLES = {"first": 4 * (8 + 4 + 9 - 2), "second": 8 + 4 + 3 - 2}
"""SCALE-Sim's compute cycles on 4x4, weight-stationary."""


@pytest.fixture
def stand_in(tmp_path):
    """A file that answers as the worker does."""

    def make(cycles):
        results = [
            {"name": name, "compute_cycles": count, "seconds": 1.0}
            for name, count in cycles.items()
        ]
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(results)}\nEND\n")
        path.chmod(0o755)
        return str(path)

    return make


def run(tmp_path, *arguments):
    (tmp_path / "net.csv").write_text(TOPOLOGY)
    options = ["--topology", str(tmp_path / "net.csv"), "--array", "4x4", "--dataflow", "ws"]
    return CliRunner().invoke(main, [*options, *arguments])


def test_cycles_side_by_side(tmp_path, stand_in):
    options = ["--python", stand_in(CYCLES), "--memory-layers", "0", "--json"]
    result = run(tmp_path, *options)
    assert result.exit_code == 0, result.output
    first, second = json.loads(result.stdout)
    assert (first["layer"], first["scalesim_cycles"], first["cycles"]) == ("first", 76, 76)
    assert first["double_buffered_cycles"] == 4 + 4 * 9 + 6
    assert second["view_cycles"] >= second["double_buffered_cycles"] == 4 + 3 + 6
    assert first["memory_seconds"] is None


def test_a_difference_is_told(tmp_path, stand_in):
    result = run(tmp_path, "--python", stand_in(CYCLES | {"first": 77}), "--memory-layers", "0")
    assert result.exit_code == 1
    assert "77" in result.output


@pytest.mark.parametrize(
    ("python", "says"), [(sys.executable, "pip install scalesim"), ("/none/python", "cannot run")]
)
def test_without_scalesim(tmp_path, python, says):
    if python == sys.executable:
        try:
            import scalesim  # type: ignore[import-not-found]  # noqa: F401
        except ModuleNotFoundError:
            pass
        else:
            pytest.skip("SCALE-Sim is installed here")
    result = run(tmp_path, "--python", python)
    assert result.exit_code == 1
    assert says in result.output


def test_an_array_is_rows_by_columns(tmp_path):
    assert "ROWSxCOLUMNS" in run(tmp_path, "--array", "big").output


def test_layers_of_resnet50(tmp_path):
    path = tmp_path / "resnet50.csv"
    path.write_text(resnet50_topology(100))
    assert len(read_topology(path).steps) == 24
    path.write_text(resnet50_topology(4))
    first, *others = (step.layer for step in read_topology(path).steps)
    assert len(others) == 3
    assert first.product_shape == (1, 12544, 64, 147)


@pytest.mark.parametrize("wrong", [[], ["4 cycles, closed form 5"]])
def test_the_proof_as_a_command(monkeypatch, wrong):
    pytest.importorskip("amaranth")
    from motet.benchmarks.rtl import proof

    monkeypatch.setattr(proof, "GROUPS", proof.GROUPS[:4])
    if wrong:
        monkeypatch.setattr(proof, "differences", lambda case, run: wrong)
    result = CliRunner().invoke(rtl_proof, ["--cases", "4", "--json"])
    made = json.loads(result.stdout)
    assert result.exit_code == bool(wrong)
    assert [tally["cases"] for tally in made["tallies"]] == [1] * 4
    assert len(made["differences"]) == 4 * len(wrong)
