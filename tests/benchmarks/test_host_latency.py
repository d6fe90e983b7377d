"""The latency benchmark: its suite, and that both engines are timed on a network of the zoo."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

from motet.benchmarks import host_latency


def test_networks_of_the_zoo_are_made_when_their_turn_comes():
    existing, made = host_latency.suite([Path("x.onnx")], ["lstm@3"])
    with existing as path:
        assert path == Path("x.onnx")
    with made as path:
        assert path.name == "lstm.onnx"
        (info,) = onnx.load(path).graph.input
        assert info.type.tensor_type.shape.dim[0].dim_value == 3
    assert not path.exists()


@pytest.mark.slow
def test_both_engines_are_timed():
    arguments = ["--zoo", "lstm@2", "--threads", "1", "--rounds", "1", "--json"]
    done = CliRunner().invoke(host_latency.main, arguments)
    assert done.exit_code == 0, done.output
    (result,) = json.loads(done.stdout)
    assert (result["model"], result["threads"]) == ("lstm", 1)
    assert result["macs"] == 2 * 2 * (4 * 512 * 512 * 2)
    ratio = result["onnxruntime_seconds"] / result["motet_seconds"]
    assert result["ratio"] == pytest.approx(ratio)
    assert result["limit_seconds"] > 0


def test_a_network_that_the_zoo_lacks_is_told_at_once():
    done = CliRunner().invoke(host_latency.main, ["--zoo", "lstm@2", "--zoo", "alexnet"])
    assert done.exit_code == 2
    assert "the zoo has no network 'alexnet'; it has bert_base, " in done.output
