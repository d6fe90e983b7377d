"""The fuzzer: cases are what their numbers say, findings are found, and a few cases are fine."""

from __future__ import annotations

import json
import os
import time
from random import Random

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from motet.benchmarks.fuzz import __main__ as main_module
from motet.benchmarks.fuzz import cases, judge, report, run, seeds, subject, versions
from motet.benchmarks.fuzz.__main__ import main
from motet.benchmarks.fuzz.mutations import MUTATIONS
from motet.errors import ModelError
from motet.runtime.program import TensorInfo

SMOKE = 40


@pytest.fixture(scope="module")
def origins():
    return seeds.official(["pytorch-operator", "pytorch-converted", "simple"])


def relu(shape=(2, 3)):
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def case_of(content, **inputs):
    return cases.Case(0, "relu", (), content, inputs)


def test_a_few_cases_are_fine(origins):
    made = [cases.make_case(number, 0, origins) for number in range(SMOKE)]
    with run.Runner(1, run.Limits()) as runner:
        results = list(runner.results(made))
    assert len(results) == SMOKE
    assert not [report.describe(result) for result in results if result.is_finding]
    kinds = {result.kind for result in results}
    assert {"right", "refused"} <= kinds


def test_the_same_numbers_give_the_same_case(origins):
    first, again = (cases.make_case(12, 3, origins) for _ in range(2))
    assert first.content == again.content
    assert first.steps == again.steps
    assert first.content != cases.make_case(12, 4, origins).content


@pytest.mark.parametrize("mutation", dict.fromkeys(MUTATIONS), ids=lambda m: m.__name__)
def test_every_mutation_changes_some_model(mutation, origins):
    changed = 0
    for number, origin in enumerate(origins):
        model = onnx.load_from_string(origin.content)
        step = mutation(model, Random(number))
        changed += model.SerializeToString(deterministic=True) != origin.content
        assert isinstance(step, str)
    assert changed


def test_a_right_answer_is_right():
    outcome = subject.examine(case_of(relu(), x=np.linspace(-1, 1, 6).reshape(2, 3)))
    assert outcome.kind == "answer"
    verdict = judge.by_onnxruntime(relu(), outcome.inputs, outcome.outputs)
    assert verdict.kind == "right"


def test_a_wrong_answer_is_found():
    inputs = {"x": np.ones((2, 3), np.float32)}
    wrong = {"y": np.zeros((2, 3), np.float32)}
    first = judge.by_onnxruntime(relu(), inputs, wrong)
    second = judge.by_reference(relu(), inputs, wrong)
    assert (first.kind, second.kind) == ("differs", "differs")
    assert judge.settled(first, second).kind == "wrong answer"


def test_the_reference_decides_where_the_two_differ():
    differs, cannot, right = (judge.Verdict(kind) for kind in ("differs", "cannot", "right"))
    assert judge.settled(differs, right).kind == "right by onnx.reference"
    assert judge.settled(cannot, cannot).kind == "unjudged"
    assert judge.settled(judge.Verdict("refuses the inputs"), differs).kind == "unjudged"
    assert judge.settled(cannot, differs).kind == "wrong answer by onnx.reference"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ModelError("fuzzed.onnx: node 'a' is wrong"), "refused"),
        (ModelError("it is wrong"), "message without a name"),
        (ModelError("fuzzed.onnx: " + "a" * 25_000), "message too long or empty"),
        (ValueError("fuzzed.onnx"), "ValueError"),
        (MemoryError(), "out of memory"),
    ],
)
def test_only_a_line_with_a_name_is_a_refusal(monkeypatch, error, kind):
    def fail(_):
        raise error

    monkeypatch.setattr(subject, "_answer", fail)
    assert subject.examine(case_of(relu())).kind == kind


def test_a_message_is_one_line():
    assert str(ModelError("input 'a\nb\x1b[31m\u2028'")) == r"input 'a\nb\x1b[31m\u2028'"


def _crash(_):
    os.abort()


def _hang(_):
    time.sleep(60)


@pytest.mark.parametrize(("examine", "kind"), [(_crash, "crash"), (_hang, "time out")])
def test_crashes_and_time_outs_end_the_case_and_not_the_run(monkeypatch, examine, kind):
    monkeypatch.setattr(run, "examine", examine)
    monkeypatch.setattr(run, "prepare", _no_preparation)
    with run.Runner(1, run.Limits(seconds=2)) as runner:
        results = list(runner.results([case_of(relu())] * 2))
    assert [result.kind for result in results] == [kind] * 2


def _no_preparation(_):
    return None


def test_inputs_suit_shapes_and_symbols():
    infos = (TensorInfo("a", "int64", ("N", 2)), TensorInfo("b", "uint8", (3, "N")))
    inputs = subject.fitting_inputs(infos, {"a": np.arange(10.0).reshape(5, 2)})
    assert inputs["a"].shape == (5, 2)
    assert inputs["b"].shape == (3, 5)
    assert [array.dtype.name for array in inputs.values()] == ["int64", "uint8"]
    renamed = subject.fitting_inputs((TensorInfo("b", "float32", (2,)),), {"a": np.ones(2)})
    assert renamed["b"].tolist() == [1, 1]
    assert subject.fitting_inputs((TensorInfo("a", "int8", (1 << 20, 1 << 20)),), {}) is None


def test_findings_are_kept_and_counted(tmp_path):
    summary = report.Summary()
    found = run.Result(case_of(relu(), x=np.ones(3)), "crash", "the worker ended with -6")
    for result in (found, run.Result(case_of(relu()), "refused", "")):
        summary.add(result)
    report.keep(found, tmp_path)
    report.save_json(summary, tmp_path / "out.json", seed=1, seconds=2.5)
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["kinds"] == {"crash": 1, "refused": 1}
    assert [one["kind"] for one in written["cases_with_findings"]] == ["crash"]
    assert (tmp_path / "case_0.onnx").read_bytes() == relu()
    assert "ended with -6" in (tmp_path / "case_0.txt").read_text()


def test_the_command_says_how_it_ended(monkeypatch, tmp_path, origins):
    monkeypatch.setattr(seeds, "official", lambda: origins)
    monkeypatch.setattr(seeds, "networks", list)
    arguments = ["--count", "3", "--keep", str(tmp_path), "--json", str(tmp_path / "x.json")]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "3 cases: " in done.output
    assert json.loads((tmp_path / "x.json").read_text())["cases"] == 3


def test_one_case_is_shown_in_full(monkeypatch, origins):
    monkeypatch.setattr(seeds, "official", lambda: origins)
    monkeypatch.setattr(seeds, "networks", list)
    monkeypatch.setattr(main_module, "prepare", lambda *_, **__: None)
    numbers = [n for n in range(99) if not cases.make_case(n, 0, origins).steps[0].startswith("a")]
    done = CliRunner().invoke(main, ["--case", str(numbers[0])])
    assert done.exit_code == 0, done.output
    assert f"case {numbers[0]} of test_" in done.output


def test_sequences_are_compared_item_by_item():
    split = helper.make_node("SplitToSequence", ["x"], ["y"])
    graph = helper.make_graph(
        [split],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content, x = proto.SerializeToString(), np.arange(6, dtype=np.float32).reshape(2, 3)
    right, wrong = [x[:1], x[1:]], [x[:1], x[:1]]
    for judged in (judge.by_onnxruntime, judge.by_reference):
        assert judged(content, {"x": x}, {"y": right}).kind == "right"
        assert judged(content, {"x": x}, {"y": wrong}).kind == "differs"
        assert judged(content, {"x": x}, {"y": right[:1]}).kind == "differs"
        assert judged(content, {"x": x}, {"y": x}).kind == "differs"


def test_random_numbers_are_not_judged():
    draw = helper.make_node("RandomUniformLike", ["x"], ["y"])
    branch = helper.make_graph([draw], "b", [], [onnx.ValueInfoProto(name="y")])
    choice = helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    model = onnx.ModelProto(graph=helper.make_graph([choice], "g", [], []))
    assert judge.is_random(model)
    assert not judge.is_random(onnx.load_from_string(relu()))
    content = model.SerializeToString()
    assert judge.by_onnxruntime(content, {}, {}).kind == "cannot"
    assert judge.by_reference(content, {}, {}).kind == "cannot"


def test_onnxruntime_is_given_versions_that_it_knows():
    newest = onnx.defs.onnx_opset_version()
    model = onnx.load_from_string(relu())
    model.ir_version, model.opset_import[0].version = onnx.IR_VERSION, newest
    inputs = {"x": np.ones((2, 3), np.float32)}
    verdict = judge.by_onnxruntime(model.SerializeToString(), inputs, {"y": inputs["x"]})
    assert verdict.kind == "right", verdict
    assert versions.for_onnxruntime(relu()) == relu()


def test_bytes_of_small_floats_are_read_as_what_they_are():
    cast = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT8E4M3FN)
    proto = onnx.load_from_string(relu())
    proto.graph.node[0].CopyFrom(cast)
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT8E4M3FN
    proto.opset_import[0].version = 19
    dtype = helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT8E4M3FN)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for values, kind in ((x, "right"), (x + 1, "differs")):
        for judged in (judge.by_onnxruntime, judge.by_reference):
            verdict = judged(proto.SerializeToString(), {"x": x}, {"y": values.astype(dtype)})
            assert verdict.kind == kind
