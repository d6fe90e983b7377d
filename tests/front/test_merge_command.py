"""``motet merge``: the file runs in onnxruntime and equals the merged bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from front_outcome import Motet
from onnx import TensorProto, helper, numpy_helper

import motet
from motet.evaluation import runner
from motet.merging import merge
from motet.passes.decisions import read_decisions
from motet.runtime.errors import CompileError, InputError, ModelError, SpecError

EXAMPLES = Path(__file__).parents[2] / "examples"
SHAPE = (1, 6, 10, 9)


def _inverted(
    path: Path, blocks: int = 3, seed: int = 0, shape: tuple[int | str, ...] = SHAPE
) -> Path:
    """Inverted residual blocks with ReLU6, batch-norm folded, biases, shortcuts; then a Gemm."""
    random = np.random.default_rng(seed)
    nodes, weights, source = [], {"low": np.array(0.0), "high": np.array(6.0)}, "x"

    def conv(name: str, data: str, shape: tuple[int, ...], **attributes: Any) -> str:
        weights[f"{name}.w"] = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        weights[f"{name}.b"] = 0.2 * random.standard_normal(shape[0])
        inputs = [data, f"{name}.w", f"{name}.b"]
        nodes.append(helper.make_node("Conv", inputs, [f"{name}.y"], name, **attributes))
        return f"{name}.y"

    for index in range(blocks):
        name = f"b{index}"
        y = conv(f"{name}/expand", source, (24, 6, 1, 1))
        nodes.append(helper.make_node("Clip", [y, "low", "high"], [f"{name}.r1"], f"{name}/act1"))
        y = conv(f"{name}/depth", f"{name}.r1", (24, 1, 3, 3), pads=[1] * 4, group=24)
        nodes.append(helper.make_node("Clip", [y, "low", "high"], [f"{name}.r2"], f"{name}/act2"))
        y = conv(f"{name}/project", f"{name}.r2", (6, 24, 1, 1))
        nodes.append(helper.make_node("Add", [source, y], [f"{name}.out"], f"{name}/add"))
        source = f"{name}.out"
    nodes.append(helper.make_node("GlobalAveragePool", [source], ["pooled"], "pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["y"], "flat"))
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [shape[0], 6])],
        [numpy_helper.from_array(np.asarray(w, "f4"), n) for n, w in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"author": "someone"})
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _inverted(tmp_path_factory.mktemp("merge") / "m.onnx")


@pytest.fixture(scope="module")
def samples() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(5).standard_normal((5, *SHAPE[1:])).astype("f4")}


def _reference(path: Path, x: np.ndarray) -> np.ndarray:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def _bundle(path: Path, x: np.ndarray, settings: tuple[str, ...] = ()) -> np.ndarray:
    (session,) = motet.load(motet.compile(path, settings=settings), threads=1).values()
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize("recover", ["none", "affine", "bias", "refit"])
def test_the_file_equals_the_merged_relax_of_its_decisions(
    model: Path, samples: dict[str, np.ndarray], tmp_path: Path, recover: Any
) -> None:
    out = tmp_path / "merged.onnx"
    made = merge(
        model, output=out, remove_activations=4, calibrate=samples, recover=recover, threads=1
    )
    assert made.removed == 4
    x = samples["x"][:1]
    have = _reference(out, x)
    setting = f'passes.merge_depth.decisions="{tmp_path / "merged.json"}"'
    np.testing.assert_allclose(_bundle(model, x, (setting,)), have, atol=1e-5)
    np.testing.assert_allclose(_bundle(out, x), have, atol=1e-5)
    again = merge(model, output=tmp_path / "again.onnx", decisions=tmp_path / "merged.json")
    assert again.model == made.model
    assert [n.op_type for n in onnx.load(out).graph.node].count("Conv") == 3 + 2


def test_recovery_brings_the_output_nearer(model: Path, samples: dict[str, np.ndarray]) -> None:
    changes = {}
    for recover in ("none", "affine", "refit"):
        made = merge(
            model, remove=["b1/act1", "b1/act2"], calibrate=samples, recover=recover, threads=1
        )
        path = model.with_name(f"{recover}.onnx")
        onnx.save(made.model, path)
        pairs = [(_reference(path, x[None]), _reference(model, x[None])) for x in samples["x"]]
        changes[recover] = sum(float(((a - b) ** 2).sum()) for a, b in pairs)
    assert changes["refit"] < changes["affine"] < changes["none"]


def test_decisions_name_every_node_and_can_be_edited(
    model: Path, tmp_path: Path, samples: dict[str, np.ndarray]
) -> None:
    made = merge(model, output=tmp_path / "a.onnx", remove_activations=6)
    decided = read_decisions(tmp_path / "a.json")
    names = {name for m in decided.decisions.merges for name in m.nodes}
    convolutional = {n.name for n in onnx.load(model).graph.node if n.name[:1] == "b"}
    assert names == convolutional
    plain = json.loads((tmp_path / "a.json").read_text())
    first, *others = plain["decisions"]
    first["weight"] = first["bias"] = ""  # computed anew
    merges = [d for d in others if d["type"] == "merge"]
    plain["decisions"] = [first, merges[0]]  # the last block keeps its layers
    (tmp_path / "a.json").write_text(json.dumps(plain))
    edited = merge(model, decisions=tmp_path / "a.json", output=tmp_path / "b.onnx")
    assert edited.removed == 4
    assert {n.name for n in edited.model.graph.node} >= {"b2/expand", "b2/act2", "b2/add"}
    want = [m for m in made.decided.decisions.merges if m.output != "b2/add"]
    for mine, theirs in zip(edited.decided.decisions.merges, want, strict=True):
        assert np.array_equal(
            edited.decided.weights[mine.weight], made.decided.weights[theirs.weight]
        )


def test_a_latency_takes_the_least_important(model: Path, samples: dict[str, np.ndarray]) -> None:
    free = merge(model, remove_activations=6)
    middle = (free.seconds_before + free.seconds_after) / 2 * 1e3
    made = merge(model, latency_budget_ms=middle, calibrate=samples, recover="none", threads=1)
    assert 0 < made.removed < 6
    assert made.seconds_after * 1e3 <= middle
    single = {one.name: one.identity for one in made.importance if len(one.nodes) == 1}
    gone = {r.nodes[-1] for m in made.decided.decisions.merges for r in m.removed}
    lost = sum(single[name] for name in gone)
    blocks = [sum(single[f"b{i}/act{j}"] for j in (1, 2)) for i in range(3)]
    assert lost <= sum(sorted(blocks)[: len(gone) // 2]) + 1e-9
    with pytest.raises(CompileError, match="no merges bring"):
        merge(model, latency_budget_ms=free.seconds_after / 2 * 1e3)


def test_a_drop_keeps_the_most_that_it_allows(model: Path, samples: dict[str, np.ndarray]) -> None:
    x = samples["x"][:1]
    want = _reference(model, x)

    def nearness(run: Any) -> float:
        return -float(np.abs(run(x)["y"] - want).max())

    drops = []
    for count in (2, 4):
        made = merge(model, remove_activations=count, calibrate=samples, evaluate=nearness,
                     recover="none", threads=1)  # fmt: skip
        assert made.metric_before == pytest.approx(0, abs=1e-5)
        drops.append(-made.metric_after)  # type: ignore[operator]
    assert drops[0] < drops[1]
    allowed = (drops[0] + drops[1]) / 2
    made = merge(model, calibrate=samples, evaluate=nearness, max_drop=allowed, recover="none",
                 threads=1)  # fmt: skip
    assert made.removed == 2
    assert made.metric_after == pytest.approx(-drops[0], rel=1e-3)
    assert "2 of 3 merges that remove activations were left out" in made.notes[0]


def test_everything_else_of_the_file_stays(model: Path, tmp_path: Path) -> None:
    made = merge(model, output=tmp_path / "a.onnx", remove=["b0/act1", "b0/act2"])
    assert made.removed == 2
    before, after = onnx.load(model), onnx.load(tmp_path / "a.onnx")
    assert after.opset_import == before.opset_import
    assert after.ir_version == before.ir_version
    assert after.metadata_props == before.metadata_props
    assert after.graph.input == before.graph.input
    assert after.graph.output == before.graph.output
    kept = {n.name: n for n in before.graph.node}
    assert all(node == kept[node.name] for node in after.graph.node if node.name in kept)
    onnx.checker.check_model(str(tmp_path / "a.onnx"))


def test_weights_beside_the_file_stay_beside(model: Path, tmp_path: Path) -> None:
    onnx.save(onnx.load(model), tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    made = merge(tmp_path / "m.onnx", remove_activations=2, output=tmp_path / "a.onnx")
    assert made.removed == 2
    x = np.ones(SHAPE, "f4")
    inline = merge(model, remove_activations=2, output=tmp_path / "b.onnx")
    assert inline.removed == 2
    assert np.array_equal(_reference(tmp_path / "a.onnx", x), _reference(tmp_path / "b.onnx", x))


def test_on_an_array_times_are_its_own(model: Path) -> None:
    made = merge(model, target="tiny-4x4", remove_activations=6)
    host = merge(model, remove_activations=6)
    assert made.seconds_before != host.seconds_before
    assert made.seconds_after < made.seconds_before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"remove_activations": 1, "latency_budget_ms": 1.0}, SpecError, "not both"),
        ({"recover": "refit"}, SpecError, "needs calibration data"),
        ({"recover": "magic"}, SpecError, "auto, none, affine, bias or refit"),
        ({"max_drop": 1.0}, SpecError, "needs a metric"),
        ({"remove": ["nobody"]}, SpecError, "nobody"),
        ({"decisions": "absent.json"}, SpecError, "absent.json"),
        ({"decisions": "a.json", "remove_activations": 1}, SpecError, "applied as they are"),
        (
            {"calibrate": {"y": np.zeros((1, 2))}, "remove_activations": 2},
            InputError,
            "'x' is missing",
        ),
        ({"evaluate": "absent.py"}, InputError, "give a Python file"),
    ],
)
def test_what_contradicts_itself_is_told(
    model: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        merge(model, **arguments)


def test_nothing_to_merge_says_why(tmp_path: Path, model: Path) -> None:
    with pytest.raises(CompileError, match=r"b0/add: its activations stay \(b0/act1, b0/act2\)"):
        merge(model, output=tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()
    with pytest.raises(SpecError, match="does not exist"):
        merge(tmp_path / "absent.onnx")


def test_decisions_of_another_model_are_refused(model: Path, tmp_path: Path) -> None:
    merge(model, output=tmp_path / "a.onnx", remove_activations=2)
    other = onnx.load(model)
    for node in other.graph.node:
        node.name = f"other/{node.name}"
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises((ModelError, SpecError), match="there is no node"):
        merge(tmp_path / "other.onnx", decisions=tmp_path / "a.json")


def test_the_command_writes_and_tells(
    run_motet: Motet, model: Path, samples: dict[str, np.ndarray], tmp_path: Path
) -> None:
    np.savez(tmp_path / "c.npz", **samples)
    (tmp_path / "metric.py").write_text(
        "import numpy as np\n"
        "def metric(run):\n    return float(run(np.ones((1, 6, 10, 9), 'f4'))['y'].sum())\n"
    )
    done = run_motet(
        "merge", model, "--remove-activations", 2, "--calibrate", "c.npz", "--samples", 4,
        "--evaluate", "metric.py", "--threads", 1, "-o", "out.onnx",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "1 merge of 3 convolutions, 2 activations removed" in done.out
    assert "Relative change of the output" in done.out
    assert "metric: " in done.out
    assert {p.name for p in tmp_path.iterdir()} >= {"out.onnx", "out.json", "out.npz"}
    done = run_motet("merge", model, "--apply", "out.json", "-o", "b.onnx", "--json")
    assert done.code == 0, done.err
    (facts,) = json.loads(done.out)
    assert facts["removed_activations"] == 2
    assert facts["merges"][0]["removed"][0]["nodes"]
    assert msgspec.json.decode((tmp_path / "b.json").read_bytes())["format"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--remove-activations", 2, "-o", "out.txt"), "ends in .onnx"),
        (("--calibrate", "absent.npz"), "no file or folder absent.npz"),
        (("--max-drop", 1), "give --evaluate"),
        (("--recover", "refit"), "give --calibrate DATA"),
        (("--remove-activations", 2, "--latency-budget", 1), "or --latency-budget, not both"),
        (("--apply", "d.json", "--max-drop", 0, "--evaluate", "m.py"), "leave out --remove"),
        (("--latency-budget", 1e-7), " ms to 1e-07; the least is"),
        (("--set", "passes.merge_depth.enabled=false"), "enabled is false"),
        (("-o", "out.onnx"), "nothing to merge: b0/add: its activations stay"),
        (("-o", "absent/out.onnx"), "there is no folder absent"),
    ],
)
def test_a_mistake_is_one_line(
    run_motet: Motet, model: Path, arguments: tuple[Any, ...], message: str
) -> None:
    done = run_motet("merge", model, *arguments)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not done.out


def test_nothing_to_merge_names_three_of_the_candidates(run_motet: Motet, tmp_path: Path) -> None:
    _inverted(tmp_path / "many.onnx", blocks=5)
    done = run_motet("merge", tmp_path / "many.onnx", "-o", "out.onnx")
    assert done.code == 2
    assert done.err.count("its activations stay") == 3
    assert "and 7 more (run without -o for all)" in done.err


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_weights_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    """A NaN, and a batch-norm whose variance is negative."""
    weights = {"w0": np.ones((8, 4, 1, 1)), "w1": np.ones((4, 8, 1, 1)),
               "one": np.ones(8), "variance": np.full(8, -1.0)}  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["v0"], "first"),
        helper.make_node(
            "BatchNormalization", ["v0", "one", "one", "one", "variance"], ["v1"], "norm"
        ),
        helper.make_node("Conv", ["v1", "w1"], ["y"], "second"),
    ]
    for name in ("norm", "second"):
        weights["variance"][:] = -1.0 if name == "norm" else 1.0
        weights["w1"][0, 0] = 1.0 if name == "norm" else np.nan
        graph = helper.make_graph(
            nodes, "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 5, 5])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.asarray(w, "f4"), n) for n, w in weights.items()],
        )  # fmt: skip
        opset = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "m.onnx")
        with pytest.raises(CompileError, match=f"'{name}' multiplies or adds is NaN"):
            merge(tmp_path / "m.onnx", output=tmp_path / "o.onnx")


def test_the_runner_takes_one_array_for_one_input(model: Path) -> None:
    (session,) = motet.load(motet.compile(model), threads=1).values()
    x = np.ones(SHAPE, "f4")
    assert np.array_equal(runner(session)(x)["y"], runner(session)({"x": x})["y"])
