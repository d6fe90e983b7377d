"""Stages that motet schedule wrote, maybe edited, are those that a compilation takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

import motet
from motet.runtime.errors import SpecError
from motet.runtime.program import Fork

BRANCHES = """
<ir_version: 9, opset_import: ["": 17]>
branches (float[1, 8, 12, 12] x) => (float[1, 24, 12, 12] y)
{
  b0_0 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w)
  b1_0 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w1)
  b2_0 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w2)
  b1_1 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(b1_0, w)
  b2_1 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(b2_0, w)
  b2_2 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(b2_1, w)
  y = Concat<axis = 1>(b0_0, b1_1, b2_2)
}
"""


def branches() -> onnx.ModelProto:
    """Three branches of one, two and three convolutions."""
    return parsed(BRANCHES)


def parsed(text: str) -> onnx.ModelProto:
    """The model of a text, its weights drawn."""
    model = parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name in ("w", "w1", "w2"):
        array = rng.standard_normal((8, 8, 3, 3)).astype(np.float32) * 0.1
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for node in model.graph.node:
        node.name = "join" if node.op_type == "Concat" else node.output[0]
    return model


def forks(bundle: Any) -> list[tuple[int, ...]]:
    (program,) = bundle.programs.values()
    return [one.groups for one in program.instructions if isinstance(one, Fork)]


def planned(run_motet: Any, path: Path, *arguments: Any) -> list[Any]:
    done = run_motet("schedule", path, *arguments, "--json")
    assert done.code == 0, done.err
    plans: list[Any] = json.loads(done.out)
    return plans


def compiled(path: Path, plans: Any, *settings: str, target: str | None = None) -> Any:
    file = path.with_suffix(".stages.json")
    file.write_text(json.dumps(plans))
    return motet.compile(path, target=target, settings=[f"passes.schedule.file={file}", *settings])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "branches.onnx"
    onnx.save(branches(), path)
    return path


def by_nodes(plan: Any, *nodes: str) -> list[str]:
    """The operators of these ONNX nodes."""
    names = {one["onnx_nodes"][0]: name for name, one in plan["operators"].items()}
    return [names[node] for node in nodes]


def staged(plan: Any, *stages: list[list[str]]) -> Any:
    """The plan with other stages, by ONNX nodes."""
    made = [{"groups": [by_nodes(plan, *group) for group in groups]} for groups in stages]
    return [{**plan, "schedule": {"stages": made}}]


SIDE_BY_SIDE = (
    [["b0_0"], ["b1_0", "b1_1"], ["b2_0"]],
    [["b2_1"]],
    [["b2_2"]],
    [["join"]],
)


def test_the_hosts_forks_are_the_pinned_ones(run_motet: Any, model: Path) -> None:
    (plan,) = planned(run_motet, model, "--set", "host.threads=2")
    bundle = compiled(model, staged(plan, *SIDE_BY_SIDE), "host.threads=2")
    assert forks(bundle) == [(1, 2, 1)]
    x = np.random.default_rng(1).standard_normal((1, 8, 12, 12)).astype(np.float32)
    (expected,) = motet.load(motet.compile(model))["branches"].run(None, {"x": x})
    (found,) = motet.load(bundle)["branches"].run(None, {"x": x})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    sequential = compiled(model, staged(plan, [["b0_0"]], *(
        [[node]] for node in ("b1_0", "b2_0", "b2_1", "b1_1", "b2_2", "join")
    )), "host.threads=2")  # fmt: skip
    assert forks(sequential) == []


def test_an_arrays_programs_follow_the_pinned_stages(run_motet: Any, model: Path) -> None:
    (plan,) = planned(run_motet, model, "--target", "sosa-256x32x32")
    bundle = compiled(model, staged(plan, *SIDE_BY_SIDE), target="sosa-256x32x32")
    (told,) = (one.summary for one in bundle.manifest.passes if one.name == "array_stages")
    assert "pinned in 3 stages of up to 3 groups" in told
    again = compiled(model, [plan], target="sosa-256x32x32")
    (told,) = (one.summary for one in again.manifest.passes if one.name == "array_stages")
    computing = [s for s in plan["schedule"]["stages"] if s["groups"] != [by_nodes(plan, "join")]]
    assert f"pinned in {len(computing)} stages" in told


READS_ITS_INPUT = """
<ir_version: 9, opset_import: ["": 17]>
passes (float[1, 8, 10, 10] x, float[1, 8, 10, 10] z) => (float[1, 24, 10, 10] y)
{
  conv = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w)
  y = Concat<axis = 1>(z, conv, x)
}
"""


def test_a_concatenation_that_copies_some_of_its_parts_is_pinned(
    run_motet: Any, tmp_path: Path
) -> None:
    path, target = tmp_path / "passes.onnx", "sosa-256x32x32"
    onnx.save(parsed(READS_ITS_INPUT), path)
    plans = planned(run_motet, path, "--target", target, "--simulate")
    bundle = compiled(path, plans, target=target)
    (told,) = (one.summary for one in bundle.manifest.passes if one.name == "array_stages")
    assert f"pinned {plans[0]['simulated']['planned']['simulated']} " in told
    rng = np.random.default_rng(1)
    x, z = (rng.standard_normal((1, 8, 10, 10)).astype(np.float32) for _ in range(2))
    (found,) = motet.load(bundle)["passes"].run(None, {"x": x, "z": z})
    np.testing.assert_array_equal(found[:, :8], z)
    np.testing.assert_array_equal(found[:, 16:], x)
    (conv,) = motet.load(motet.compile(path))["passes"].run(None, {"x": x, "z": z})
    np.testing.assert_allclose(found, conv, rtol=1e-5, atol=1e-6)


def test_open_sizes_keep_no_pinned_operator_off_an_array(run_motet: Any, tmp_path: Path) -> None:
    path, target = tmp_path / "branches.onnx", "sosa-256x32x32"
    onnx.save(parsed(BRANCHES.replace("float[1,", "float[N,")), path)
    plans = planned(run_motet, path, "--target", target)
    message = (
        r"branches\.stages\.json: model 'branches': 6 of the products .* sizes of inputs are open: "
        r"fix them, as in --shape x:1x8x12x12"
    )
    with pytest.raises(SpecError, match=message):
        compiled(path, plans, target=target)
    setting = f"passes.schedule.file={path.with_suffix('.stages.json')}"
    fixed = motet.compile(path, target=target, shapes={"x": (1, 8, 12, 12)}, settings=[setting])
    assert len(fixed.array_programs) == 1
    compiled(path, planned(run_motet, path))  # the host computes open sizes
    nodes = [f'"{one.output[0]}"' for one in branches().graph.node]
    compiled(path, plans, f"passes.place.host_ops=[{', '.join(nodes[:6])}]", target=target)


def edited(plan: Any, mistake: str) -> Any:
    stages = plan["schedule"]["stages"]
    first = next(iter(plan["operators"].values()))
    if mistake == "order":
        stages.reverse()
    elif mistake == "missing":
        del stages[-1]
    elif mistake == "twice":
        stages.append(stages[0])
    elif mistake == "unknown":
        stages[0]["groups"][0][0] = "nobody"
    elif mistake == "other nodes":
        first["onnx_nodes"] = ["elsewhere"]
    elif mistake == "pods":
        stages[0]["pods"] = [1] * 40
    elif mistake == "no pod":
        stages[0]["pods"] = [0] * len(stages[0]["groups"])
    elif mistake == "mistyped":
        stages[0]["pds"] = [1]
    elif mistake == "mistyped above":
        plan["schedule"]["bloks"] = []
    elif mistake == "own key":
        plan["note"] = "mine"
    elif mistake == "version":
        plan["schedule"]["version"] = 99
    elif mistake == "nothing":
        return []
    elif mistake == "one model twice":
        return [plan, plan]
    elif mistake == "other model":
        plan["model"] = "trees"
    else:
        plan["schedule"] = {}
    return [plan]


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("order", r"reads 'branches/\d+', which ends later: move it to a later stage"),
        ("missing", "is in no stage: schedule the model again"),
        ("twice", "runs 2 times: leave it in one group"),
        ("unknown", "'nobody' is in a stage, but not among its operators"),
        ("other nodes", r"\(ONNX nodes elsewhere\) is no operator of the model"),
        ("pods", r"stages\[0\].pods is .*: one number for each"),
        ("no pod", r"stages\[0\].pods is .*: one number for each"),
        ("mistyped", r"unknown field `pds` .*stages\[0\]`; did you mean pods\? \(keys are groups,"),
        ("mistyped above", r"unknown field `bloks` .*did you mean blocks\?"),
        ("own key", r"unknown field `note`.*\(keys are model, schedule, .*motet schedule MODEL"),
        ("version", "'branches': schedule.version is 99, this Motet reads 1: schedule the model"),
        ("nothing", "branches.stages.json: there is no model in it; write it with 'motet schedule"),
        ("one model twice", "model 'branches' is there twice: leave one"),
        ("other model", "no model 'trees'; the models are branches"),
        ("no stages", "missing required field `stages`.*motet schedule"),
    ],
)
def test_mistakes_name_the_operator(
    run_motet: Any, model: Path, mistake: str, message: str
) -> None:
    (plan,) = planned(run_motet, model, "--set", "host.threads=2")
    with pytest.raises(SpecError, match=message):
        compiled(model, edited(plan, mistake), "host.threads=2")


def test_only_pinned_models_are_staged_where_scheduling_is_off(
    run_motet: Any, model: Path, tmp_path: Path
) -> None:
    spec = tmp_path / "both.toml"
    spec.write_text(
        '[models.first]\npath = "branches.onnx"\n[models.other]\npath = "branches.onnx"\n'
    )
    plans = planned(run_motet, spec, "--set", "host.threads=2")
    pinned = staged(plans[0], *SIDE_BY_SIDE)

    def forks_of(plans: Any, *settings: str) -> dict[str, int]:
        bundle = compiled(spec, plans, "host.threads=2", *settings)
        programs = bundle.programs.items()
        return {n: sum(isinstance(i, Fork) for i in p.instructions) for n, p in programs}

    enabled = "passes.schedule.enabled=true"
    assert forks_of(pinned, enabled)["other"] > 0
    assert forks_of(pinned) == {"first": 1, "other": 0}
