"""``motet inspect --flops``: the published figures of networks, by ONNX node."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner, Result

import motet
from motet.benchmarks.zoo import figures, registry
from motet.cli import motet as command

EXAMPLES = Path(__file__).parents[2] / "examples"
DIGITS = EXAMPLES / "models" / "digits_mobile.onnx"


def invoke(*arguments: Any) -> Result:
    return CliRunner().invoke(command, ["inspect", *map(str, arguments), "--flops"])


def facts(*arguments: Any) -> Any:
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("name", "variant", "parameters", "macs"),
    [
        ("mobilenet_v1", None, 4_231_976, 568_740_352),
        ("mobilenet_v2", None, 3_504_872, 300_774_272),
        ("mobilenet_v3_small", None, 2_542_856, None),
        ("lstm", "small@3", None, None),
        ("vit_tiny", "@32", None, None),
        ("bert_base", "tiny@16", None, None),
    ],
)
def test_networks_of_the_zoo(
    name: str, variant: str | None, parameters: int | None, macs: int | None, tmp_path: Path
) -> None:
    model = registry.build(name, variant)
    onnx.save(model, tmp_path / "net.onnx")
    (one,) = facts(tmp_path / "net.onnx")
    assert one["macs"] == figures.macs(model) == (macs or one["macs"])
    assert one["parameters"] == figures.parameters(model) == (parameters or one["parameters"])
    assert sum(layer["macs"] for layer in one["layers"]) == one["macs"]
    nodes = [node.name for node in model.graph.node]
    listed = [layer["onnx_nodes"][0] for layer in one["layers"]]
    assert listed == sorted(listed, key=nodes.index)


def test_open_sizes_are_named() -> None:
    (one,) = facts(DIGITS)
    assert one["macs"] == "(N * 4086272)"
    (fixed,) = facts(DIGITS, "--shape", "image:2x1x32x32")
    assert fixed["macs"] == 2 * 4_086_272
    depthwise = next(x for x in fixed["layers"] if x["onnx_nodes"] == ["block8/depthwise/conv"])
    assert (depthwise["macs"], depthwise["parameters"]) == (2 * 27_648, 1728)


def test_a_specification_a_bundle_and_one_model(tmp_path: Path) -> None:
    found = facts(EXAMPLES / "digits.toml")
    assert [one["model"] for one in found] == ["mobile", "inception", "transformer"]
    (one,) = facts(EXAMPLES / "digits.toml", "--model", "inception")
    assert one["macs"] == "(N * 5393984)"
    motet.compile(DIGITS, shapes={"image": [1, 1, 32, 32]}).save(tmp_path / "digits.motet")
    (bundle,) = facts(tmp_path / "digits.motet")
    assert bundle["parameters"] is None
    nodes = {name for layer in bundle["layers"] for name in layer["onnx_nodes"]}
    assert {"stem/conv", "head/conv", "classifier"} <= nodes
    assert bundle["macs"] == sum(layer["macs"] for layer in bundle["layers"])


def test_csv_and_table() -> None:
    rows = list(csv.DictReader(io.StringIO(invoke(DIGITS, "--csv").stdout)))
    assert rows[0] == {
        "model": "digits_mobile", "onnx_nodes": "stem/conv", "operator": "Conv",
        "macs": "(N * 147456)", "parameters": "144",
    }  # fmt: skip
    assert "total" in invoke(DIGITS).stdout


def test_mistakes() -> None:
    wrong = CliRunner().invoke(command, ["inspect", str(DIGITS), "--csv"])
    assert wrong.exit_code == 2
    assert "--csv is for --flops" in wrong.output
    absent = CliRunner().invoke(command, ["inspect", str(DIGITS), "--flops", "--model", "x"])
    assert "there is no model 'x'; there are digits_mobile" in str(absent.exception)
