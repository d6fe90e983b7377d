"""Rates of a specification: their bounds, and fractions that no decimal is."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from motet.compiler.spec_file import load_spec
from motet.runtime.errors import SpecError
from motet.runtime.manifest import ModelEntry, Source
from motet.runtime.submitting import _deadline
from motet.simulation_input import schedule_of
from motet.targets.sharing.loads import Stage
from motet.together import load_of

NUMBER = 'expected a number from 1e-6 to 1e9 or a fraction above 0 as "30000/1001", got '


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.onnx").touch()
    monkeypatch.chdir(tmp_path)


def read(key: str, *assignments: str) -> Any:
    Path("spec.toml").write_text(f"[models.a]\npath = 'a.onnx'\n{key}\n")
    return load_spec("spec.toml", assignments).models[0]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("rate_hz = 1e300", f"models.a.rate_hz: {NUMBER}1e+300"),
        ("rate_hz = 1e-300", f"models.a.rate_hz: {NUMBER}1e-300"),
        ("rate_hz = '30/0'", f'models.a.rate_hz: {NUMBER}"30/0"'),
        ("rate_hz = '30'", f'models.a.rate_hz: {NUMBER}"30"'),
        (
            "rate_hz = '1/999999999'",
            'models.a.rate_hz: expected a rate from 1e-6 to 1e9, got "1/999999999", which is 1e-9',
        ),
        ("deadline_ms = 1e300", "models.a.deadline_ms: expected a number from 1e-6 to 1e9, got"),
        ("deadline_ms = 1e-300", "models.a.deadline_ms: expected a number from 1e-6 to 1e9, got"),
    ],
)
def test_what_no_clock_tells_apart_is_refused(key: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        read(key)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("key", "settings"),
    [("rate_hz = '30000/1001'", ()), ("", ("models.a.rate_hz=30000/1001",))],
)
def test_a_fraction_is_a_rate(key: str, settings: tuple[str, ...]) -> None:
    model = read(key, *settings)
    assert model.rate_hz == "30000/1001"
    load = load_of("a", [Stage("array", 1)], schedule_of(model, {}))
    assert load.rate_hz == Fraction(30000, 1001)
    entry = ModelEntry("a", Source("", ""), rate_hz=model.rate_hz)
    assert _deadline(entry) == pytest.approx(1001 / 30000, rel=1e-15)
