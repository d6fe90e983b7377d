"""``motet tune``, and what ``motet compile`` makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from front_models import write
from front_outcome import Motet, assert_plain
from onnx import TensorProto, helper

import motet
from motet.targets.host.cost_model.measure import Measurer


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("MOTET_CACHE_DIR", str(tmp_path / "kept"))
    monkeypatch.delenv("MOTET_CACHE", raising=False)
    return tmp_path / "kept"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A pointwise and a depthwise convolution of 16 channels."""
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["a"], "point"),
        helper.make_node("Conv", ["a", "w"], ["y"], "deep", group=16, pads=[1, 1, 1, 1]),
    ]
    tensor = (TensorProto.FLOAT, [1, 16, 5, 5])
    weights = {"v": np.ones((16, 16, 1, 1), np.float32), "w": np.ones((16, 1, 3, 3), np.float32)}
    path = tmp_path / "small.onnx"
    return write(path, nodes, [("x", *tensor)], [("y", *tensor)], **weights)


def schedules(run_motet: Motet, *arguments: object) -> str:
    """What the bundle says of its schedules."""
    assert run_motet("compile", *arguments, "-o", "out.motet").code == 0
    records = motet.load("out.motet").bundle.manifest.passes
    return next(record.summary for record in records if record.name == "kernel_settings")


def assert_told(err: str) -> None:
    """What goes to a pipe says how far it is."""
    lines = [line.removeprefix("motet: ") for line in err.splitlines()]
    assert {line.partition(":")[0] for line in lines} >= {"operators", "tune", "cost model"}
    last = [line for line in lines if line.startswith("tune: ")][-1].split()
    assert last[1] == last[3].rstrip(",")  # 28 of 28


def test_measured_schedules_are_compiled(run_motet: Motet, small: Path, folder: Path) -> None:
    assert ": 0 measured" in schedules(run_motet, small, "--set", "host.threads=1")
    found = run_motet("tune", small, "--threads", 1, "--jobs", 1, "--json")
    assert found.code == 0
    facts = json.loads(found.out)
    assert facts["database"] == str(folder / "tuned.sqlite")
    assert facts["complete"]
    assert facts["threads"] == 1
    assert_told(found.err)
    nodes = {node for operator in facts["operators"] for node in operator["onnx_nodes"]}
    assert nodes == {"small/point", "small/deep"}
    for operator in facts["operators"]:
        assert operator["problem"].startswith("blocked_conv:")
        assert operator["measured_points"] == operator["points"] > 1
        assert 0 < operator["after_seconds"] <= operator["before_seconds"] < 0.1
        gain, noise = operator["gain"], operator["noise"]
        assert gain is None or gain > 1 + noise >= 1
    assert ": 2 measured" in schedules(run_motet, small, "--set", "host.threads=1")
    assert ": 0 measured" in schedules(run_motet, small, "--set", "host.threads=2")
    assert ": 0 measured" in schedules(run_motet, small, "--no-tuned", "--set", "host.threads=1")
    first = Path("out.motet").read_bytes()
    assert ": 0 measured" in schedules(run_motet, small, "--no-tuned", "--set", "host.threads=1")
    assert Path("out.motet").read_bytes() == first


def test_a_bundle_is_tuned_and_shown(run_motet: Motet, small: Path, folder: Path) -> None:
    assert run_motet("compile", small, "-o", "made.motet").code == 0
    for _ in range(2):  # the second time everything is known
        shown = run_motet("tune", "made.motet", "--threads", 1, "--jobs", 1)
        assert shown.code == 0
        assert_plain(shown.out)
        assert "small/deep" in shown.out
        assert "2 of 2 operators measured" in shown.out
        assert "the same command goes on" not in shown.out
    moved = small.rename(small.with_name("moved.onnx"))
    gone = run_motet("tune", "made.motet")
    assert gone.code == 2
    assert "there is no file" in gone.err
    assert "--onnx small=PATH" in gone.err
    assert run_motet("tune", "made.motet", "--threads", 1, "--onnx", moved).code == 0
    moved.write_bytes(moved.read_bytes() + b"\0")
    other = run_motet("tune", "made.motet", "--onnx", f"small={moved}")
    assert other.code == 2
    assert "is not the file that was compiled" in other.err
    assert "there is no file" not in other.err


def test_the_whole_is_bounded(run_motet: Motet, small: Path, folder: Path) -> None:
    """What preparing takes belongs to the minutes; so does training."""
    facts = json.loads(run_motet("tune", small, "--minutes", 0.0001, "--json").out)
    assert not facts["complete"]
    assert all(operator["measured_points"] == 0 for operator in facts["operators"])


def test_nowhere_to_keep_measurements(
    run_motet: Motet, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MOTET_CACHE", raising=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("MOTET_CACHE_DIR", str(tmp_path / "file" / "kept"))
    found = run_motet("tune", small)
    assert found.code == 3
    (line,) = found.err.splitlines()
    assert "measurements cannot be kept in" in line
    assert "MOTET_CACHE_DIR" in line
    monkeypatch.setenv("MOTET_CACHE", "0")
    found = run_motet("tune", small)
    assert found.code == 2
    assert "MOTET_CACHE is off" in found.err


def test_an_interrupt_keeps_what_was_measured(
    run_motet: Motet, small: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, measure = list[int](), Measurer.measure

    def interrupted(self: Measurer, *arguments: object, **others: object) -> object:
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        return measure(self, *arguments, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(Measurer, "measure", interrupted)
    stopped = run_motet("tune", small, "--threads", 1, "--jobs", 1)
    assert stopped.code == 130
    assert "the same command goes on" in stopped.err
    monkeypatch.setattr(Measurer, "measure", measure)
    facts = json.loads(run_motet("tune", small, "--threads", 1, "--jobs", 1, "--json",
                                 "--minutes", 0.00001).out)  # fmt: skip
    assert not facts["complete"]
    assert sum(operator["measured_points"] for operator in facts["operators"]) > 0


def test_kernels_of_metaschedule_are_compiled(
    run_motet: Motet, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what its real search finds, whichever is faster: values are equal."""
    pytest.importorskip("xgboost")
    monkeypatch.setattr("motet.targets.host.meta_schedule.tuning.GAIN", 0.0)
    sizes = {"kernel_shape": [2, 3, 3], "strides": [1, 2, 1]}
    node = helper.make_node("AveragePool", ["x"], ["y"], "pool", **sizes)
    x, y = (TensorProto.FLOAT, [1, 8, 4, 9, 9]), (TensorProto.FLOAT, [1, 8, 3, 4, 7])
    model = write(tmp_path / "cube.onnx", [node], [("x", *x)], [("y", *y)])
    threads = ("--set", "host.threads=1")
    assert "MetaSchedule" not in schedules(run_motet, model, *threads)
    done = run_motet(
        "tune", model, "--threads", 1, "--jobs", 1, "--meta-schedule", 4, "--json"
    )  # fmt: skip
    assert (done.code, "Warning" in done.err) == (0, False)
    (unit,) = json.loads(done.out)["meta_schedule"]
    assert unit["onnx_nodes"] == ["cube/pool"]
    assert unit["used"]
    assert "; 1 kernel found by MetaSchedule" in schedules(run_motet, model, *threads)
    assert run_motet("check", "out.motet").code == 0
    first = Path("out.motet").read_bytes()
    assert "MetaSchedule" not in schedules(run_motet, model, "--no-tuned", *threads)
    assert Path("out.motet").read_bytes() != first


def test_nothing_to_choose(run_motet: Motet, models: Path, folder: Path) -> None:
    found = run_motet("tune", models / "logarithm.onnx")
    assert found.code == 0
    assert "no operator that the host runs here has a choice" in found.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.onnx"], "there is no such file"),
        (["nowhere.motet"], "nowhere.motet"),
        (["{models}/affine.onnx", "--set", "host.cpu=x86-64-v2"], "host.cpu"),
        (["{inception}"], "give the specification or the models"),
        (["{models}/affine.onnx", "--onnx", "affine=x.onnx"], "the models of a bundle"),
    ],
)
def test_mistakes(
    arguments: list[str],
    message: str,
    run_motet: Motet,
    models: Path,
    inception: Path,
    folder: Path,
) -> None:
    places = {"models": models, "inception": inception}
    found = run_motet("tune", *[argument.format(**places) for argument in arguments])
    assert found.code == 2
    assert message in found.err
    assert not folder.exists()


def test_the_data_base_is_broken(run_motet: Motet, small: Path, folder: Path) -> None:
    folder.mkdir()
    (folder / "tuned.sqlite").write_text("this is not what it should be, by far" * 9)
    for command in ("tune", "compile"):
        found = run_motet(command, small)
        assert found.code == 3
        assert "remove the file" in found.err
