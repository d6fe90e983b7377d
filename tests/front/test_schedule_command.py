"""``motet schedule --count``: tables, JSON and CSV, of models, specifications and bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from front_outcome import Motet, assert_plain, rows_of
from onnx import TensorProto, helper

from motet.benchmarks.zoo import nasnet, randwire, registry
from motet.benchmarks.zoo.building import GraphBuilder


def write(path: Path, name: str, variant: str) -> Path:
    onnx.save(registry.build(name, variant), path)
    return path


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("schedule") / "fires.onnx", "squeezenet", "bypass@64")


def counted(run_motet: Motet, *arguments: object) -> dict[str, Any]:
    """What --json says of the one model."""
    done = run_motet("schedule", *arguments, "--count", "--json")
    assert (done.code, done.err) == (0, "")
    (facts,) = json.loads(done.out)
    return facts


def figures(facts: dict[str, Any]) -> list[tuple[int, ...]]:
    keys = ("operators", "width", "states", "transitions", "schedules")
    return [tuple(block[key] for key in keys) for block in facts["blocks"]]


# Operators, width, states, transitions and schedules of all endings, as the papers' blocks
# were recomputed.
FIRE_BYPASS, FIRE_IDENTITY = (6, 3, 12, 60, 152), (5, 2, 6, 20, 24)
INCEPTION_A, INCEPTION_B = (9, 4, 72, 1080, 69032), (6, 3, 16, 90, 264)
INCEPTION_C, INCEPTION_E = (12, 4, 144, 3780, 5243136), (11, 6, 180, 5040, 4410136)
NASNET_FIRST = (18, 8, 2200, 335331, 8839301008800)
NASNET_REDUCTION = (19, 7, 1312, 171142, 7090682506752)
RANDWIRE_16 = (17, 6, 235, 13398, 7873469440)
RANDWIRE_32 = {
    3: (33, 8, 4276, 2980514, 323445629346909384245248),
    4: (33, 8, 5420, 3560808, 118464662394143512150016),
}


def test_squeezenets_fires(run_motet: Motet, squeezenet: Path) -> None:
    facts = counted(run_motet, squeezenet)
    found = figures(facts)
    assert [block[0] for block in found] == [2, 6, 5, 6, 1, 5, 6, 5, 6, 1, 5, 2]
    assert {block for block in found if block[0] == 6} == {FIRE_BYPASS}
    assert {block for block in found if block[0] == 5} == {FIRE_IDENTITY}
    assert facts["totals"]["operators"] == 50
    assert facts["totals"]["schedules"] == 152**4 * 24**4 * 2 * 2
    assert [block["ends_with"] for block in facts["blocks"]][:2] == ["features.2", "features.3.add"]


def test_pruned_as_in_the_paper(run_motet: Motet, squeezenet: Path) -> None:
    found = figures(counted(run_motet, squeezenet, "-r", 3, "-s", 8))
    assert {block[3:] for block in found if block[0] == 6} == {(51, 138)}


def test_inception(run_motet: Motet, tmp_path: Path) -> None:
    path = write(tmp_path / "inception.onnx", "inception_v3", "@75")
    facts = counted(run_motet, path)
    found = figures(facts)
    assert [block[0] for block in found] == [7, 9, 9, 9, 6, 12, 12, 12, 12, 8, 11, 11, 1]
    assert facts["totals"]["operators"] == 119
    assert found[1:5] == [INCEPTION_A] * 3 + [INCEPTION_B]
    assert found[5:9] == [INCEPTION_C] * 4
    assert found[10:12] == [INCEPTION_E] * 2
    pruned = figures(counted(run_motet, path, "-r", 3, "-s", 8))
    assert pruned[10][3:] == (4631, 4226508)


def test_inception_with_batch_norm_has_the_same_blocks(run_motet: Motet, tmp_path: Path) -> None:
    path = write(tmp_path / "inception.onnx", "inception_v3", "torchvision@75")
    assert figures(counted(run_motet, path))[1:12:10] == [INCEPTION_A, INCEPTION_E]


@pytest.fixture
def few_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of the same structure that load in a second."""
    monkeypatch.setattr(nasnet, "FILTERS", 8)
    monkeypatch.setattr(nasnet, "STEM", 4)
    monkeypatch.setitem(randwire.CHANNELS, "ws-154", 4)


@pytest.mark.usefixtures("few_channels")
def test_nasnets_cells(run_motet: Motet, tmp_path: Path) -> None:
    path = write(tmp_path / "nasnet.onnx", "nasnet_a_large", "@33")
    facts = counted(run_motet, path)
    found = figures(facts)
    sizes = [block[0] for block in found]
    normal = [16] * 5
    assert sizes == [1, 18, 21, 18, *normal, 19, 18, *normal, 19, 18, *normal, 2]
    assert facts["totals"]["operators"] == 374
    assert found[3] == found[10] == NASNET_FIRST
    assert found[9] == found[16] == NASNET_REDUCTION


@pytest.mark.usefixtures("few_channels")
def test_randwires_stages(run_motet: Motet, tmp_path: Path) -> None:
    path = write(tmp_path / "randwire.onnx", "randwire", "@32")
    found = figures(counted(run_motet, path, "--schedule-budget", 600))
    assert [block[:2] for block in found] == [(1, 1), (17, 6), (33, 8), (33, 8), (33, 7), (2, 1)]
    assert found[1] == RANDWIRE_16
    assert found[2:4] == [RANDWIRE_32[3], RANDWIRE_32[4]]


def test_table_and_csv_say_the_same(run_motet: Motet, squeezenet: Path) -> None:
    table = run_motet("schedule", squeezenet, "--count")
    rows = run_motet("schedule", squeezenet, "--count", "--csv")
    assert_plain(table.out)
    found = rows_of(rows.out)
    assert [row["operators"] for row in found][:4] == ["2", "6", "5", "6"]
    line = next(line for line in table.out.splitlines() if "features.3.add" in line)
    shown = [part.strip() for part in line.split("│")]
    assert shown == ["1", "features.3.add", "6", "3", "12", "60", "152", "216"]
    assert rows_of(rows.out)[1]["schedules"] == "152"


def test_a_wide_block_does_not_hang(run_motet: Motet, tmp_path: Path) -> None:
    graph = GraphBuilder("wide", seed=0)
    x = graph.input("x", (1, 4, 8, 8))
    parts = [graph.conv(graph.conv(x, f"a{n}", 4, 1), f"b{n}", 4, 1) for n in range(40)]
    onnx.save(graph.model(y=graph.concat(parts, "join")), tmp_path / "wide.onnx")
    done = run_motet("schedule", "wide.onnx", "--count", "--json")
    (block,) = json.loads(done.out)[0]["blocks"]
    assert (block["operators"], block["width"], block["states"]) == (81, 40, None)
    assert block["transition_bound"] == pytest.approx(((81 / 40 + 2) * (81 / 40 + 1) / 2) ** 40)
    assert "more than 131072 states, however stages are bounded: 0" in done.err
    assert "--schedule-budget" not in done.err  # more time would not help


def test_a_bundle_is_counted_as_the_model_it_was_compiled_from(
    run_motet: Motet, tmp_path: Path
) -> None:
    graph = GraphBuilder("fork", seed=0)
    x = graph.input("x", ("batch", 4, 8, 8))
    trunk = graph.conv(x, "trunk", 4, 3)
    parts = [graph.conv(trunk, f"branch{n}", 4, 1 + 2 * n) for n in range(2)]
    small = graph.average_pool(parts[0], "pool", 3, 1)
    onnx.save(graph.model(y=graph.add(small, parts[1], "join")), tmp_path / "fork.onnx")
    assert run_motet("compile", "fork.onnx", "-o", "fork.motet").code == 0
    model, bundle = counted(run_motet, "fork.onnx"), counted(run_motet, "fork.motet")
    assert model == bundle
    assert [block["operators"] for block in model["blocks"]] == [1, 4]
    (tmp_path / "fork.onnx").write_bytes(b"another")
    done = run_motet("schedule", "fork.motet", "--count")
    assert done.code == 2
    assert "is not the file that was compiled" in done.err


def test_several_models_and_a_choice_of_one(run_motet: Motet, tmp_path: Path) -> None:
    for name in ("one", "two"):
        graph = GraphBuilder(name, seed=0)
        x = graph.input("x", (1, 4, 8, 8))
        onnx.save(graph.model(y=graph.relu(graph.conv(x, name, 4, 1), "r")), f"{name}.onnx")
    Path("both.toml").write_text(
        '[models.first]\npath = "one.onnx"\n[models.second]\npath = "two.onnx"\n'
    )
    done = run_motet("schedule", "both.toml", "--count", "--json")
    assert [facts["model"] for facts in json.loads(done.out)] == ["first", "second"]
    assert counted(run_motet, "both.toml", "--model", "second")["blocks"][0]["ends_with"] == "two"
    done = run_motet("schedule", "both.toml", "--model", "third", "--count")
    assert done.code == 2
    assert "no model 'third'; its models are first, second" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.onnx"], "there is no such file"),
        (["none.motet"], "cannot open the bundle none.motet"),
    ],
)
def test_mistakes_are_told(run_motet: Motet, arguments: list[str], message: str) -> None:
    done = run_motet("schedule", *arguments, "--count")
    assert done.code == 2
    assert message in done.err


def test_equal_operators_count_as_often_as_they_are_written(
    run_motet: Motet, tmp_path: Path
) -> None:
    graph = GraphBuilder("twice", seed=0)
    x = graph.relu(graph.conv(graph.input("x", (1, 4, 8, 8)), "trunk", 4, 1), "r")
    pools = [graph.average_pool(x, f"pool{n}", 3, 1) for n in range(2)]
    onnx.save(graph.model(y=graph.concat(pools, "join")), "twice.onnx")
    assert figures(counted(run_motet, "twice.onnx"))[1][0] == 3


def fork(path: Path) -> Path:
    """A trunk, four convolutions of it side by side, joined."""
    graph = GraphBuilder("fork", seed=0)
    trunk = graph.conv(graph.input("x", (1, 64, 14, 14)), "trunk", 64, 1)
    parts = [graph.conv(trunk, f"branch{n}", 64, 3, 1, 1) for n in range(4)]
    onnx.save(graph.model(y=graph.concat(parts, "join")), path)
    return path


def test_stages_on_an_array(run_motet: Motet, tmp_path: Path) -> None:
    path = fork(tmp_path / "fork.onnx")
    done = run_motet("schedule", path, "--target", "sosa-256x32x32", "--json")
    assert (done.code, done.err) == (0, "")
    (facts,) = json.loads(done.out)
    stages = facts["schedule"]["stages"]
    nodes = {name: one["onnx_nodes"][-1] for name, one in facts["operators"].items()}
    titles = [[[nodes[name] for name in group] for group in stage["groups"]] for stage in stages]
    assert titles == [[["trunk"]], [[f"branch{n}"] for n in range(4)], [["join"]]]
    assert len(set(stages[1]["pods"])) == 1  # equal work, equal shares
    assert sum(stages[1]["pods"]) <= 256
    assert facts["seconds"] == pytest.approx(sum(stage["seconds"] for stage in stages))
    assert facts["seconds"] <= min(facts["sequential_seconds"], facts["greedy_seconds"])
    assert facts["sequential_seconds"] > 1.5 * facts["seconds"]


def test_stages_as_table_and_csv(run_motet: Motet, tmp_path: Path) -> None:
    path = fork(tmp_path / "fork.onnx")
    table = run_motet("schedule", path, "--target", "sosa-256x32x32")
    assert_plain(table.out)
    lines = [[cell.strip() for cell in line.split("│")] for line in table.out.splitlines()]
    groups = [line for line in lines if line[2:3] and line[2].startswith("branch")]
    assert [line[:3] for line in groups] == [
        ["1", "1", "branch0"], ["", "", "branch1"], ["", "", "branch2"], ["", "", "branch3"]
    ]  # fmt: skip
    assert [bool(line[4]) for line in groups] == [True, False, False, False]
    assert "3 stages: " in table.out
    rows = rows_of(run_motet("schedule", path, "--target", "sosa-256x32x32", "--csv").out)
    assert [row["groups"] for row in rows][1] == "branch0 | branch1 | branch2 | branch3"
    assert list(rows[0]) == ["model", "stage", "block", "seconds", "groups", "pods"]


def test_bounds_on_stages(run_motet: Motet, tmp_path: Path) -> None:
    path = fork(tmp_path / "fork.onnx")
    done = run_motet("schedule", path, "--target", "sosa-256x32x32", "-s", 2, "--json")
    (facts,) = json.loads(done.out)
    assert (facts["schedule"]["r"], facts["schedule"]["s"]) == (3, 2)
    # Four branches at once are then no stage that is looked for, but what the simple rule gives.
    assert facts["seconds"] == facts["greedy_seconds"]
    assert {block["found_by"] for block in facts["schedule"]["blocks"]} >= {"greedy"}


def test_stages_on_the_host(run_motet: Motet, tmp_path: Path) -> None:
    path = fork(tmp_path / "fork.onnx")
    (facts,) = json.loads(run_motet("schedule", path, "--json").out)
    assert facts["target"] == "host"
    assert facts["seconds"] <= facts["sequential_seconds"]
    assert all("threads" in stage for stage in facts["schedule"]["stages"])


@pytest.mark.parametrize("target", ["host", "sosa-256x32x32"])
def test_open_sizes_are_taken_as_1(run_motet: Motet, tmp_path: Path, target: str) -> None:
    graph = GraphBuilder("open", seed=0)
    x = graph.input("x", ("batch", 4, 8, 8))
    onnx.save(graph.model(y=graph.relu(graph.conv(x, "conv", 4, 1), "r")), "open.onnx")
    done = run_motet("schedule", "open.onnx", "--target", target, "--json")
    assert done.code == 0
    assert "open sizes are taken as 1 (x:1x4x8x8); --shape sets others" in done.err
    given = ("--shape", "x:1x4x8x8", "--target", target, "--json")
    assert run_motet("schedule", "open.onnx", *given).out == done.out


@pytest.mark.parametrize("target", ["host", "sosa-256x32x32"])
def test_sizes_that_only_a_run_knows_count_as_1(
    run_motet: Motet, tmp_path: Path, target: str
) -> None:
    """How many values are not zero is not known, and no shape of the input says it."""
    square = helper.make_tensor_value_info("x", TensorProto.FLOAT, [16, 16])
    found = helper.make_tensor_value_info("found", TensorProto.INT64, [2, None])
    product = helper.make_tensor_value_info("product", TensorProto.FLOAT, [16, 16])
    nodes = [
        helper.make_node("NonZero", ["x"], ["found"], name="where"),
        helper.make_node("MatMul", ["x", "x"], ["product"], name="square"),
    ]
    graph = helper.make_graph(nodes, "boxes", [square], [found, product])
    path = tmp_path / "boxes.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    result = run_motet("schedule", str(path), "--target", target)
    assert result.code == 0, result.err
    assert "model 'boxes': sizes that only a run knows count as 1 (where)" in result.err
    assert "square" in result.out
    told = run_motet("schedule", str(path), "--target", target, "--count")
    assert "count as 1" not in told.err


def test_a_budget_is_a_number(run_motet: Motet, tmp_path: Path) -> None:
    done = run_motet("schedule", "open.onnx", "--schedule-budget", "nan")
    assert (done.code, "nan is no number of seconds" in done.err) == (2, True)


def test_stages_as_a_picture(run_motet: Motet, tmp_path: Path) -> None:
    path = fork(tmp_path / "fork.onnx")
    done = run_motet("schedule", path, "--target", "sosa-256x32x32", "--plot", "stages.svg")
    assert done.code == 0, done.err
    drawn = Path("stages.svg").read_text(encoding="utf-8")
    assert all(name in drawn for name in ("branch0", "branch3", "fork on sosa-256x32x32: 3 stages"))
    done = run_motet("schedule", path, "--count", "--plot", "stages.svg")
    assert (done.code, "--count does not look for" in done.err) == (2, True)


def test_nodes_of_several_operators_are_told_apart(run_motet: Motet, tmp_path: Path) -> None:
    graph = GraphBuilder("twins", seed=0)
    x = graph.input("x", (1, 8, 8, 8))
    model = graph.model(y=graph.conv(graph.conv(x, "conv", 8, 1), "other", 8, 1))
    for node in model.graph.node:
        node.name = "same"
    onnx.save(model, "twins.onnx")
    rows = rows_of(run_motet("schedule", "twins.onnx", "--csv").out)
    assert len({row["groups"] for row in rows}) == len(rows) == 2


def test_a_short_budget_gives_simple_stages(run_motet: Motet, tmp_path: Path) -> None:
    path = fork(tmp_path / "fork.onnx")
    done = run_motet("schedule", path, "--schedule-budget", 1e-6, "--json")
    assert (done.code, "the search ended early in block 0" in done.err) == (0, True)
    (facts,) = json.loads(done.out)
    assert facts["seconds"] <= min(facts["sequential_seconds"], facts["greedy_seconds"])


def spec(path: Path, **keys: object) -> Path:
    """A specification of the fork, with these keys of passes.schedule."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    head = f'target = "sosa-256x32x32"\n[models.fork]\npath = "{fork(path).name}"\n'
    path.with_suffix(".toml").write_text("\n".join([head, "[passes.schedule]", *lines]))
    return path.with_suffix(".toml")


def test_a_specifications_algorithm_and_bounds_are_used(run_motet: Motet, tmp_path: Path) -> None:
    asked = spec(tmp_path / "fork.onnx", r=1, s=2)
    (bounded,) = json.loads(run_motet("schedule", asked, "--json").out)
    assert (bounded["schedule"]["r"], bounded["schedule"]["s"]) == (1, 2)
    (wider,) = json.loads(run_motet("schedule", asked, "-r", 3, "-s", 0, "--json").out)
    assert (wider["schedule"]["r"], wider["schedule"]["s"]) == (3, None)
    short = run_motet("schedule", spec(tmp_path / "fork.onnx", budget_seconds=1e-6), "--json")
    assert "the search ended early in" in short.err
    for algorithm in ("sequential", "greedy"):
        asked = spec(tmp_path / "fork.onnx", algorithm=algorithm)
        (facts,) = json.loads(run_motet("schedule", asked, "--json").out)
        assert {block["found_by"] for block in facts["schedule"]["blocks"]} == {algorithm}
        assert facts["seconds"] == facts[f"{algorithm}_seconds"]
    refused = run_motet("schedule", asked, "-r", 3)
    assert (refused.code, "passes.schedule.algorithm is greedy: leave" in refused.err) == (2, True)
    again = run_motet("schedule", asked, "-r", 3, "--set", "passes.schedule.algorithm=ios")
    assert again.code == 0


def test_stages_of_a_file_are_looked_for_anew(run_motet: Motet, tmp_path: Path) -> None:
    path = fork(tmp_path / "fork.onnx")
    target = ("--target", "sosa-256x32x32", "--json")
    (tmp_path / "stages.json").write_text(run_motet("schedule", path, *target).out)
    asked = spec(path, file="stages.json", algorithm="sequential")
    done = run_motet("schedule", asked, "--json")
    assert "are looked for anew: passes.schedule.file (" in done.err
    assert all(len(s["groups"]) == 1 for s in json.loads(done.out)[0]["schedule"]["stages"])
