"""Times, traces and timetables that cannot be meant: one line, which names what to change."""

from __future__ import annotations

from pathlib import Path

import pytest
from front_outcome import Motet


@pytest.fixture
def spec(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    keys = f"path = '{models / 'layers.onnx'}'\nrate_hz = 100\n"
    Path("spec.toml").write_text(f"target = 'tiny-4x4'\n[models.a]\n{keys}")
    return "spec.toml"


@pytest.mark.parametrize("time", ["1e400s", "1e999999999", "1e300", "0s", "1e-400", "2e9", "1h"])
def test_times_beyond_reason(run_motet: Motet, spec: str, time: str) -> None:
    outcome = run_motet("simulate", spec, "--duration", time)
    assert outcome.code == 2
    assert f"'{time}' is no time above 0 and up to 1,000,000,000 s, as 1s" in outcome.err


@pytest.mark.parametrize("command", ["timetable", "simulate"])
@pytest.mark.parametrize("rate", ["1e300", "1e-300"])
def test_rates_beyond_all_clocks(run_motet: Motet, spec: str, command: str, rate: str) -> None:
    outcome = run_motet(command, spec, "--set", f"models.a.rate_hz={rate}")
    assert outcome.code == 2
    assert "models.a.rate_hz: expected a number from 1e-6 to 1e9 or a fraction" in outcome.err


def test_frames_beyond_the_end_are_warned_of(run_motet: Motet, spec: str) -> None:
    for rows, told in (
        ("a,0.5\n", "0 of 1 frames lie within 10 ms: the others are not simulated: give a longer"),
        ("a,0.001\na,7\n", "1 of 2 frames lie within 10 ms: the others"),
        ("", "0 of 0 frames lie within 10 ms: it has no rows"),
        ("a,0.001\n", ""),
    ):
        Path("t.csv").write_text(f"model,seconds\n{rows}")
        asked = ("--duration", "10ms", "--arrivals", "t.csv", "--host", "none")
        outcome = run_motet("simulate", spec, *asked)
        assert outcome.code == 0, outcome.err
        assert outcome.err.count("t.csv") == (told != "")
        assert told in " ".join(outcome.err.split())


def test_a_timetable_is_no_specification(run_motet: Motet, spec: str) -> None:
    Path("t.json").write_text("{}")
    outcome = run_motet("timetable", "t.json")
    assert outcome.code == 2
    assert "motet timetable SPEC.toml --timetable t.json" in outcome.err


def test_a_fraction_has_its_exact_hyperperiod(run_motet: Motet, spec: str) -> None:
    asked = ("--set", "models.a.rate_hz=30000/1001", "--host", "none")
    assert run_motet("timetable", spec, "-o", "t.json", *asked).code == 0
    text = Path("t.json").read_text()
    assert '"hyperperiod_seconds": "1001/30000"' in text
    outcome = run_motet("compile", spec, "--timetable", "t.json", "-o", "x.motet", *asked[:2])
    assert outcome.code == 0, outcome.err
    assert "rate_hz 30000/1001" in run_motet("inspect", "x.motet").out
    for key, value in (("hyperperiod_seconds", "1001/30000"), ("clock_hz", "100000000")):
        for wrong in ("0/0", "1/0", "1e999999999", "-1"):
            Path("w.json").write_text(text.replace(f'"{key}": "{value}"', f'"{key}": "{wrong}"'))
            outcome = run_motet("timetable", spec, "--timetable", "w.json", *asked)
            assert outcome.code == 2
            told = f'{key} is "{wrong}", and it is a fraction above 0'
            assert told in " ".join(outcome.err.split())
