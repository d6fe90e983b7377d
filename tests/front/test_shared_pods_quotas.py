"""``motet simulate --share-pods`` keeps models to their quotas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from front_outcome import Motet

import motet.targets.systolic.architectures as architectures
from motet.targets.sharing import side_by_side
from motet.targets.sharing.deal import Dealt
from motet.targets.sharing.frames import Frame


@pytest.fixture
def spec(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models on tiny-4x4 with four pods, one of them with quotas."""
    [place] = architectures.__path__
    text = (Path(place) / "tiny-4x4.toml").read_text()
    monkeypatch.chdir(tmp_path)
    made = text.replace('"tiny-4x4"', '"quad"').replace("count = 1", "count = 4")
    Path("quad.toml").write_text(made)
    path = models / "layers.onnx"
    Path("spec.toml").write_text(
        f"target = 'quad.toml'\n[models.held]\npath = '{path}'\nrate_hz = 100\n"
        "[models.held.quota]\ntime_share = 0.5\npods = 2\n"
        f"[models.free]\npath = '{path}'\nrate_hz = 100\nphase_ms = 5\n"
    )
    return Path("spec.toml")


@pytest.mark.parametrize("pods", [1, 2, 3])
def test_a_model_never_has_more_pods_than_its_quota(
    run_motet: Motet, spec: Path, monkeypatch: pytest.MonkeyPatch, pods: int
) -> None:
    seen: dict[str, set[int]] = {}
    begin = side_by_side.SideBySide._begin

    def watched(self: Any, now: int, frame: Frame, dealt: Dealt) -> None:
        seen.setdefault(frame.model, set()).add(dealt.share.pods)
        begin(self, now, frame, dealt)

    monkeypatch.setattr(side_by_side.SideBySide, "_begin", watched)
    asked = ("--duration", "100ms", "--share-pods", "--host", "none", "--json")
    outcome = run_motet("simulate", spec, *asked, "--set", f"models.held.quota.pods={pods}")
    assert outcome.code == 0, outcome.err
    assert [model["finished"] for model in json.loads(outcome.out)["models"]] == [10, 10]
    assert max(seen["held"]) == pods
    assert max(seen["free"]) == 4


def test_a_bundles_programs_have_no_times_on_a_quota(run_motet: Motet, spec: Path) -> None:
    run_motet("timetable", spec, "-o", "t.json", "--kind", "space", "--host", "none")
    outcome = run_motet("compile", spec, "--timetable", "t.json", "-o", "x.motet")
    assert outcome.code == 0, outcome.err
    outcome = run_motet("simulate", "x.motet", "--duration", "1s", "--share-pods")
    assert outcome.code == 2
    assert "--share-pods: model 'held' of the bundle has quota.pods" in outcome.err
