"""Commands on models whose inputs and outputs are sequences and optionals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from front_outcome import Motet

GRAPH = """
<ir_version: 8, opset_import: ["" : 17]>
m (seq(float[n]) many, optional(float[2]) maybe) => (seq(float[n]) doubled, bool there) {
    doubled = SequenceMap<body = body (float[n] one) => (float[n] two) {
        two = Add(one, one)
    }>(many)
    there = OptionalHasElement(maybe)
}
"""


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    path = tmp_path / "lists.onnx"
    path.write_bytes(onnx.parser.parse_model(GRAPH).SerializeToString())
    return path


def test_run_and_check_name_the_items(run_motet: Motet, lists: Path, tmp_path: Path) -> None:
    shapes = ("--shape", "many.0:2", "--shape", "many.1:1")
    given = ("--input", "many.0=1,2", "--input", "many.1=3")
    outcome = run_motet("run", lists, *shapes, *given, "--json", "--output", f"@{tmp_path}/o.npz")
    [report] = json.loads(outcome.out)
    assert report["outputs"]["doubled.0"]["first"] == [2, 4]
    assert report["outputs"]["there"]["first"] == [True]
    with np.load(tmp_path / "o.npz") as written:
        assert written["doubled.1"].tolist() == [6]
    for options in ((), ("--outputs", "all")):
        checked = run_motet("check", lists, *shapes, *options)
        assert (checked.code, checked.err) == (0, "")


def test_a_specification_lists_the_shapes(run_motet: Motet, lists: Path, tmp_path: Path) -> None:
    spec = tmp_path / "lists.toml"
    spec.write_text(
        '[models.lists]\npath = "lists.onnx"\nshapes = { many = [[2], [1], [2]] }\n'
        'values = { maybe = "none" }\n'
    )
    checked = run_motet("check", spec)
    assert checked.code == 0
    assert "doubled.2" in checked.out
    assert run_motet("check", lists, "--shape", "many.0:1", "--value", "maybe=none").code == 0


def test_how_many_must_be_said(run_motet: Motet, lists: Path) -> None:
    outcome = run_motet("run", lists)
    assert outcome.code == 2
    assert "'many' is a sequence" in outcome.err
    assert "--shape many.0:2x3" in outcome.err
