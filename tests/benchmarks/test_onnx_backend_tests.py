"""The official tests as a command: it judges as onnx's runner does, and nothing ends it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from backend_workers import badly
from click.testing import CliRunner

from motet.benchmarks.onnx_backend_tests.__main__ import main
from motet.benchmarks.onnx_backend_tests.cases import KINDS, Case, official_cases, selected
from motet.benchmarks.onnx_backend_tests.left_out import why_left_out
from motet.benchmarks.onnx_backend_tests.report import as_json, page
from motet.benchmarks.onnx_backend_tests.run import Result, results
from motet.benchmarks.onnx_backend_tests.subject import Payload, examine


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return official_cases()


def find(cases: list[Case], name: str) -> Case:
    return next(case for case in cases if case.name == name)


def payload_of(case: Case) -> Payload:
    model = case.model()
    sets = case.data_sets(model)
    return Payload("motet", model.SerializeToString(), sets, case.rtol, case.atol)


def test_every_official_case_is_there_once(cases: list[Case]) -> None:
    assert {case.kind for case in cases} == set(KINDS)
    assert len({case.name for case in cases}) == len(cases) > 1000
    assert all(case.operators for case in cases if case.kind == "node")
    assert find(cases, "test_celu_expanded").operators[0].name == "Celu"


@pytest.mark.parametrize("name", ["test_resnet50", "test_sequence_model1", "test_Linear"])
def test_data_of_stored_cases(cases: list[Case], name: str) -> None:
    model = find(cases, name).model()
    ((inputs, outputs),) = find(cases, name).data_sets(model)
    stored = {tensor.name for tensor in model.graph.initializer}
    assert len(inputs) == len([info for info in model.graph.input if info.name not in stored])
    assert len(outputs) == len(model.graph.output)


def test_a_crash_and_a_hang_are_failures(cases: list[Case]) -> None:
    bad = [replace(find(cases, f"test_{n}"), rtol=i) for i, n in enumerate(["abs", "add", "ceil"])]
    found = {r.case.name: r for r in results([*bad, bad[0]], 1, 4.0, examine_one=badly)}
    assert found["test_abs"].result == "passed"
    assert found["test_add"].result == "failed"
    assert "internal: its worker died" in found["test_add"].reason
    assert found["test_ceil"].reason == "internal: took more than 4 s"


def test_answers_are_compared_with_the_case_tolerances(cases: list[Case]) -> None:
    payload = payload_of(find(cases, "test_sqrt_example"))
    ((inputs, outputs),) = payload.data_sets
    assert examine(payload).kind == "passed"
    for wrong in (outputs[0] * np.float32(1.01), outputs[0].astype("float64"), outputs[0][:1]):
        outcome = examine(replace(payload, data_sets=[(inputs, [wrong])]))
        assert outcome.kind == "wrong"
        assert outcome.reason


def test_values_of_a_call_are_told(cases: list[Case]) -> None:
    outcome = examine(payload_of(find(cases, "test_reduce_sum_keepdims_example")))
    assert (outcome.kind, outcome.fixed, outcome.constant) == ("passed", ("axes",), False)


def test_only_what_is_refused_by_design_is_skipped(cases: list[Case]) -> None:
    for name, reason in (
        ("test_string_concat", "text"),
        ("test_adam", "training"),
        ("test_equal_string", "text"),
        ("test_add", None),
    ):
        case = find(cases, name)
        assert why_left_out(case, case.model()) == reason


def test_the_report_counts(cases: list[Case]) -> None:
    first, second, third = (find(cases, f"test_{name}") for name in ("abs", "add", "string_concat"))
    found = [
        Result(first, "passed", "", 0.5, ("k",), constant=True),
        Result(second, "failed", "wrong: 1 of 3", 0.5),
        Result(third, "skipped", "text: no strings", 0.5),
    ]
    facts = as_json(found, {"version": "1", "passed": 2, "failed": 1, "skipped": 0})
    assert [facts[key] for key in ("passed", "failed", "skipped", "specialised")] == [1, 1, 1, 1]
    assert facts["operators"]["Add"] == {"passed": 0, "failed": 1, "skipped": 0}
    assert facts["cases"]["test_add"] == {
        "result": "failed",
        "reason": "wrong: 1 of 3",
        "seconds": 0.5,
    }
    text = page(found, "1.2", {"version": "1", "passed": 2})
    assert "**1 of 3 cases pass**" in text
    assert "| Add | 14 | 0 | 1 | 0 |" in text
    assert "- `test_add`: wrong: 1 of 3" in text


def test_a_failure_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(cases: list[Case], *_how: object) -> list[Result]:
        return [Result(case, "failed", "wrong: 1 of 3", 0.5) for case in cases]

    monkeypatch.setattr(f"{main.callback.__module__}._run", failing)
    done = CliRunner().invoke(main, ["-k", "^test_relu$"])
    assert done.exit_code == 1
    assert "failed: test_relu: wrong: 1 of 3" in done.output


def test_the_command(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = ["-k", "^test_(relu|string_concat)$", "--jobs", "1", "--json", str(out)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    facts = json.loads(out.read_text())
    assert {n: c["result"] for n, c in facts["cases"].items()} == {
        "test_relu": "passed",
        "test_string_concat": "skipped",
    }
    assert "Relu" in done.output
    again = CliRunner().invoke(main, ["-k", "relu", "--from", str(out), "--markdown"])
    assert "**1 of 1 cases pass**" in again.output
    assert "| Relu | 14 | 1 | 0 | 0 |" in again.output
    none = CliRunner().invoke(main, ["-k", "no such case"])
    assert "no case has 'no such case' in its name" in none.output


def test_a_pattern_selects(cases: list[Case]) -> None:
    assert [case.name for case in selected(cases, "^test_relu$")] == ["test_relu"]
