"""Quotas of models: memory when compiling and when binding, threads, pods, shares of the time."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from front_models import layers
from front_outcome import Motet

import motet
from motet.errors import CompileError, SpecError
from motet.targets.systolic.instructions.encoding import decode

MOBILE = Path(__file__).parents[2] / "examples/models/digits_mobile.onnx"
ARRAY = "sosa-256x32x32"


def compiled(path: Path, target: str = "host", **quota: Any) -> Any:
    model = motet.ModelSpec(path=str(path), name="m", quota=motet.QuotaSpec(**quota))
    return motet.compile(motet.BundleSpec(models=[model], target=target))


def test_an_arena_beyond_the_quota_is_refused_when_compiling(tmp_path: Path) -> None:
    path = layers(tmp_path / "m.onnx")
    size = compiled(path).programs["m"].arena_bytes
    assert size > 64
    with pytest.raises(SpecError, match=r"models\.m\.quota\.arena_mib: .* MiB, and a run needs an"):
        compiled(path, arena_mib=(size - 64) / 2**20)
    bundle = compiled(path, arena_mib=size / 2**20)
    assert bundle.manifest.models[0].quota.arena_bytes == size
    session = motet.load(bundle)
    session.run(None, session["m"].random_inputs())


def test_open_sizes_are_refused_when_they_are_bound(tmp_path: Path) -> None:
    path = layers(tmp_path / "m.onnx", "N")
    one = motet.load(compiled(path))
    model = one["m"]
    (symbol,) = {d for i in model.get_inputs() for d in i.shape if isinstance(d, str)}
    with model.bound(model.random_inputs(symbols={symbol: 4})) as frame:
        most = frame.arena_bytes
    session = motet.load(compiled(path, arena_mib=most / 2**20))
    limited = session["m"]
    small, large = (limited.random_inputs(symbols={symbol: n}) for n in (4, 64))
    limited.run(None, small)
    message = r"model 'm' does not work at input shapes .* more than its quota of \d+: raise quota"
    with pytest.raises(CompileError, match=message):
        limited.run(None, large)
    with session, pytest.raises(CompileError, match=message):
        session.submit("m", large).result(30)
    limited.run(None, small)  # and others work on


def _threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_a_models_kernels_use_no_more_threads_than_its_quota() -> None:
    specs = [
        motet.ModelSpec(path=str(MOBILE), name="free"),
        motet.ModelSpec(path=str(MOBILE), name="bound", quota=motet.QuotaSpec(threads=1)),
    ]
    bundle = motet.compile(motet.BundleSpec(models=specs))
    fresh = motet.load(bundle, threads=2)
    inputs = fresh["free"].random_inputs(symbols={"N": 32, "batch": 32})
    before = _threads()
    for _ in range(20):
        found = fresh.run("bound", inputs)
    assert _threads() == before  # the pool has started nobody
    for name, value in fresh.run("free", inputs).items():
        np.testing.assert_array_equal(found[name], value)
    assert _threads() == before + 1


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_submitted_runs_keep_to_their_threads() -> None:
    model = motet.ModelSpec(path=str(MOBILE), name="bound", quota=motet.QuotaSpec(threads=1))
    bundle = motet.compile(motet.BundleSpec(models=[model]))
    with motet.load(bundle, threads=2) as session:
        session.configure(workers=1)
        inputs = session["bound"].random_inputs(symbols={"N": 32, "batch": 32})
        session.submit("bound", inputs).result(30)
        before = _threads()
        for _ in range(10):
            session.submit("bound", inputs).result(30)
        assert _threads() == before


def _pods(bundle: Any) -> set[int]:
    """Pods of all instructions of all array programs."""
    return {
        queue.pod
        for data in bundle.array_programs.values()
        for queue in decode(data).queues
        if len(queue.instructions)
    }


def test_array_programs_keep_to_their_pods(tmp_path: Path) -> None:
    path = layers(tmp_path / "m.onnx", 8)
    whole, two = compiled(path, ARRAY), compiled(path, ARRAY, pods=2)
    assert max(_pods(whole)) >= 2
    assert _pods(two) == {0, 1}
    inputs = motet.load(whole)["m"].random_inputs()
    for one, other in zip(
        motet.load(whole).run(None, inputs).values(), motet.load(two).run(None, inputs).values(),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_pods_that_there_are_not(tmp_path: Path) -> None:
    path = layers(tmp_path / "m.onnx")
    with pytest.raises(SpecError, match=r"models\.m\.quota\.pods: the target is the host, which"):
        compiled(path, pods=1)
    with pytest.raises(SpecError, match=r"quota\.pods: 900 pods, and the array .* has \d+: give"):
        compiled(path, ARRAY, pods=900)


def test_inspect_shows_quotas_and_submit_keeps_shares(run_motet: Motet, tmp_path: Path) -> None:
    bundle = compiled(layers(tmp_path / "m.onnx"), time_share=0.25, threads=2)
    bundle.save(tmp_path / "m.motet")
    assert "quota threads 2, time_share 0.25\n" in run_motet("inspect", "m.motet").out
    (facts,) = json.loads(run_motet("inspect", "m.motet", "--json").out)["models"]
    assert facts["quota"] == {"threads": 2, "time_share": 0.25}
    with motet.load(tmp_path / "m.motet") as session:
        session.submit(None, session["m"].random_inputs()).result(30)
        shares = session._submitting._dispatcher._shares._shares
        assert "m" in shares
        assert not shares.is_over("m", time.monotonic())


def test_simulate_has_quotas(run_motet: Motet, tmp_path: Path) -> None:
    path = layers(tmp_path / "m.onnx", 8)
    text = f'target = "{ARRAY}"\n' + "".join(
        f'[models.{name}]\npath = "{path.name}"\n' for name in ("one", "two")
    )
    (tmp_path / "s.toml").write_text(text)

    def busy(*options: str) -> dict[str, Any]:
        arguments = ("s.toml", "--duration", "300ms", "--host", "none", "--json", *options)
        done = run_motet("simulate", *arguments)
        assert done.code == 0, done.err
        return {model["model"]: model for model in json.loads(done.out)["models"]}

    greedy = ("--set", "models.one.priority=1")
    assert busy(*greedy)["two"]["finished"] == 0
    held = busy(*greedy, "--set", "models.one.quota.time_share=0.25")
    total = held["one"]["array_seconds"] + held["two"]["array_seconds"]
    # A quarter of 300 ms, and that of a window of 100 ms.
    assert held["one"]["array_seconds"] / total == pytest.approx(1 / 3, abs=0.01)
    few = busy("--set", "models.one.quota.pods=1")
    assert few["one"]["run_array_seconds"] > 1.2 * few["two"]["run_array_seconds"]
    shared = busy("--share-pods", "--set", "models.one.quota.pods=1")
    assert shared["one"]["run_array_seconds"] > 1.2 * shared["two"]["run_array_seconds"]
