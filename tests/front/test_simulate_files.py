"""What ``motet simulate`` reads and writes beside its report: mappings, traces, plots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from front_models import write
from front_outcome import Motet
from onnx import TensorProto, helper

DATAFLOWS = ("weight-stationary", "output-stationary", "input-stationary")


@pytest.fixture
def simulate(run_motet: Motet, models: Path) -> Any:
    """``motet simulate`` of one model on tiny-4x4: its reports, or the line of its error."""

    def run(*options: object, file: object = models / "layers.onnx") -> Any:
        outcome = run_motet("simulate", file, "--target", "tiny-4x4", "--json", *options)
        if outcome.code:
            assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
            return outcome.err
        return json.loads(outcome.out)

    return run


def test_a_saved_mapping_gives_the_same_cycles(simulate: Any) -> None:
    before = simulate("--save-mapping", "m.toml")
    assert simulate("--mapping", "m.toml") == before
    assert simulate("--mapping", "m.toml", "--save-mapping", "m.toml") == before


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_an_edited_dataflow_is_obeyed(simulate: Any, dataflow: str) -> None:
    Path("m.toml").write_text(f"[grouped]\ndataflow = '{dataflow}'\n[dense]\ntile_depth = 16\n")
    [report] = simulate("--mapping", "m.toml", "--save-mapping", "used.toml")
    named = {layer["layer"]: layer["dataflow"] for layer in report["layers"]}
    assert named["grouped"] == dataflow
    assert named["line"] == "spatial-output-stationary"
    assert "tile_depth = 16\n" in Path("used.toml").read_text()


def test_a_dataflow_for_every_layer(simulate: Any) -> None:
    Path("m.toml").write_text("['*']\ndataflow = 'output-stationary'\n")
    [report] = simulate("--mapping", "m.toml")
    assert {layer["dataflow"] for layer in report["layers"]} == {"output-stationary"}


def test_layers_of_the_same_name_in_two_models(simulate: Any, models: Path) -> None:
    Path("two.toml").write_text(
        f"[models.a]\npath = '{models / 'layers.onnx'}'\n"
        f"[models.b]\npath = '{models / 'open_layers.onnx'}'\n"
        "shapes = { image = [2, 4, 6, 6] }\n"
    )
    before = simulate("--save-mapping", "m.toml", file="two.toml")
    assert '["a:dense"]' in Path("m.toml").read_text()
    assert simulate("--mapping", "m.toml", file="two.toml") == before
    Path("m.toml").write_text("[dense]\ndataflow = 'weight-stationary'\n"
                              "['b:dense']\ndataflow = 'output-stationary'\n")  # fmt: skip
    found = simulate("--mapping", "m.toml", file="two.toml")
    flows = [[s["dataflow"] for s in r["layers"] if s["layer"] == "dense"] for r in found]
    assert flows == [["weight-stationary"], ["output-stationary"]]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[dens]\npods = 1\n", "m.toml: no step is called 'dens'; did you mean dense?"),
        ("[dense]\npod = 1\n", "unknown key 'pod'"),
        ("[dense]\ndataflow = 'sideways'\n", "dataflow = 'sideways': must be one of"),
        ("[dense]\ntile_rows = 0\n", "tile_rows = 0: must be an integer from 1 on"),
        ("[dense]\npods = 7\n", "pods"),
        ("dense = 3\n", "must be a table"),
        ("[dense\n", "m.toml: not TOML"),
    ],
)
def test_a_wrong_mapping_is_one_clear_error(simulate: Any, content: str, says: str) -> None:
    Path("m.toml").write_text(content)
    error = simulate("--mapping", "m.toml")
    assert "m.toml" in error or "dense" in error
    assert says in error


def test_a_specification_is_never_overwritten(simulate: Any, models: Path) -> None:
    content = f"[models.a]\npath = '{models / 'affine.onnx'}'\n"
    Path("spec.toml").write_text(content)
    for option in ("--save-mapping", "--trace"):
        error = simulate(option, "spec.toml")
        assert "this would overwrite a model or a specification" in error
    assert Path("spec.toml").read_text() == content


def test_a_trace_has_every_engine(simulate: Any) -> None:
    [report] = simulate("--trace", "t.json")
    trace = json.loads(Path("t.json").read_text())
    events = trace["traceEvents"]
    assert {event["ph"] for event in events} == {"M", "X"}
    threads = {
        (e["pid"], e["tid"]) for e in events if e["ph"] == "M" and e["name"] == "thread_name"
    }
    spans = [event for event in events if event["ph"] == "X"]
    assert {(span["pid"], span["tid"]) for span in spans} <= threads
    assert min(span["dur"] for span in spans) >= 0
    last = max(span["args"]["cycle"] + span["args"]["cycles"] for span in spans)
    assert last <= report["cycles"] == trace["otherData"]["cycles"]
    assert {"conv1+relu1", "dense"} <= {span["name"] for span in spans}


def test_a_trace_of_two_models_has_both(simulate: Any, models: Path) -> None:
    Path("two.toml").write_text(
        f"[models.a]\npath = '{models / 'layers.onnx'}'\n"
        f"[models.b]\npath = '{models / 'affine.onnx'}'\n"
    )
    found = simulate("--trace", "t.json", file="two.toml")
    trace = json.loads(Path("t.json").read_text())
    assert trace["otherData"]["cycles"] == sum(report["cycles"] for report in found)
    assert {"dense", "product"} <= {e["name"] for e in trace["traceEvents"] if e["ph"] == "X"}


def test_both_plots(simulate: Any) -> None:
    pytest.importorskip("matplotlib")
    simulate("--plot", "timeline.svg", "--plot", "layers-roofline.svg")
    for name in ("timeline.svg", "layers-roofline.svg"):
        content = Path(name).read_text()
        assert "<svg" in content
        assert "conv1" in content


def test_layers_of_several_programs_count_on(simulate: Any, tmp_path: Path) -> None:
    """The host's operator between two products makes two programs, one after the other."""
    weight = np.eye(8, dtype=np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "before"),
        helper.make_node("Sin", ["a"], ["b"], "host"),
        helper.make_node("MatMul", ["b", "w"], ["y"], "after"),
    ]
    tensors = [(name, TensorProto.FLOAT, [8, 8]) for name in "xy"]
    path = write(tmp_path / "two.onnx", nodes, tensors[:1], tensors[1:], w=weight)
    [report] = simulate("--trace", "two.json", file=path)
    assert len(report["host_operators"]) == 1
    before, after = report["layers"]
    assert 0 < before["start_cycle"] < before["end_cycle"] <= after["start_cycle"]
    assert after["end_cycle"] == report["cycles"]
    events = json.loads(Path("two.json").read_text())["traceEvents"]
    for layer in (before, after):
        streams = [e for e in events if e.get("cat") == "array" and e["name"] == layer["layer"]]
        assert layer["start_cycle"] == min(event["args"]["cycle"] for event in streams)
