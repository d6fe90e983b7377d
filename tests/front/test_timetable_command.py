"""``motet timetable``: what it makes, writes, reads back, draws, plays, and refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from front_outcome import Motet, assert_plain, rows_of

from motet.targets.systolic.architecture_file import shipped_architectures

HZ = 1e8
"""Clock of tiny-4x4."""


def quad() -> None:
    """tiny-4x4 with four pods, as ``quad.toml``."""
    import motet.targets.systolic.architectures as folder

    assert "tiny-4x4" in shipped_architectures()
    [place] = folder.__path__
    text = (Path(place) / "tiny-4x4.toml").read_text()
    made = text.replace('"tiny-4x4"', '"quad"').replace("count = 1", "count = 4")
    Path("quad.toml").write_text(made)


def write(models: Path, target: str = "quad.toml", **keys: str) -> None:
    tables = [
        f"[models.{name}]\npath = '{models / 'layers.onnx'}'\n{text}\n"
        for name, text in keys.items()
    ]
    quad()
    Path("spec.toml").write_text(f"target = '{target}'\n" + "".join(tables))


def made(run_motet: Motet, *options: object, err: str = "") -> dict[str, Any]:
    outcome = run_motet("timetable", "spec.toml", "--json", "--host", "none", *options)
    assert outcome.code == 0, outcome.err
    assert err in outcome.err
    if not err:
        assert "warning" not in outcome.err
    found: dict[str, Any] = json.loads(outcome.out)
    return found


def test_a_timetable_is_made_written_read_drawn_and_played(run_motet: Motet, models: Path) -> None:
    write(models, a="rate_hz = 100", b="rate_hz = 50\nafter = ['a']", c="rate_hz = 50")
    found = made(run_motet, "-o", "t.json", "--plot", "t.svg")
    assert (found["hyperperiod_seconds"], found["frames"], found["pods"]) == (0.02, 4, 4)
    assert {model["model"]: model["frames"] for model in found["models"]} == {
        "a": 2, "b": 1, "c": 1
    }  # fmt: skip
    kinds = {kind["kind"]: kind for kind in found["kinds"]}
    assert list(kinds) == ["time", "space", "both"]
    for kind in kinds.values():
        assert kind["missed"] == 0
        assert kind["used"] >= kind["used_bound"] * (1 - 1e-6)
        assert kind["array_busy"] >= kind["array_bound"] * (1 - 1e-9)
        assert kind["joules"] >= kind["joules_bound"] * (1 - 1e-9)
    assert kinds["both"]["used"] <= min(kinds["time"]["used"], kinds["space"]["used"])
    for model in found["models"]:
        assert model["slack_seconds"] > 0
        assert model["least_latency_seconds"] <= model["mean_latency_seconds"] * (1 + 1e-9)
        assert model["mean_latency_seconds"] <= model["largest_latency_seconds"] * (1 + 1e-9)
    assert "<svg" in Path("t.svg").read_text()
    stored = json.loads(Path("t.json").read_text())
    assert stored["ticks"] == 0.02 * HZ
    slots = [stage for slot in stored["slots"] for stage in slot["stages"]]
    assert {(stage["model"], stage["frame"]) for stage in slots} == {
        ("a", 0), ("a", 1), ("b", 0), ("c", 0)
    }  # fmt: skip

    again = made(run_motet, "--timetable", "t.json", "--duration", "1s", "-o", "again.json")
    assert again["models"] == found["models"]
    assert again["kinds"][0]["used"] == kinds[found["kind"]]["used"]
    assert Path("again.json").read_bytes() == Path("t.json").read_bytes()
    played = {model["model"]: model for model in again["played"]["models"]}
    assert [played[name]["finished"] for name in "abc"] == [100, 50, 50]
    for model in found["models"]:
        name = model["model"]
        assert played[name]["deadline_misses"] == 0
        assert played[name]["mean_latency_seconds"] == pytest.approx(model["mean_latency_seconds"])


def test_kinds_tables_and_columns(run_motet: Motet, models: Path) -> None:
    write(models, a="rate_hz = 100", c="rate_hz = 50")
    for kind in ("time", "space"):
        found = made(run_motet, "--kind", kind)
        assert found["kind"] == kind
        assert [one["kind"] for one in found["kinds"]] == [kind]
    pods = {model["model"]: model["pods"] for model in found["models"]}
    assert all(least == most < 4 for least, most in pods.values())
    outcome = run_motet("timetable", "spec.toml", "--duration", "1s")
    assert outcome.code == 0
    assert_plain(outcome.out)
    assert "Timetable of 20 ms on quad in fp32 (simulated): 3 frames" in outcome.out
    assert "policy timetable" in outcome.out
    rows = rows_of(run_motet("timetable", "spec.toml", "--csv").out)
    assert [row["model"] for row in rows] == ["a", "c"]


def test_on_one_pod_models_take_turns(run_motet: Motet, models: Path) -> None:
    write(models, "tiny-4x4", a="rate_hz = 100", c="rate_hz = 50")
    found = made(run_motet, "--joints", "0")
    assert found["kind"] == "time"
    whys = {kind["kind"]: kind["why"] for kind in found["kinds"]}
    assert whys["space"] == "2 models, and pods: 1"
    assert whys["both"] == "no times on fewer pods, and no joints"
    text = "timetable, spec.toml, --kind, space"
    outcome = run_motet(*text.split(", "))
    assert outcome.code == 2
    assert "every frame has its place (space: 2 models, and pods: 1)" in outcome.err


def test_models_of_the_host(run_motet: Motet, models: Path) -> None:
    write(models, "host", a="rate_hz = 100", c="rate_hz = 50\npriority = 3")
    outcome = run_motet("timetable", "spec.toml", "--host", "formula", "--json", "-o", "t.json")
    assert outcome.code == 0
    assert "warning" not in outcome.err
    found = json.loads(outcome.out)
    assert (found["machine"], found["kind"]) == ("host", "time")
    assert found["kinds"][0]["host_busy"] > 0
    assert {slot["resource"] for slot in json.loads(Path("t.json").read_text())["slots"]} == {
        "host"
    }


def test_a_deadline_that_no_timetable_meets_is_a_warning_with_the_number(
    run_motet: Motet, models: Path
) -> None:
    write(models, a="rate_hz = 100", b="rate_hz = 100\nafter = ['a']\ndeadline_ms = 0.001")
    outcome = run_motet("timetable", "spec.toml", "--host", "none")
    assert outcome.code == 0
    assert "warning: model 'b': no timetable ends its frames sooner than 0." in outcome.err
    assert "the deadline is 0.001 ms after it: give it a larger deadline_ms" in outcome.err
    assert "1 of 2 frames miss their deadline: 1 of b" in outcome.err


@pytest.mark.parametrize(
    ("keys", "options", "message"),
    [
        ({"a": ""}, (), "model 'a' runs back to back: a timetable needs its rate_hz"),
        ({"a": "rate_hz = 1e7"}, (), "the rates ask for at least "),
        ({"a": "rate_hz = 1e9", "b": "rate_hz = 3"}, (), " times the array's time; the"),
        ({"a": "rate_hz = 100", "b": "rate_hz = 99.73"}, (), "round a to 99.73 Hz, which"),
        ({"a": "rate_hz = 9\nafter = ['b']", "b": "rate_hz = 9\nafter = ['a']"}, (),
         "the order between models is a cycle"),
        ({"a": "rate_hz = 9"}, ("--timetable", "gone.json"), "gone.json: No such file"),
        ({"a": "rate_hz = 9"}, ("--timetable", "spec.toml"), "no timetable that 'motet timetable"),
        ({"a": "rate_hz = 9"}, ("--timetable", "x", "--kind", "time"), "--kind is for making"),
        ({"a": "rate_hz = 9"}, ("-o", "no/such/t.json"), "no/such"),
        ({"a": "rate_hz = 9"}, ("--plot", "no/such/t.svg"), "no/such"),
    ],
)  # fmt: skip
def test_mistakes(
    run_motet: Motet, models: Path, keys: dict[str, str], options: tuple[str, ...], message: str
) -> None:
    write(models, **keys)
    outcome = run_motet("timetable", "spec.toml", *options)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("motet: error:") == 1
    assert "e+" not in outcome.err


def test_a_timetable_of_others_is_refused(run_motet: Motet, models: Path) -> None:
    write(models, a="rate_hz = 100")
    made(run_motet, "-o", "t.json")
    write(models, a="rate_hz = 90")
    outcome = run_motet("timetable", "spec.toml", "--timetable", "t.json")
    assert outcome.code == 2
    assert "t.json: hyperperiod_seconds is 1/100, and these models and machine have 1/90" in (
        outcome.err
    )
    write(models, "tiny-4x4", a="rate_hz = 100")
    outcome = run_motet("timetable", "spec.toml", "--timetable", "t.json")
    assert "t.json: machine is 'quad', and these models' is 'tiny-4x4'" in outcome.err


def test_shares_of_pods_that_move(run_motet: Motet, models: Path) -> None:
    write(models, a="rate_hz = 100", c="rate_hz = 50")
    outcome = run_motet(
        "simulate", "spec.toml", "--duration", "1s", "--share-pods", "--policy", "edf", "--json"
    )
    assert outcome.code == 0
    steps = [line for line in outcome.err.splitlines() if "time shares of the pods: " in line]
    (total,) = {re.findall(r": \d+ of (\d+), [ac] on \d of 4 pods$", line)[0] for line in steps}
    assert f": {total} of {total}, " in steps[-1]
    found = json.loads(outcome.out)
    assert found["policy"] == "edf, pods shared"
    assert [model["finished"] for model in found["models"]] == [100, 50]
    used = sum(model["energy_joules"] for model in found["models"])
    assert found["energy_joules"] > used > 0
    write(models, "tiny-4x4", a="rate_hz = 100")
    outcome = run_motet("simulate", "spec.toml", "--duration", "1s", "--share-pods")
    assert outcome.code == 2
    assert "--share-pods: array 'tiny-4x4' has one pod: give one of several" in outcome.err
    outcome = run_motet("simulate", "spec.toml", "--share-pods")
    assert "--share-pods is of simulated time: give --duration too" in outcome.err


def test_a_bundle_keeps_a_timetable(run_motet: Motet, models: Path) -> None:
    write(models, "tiny-4x4", a="rate_hz = 100", c="after = ['a']")
    found = made(run_motet, "-o", "t.json")
    outcome = run_motet("compile", "spec.toml", "-o", "x.motet", "--timetable", "t.json")
    assert outcome.code == 0, outcome.err
    described = json.loads(run_motet("inspect", "x.motet", "--json").out)
    stored = json.loads(Path("t.json").read_text())
    assert described["timetable"]["slots"] == stored["slots"]
    shown = run_motet("inspect", "x.motet").out
    assert f"timetable of 1/100 s: {len(stored['slots'])} slots, kind {found['kind']}" in (
        " ".join(shown.split())
    )
    again = made(run_motet, "--timetable", "x.motet")
    assert again["models"] == found["models"]
    assert json.loads(run_motet("inspect", "spec.toml", "--json").out)["timetable"] is None
    for keys, target, message in (
        ({"a": "rate_hz = 50", "c": "after = ['a']"}, "tiny-4x4",
         "it has 1 frames of model 'a' in 0.01 s, and rate_hz = 50 asks for 0.5"),
        ({"a": "rate_hz = 100"}, "tiny-4x4", "it is of a, c, and the bundle has a: make it anew"),
        ({"a": "rate_hz = 100", "c": "after = ['a']"}, "quad.toml", "made for 'tiny-4x4', not for"),
    ):  # fmt: skip
        write(models, target, **keys)
        outcome = run_motet("compile", "spec.toml", "-o", "y.motet", "--timetable", "t.json")
        assert outcome.code == 2
        assert f"timetable t.json: {message}" in outcome.err
    run_motet("compile", "spec.toml", "-o", "bare.motet")
    outcome = run_motet("timetable", "spec.toml", "--timetable", "bare.motet")
    assert "bare.motet: the bundle has no timetable: compile it with --timetable" in outcome.err


def test_rates_are_looked_at_before_models_are_compiled(run_motet: Motet, models: Path) -> None:
    write(models, a="", b="rate_hz = 9")
    outcome = run_motet("timetable", "spec.toml")
    assert (outcome.code, outcome.out) == (2, "")
    assert "model 'a' runs back to back: a timetable needs its rate_hz" in outcome.err
    assert "motet: compile:" not in outcome.err
