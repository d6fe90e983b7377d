"""The camera benchmark: open loop, search, models and tables, with engines made up."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from motet.benchmarks.camera.__main__ import main
from motet.benchmarks.camera.contenders import GROUPS, contenders
from motet.benchmarks.camera.measuring import ratio
from motet.benchmarks.camera.models import ALIKE, REAL, SPECIFICATION, Camera, _lay
from motet.benchmarks.camera.open_loop import Ended, Frame, run_batch, run_trial
from motet.benchmarks.camera.processes import Contender, ContenderError, Outcome, Served
from motet.benchmarks.camera.results import At, Finalist, Result, Variant
from motet.benchmarks.camera.search import Search, Trial
from motet.benchmarks.camera.serving import OwnThreads, Queued
from motet.benchmarks.zoo import figures, registry

RATES = {"a": 10.0, "b": 40.0}


class Instant:
    """Ends a frame when it is started; records when that was."""

    settings = "instant"
    blocks = False

    def __init__(self) -> None:
        self.started: list[tuple[float, Frame]] = []

    def start(self, frame: Frame, ended: Ended) -> None:
        self.started.append((time.monotonic(), frame))
        ended(frame)

    def settle(self, drop: bool) -> None:
        """Nothing runs."""


def test_frames_come_at_their_moments_whatever_the_engine_does() -> None:
    engine = Instant()
    found = run_trial(engine, list(RATES.values()), 2.0, 0.2, 100)
    frames = [frame for _, frame in engine.started]
    begin = frames[0].release
    assert [round((f.release - begin) * 80) for f in frames if f.model == 1] == list(range(16))
    assert [round((f.release - begin) * 20) for f in frames if f.model == 0] == list(range(4))
    assert all(moment >= frame.release for moment, frame in engine.started)
    assert [f.due - f.release for f in frames if f.model == 1] == pytest.approx([1 / 80] * 16)
    assert [len(model) for model in found["latencies"]] == [4, 16]
    assert not found["stopped"]
    assert found["resident_bytes"] > 10**6


@pytest.mark.parametrize("kind", ["queue", "own"])
def test_a_slow_engine_is_late_and_stopped(kind: str) -> None:
    runs = [lambda: time.sleep(0.0), lambda: time.sleep(0.05)]
    engine = Queued(runs, 1, "slow") if kind == "queue" else OwnThreads(runs, "slow")
    found = run_trial(engine, list(RATES.values()), 1.0, 1.0, 3)
    assert found["stopped"]
    assert sum(found["late"]) > 3
    assert found["late"][1] >= 2  # 50 ms of work in a period of 25 ms
    assert sum(len(model) for model in found["latencies"]) < 50


def test_the_queue_takes_the_earliest_deadline_first() -> None:
    order: list[int] = []
    gate = threading.Event()
    runs = [lambda: gate.wait(9), lambda: None, lambda: None]
    engine = Queued(runs, 1, "one")
    engine.start(Frame(1.0, 0.0, 0), lambda frame: order.append(frame.model))
    time.sleep(0.02)
    engine.start(Frame(9.0, 0.0, 1), lambda frame: order.append(frame.model))
    engine.start(Frame(5.0, 0.0, 2), lambda frame: order.append(frame.model))
    gate.set()
    engine.settle(False)
    assert order == [0, 2, 1]


def test_a_batch_deals_the_frames_evenly() -> None:
    engine = Instant()
    run_batch(engine, [2, 4])
    assert [frame.model for _, frame in engine.started] == [0, 1, 1, 0, 1, 1]


class Capacity:
    """Served: frames are late above a factor; ``flukes`` trials of those below have one too."""

    def __init__(self, most: float, flukes: int = 0) -> None:
        self.most, self.flukes = most, flukes

    def trial(self, factor: float, seconds: float, allowed: int) -> Outcome:
        assert allowed == int(0.02 * factor * seconds * 50)
        fluke, self.flukes = self.flukes > 0, self.flukes - 1
        late = 9 if factor > self.most else int(fluke)
        return Outcome([late, 0], [[0.1], [0.1]], seconds, 0.1, 1, False)


@pytest.mark.parametrize("most", [0.07, 0.5, 1.0, 2.83, 40.0])
@pytest.mark.parametrize("flukes", [0, 1])
def test_the_search_finds_what_is_carried(most: float, flukes: int) -> None:
    search, served = Search(2.0, 2, 1.03), Capacity(most, flukes)
    while search.factor is not None:
        search.step(served, RATES)  # type: ignore[arg-type]
    assert search.carried <= most < search.carried * 1.03
    assert max(t.factor for t in search.trials if not t.late) == search.carried


def test_the_search_ends_where_nothing_is_carried() -> None:
    search = Search(2.0, 1, 1.03)
    while search.factor is not None:
        search.step(Capacity(0.0), RATES)  # type: ignore[arg-type]
    assert search.carried == 0


def test_the_zoo_has_models_of_like_size() -> None:
    asked = {"ultraface": 100, "minifas": 104, "yolox_nano": 523, "yunet": 136}
    for name, (family, variant) in ALIKE.items():
        macs = figures.macs(registry.outline(family, variant)) / 1e6
        assert macs == pytest.approx(asked[name], rel=0.12), name


def test_real_models_come_without_weights_among_their_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = onnx.helper.make_tensor_value_info("x", 1, ["batch", 3])
    w = onnx.helper.make_tensor_value_info("w", 1, [3])
    y = onnx.helper.make_tensor_value_info("y", 1, ["batch", 3])
    weights = onnx.helper.make_tensor("w", 1, [3], [1.0, 2.0, 3.0])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])], "g", [x, w], [y], [weights]
    )
    given = tmp_path / "given"
    given.mkdir()
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 9)])
    model.ir_version = 3
    onnx.save(model, given / REAL["yunet"])
    monkeypatch.setenv("MOTET_MODELS", str(given))
    assert _lay("yunet", tmp_path) == REAL["yunet"]
    laid = onnx.load(tmp_path / "yunet.onnx")
    onnx.checker.check_model(laid)
    assert [value.name for value in laid.graph.input] == ["x"]
    assert [d.dim_value for d in laid.graph.input[0].type.tensor_type.shape.dim] == [1, 3]


def test_the_specification_names_the_models(tmp_path: Path) -> None:
    from motet.compiler.spec_file import load_spec

    for name in REAL:
        (tmp_path / f"{name}.onnx").touch()
    path = tmp_path / "camera.toml"
    path.write_bytes(SPECIFICATION.read_bytes())
    rates = {model.name: model.rate_hz for model in load_spec(path).models}
    assert rates == {"ultraface": 30, "minifas": 15, "yolox_nano": 10, "yunet": 60}


def test_every_group_has_contenders() -> None:
    assert {one.group for one in contenders("python")} == set(GROUPS)
    assert "openvino" not in {one.engine for one in contenders(None)}


def _finalist(group: str, factor: float) -> Finalist:
    trial = Trial(factor, 0, 100, False)
    at = At(trial, {"a": 0.01, "b": None}, 0.5, 100 * 2**20)
    return Finalist(group, "best", factor, [trial, Trial(2 * factor, 9, 90, True)], at, at)


def test_the_report(tmp_path: Path) -> None:
    result = Result(
        {"a": "a.onnx", "b": "zoo"}, RATES, 3.0,
        [Variant("motet", "one", 3.0), Variant("openvino", "no such module", -1.0)],
        [_finalist("motet", 3.0), _finalist("onnxruntime", 1.0), _finalist("openvino", 2.0)],
        {"motet": 0.1, "onnxruntime": 0.2},
    )  # fmt: skip
    assert ratio(result) == 1.5
    path = tmp_path / "r.json"
    path.write_bytes(msgspec.json.encode(result))
    pytest.importorskip("matplotlib")
    done = CliRunner().invoke(main, ["--from", str(path), "--plot", str(tmp_path / "p.svg")])
    assert done.exit_code == 0, done.output
    assert "Motet's factor is 1.50 times the best peer's" in done.output
    assert "no such module" in done.output
    assert (tmp_path / "p.svg").stat().st_size > 1000


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Camera:
    """Two small networks of the examples, as a camera."""
    import motet

    folder = tmp_path_factory.mktemp("camera")
    examples = Path(__file__).parents[2] / "examples" / "models"
    names = ("digits_mobile", "digits_inception")
    specs = []
    for name in names:
        (folder / f"{name}.onnx").write_bytes((examples / f"{name}.onnx").read_bytes())
        specs.append(motet.ModelSpec(path=str(folder / f"{name}.onnx"), name=name))
    bundle = motet.compile(motet.BundleSpec(models=specs))
    bundle.save(folder / "camera.motet")
    for name, model in motet.load(bundle, threads=1).items():
        arrays: dict[str, Any] = dict(model.random_inputs())
        np.savez(folder / f"{name}.npz", **arrays)
    return Camera(folder / "camera.motet", dict(zip(names, (20.0, 40.0), strict=True)), {})


@pytest.mark.parametrize(
    "contender",
    [
        Contender("motet", "motet", "submit", 1, workers=2),
        Contender("motet", "motet", "serial", 1),
        Contender("onnxruntime", "onnxruntime", "own", None),
        Contender("onnxruntime", "onnxruntime", "queue", 1, workers=2),
    ],
    ids=lambda one: f"{one.engine}-{one.way}",
)
def test_engines_serve_in_processes_of_their_own(digits: Camera, contender: Contender) -> None:
    pytest.importorskip(contender.engine)
    with Served(contender, digits) as served:
        assert served.settings
        found = served.trial(1.0, 0.25, 1000)
        assert [len(model) for model in found.latencies] == [5, 10]
        assert min(map(min, found.latencies)) > 0
        assert found.cpu_seconds > 0
        assert not found.stopped
        overload = served.trial(2000.0, 0.25, 20)
        assert overload.stopped
        assert sum(overload.late) > 20
        assert served.batch([2, 3]) > 0


def test_an_engine_that_cannot_be_had_says_why(digits: Camera) -> None:
    with pytest.raises(ContenderError, match=r"no_such_engine ended: .*KeyError"):
        Served(Contender("x", "no_such_engine", "own", 1), digits)
