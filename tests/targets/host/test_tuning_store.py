"""The data base of measured points: what it keeps, for whom, and with several writers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from motet.runtime.errors import EnvironmentLackError
from motet.targets.host.cost_model.dataset import Sample, this_host
from motet.targets.host.space import Point, Problem
from motet.targets.host.tuning_store import (
    Scope,
    TuningStore,
    kernels_version,
    scope_of,
    store_of_environment,
)

SCOPE = Scope("cpu", "1", 2)
PROBLEM = Problem.of("f", n=-1, m=3)

WRITER = """
import sys
from pathlib import Path
from motet.targets.host.cost_model.dataset import Sample
from motet.targets.host.space import Point, Problem
from motet.targets.host.tuning_store import Scope, TuningStore

store, number = TuningStore(Path(sys.argv[1])), int(sys.argv[2])
for i in range(20):
    point = Point.of(a=number, b=i)
    store.add(Scope("cpu", "1", 2), Sample(Problem.of("f", n=-1, m=3), 2, (point,), (0.5,)))
"""


def sample(**times: float) -> Sample:
    """Points a=1, a=2, ... with these seconds."""
    points = tuple(Point.of(a=i) for i in range(len(times)))
    return Sample(PROBLEM, 2, points, tuple(times.values()))


def test_times_are_found_again(tmp_path: Path) -> None:
    store = TuningStore(tmp_path / "new" / "tuned.sqlite")
    assert store.times(SCOPE, PROBLEM) == {}
    assert store.samples(SCOPE) == []
    assert not store.path.exists()
    store.add(SCOPE, sample(x=0.5, y=0.25))
    assert store.times(SCOPE, PROBLEM) == {Point.of(a=0): 0.5, Point.of(a=1): 0.25}
    store.add(SCOPE, sample(x=0.125))
    assert store.samples(SCOPE) == [sample(x=0.125, y=0.25)]


def test_a_scope_has_its_own_times(tmp_path: Path) -> None:
    store = TuningStore(tmp_path / "tuned.sqlite")
    store.add(SCOPE, sample(x=0.5))
    for other in (
        replace(SCOPE, threads=1), replace(SCOPE, version="2"), replace(SCOPE, machine="other"),
    ):  # fmt: skip
        assert store.times(other, PROBLEM) == {}
        assert store.samples(other) == []
    assert store.times(SCOPE, Problem.of("f", n=-1, m=4)) == {}
    host = this_host()
    assert scope_of(host, 2) == scope_of(host, 2)
    assert scope_of(host, 2).version == kernels_version()
    assert scope_of(replace(host, cores=999), 2) != scope_of(host, 2)


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "tuned.sqlite"
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*command, str(number)]) for number in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    assert len(TuningStore(path).times(SCOPE, PROBLEM)) == 80


def test_a_file_that_is_no_data_base(tmp_path: Path) -> None:
    path = tmp_path / "tuned.sqlite"
    path.write_text("something else entirely, and long enough to have a header " * 4)
    with pytest.raises(EnvironmentLackError, match="remove the file"):
        TuningStore(path).times(SCOPE, PROBLEM)
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(EnvironmentLackError, match="MOTET_CACHE_DIR"):
        TuningStore(tmp_path / "folder" / "tuned.sqlite").add(SCOPE, sample(x=1.0))


def test_the_environment_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTET_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("MOTET_CACHE", raising=False)
    assert store_of_environment() is None
    TuningStore(tmp_path / "tuned.sqlite").add(SCOPE, sample(x=0.5))
    found = store_of_environment()
    assert found is not None
    assert found.times(SCOPE, PROBLEM) == {Point.of(a=0): 0.5}
    monkeypatch.setenv("MOTET_CACHE", "0")
    assert store_of_environment() is None
