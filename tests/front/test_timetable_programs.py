"""Programs for the pods of a timetable's slots: what a bundle keeps, runs, and replays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from front_outcome import Motet
from msgspec import structs

import motet
import motet.targets.systolic.architectures as architectures
from motet.errors import BundleError, ProgramError, SpecError
from motet.runtime.pod_programs import PodProgram, verify_pod_programs

KEYS = {"a": "rate_hz = 100", "b": "rate_hz = 50\nafter = ['a']", "c": "rate_hz = 50"}


@pytest.fixture(scope="module")
def folder(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A specification of three models on tiny-4x4 with four pods."""
    made = tmp_path_factory.mktemp("timetables")
    [place] = architectures.__path__
    text = (Path(place) / "tiny-4x4.toml").read_text()
    text = text.replace('"tiny-4x4"', '"quad"').replace("count = 1", "count = 4")
    (made / "quad.toml").write_text(text)
    tables = [f"[models.{n}]\npath = '{models / 'layers.onnx'}'\n{k}\n" for n, k in KEYS.items()]
    (made / "spec.toml").write_text(f"target = '{made / 'quad.toml'}'\n" + "".join(tables))
    return made


@pytest.fixture
def table_of(run_motet: Motet, folder: Path) -> Any:
    """Makes a timetable of a kind, and gives its path."""

    def made(kind: str) -> Path:
        path = folder / f"{kind}.json"
        if not path.is_file():
            asked = ("--kind", kind, "--host", "none", "--joints", "0", "-o", path)
            outcome = run_motet("timetable", folder / "spec.toml", *asked)
            assert outcome.code == 0, outcome.err
        return path

    return made


def compiled(folder: Path, table: Path | None) -> Any:
    return motet.compile(folder / "spec.toml", timetable=table)


def equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


def check_played(bundle: Any, plain: Any) -> Any:
    """Plays the timetable: outputs are those of plain runs, and every slot is long enough."""
    session = motet.load(bundle)
    inputs = {name: session[name].random_inputs(seed=3) for name in session}
    played = session.play(inputs)
    for name, frames in played.outputs.items():
        alone = plain.run(name, inputs[name])
        assert len(frames) == (2 if name == "a" else 1)
        assert all(equal(frame, alone) for frame in frames)
        assert equal(session.run(name, inputs[name]), alone)
        assert equal(session.submit(name, inputs[name]).result(), alone)
    assert not played.too_long
    return played


@pytest.mark.parametrize("kind", ["time", "space", "both"])
def test_programs_take_the_timetables_cycles(
    run_motet: Motet, folder: Path, table_of: Any, kind: str
) -> None:
    table = table_of(kind)
    bundle = compiled(folder, table)
    played = check_played(bundle, motet.load(compiled(folder, None)))
    slots = json.loads(table.read_text())["slots"]
    assert [one.cycles for one in played.slots] == [slot["ticks"] for slot in slots]
    whole = all(slot["pods"] == 4 for slot in slots)
    assert (not bundle.manifest.pod_programs) == whole == (kind == "time")
    for one in played.slots:
        assert whole or one.program.startswith(f"pods_{one.slot.first_pod}_")
    path = bundle.save(folder / f"{kind}.motet")
    shown = " ".join(run_motet("inspect", path).out.split())
    count = len(bundle.manifest.pod_programs)
    assert (f"kind {kind}, {count} array programs for its pods" in shown) == (count > 0)
    again = run_motet("timetable", path, "--timetable", path, "--host", "none", "--json")
    assert again.code == 0, again.err
    told = json.loads(again.out)
    assert told["kind"] == kind
    assert [model["missed"] for model in told["models"]] == [0, 0, 0]
    assert {m["model"]: m["frames"] for m in told["models"]} == {"a": 2, "b": 1, "c": 1}


def test_a_run_by_itself_has_the_whole_array(folder: Path, table_of: Any) -> None:
    """As without a timetable, in which models have one to three of the four pods."""
    bundle = compiled(folder, table_of("space"))
    made = {one.calls[0][0]: one for one in bundle.manifest.pod_programs}
    session, plain = motet.load(bundle), motet.load(compiled(folder, None))
    for model, one in made.items():
        [cycles] = _cycles(session, model)
        assert [cycles] == _cycles(plain, model)
        assert cycles < one.cycles


def _cycles(session: motet.Session, model: str) -> list[int]:
    layers = session.simulate(model).layers
    return [one.array.cycles for one in layers if one.array is not None]


def test_a_joint_stage_is_one_program(folder: Path, table_of: Any, tmp_path: Path) -> None:
    """The first frames of a and c, which are released together, in one slot of all pods."""
    table = json.loads(table_of("time").read_text())
    first = {s["stages"][0]["model"]: s for s in table["slots"] if s["stages"][0]["frame"] == 0}
    table["slots"].remove(first["c"])
    both, ticks = first["a"], first["a"]["ticks"] + first["c"]["ticks"]
    both["stages"] += first["c"]["stages"]
    both |= {"start_tick": 0, "ticks": ticks}
    for stage in both["stages"]:
        stage["done_ticks"] = ticks
    first["b"]["start_tick"] = ticks
    path = tmp_path / "joint.json"
    path.write_text(json.dumps(table))
    bundle = compiled(folder, path)
    [made] = bundle.manifest.pod_programs
    assert made.calls == (("a", 0), ("c", 0))
    assert max(made.done_cycles) == made.cycles <= ticks
    played = check_played(bundle, motet.load(compiled(folder, None)))
    assert [len(one.slot.stages) for one in played.slots] == [2, 1, 1]
    assert played.slots[0].cycles == made.cycles


def test_slots_that_are_too_short_and_other_formats_are_refused(
    folder: Path, table_of: Any, tmp_path: Path
) -> None:
    text = table_of("space").read_text()
    table = json.loads(text)
    for stage in table["slots"][0]["stages"]:
        stage["done_ticks"] = 7
    path = tmp_path / "short.json"
    path.write_text(json.dumps(table))
    with pytest.raises(SpecError, match=r"has 7 cycles in the timetable, and its program takes"):
        compiled(folder, path)
    path.write_text(text.replace('"fp32"', '"int8"'))
    with pytest.raises(SpecError, match=r"its times are in int8, and the programs are in fp32"):
        compiled(folder, path)
    with pytest.raises(SpecError, match=r"the bundle has no timetable: compile it with"):
        motet.load(compiled(folder, None)).play()


def test_programs_of_nothing_are_refused() -> None:
    made = PodProgram((("a", 0),), 0, 2, 2, "gone", 5, (5,))
    with pytest.raises(BundleError, match=r"'gone' on pods 0 to 1 is of no call"):
        verify_pod_programs([made], {}, ["here"])


def test_programs_keep_to_their_pods(folder: Path, table_of: Any) -> None:
    bundle = compiled(folder, table_of("space"))
    made = next(one for one in bundle.manifest.pod_programs if one.first_pod > 0)
    moved = structs.replace(made, first_pod=made.first_pod - 1)
    manifest = structs.replace(bundle.manifest, pod_programs=(moved,))
    with pytest.raises(ProgramError, match=rf"uses pods {made.first_pod} to .* timetable gives it"):
        motet.load(replace(bundle, manifest=manifest))
