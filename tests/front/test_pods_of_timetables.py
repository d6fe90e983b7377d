"""A bundle with a timetable keeps to quotas of pods and to its slots' pods, or is not loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from front_models import layers
from front_outcome import Motet
from msgspec import structs

import motet
import motet.targets.systolic.architectures as architectures
from motet.errors import BundleError, ProgramError, SpecError
from motet.runtime.manifest import Quota
from motet.targets.systolic.instructions.encoding import decode
from motet.targets.systolic.instructions.pods_used import used_range

PODS, QUOTA = 4, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two equal models on tiny-4x4 with four pods, one of which may have two."""
    made = tmp_path_factory.mktemp("quotas")
    [place] = architectures.__path__
    text = (Path(place) / "tiny-4x4.toml").read_text()
    text = text.replace('"tiny-4x4"', '"quad"').replace("count = 1", f"count = {PODS}")
    (made / "quad.toml").write_text(text)
    path = layers(made / "layers.onnx", 4)
    keys = f"path = '{path}'\nrate_hz = 50\n"
    (made / "spec.toml").write_text(
        f"target = '{made / 'quad.toml'}'\n[models.held]\n{keys}[models.held.quota]\n"
        f"pods = {QUOTA}\n[models.free]\n{keys}"
    )
    return made


@pytest.fixture
def spaced(run_motet: Motet, folder: Path) -> dict[str, Any]:
    """The timetable in which each model has pods of its own, as plain data."""
    path = folder / "space.json"
    if not path.is_file():
        asked = ("--kind", "space", "--host", "none", "--joints", "0", "-o", path)
        outcome = run_motet("timetable", folder / "spec.toml", *asked)
        assert outcome.code == 0, outcome.err
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def compiled(folder: Path, table: dict[str, Any], path: Path) -> Any:
    path.write_text(json.dumps(table))
    return motet.compile(folder / "spec.toml", timetable=path)


def slot_of(table: dict[str, Any], model: str) -> dict[str, Any]:
    [slot] = [one for one in table["slots"] if one["stages"][0]["model"] == model]
    return dict(slot)


def with_slots(table: dict[str, Any], *slots: dict[str, Any]) -> dict[str, Any]:
    return {**table, "slots": list(slots)}


def used(bundle: Any, name: str) -> range:
    return used_range(decode(bundle.array_programs[name]))


def with_manifest(bundle: Any, **changes: Any) -> Any:
    return replace(bundle, manifest=structs.replace(bundle.manifest, **changes))


def moved(bundle: Any, model: str, **changes: Any) -> Any:
    """The bundle with another slot for a model."""
    table = bundle.manifest.timetable
    slots = tuple(
        structs.replace(slot, **changes) if slot.stages[0].model == model else slot
        for slot in table.slots
    )
    return with_manifest(bundle, timetable=structs.replace(table, slots=slots))


@pytest.fixture(scope="module")
def shared() -> dict[str, Any]:
    return {}


@pytest.fixture
def bundle(folder: Path, spaced: dict[str, Any], shared: dict[str, Any], tmp_path: Path) -> Any:
    if not shared:
        shared["bundle"] = compiled(folder, spaced, tmp_path / "space.json")
    return shared["bundle"]


def test_slots_of_their_own_pods_are_played(bundle: Any) -> None:
    session = motet.load(bundle)
    played = session.play({name: session[name].random_inputs(seed=1) for name in session})
    for one in played.slots:
        slot = range(one.slot.first_pod, one.slot.first_pod + one.slot.pods)
        own = used(bundle, one.program)
        assert {*own} <= {*slot}
        assert one.slot.stages[0].model == "free" or len(own) <= QUOTA
    [free], [held] = played.outputs["free"], played.outputs["held"]
    np.testing.assert_allclose(free["waves"], held["waves"], rtol=1e-5, atol=1e-5)


def test_a_slot_wider_than_the_quota_has_a_program_within_it(
    folder: Path, spaced: dict[str, Any], tmp_path: Path
) -> None:
    """Three pods for a model that may use two, one after the other with the free one."""
    held, free = slot_of(spaced, "held"), slot_of(spaced, "free")
    assert held["pods"] <= QUOTA
    held |= {"first_pod": 1, "pods": QUOTA + 1, "start_tick": free["ticks"]}
    bundle = compiled(folder, with_slots(spaced, free, held), tmp_path / "wide.json")
    [made] = [one for one in bundle.manifest.pod_programs if one.calls[0][0] == "held"]
    assert (made.first_pod, made.pods) == (1, QUOTA + 1)
    assert len(used(bundle, made.program)) <= QUOTA
    assert not motet.load(bundle).play().too_long


def test_a_program_for_more_pods_than_a_quota_is_refused(bundle: Any) -> None:
    """The quota in the bundle is lower than what it was compiled for."""
    motet.load(bundle)
    entries = [
        structs.replace(entry, quota=Quota(pods=1)) if entry.name == "free" else entry
        for entry in bundle.manifest.models
    ]
    less = with_manifest(bundle, models=tuple(entries))
    with pytest.raises(ProgramError, match=r"model 'free': .* uses pods \d to \d, its quota is 1"):
        motet.load(less)


def test_a_timetables_program_is_held_against_the_quota(
    folder: Path, spaced: dict[str, Any], tmp_path: Path
) -> None:
    """The free model's program on three pods as the held one's: only the timetable runs it."""
    free = slot_of(spaced, "free") | {"first_pod": 1, "pods": 3}
    held = slot_of(spaced, "held") | {"first_pod": 1, "pods": 3, "start_tick": free["ticks"]}
    bundle = compiled(folder, with_slots(spaced, free, held), tmp_path / "three.json")
    motet.load(bundle)
    theirs = {one.calls[0][0]: one for one in bundle.manifest.pod_programs}
    assert len(used(bundle, theirs["free"].program)) == 3 > QUOTA
    swapped = structs.replace(theirs["free"], calls=theirs["held"].calls)
    changed = with_manifest(bundle, pod_programs=(theirs["free"], swapped))
    message = rf"model 'held': an array program of its uses pods 1 to 3, its quota is {QUOTA}"
    with pytest.raises(ProgramError, match=message):
        motet.load(changed)


def test_a_joint_program_of_a_model_with_a_quota_is_refused(
    folder: Path, spaced: dict[str, Any], tmp_path: Path
) -> None:
    free, held = slot_of(spaced, "free"), slot_of(spaced, "held")
    both = free | {"first_pod": 0, "pods": PODS, "ticks": free["ticks"] + held["ticks"]}
    both["stages"] = free["stages"] + held["stages"]
    table = with_slots(spaced, both)
    message = rf"model 'held' has quota.pods = {QUOTA}: make it anew"
    with pytest.raises(SpecError, match=message):
        compiled(folder, table, tmp_path / "joint.json")


def test_a_slot_on_other_pods_than_its_program_is_refused(bundle: Any) -> None:
    """There is no program for that place, so the model's own would run, on pods of the other."""
    own = bundle.programs["free"].instructions
    [name] = [step.program for step in own if hasattr(step, "program")]
    assert len(used(bundle, name)) == PODS
    [slot] = [s for s in bundle.manifest.timetable.slots if s.stages[0].model == "free"]
    narrower = moved(bundle, "free", pods=slot.pods - 1, first_pod=slot.first_pod + 1)
    with pytest.raises(ProgramError, match=r"uses pods 0 to 3, and the bundle's timetable gives"):
        motet.load(narrower)


def test_the_place_of_a_program_that_was_changed_is_refused(bundle: Any) -> None:
    [made] = [one for one in bundle.manifest.pod_programs if one.calls[0][0] == "free"]
    less = structs.replace(made, share=made.share - 1)
    others = tuple(one for one in bundle.manifest.pod_programs if one is not made)
    with pytest.raises(ProgramError, match=r"uses pods .* timetable gives it"):
        motet.load(with_manifest(bundle, pod_programs=(less, *others)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first_pod": 0, "pods": PODS}, r"pod \d has model .* it serves one at a time"),
        ({"first_pod": PODS - 1, "pods": 2}, rf"has pods 3 to 4 of {PODS}"),
    ],
)
def test_slots_that_were_moved_are_refused_when_opened(
    bundle: Any, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = moved(bundle, "free", **changes).save(tmp_path / "changed.motet")
    with pytest.raises(BundleError, match=message):
        motet.load(path)


def test_stages_that_the_program_has_not_are_refused(bundle: Any) -> None:
    table = bundle.manifest.timetable
    [slot] = [one for one in table.slots if one.stages[0].model == "free"]
    [stage] = slot.stages
    for name, second, message in (
        ("free", 1, r"model 'free' frame 0 has 2 slots on the array, and its program 1 calls"),
        ("other", 0, r"the bundle has no model 'other'"),
    ):
        more = structs.replace(
            slot, start_tick=table.ticks // 2,
            stages=(structs.replace(stage, model=name, stage=second),),
        )  # fmt: skip
        longer = structs.replace(table, slots=(*table.slots, more))
        with pytest.raises(BundleError, match=message):
            motet.load(with_manifest(bundle, timetable=longer))


def test_a_timetable_of_another_number_of_pods_is_refused(bundle: Any) -> None:
    table = structs.replace(bundle.manifest.timetable, pods=PODS + 1)
    with pytest.raises(ProgramError, match=rf"for {PODS + 1} pods, and its array has {PODS}"):
        motet.load(with_manifest(bundle, timetable=table))
