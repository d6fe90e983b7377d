"""What ``Session.play`` keeps apart: a model that fails, or is slow, disturbs no other's frames."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from front_models import layers, write
from front_outcome import Motet
from onnx import TensorProto, helper

import motet
import motet.targets.systolic.architectures as architectures
from motet.errors import InputError
from motet.runtime.session import Session
from motet.targets.systolic.architecture_file import from_json
from motet.targets.systolic.simulation.device import SimulatedArray

PODS = 2


def product(path: Path) -> Path:
    """z [1, 3] = waves W: what ``layers`` can feed."""
    weights = np.random.default_rng(1).standard_normal((5, 3)).astype("float32")
    node = helper.make_node("MatMul", ["waves", "w"], ["z"], "product")
    waves = ("waves", TensorProto.FLOAT, [1, 5])
    return write(path, [node], [waves], [("z", TensorProto.FLOAT, [1, 3])], w=weights)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model a twice in a hyperperiod, b once, and after, which reads b."""
    made = tmp_path_factory.mktemp("apart")
    [place] = architectures.__path__
    text = (Path(place) / "tiny-4x4.toml").read_text()
    text = text.replace('"tiny-4x4"', '"pair"').replace("count = 1", f"count = {PODS}")
    (made / "pair.toml").write_text(text)
    path, last = layers(made / "layers.onnx"), product(made / "last.onnx")
    (made / "spec.toml").write_text(
        f"target = '{made / 'pair.toml'}'\n"
        f"[models.a]\npath = '{path}'\nrate_hz = 100\n[models.b]\npath = '{path}'\nrate_hz = 50\n"
        f"[models.last]\npath = '{last}'\nrate_hz = 50\n[models.last.inputs]\nwaves = 'b.waves'\n"
    )
    return made


@pytest.fixture
def bundle(run_motet: Motet, folder: Path) -> Any:
    path = folder / "table.json"
    if not path.is_file():
        asked = ("--kind", "both", "--host", "none", "--joints", "0", "-o", path)
        outcome = run_motet("timetable", folder / "spec.toml", *asked)
        assert outcome.code == 0, outcome.err
    return motet.compile(folder / "spec.toml", timetable=path)


class Faulty(SimulatedArray):
    """Fails, or takes a while, where its input has a mark."""

    mark, wait = 7.0, 0.0
    invoked: int = 0

    def invoke(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        self.invoked += 1
        if any(np.any(one == self.mark) for one in inputs):
            if not self.wait:
                raise RuntimeError("the device broke off")
            time.sleep(self.wait)
        super().invoke(name, inputs, outputs)


@pytest.fixture
def session(bundle: Any) -> Session:
    shares = {one.program: one.share for one in bundle.manifest.pod_programs}
    return Session(bundle, Faulty(from_json(bundle.array_description), shares))


def device(session: Session) -> Faulty:
    found = session._machine.accelerator
    assert isinstance(found, Faulty)
    return found


def inputs_of(session: Session) -> dict[str, dict[str, Any]]:
    return {name: session[name].random_inputs(seed=2) for name in ("a", "b")}


def marked(inputs: dict[str, dict[str, Any]], model: str) -> dict[str, dict[str, Any]]:
    image = inputs[model]["image"].copy()
    image.flat[0] = Faulty.mark
    return {**inputs, model: {"image": image}}


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(one[key], other[key]) for key in {*one, *other})


def test_a_model_that_fails_stops_no_other(session: Session) -> None:
    inputs = inputs_of(session)
    before = session.play(inputs)
    assert not before.failures
    played = session.play(marked(inputs, "a"))
    assert [(one.model, one.frame) for one in played.failures] == [("a", 0), ("a", 1)]
    assert all("broke off" in str(one.error) for one in played.failures)
    assert played.outputs["a"] == (None, None)
    for name in ("b", "last"):
        assert same(played.outputs[name][0], before.outputs[name][0])
    kept = [one for one in before.slots if one.slot.stages[0].model != "a"]
    assert played.slots == tuple(kept)
    again = session.play(inputs)  # and nothing is left of it
    assert not again.failures
    for name, frames in before.outputs.items():
        assert all(same(*pair) for pair in zip(frames, again.outputs[name], strict=True))


def test_what_reads_a_failed_frame_fails_and_names_it(session: Session) -> None:
    inputs = inputs_of(session)
    before, played = session.play(inputs), session.play(marked(inputs, "b"))
    assert [one.model for one in played.failures] == ["b", "last"]
    message = "model 'last': input 'waves' is of 'b', whose frame failed"
    assert str(played.failures[1].error) == message
    assert played.outputs["b"] == played.outputs["last"] == (None,)
    for one, other in zip(before.outputs["a"], played.outputs["a"], strict=True):
        assert same(one, other)


def test_a_slow_model_changes_no_value_and_no_slot(session: Session) -> None:
    inputs = marked(inputs_of(session), "a")
    device(session).wait = 0.01
    slow = session.play(inputs)
    device(session).wait = 1e-9
    fast = session.play(inputs)
    assert slow.slots == fast.slots
    for name, frames in fast.outputs.items():
        assert all(same(*pair) for pair in zip(frames, slow.outputs[name], strict=True))


def test_values_that_are_none_stay_with_their_model(session: Session) -> None:
    """NaN everywhere in one model's input."""
    inputs = inputs_of(session)
    before = session.play(inputs)
    image = np.full_like(inputs["b"]["image"], np.nan)
    played = session.play({**inputs, "b": {"image": image}})
    [b] = played.outputs["b"]
    assert b is not None
    assert np.isnan(b["waves"]).all()
    for one, other in zip(before.outputs["a"], played.outputs["a"], strict=True):
        assert same(one, other)


def test_wrong_inputs_are_refused_before_anything_runs(session: Session) -> None:
    inputs = inputs_of(session)
    for wrong in ({"picture": inputs["b"]["image"]}, {}, {"image": inputs["b"]["image"] > 0}):
        with pytest.raises(InputError, match=r"model 'b'"):
            session.play({**inputs, "b": wrong})
    assert device(session).invoked == 0
    small = session.play({**inputs, "b": {"image": inputs["b"]["image"][:, :, :2]}}).failures
    assert [one.model for one in small] == ["b", "last"]


def test_frames_own_their_outputs_and_leave_inputs_alone(session: Session) -> None:
    inputs = inputs_of(session)
    kept = {name: {k: v.copy() for k, v in own.items()} for name, own in inputs.items()}
    played = session.play(inputs)
    assert all(same(inputs[name], kept[name]) for name in inputs)
    frames = [one for own in played.outputs.values() for one in own]
    arrays = [array for one in frames for array in (one or {}).values()]
    for number, one in enumerate(arrays):
        assert not any(np.shares_memory(one, other) for other in arrays[:number])


def test_the_partner_of_a_failed_frame_runs_alone(folder: Path, tmp_path: Path) -> None:
    """The first frames of a and b as one program; b's input has a shape that it does not take."""
    table = json.loads((folder / "table.json").read_text())
    first = {s["stages"][0]["model"]: s for s in reversed(table["slots"])}
    ticks = first["a"]["ticks"] + first["b"]["ticks"]
    later = [one for one in table["slots"] if one not in (first["a"], first["b"])]
    for one in later:
        one["start_tick"] += 2 * ticks
    both = {**first["a"], "start_tick": 0, "ticks": ticks, "first_pod": 0, "pods": PODS}
    both["stages"] = [{**first[name]["stages"][0], "done_ticks": ticks} for name in ("a", "b")]
    path = tmp_path / "joint.json"
    path.write_text(json.dumps({**table, "slots": [both, *later]}))
    session = motet.load(motet.compile(folder / "spec.toml", timetable=path))
    inputs = inputs_of(session)
    before = session.play(inputs)
    assert len(before.slots[0].slot.stages) == 2
    played = session.play({**inputs, "b": {"image": inputs["b"]["image"][:, :, :2]}})
    assert [one.model for one in played.failures] == ["b", "last"]
    for one, other in zip(before.outputs["a"], played.outputs["a"], strict=True):
        assert same(one, other)
    assert played.slots[0].program != before.slots[0].program
    assert played.slots[0].cycles < before.slots[0].cycles
